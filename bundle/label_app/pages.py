"""The page at `/`: its files, and what it asks for that viewers of other people do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.utils import tasks

from bundle.label_app.slices import PLANES, ShownStudy
from bundle.label_app.studies import resolve_patient
from bundle.request_errors import NotFoundError, NotReadyError

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
TYPES = {"page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"}
# Nothing of another origin is loaded, asked or allowed to show the page; images of patients stay out of the disk cache.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
        " form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
def index() -> FileResponse:
    """Return the page."""
    return FileResponse(FOLDER / INDEX, media_type="text/html", headers=HEADERS)


@router.get("/page/about")
def about() -> dict[str, Any]:
    """Say what is served: bundle, classes, weights, and what can be asked for."""
    app = app_instance()
    grader, generate = app.grader, app.infers.get("generate")
    try:
        weights = grader.load().weights
    except NotReadyError:  # the page shows which others can be served
        weights = None
    return {
        "name": grader.metadata["name"],
        "version": grader.metadata["version"],
        "classes": list(grader.classes),
        "planes": PLANES,
        "explanations": app.infers["grade"].config()["explanation"],
        "generate": None if generate is None else generate.config(),
        "train": app.trainers["grade"].config(),
        "weights": weights,
    }


@router.get("/page/studies")
def studies() -> list[dict[str, Any]]:
    """List the studies, and whether they are labeled."""
    datastore = app_instance().datastore()
    labeled = set(datastore.get_labeled_images())
    return [{"id": name, "labeled": name in labeled} for name in sorted(datastore.list_images())]


@router.get("/page/study")
def study(request: Request, image: str, channel_order: str = "") -> dict[str, Any]:
    """Describe a study to look at."""
    return {"id": image, **_shown(request, image, channel_order).describe()}


@router.get("/page/slice")
def slice_picture(
    request: Request, image: str, modality: str, plane: str, index: int, channel_order: str = ""
) -> Response:
    """Draw a slice of a study."""
    picture = _shown(request, image, channel_order).picture(modality, plane, index)
    return Response(picture, media_type="image/png", headers=HEADERS)


@router.get("/page/training")
def training() -> dict[str, Any] | None:
    """Say how the last training went, or goes; None before the first."""
    last = (tasks("train") or [None])[-1]
    if last is None:
        return None
    lines = last.get("details") or [""]
    return {"status": last["status"], "start_ts": last["start_ts"], "last_line": lines[-1]}


@router.get("/page/{name}")
def page_file(name: str) -> FileResponse:
    """Return what the page is made of."""
    if name not in TYPES:
        raise NotFoundError(f"GET /page/{name} is not offered by this server")
    return FileResponse(FOLDER / name, media_type=TYPES[name], headers=HEADERS)


def _shown(request: Request, image: str, channel_order: str) -> ShownStudy:
    app = app_instance()
    path = resolve_patient(
        app.datastore().get_image_uri(image) or image, [request.app.state.studies], app.grader.modalities
    )
    shown: ShownStudy = app.viewer.study(path, channel_order)
    return shown
