"""The audit of anybody's images: folders of synthetic, training and held-out images, without lists or provenance."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from scripts.memorization.audit import MemorizationAudit
from scripts.memorization.nearest_images import pixels_of_shift
from scripts.memorization.parts import CENTER
from scripts.memorization.stage import name_images, suspicious
from scripts.memorization.suspicious_pairs import write_pairs
from scripts.patches.background import snap_background
from scripts.patches.image_sets import ALL, ImageSet
from scripts.provenance.foreign_images import ForeignImages, check_reading, image_files, read_foreign, stem
from scripts.running.errors import some_names
from scripts.running.files import write_json
from scripts.splits.patients import patient_by_name

EACH, BY_NAME, BY_PATTERN = "each image", "names of public data sets", "patient_pattern"


def audit_folders(
    synthetic_path: str,
    training_path: str,
    output_dir: str,
    audit: MemorizationAudit,
    held_out_path: str | None = None,
    value_range: Sequence[float] | None = None,
    image_axes: str | None = None,
    channel_endings: Sequence[str] | None = None,
    patient_pattern: str | None = None,
    num_pairs: int = 10,
    device: str | torch.device = "cpu",
) -> Path:
    """Write `audit.json` of two or three folders, and `suspicious_pairs.png` with the most suspicious pairs.

    Args:
        synthetic_path: folder of the synthetic images, or one file of many; see
            `scripts.provenance.foreign_images.read_foreign`.
        training_path: likewise, the images that their generator was trained on.
        output_dir: folder to write to.
        audit: what compares and judges the images.
        held_out_path: real images that it was not trained on; None leaves out what needs them.
        value_range: the two intensities that become -1 (background) and 1; None is from the lowest to the highest of
            all folders.
        image_axes: as in `read_foreign`.
        channel_endings: likewise.
        patient_pattern: regular expression that finds the patient in the name of a file, without folder and ending, by
            its first group or, without groups, all of it. None: names of public data sets are understood, else each
            image is of a subject of its own.
        num_pairs: pairs shown.
        device: where the images are compared.

    Returns:
        Path of `audit.json`: as of `scripts.memorization.stage.audit_images`, all images of one class, with `folders`
        (what was read) and `limits` (sentences: what follows from what was not given).

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if two folders are one, differ in channels, size or range, or share an image or a patient; if a real
            image is constant; or if a name does not tell its patient.
    """
    paths = {"synthetic": synthetic_path, "training": training_path, "held_out": held_out_path}
    given = {part: path for part, path in paths.items() if path is not None}
    _refuse_one_folder(given)
    read = {part: read_foreign(path, image_axes, channel_endings) for part, path in given.items()}
    _refuse_other_shapes(read)
    range_used = _common_extent(read) if value_range is None else tuple(value_range)
    sets = {part: _image_set(part, images, range_used, patient_pattern).to(device) for part, images in read.items()}
    synthetic, training = sets["synthetic"], sets["training"]
    held_out = sets.get("held_out", ImageSet(torch.empty(0), []))
    _refuse_constant(training, held_out)
    _refuse_shared(training, held_out)
    audit = copy.copy(audit)
    audit.center_name = CENTER
    result = audit(synthetic.images, training, held_out)
    rows = [{"image": name} for name in synthetic.names]
    pairs = suspicious(result["images"], rows, synthetic.images, training, held_out)
    shown = sorted(pairs, key=lambda pair: (not pair.is_copy, pair.ratio))
    write_pairs(Path(output_dir) / "suspicious_pairs.png", shown[:num_pairs], audit.max_shift)
    name_images(result["images"], rows, {"training": training, "held_out": held_out})
    subjects = {part: _how_told(images, patient_pattern) for part, images in sets.items() if part != "synthetic"}
    content = {
        "cohort": Path(training_path).name,
        "method": Path(synthetic_path).name,
        "fold": None,
        "simulated": False,
        "held_out_part": None if held_out_path is None else Path(held_out_path).name,
        "thresholds": vars(audit.thresholds),
        "max_shift": pixels_of_shift(audit.max_shift, synthetic.images.shape[2:]),
        "value_range": list(range_used),
        "folders": {part: _describe(read[part], sets[part], given[part], subjects.get(part)) for part in sets},
        "limits": _limits(subjects, held_out_path is not None),
        "classes": {ALL: result},
    }
    write_json(Path(output_dir) / "audit.json", content)
    return Path(output_dir) / "audit.json"


def folder_files(synthetic_path: str, training_path: str, held_out_path: str | None) -> list[str]:
    """List every file of the folders, for the record of the stage; see `audit_folders`."""
    paths = [path for path in (synthetic_path, training_path, held_out_path) if path is not None]
    return [name for path in paths for name in image_files(path)]


def folder_names(synthetic_path: str, training_path: str, held_out_path: str | None) -> list[list[str] | None]:
    """List the names of the files of each folder, which tell patients apart; None where no folder is given."""
    paths = (synthetic_path, training_path, held_out_path)
    return [None if path is None else [Path(name).name for name in image_files(path)] for path in paths]


def check_folders(
    value_range: Sequence[float] | None,
    image_axes: str | None,
    channel_endings: Sequence[str] | None,
    patient_pattern: str | None,
    num_pairs: int,
) -> None:
    """Refuse settings by which no folder can be audited, before any is read.

    Args:
        value_range: see `scripts.provenance.foreign_images.check_reading`.
        image_axes: likewise.
        channel_endings: likewise.
        patient_pattern: must be a regular expression.
        num_pairs: `audit_num_pairs`, >= 1.

    Raises:
        ValueError: naming the key.
    """
    check_reading(value_range, image_axes, channel_endings)
    try:
        re.compile(patient_pattern or "")
    except (re.error, TypeError) as error:
        raise ValueError(f"patient_pattern must be a regular expression, got {patient_pattern!r} ({error})") from error
    if num_pairs < 1:
        raise ValueError(f"audit_num_pairs must be >= 1, got {num_pairs!r}")


def _refuse_one_folder(paths: Mapping[str, str]) -> None:
    parts: dict[Path, str] = {}
    for part, path in paths.items():
        other = parts.setdefault(Path(path).resolve(), part)
        if other != part:
            raise ValueError(f"{part}_path must be another folder than {other}_path, got {path} for both")


def _refuse_other_shapes(read: Mapping[str, ForeignImages]) -> None:
    training = read["training"]
    expected = tuple(training.images.shape[1:])
    for images in read.values():
        got = tuple(images.images.shape[1:])
        if got != expected:
            raise ValueError(
                f"{images.path} must have images of {expected[0]} channels and the size {expected[1:]}, as"
                f" {training.path}, got {got[0]} and {got[1:]}; bring both to one size, and see image_axes if their"
                " axes were taken for others"
            )


def _common_extent(read: Mapping[str, ForeignImages]) -> tuple[float, float]:
    extents = [images.extent for images in read.values()]
    low, high = min(extent[0] for extent in extents), max(extent[1] for extent in extents)
    if low == high:
        raise ValueError(f"the images must show something, got {low:g} everywhere; look at the folders")
    return low, high


def _image_set(part: str, images: ForeignImages, value_range: Sequence[float], pattern: str | None) -> ImageSet:
    # The background of a lossy format is not exactly that of the other folder, nor is a generator's.
    scaled = snap_background(images.scaled(value_range))
    if part == "synthetic":
        return ImageSet(scaled, [None] * len(images), images.names, path=images.path)
    stems = [stem(name) for name in images.names]
    patients = [patient_by_name(name) if pattern is None else _patient(images, name, pattern) for name in stems]
    if pattern is None:
        # 0001.png of training and of held-out images need not be one person.
        patients = [f"{part}/{name}" if who == name else who for who, name in zip(patients, stems, strict=True)]
    return ImageSet(scaled, patients, images.names, path=images.path)


def _patient(images: ForeignImages, name: str, pattern: str) -> str:
    found = re.search(pattern, name)
    patient = found[1 if found.re.groups else 0] if found else None
    if not patient:
        raise ValueError(
            f"patient_pattern {pattern!r} must find the patient in the name of every image, got none in {name} of"
            f" {images.path}; correct the pattern or rename the file"
        )
    return str(patient)


def _refuse_constant(*sets: ImageSet) -> None:
    for images in sets:
        flat = images.images.flatten(1) if len(images) else torch.empty(0, 1)
        constant = [name for name, image in zip(images.names, flat, strict=True) if bool((image == image[0]).all())]
        if constant:
            raise ValueError(
                f"{images.path} must hold images with contrast above the lowest twentieth of value_range, which is"
                f" background, got one intensity in {some_names(constant, limit=3)}; leave them out, or correct"
                " value_range"
            )


def _refuse_shared(training: ImageSet, held_out: ImageSet) -> None:
    shared = sorted({str(patient) for patient in training.patients} & {str(patient) for patient in held_out.patients})
    if shared:
        raise ValueError(
            f"{held_out.path} must be of other patients than {training.path}, got {some_names(shared, limit=3)} in"
            " both; held-out images are of people whom the generator never saw"
        )
    names = {image.cpu().numpy().tobytes(): name for image, name in zip(training.images, training.names, strict=True)}
    copies = [
        f"{name} ({names[content]})"
        for image, name in zip(held_out.images, held_out.names, strict=True)
        if (content := image.cpu().numpy().tobytes()) in names
    ]
    if copies:
        raise ValueError(
            f"{held_out.path} must hold other images than {training.path}, got the same image as"
            f" {some_names(copies, limit=3)}; leave them out of one folder"
        )


def _how_told(images: ImageSet, pattern: str | None) -> str:
    if pattern is not None:
        return BY_PATTERN
    return EACH if len(images.different_patients) == len(images) else BY_NAME


def _describe(read: ForeignImages, images: ImageSet, path: str, subjects: str | None) -> dict[str, Any]:
    lowest, highest = read.extent
    return {
        "path": path,
        "num_images": len(images),
        "num_subjects": None if subjects is None else len(images.different_patients),
        "subjects_by": subjects,
        "shape": list(images.images.shape[1:]),
        "lowest": lowest,
        "highest": highest,
    }


def _limits(subjects: Mapping[str, str], has_held_out: bool) -> list[str]:
    """Say what the audit cannot tell, because it was not given what it needs for that."""
    limits = [
        "Nothing but the folder says what the generator was trained on: a copy of an image that is not in it is not"
        " seen.",
        "The thresholds were fixed on simulated MRI of brains; of other images they are a guide, so look at the pairs.",
    ]
    if not has_held_out:
        limits.insert(
            0,
            "No held-out images were given. Copies of single images are found all the same; whether the set as a whole"
            " is nearer to its training images than to others cannot be told, so the verdict cannot be that there is no"
            " sign of memorization.",
        )
    if EACH in subjects.values():
        limits.append(
            "Each image counts as a subject of its own. Where a patient has several that resemble each other, a copy of"
            " one is as near to the others and may be missed: say who is who by patient_pattern."
        )
    return limits
