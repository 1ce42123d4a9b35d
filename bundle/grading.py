"""Grades of patients by one start of a package's network: `python -m bundle grade`, `from bundle import grade`."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.dicom.files import is_dicom, is_study, remove_objects, require_packages
from bundle.grader import Grader
from bundle.request_errors import RequestError
from scripts.explanations.checks import check_method
from scripts.inference.patient_files import mask_beside, patient_name
from scripts.inference.requests import parse_request
from scripts.running.errors import some_names
from scripts.running.files import read_json, sha256_file, sha256_text, write_csv
from scripts.running.progress import progress
from scripts.splits.patients import SUBJECT_ID
from scripts.volumes.mri_preprocessing import require_hd_bet

PACKAGES = "dist"  # where `python -m bundle pack` puts them
TABLE = "answers.csv"
PICTURES = ("explanation.png", "place.png")  # that not every answer has
NIFTI = "nifti"  # in the folder of an answer: what was read from DICOM

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patient:
    """One patient to grade: a name that no other has, the request for the network, and whether it is a DICOM study."""

    name: str
    request: dict[str, Any]
    is_dicom: bool = False


@dataclass(frozen=True)
class DicomOptions:
    """What holds for DICOM studies alone: arguments of `bundle.dicom.convert.plan`, and whether objects are written."""

    plan: Mapping[str, Any]
    report: bool


@dataclass(frozen=True)
class Asked:
    """What is asked of every patient."""

    explanation: str
    overwrite: bool
    dicom: DicomOptions


def grade(
    patients: str | Sequence[str],
    output_dir: str,
    bundle_dir: str | None = None,
    click: Sequence[int] | None = None,
    mask: str | None = None,
    mask_codes: str | None = None,
    channel_order: Sequence[str] | None = None,
    explanation: str = "gradcam",
    device: str | None = None,
    overwrite: bool = False,
    series: Sequence[str] | str | Mapping[str, Any] | None = None,
    brain_mask: str | None = None,
    skull_strip: bool = False,
    dicom_report: bool = False,
) -> list[dict[str, Any]]:
    """Grade patients with the weights of a package, which is loaded once.

    Args:
        patients: of each a folder with the files of its modalities, one of these files, or a 4D file; the folder of a
            DICOM study; or pictures.
        output_dir: gets `NAME/answer.json`, `NAME/explanation.png`, `NAME/place.png` (the patch in its slice) and
            `NAME/patch.nii.gz` of each, and `answers.csv`. What is there already of the same files and weights is not
            done again; the table is of this call alone. Of a DICOM study `NAME/nifti`, too, whose `t1c.nii.gz` is that
            of click, mask and brain mask.
        bundle_dir: root of the package, with `configs/inference.json` and `models/model.pt`; None takes the only one in
            `dist`.
        click: voxel [i, j, k] inside the lesion, counted from 0; of a single patient only.
        mask: tumor mask, likewise; without it and a click, `PATIENT_seg` or `PATIENT_mask` beside the files is taken,
            of a DICOM study `seg` in its folder or in `NAME/nifti`.
        mask_codes: convention of the masks, where their codes can be read in two ways.
        channel_order: modality of each channel of 4D files.
        explanation: "gradcam", "occlusion", or "none", which is faster.
        device: "cpu" or "cuda"; None takes CUDA where there is one.
        overwrite: replace answers of other files or weights, with their pictures and DICOM objects.
        series: of a single DICOM study, the series of modalities, as {"t1c": 7}; others are chosen by rules.
        brain_mask: of a single DICOM study of a whole head, a file with the brain on the grid of t1c, 0 outside.
        skull_strip: find the brain in DICOM studies by HD-BET.
        dicom_report: write answers about DICOM studies as SR, SEG and Secondary Capture, too.

    Returns:
        For each patient `subject_id` and the content of its `answer.json`, or `error`: one patient that cannot be
        graded does not stop the others.

    Raises:
        ValueError: if no patient is given, two have one name, an option does not fit, or there is no such explanation.
        ImportError: if a package that reads DICOM, or strips skulls, is asked for and not installed.
        FileNotFoundError: if there is no such package or patient.
        RequestError: if the package has no weights, or their record is not about them.
    """
    paths = [patients] if isinstance(patients, str) else list(patients)
    check_method(explanation, occlusion_size=1)
    own = {"click": click, "mask": mask, "series": series, "brain_mask": brain_mask}
    if len(paths) > 1 and (of_one := [name for name, value in own.items() if value is not None]):
        raise ValueError(
            f"{', '.join(of_one)} must be of one patient, got {len(paths)} patients; grade them one by one, or put each"
            " tumor mask beside the files as PATIENT_seg.nii.gz"
        )
    grader = Grader(_package(bundle_dir), device)
    options = {"click": click, "mask": mask, "mask_codes": mask_codes, "channel_order": channel_order}
    asked = _patients(paths, options, grader)
    of_dicom = DicomOptions({"series": series, "brain_mask": brain_mask, "skull_strip": skull_strip}, dicom_report)
    _require_dicom(asked, of_dicom)
    grader.load()
    rows: list[dict[str, Any]] = []
    try:
        for patient in progress(asked, len(asked), "patients"):
            folder = Path(output_dir) / patient.name
            rows.append(_answer(grader, patient, folder, Asked(explanation, overwrite, of_dicom)))
    finally:
        if rows:
            _write_table(Path(output_dir) / TABLE, rows, list(grader.classes))
    return rows


def _package(bundle_dir: str | None) -> Path:
    """Return the root of the package that is meant."""
    packages = sorted(path.parents[1] for path in Path(PACKAGES).glob("*/configs/inference.json"))
    if bundle_dir is None and len(packages) > 1:
        raise ValueError(
            f"bundle must be one of the packages in {PACKAGES}, got none for {some_names(packages)}; pass --bundle"
            f" {packages[0]}"
        )
    package = Path(bundle_dir) if bundle_dir else packages[0] if packages else Path(PACKAGES)
    if not (package / "configs" / "inference.json").is_file():
        raise FileNotFoundError(
            f"{package} must be a package with configs/inference.json, got none; `python -m bundle pack` makes one"
        )
    return package


def _patients(paths: Sequence[str], options: Mapping[str, Any], grader: Grader) -> list[Patient]:
    """Find name and files of each patient, before the network is loaded."""
    if not paths:
        raise ValueError("patients must hold at least one folder or file, got none")
    if missing := [path for path in paths if not Path(path).exists()]:
        raise FileNotFoundError(
            f"{some_names(missing)} does not exist; give the folder of a patient, or one file of it"
        )
    if single := [path for path in paths if Path(path).is_file() and is_dicom(Path(path))]:
        raise ValueError(f"{some_names(single)} is one file of a DICOM study; give the folder of the study")
    names = [patient_name(path, grader.modalities) for path in paths]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"patients must have names of their own, got {some_names(twice)} twice; rename their folders")
    if unsafe := [name for name in names if not SUBJECT_ID.fullmatch(name)]:
        raise ValueError(
            f"patients must have names that are usable as folders (letters, digits, _ - + .), got {some_names(unsafe)};"
            " rename their folders"
        )
    given = {key: value for key, value in options.items() if value is not None}
    patients = []
    for name, path in zip(names, paths, strict=True):
        request: dict[str, Any] = {"subject_id": name, "image": str(path), **given}
        patients.append(Patient(name, request, is_study(path, grader.modalities)))
    return patients


def _require_dicom(patients: Sequence[Patient], options: DicomOptions) -> None:
    """Check that the options of DICOM are of DICOM studies, and that these can be read here."""
    if any(patient.is_dicom for patient in patients):
        require_packages()
    others = [patient.name for patient in patients if not patient.is_dicom]
    if others and (options.report or any(options.plan.values())):
        raise ValueError(
            f"{', '.join(options.plan)} and dicom_report must be of DICOM studies, got {some_names(others)}; leave them"
            " out, or give the folder of the study"
        )
    if options.plan["skull_strip"]:
        require_hd_bet()


def _answer(grader: Grader, patient: Patient, folder: Path, asked: Asked) -> dict[str, Any]:
    """Return the answer of one patient, from its folder or from the network, or what is wrong with the patient."""
    try:
        if patient.is_dicom:
            return _dicom_answer(grader, patient, folder, asked)
        return _image_answer(grader, patient.request, folder, asked)
    except (RequestError, ValueError, TypeError, OSError, ImportError) as error:
        return {"subject_id": patient.name, "error": str(error)}
    except Exception as error:  # of a library, about a file that nobody foresaw: the others are graded all the same
        logger.exception("%s could not be graded", patient.name)
        return {"subject_id": patient.name, "error": f"{type(error).__name__}: {error}"}


def _dicom_answer(grader: Grader, patient: Patient, folder: Path, asked: Asked) -> dict[str, Any]:
    from bundle.dicom.convert import convert, plan
    from bundle.dicom.report import is_written, require_frame, write_report

    conversion = plan(patient.request["image"], modalities=grader.modalities, **asked.dicom.plan)
    if asked.dicom.report:
        require_frame(conversion)
    files = folder / NIFTI
    convert(conversion, files, asked.overwrite)
    try:
        answer = _image_answer(grader, _request_of(patient, files, grader.modalities), folder, asked)
    except (RequestError, ValueError) as error:
        raise RequestError(f"{error} (the files that were read from DICOM lie in {files})") from error
    if asked.dicom.report and (asked.overwrite or not is_written(folder, answer, conversion)):
        try:
            write_report(folder, answer, conversion)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # what highdicom says of odd headers
            raise RequestError(
                f"{folder} holds the answer, but its report could not be written for the headers of t1c ({error});"
                " leave --dicom_report out, or mend them"
            ) from error
    return answer


def _request_of(study: Patient, files: Path, modalities: Sequence[str]) -> dict[str, Any]:
    """The request for what was read from DICOM, with the mask that lies in the study's folder or with these files."""
    request = {**study.request, "image": str(files)}
    if "mask" not in request and "click" not in request:
        masks = [mask for path in (study.request["image"], str(files)) if (mask := mask_beside(path, modalities))]
        if len(masks) > 1:
            raise ValueError(f"mask must be one file, got {' and '.join(masks)}; leave one out")
        request["mask"] = masks[0] if masks else None
    return request


