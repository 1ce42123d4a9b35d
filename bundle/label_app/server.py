"""The server: MONAI Label's routes for viewers, and our own where a client may send files or name them."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import BackgroundTasks, FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.config import settings
from monailabel.endpoints import activelearning, datastore, info, session, train
from monailabel.endpoints.infer import ResultType, send_response
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.utils.app import app_instance

from bundle.label_app import pages
from bundle.label_app.app import GradeApp
from bundle.label_app.gate import Gate
from bundle.label_app.labels import check_label, named_for_clients, segment_names
from bundle.label_app.limits import MOST_FILES, check_file_name, check_name, check_volume_size
from bundle.label_app.params import ignored, read_params
from bundle.label_app.studies import resolve_patient
from bundle.label_app.weights import list_weights, serve_weights
from bundle.label_app.wording import Folders, as_fields, problems_in_words
from bundle.request_errors import NotFoundError, NotReadyError, RequestError
from scripts.provenance.served_weights import kept_weights
from scripts.volumes.headers import read_header

logger = logging.getLogger(__name__)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    instance = _app()
    instance.server_mode(True)
    try:
        instance.grader.load()  # before the first request, and before anybody is told that the server is ready
    except NotReadyError as error:
        if not kept_weights(instance.grader.weights_path):
            raise
        logger.error("%s; POST /weights/ID serves weights of GET /weights/ again", error)
    instance.on_init_complete()
    yield


def create_server(studies: Path, bundle: Path, most_bytes: int) -> Gate:
    """Put the routes together.

    Args:
        studies: folder in which all that is read lies.
        bundle: root of the bundle.
        most_bytes: bytes of one request.

    Returns:
        ASGI application.
    """
    server = FastAPI(title="MONAI Label", redoc_url=None, docs_url=None, lifespan=_lifespan)
    server.state.studies = studies
    server.add_api_route("/infer/{model}", infer, methods=["POST"])
    server.add_api_route("/session/", create_session, methods=["PUT"])
    server.add_api_route("/train/{model}", start_training, methods=["POST"])
    server.add_api_route("/weights/", list_weights, methods=["GET"])
    server.add_api_route("/weights/{weights}", serve_weights, methods=["POST"])
    server.add_api_route("/datastore/label", save_label, methods=["PUT"])
    for router in (pages.router, *(module.router for module in (info, datastore, session, activelearning, train))):
        server.include_router(router)
    server.add_exception_handler(RequestError, _tell)
    server.add_exception_handler(RequestValidationError, _tell_problems)
    server.add_exception_handler(MONAILabelException, _tell_not_found)
    kept = [studies, Path(settings.MONAI_LABEL_STUDIES), bundle]
    passing = [Path(tempfile.gettempdir()), Path(settings.MONAI_LABEL_SESSION_PATH)]
    return Gate(server, most_bytes, Folders(kept, passing))


def infer(
    background_tasks: BackgroundTasks,
    request: Request,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Any:
    """Run a task on a study, an upload or a session; clicks, options and their like are in `params`.

    Args:
        background_tasks: what is done after the answer is sent.
        request: the request itself.
        model: name of the task.
        image: id of a study, or a path inside the studies.
        session_id: id of a session.
        params: JSON object.
        file: image.
        label: tumor mask.
        output: "json" or "image"; both by default.
    """
    task = _app().task(model)
    if output == ResultType.dicom_seg:
        raise RequestError("output must be json, image or all, got 'dicom_seg'")
    options = read_params(params)
    patient = task.select(options)
    with tempfile.TemporaryDirectory() as folder:
        if task.needs_image:
            patient["image"] = str(_image(request.app.state.studies, Path(folder), image, session_id, file))
            patient["subject_id"] = image or session_id or "upload"
        if label is not None:
            patient["mask"] = str(_save(label, Path(folder) / "mask"))
        result_file, answer = task(patient)
    answer["ignored"] = ignored(options, task.understood)
    if result_file is None and output == ResultType.image:
        raise RequestError("output must be json, got 'image', and there is none; ask for an explanation")
    result = {"file": result_file, "params": answer, "label": result_file}
    return send_response(_app().datastore(), result, output, background_tasks)


def create_session(
    files: Annotated[list[UploadFile], File()],
    uncompress: bool = False,
    expiry: int = 0,
) -> Any:
    """Keep the files of one patient for several requests.

    Args:
        files: one 4D file, or one for each modality, named by it.
        uncompress: false; archives are not taken.
        expiry: seconds after the last use, at most those of the server.
    """
    if uncompress or len(files) > MOST_FILES:
        raise RequestError(f"files must be at most {MOST_FILES} NIfTI files, got {len(files)} files or an archive")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "files"
        saved = [_save(file, folder) for file in files]
        session_id, session_info = _app().sessions().add_session(str(saved[0] if len(saved) == 1 else folder), expiry)
    return {"session_id": session_id, "session_info": session_info.to_json()}


def start_training(model: str, params: dict[str, Any] | None = None, enqueue: bool = False) -> Any:
    """Train on what was labeled, in a process of its own; GET /train/ tells how it goes.

    Args:
        model: name of the trainer.
        params: `max_epochs`, `val_split` and `device`.
        enqueue: wait for a training that runs, instead of being refused.
    """
    trainer = _app().trainer(model)
    options = trainer.check(params or {})
    if not _app().datastore().datalist():
        raise RequestError("a case must be labeled before training, got none; save a label with the tag final")
    started = train.run_model(model, options, run_sync=False, enqueue=enqueue)
    return {**started, "ignored": ignored(params or {}, trainer.params)}


def save_label(
    image: str,
    label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}",
    tag: str = "final",
) -> Any:
    """Keep a mask as the label of a study, with the value class index + 1; one with the tag "final" is trained on.

    Args:
        image: id of the study.
        label: mask of one value: class index + 1, or what `params` name.
        params: JSON object, kept with it; `label_info`, [{"name": segment}, ...], says what the values 1, 2, ... are.
        tag: "final" or "original".
    """
    if tag not in ("", "final", "original"):
        raise RequestError(f"tag must be final or original, got {tag!r}")
    details = read_params(params)
    with tempfile.TemporaryDirectory() as folder:
        # The store takes the ending of the name for that of the file, and "case.v2.nii.gz" for one of ".v2.nii.gz".
        saved = _save(label, Path(folder))
        plain = saved.rename(saved.with_name("label.nii.gz" if saved.name.endswith(".gz") else "label.nii"))
        classes = _app().grader.classes
        check_label(plain, _app().study(image), classes, segment_names(details.get("label_info")))
        label_id = _app().datastore().save_label(image, str(plain), tag or "final", details)
    return {"image": image, "label": label_id}


def _app() -> GradeApp:
    return app_instance()


def _image(studies: Path, folder: Path, image: str, session_id: str, file: UploadFile | None) -> Path:
    if file is not None:
        return _save(file, folder / "image")
    modalities = _app().grader.modalities
    if session_id:
        session = _app().sessions().get_session(check_name("session_id", session_id))
        if session is None:
            raise NotFoundError(f"session_id must be of a session, got {session_id!r}; it may have expired")
        return resolve_patient(session.image, [Path(settings.MONAI_LABEL_SESSION_PATH) / session_id], modalities)
    if not image:
        raise RequestError("image, file or session_id must say which patient is meant, got none")
    return resolve_patient(_app().datastore().get_image_uri(image) or image, [studies], modalities)


def _save(file: UploadFile, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / check_file_name(file.filename)
    with path.open("xb") if not path.exists() else _twice(path) as stream:
        shutil.copyfileobj(file.file, stream)
    check_volume_size(path)
    with named_for_clients(path):
        read_header(path)  # what is no volume is not kept for an hour
    return path


def _twice(path: Path) -> Any:
    raise RequestError(f"files must have names of their own, got two called {path.name}")


async def _tell(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    # Weights that are missing are the business of whoever started the server, by its command.
    detail = str(error) if isinstance(error, NotReadyError) else as_fields(str(error))
    return JSONResponse({"detail": detail}, status_code=error.status)


async def _tell_problems(request: Request, error: Exception) -> JSONResponse:
    # FastAPI's own answer repeats what was sent, which need not be anything that JSON can hold.
    problems = cast(RequestValidationError, error).errors()
    return JSONResponse({"detail": problems_in_words(problems)}, status_code=RequestError.status)


async def _tell_not_found(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": getattr(error, "msg", str(error))}, status_code=NotFoundError.status)