def _image_answer(grader: Grader, request: dict[str, Any], folder: Path, asked: Asked) -> dict[str, Any]:
    if "mask" not in request and "click" not in request:
        request["mask"] = mask_beside(request["image"], grader.modalities)
    asked_for = _hash_request(grader, request, asked.explanation)
    if (folder / "answer.json").is_file() and not asked.overwrite:
        answer = read_json(folder / "answer.json")
        if answer.get("request_sha256") == asked_for:
            return answer
        raise RequestError(
            f"{folder} holds an answer about other files, options or weights; replace it with --overwrite, or"
            " choose another folder"
        )
    graded = grader.grade(request)
    answer = {**graded.answer, "request_sha256": asked_for}
    _remove_answer(folder)
    return graded.loaded.writer.save(folder, graded.patch, answer, asked.explanation, graded.overview)


def _remove_answer(folder: Path) -> None:
    """Remove what tells of an answer that is replaced, so that nothing of it stands beside the new one."""
    (folder / "answer.json").unlink(missing_ok=True)  # first: where it lies, the others are of it
    remove_objects(folder)
    for name in PICTURES:
        (folder / name).unlink(missing_ok=True)


def _hash_request(grader: Grader, request: Mapping[str, Any], explanation: str) -> str:
    """Hash what an answer depends on: the content of the files, the options and the weights."""
    fields: dict[Hashable, Any] = dict(request.items())
    parsed = parse_request(fields, grader.modalities)
    paths = [*(parsed.get("images") or {}).values(), parsed.get("image"), parsed.get("mask")]
    files = [sha256_file(path) for path in paths if path]
    others = [repr(parsed.get(key)) for key in ("click", "mask_codes", "channel_order")]
    return sha256_text("\n".join([*files, *others, explanation, grader.load().weights["sha256"]]))


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> None:
    told = ("share_nearer", "lesion_volume_ml", "region", "error")
    columns = ["subject_id", "class", *(f"p_{name}" for name in classes), *told]
    table = []
    for row in rows:
        probabilities = {f"p_{name}": value for name, value in row.get("probabilities", {}).items()}
        region = row.get("crop", {}).get("region")
        own = {name: row.get(name) for name in ("subject_id", "class", "lesion_volume_ml", "error")}
        share = (row.get("training_distance") or {}).get("share_nearer")
        table.append({**own, **probabilities, "region": region, "share_nearer": share})
    write_csv(path, table, columns)


def describe(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the answers as text: a line for each patient, then what the weights are."""
    width = max(len(row["subject_id"]) for row in rows)
    lines = []
    for row in rows:
        shares = ", ".join(f"{name} {value:.2f}" for name, value in row.get("probabilities", {}).items())
        lines.append(f"{row['subject_id']:{width}}  {shares or 'not graded: ' + row['error']}")
    answered = [row for row in rows if "error" not in row]
    if answered:
        lines.append(answered[0]["weights"]["notice"])
    return "\n".join(lines)
