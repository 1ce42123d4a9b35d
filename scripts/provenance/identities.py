"""One person under two names: the same patient or the same image where subjects must be others."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from scripts.provenance.leakage import LeakageError
from scripts.running.errors import some_names
from scripts.running.files import file_state
from scripts.splits.lists import FOLD_PARTS, image_path, read_list
from scripts.splits.parts import load_splits, part_subjects
from scripts.splits.patients import patient_of

PARTS = (*FOLD_PARTS, "test")  # where one is also another, the later counts
MARKS = ("image", "patient", "subject_id")

Row = Mapping[str, Any]


def refuse_two_names(patches_path: str | Path, splits_path: str | Path, fold: int) -> None:
    """Stop where one person is in two parts of a fold under two subject ids.

    Args:
        patches_path: `patches.json`; its images are read.
        splits_path: `splits.json` of the same subjects.
        fold: number of the fold, from 0.

    Raises:
        LeakageError: naming both ids and their parts, if they are of one patient (`patient_id`, or ids that differ in
            the number of the slice, as when images and not subjects were split), or show the same pixels.
    """
    splits = load_splits(splits_path)
    parts = {subject: part for part in PARTS for subject in part_subjects(splits, fold, part)}
    rows = [row for row in read_list(patches_path, "patches")["training"] if row["subject_id"] in parts]
    patient = _first_in_two_parts(rows, [patient_of(row) for row in rows], parts)
    if patient:
        raise LeakageError(
            f"{splits_path} must keep all images of a patient in one part, got one patient as {patient} of fold {fold};"
            " split by patient and not by image: give subject_id and patient_id in the cohort (docs/reference/data.md)"
            " and make the splits with configs/splits.yaml"
        )
    image = _first_in_two_parts(rows, [image_digest(image_path(patches_path, row)) for row in rows], parts)
    if image:
        raise LeakageError(
            f"{patches_path} must show a subject under one subject_id, got the same image as {image} of fold {fold};"
            " leave one of them out (leave_out of configs/cohort.yaml), then make patches and splits again"
        )


def refuse_shared_subjects(patches_path: str | Path, other_path: str | Path) -> None:
    """Stop where a person of one cohort is in another, which was to be of other people.

    Args:
        patches_path: `patches.json` of the cohort trained on; its images are read.
        other_path: `patches.json` of the cohort tested on, likewise.

    Raises:
        LeakageError: naming the shared subjects, and what is the same of them: subject id, patient id or image.
    """
    own, other = (_marks_of(path) for path in (patches_path, other_path))
    same = sorted(own.keys() & other.keys())
    shared = {other[mark]: f"{other[mark]} (the {mark[0]} of {own[mark]})" for mark in same}
    if shared:
        raise LeakageError(
            f"{other_path} must be of other subjects than {patches_path}, got {len(shared)} of both:"
            f" {some_names(shared.values())}; leave them out of one cohort (leave_out of configs/cohort.yaml),"
            " or rename them if they are other people"
        )


def image_digest(path: str | Path) -> str:
    """Hash shape and intensities of an image as it is read for training, whatever its header and file name say.

    Args:
        path: NIfTI file; one that was hashed before and has not changed since is not read again.

    Returns:
        64 hexadecimal digits.
    """
    return _digest(str(path), file_state(path))


@functools.cache
def _digest(path: str, state: tuple[int, int]) -> str:
    # As float32, to which every image is cast; 0 and -0 are one intensity.
    image: Any = nib.load(path)
    array = np.ascontiguousarray(image.dataobj, dtype=np.float32) + 0.0
    return hashlib.sha256(str(array.shape).encode() + array.tobytes()).hexdigest()


def _first_in_two_parts(rows: Sequence[Row], marks: Sequence[str], parts: Mapping[str, str]) -> str:
    """The first subjects of one mark and of different parts: "a (train) and b (test)"; "" if there are none."""
    first: dict[str, str] = {}
    for row, mark in zip(rows, marks, strict=True):
        subject, before = row["subject_id"], first.setdefault(mark, row["subject_id"])
        if parts[subject] != parts[before]:
            return f"{before} ({parts[before]}) and {subject} ({parts[subject]})"
    return ""


def _marks_of(path: str | Path) -> dict[tuple[str, str], str]:
    """What tells the people of a `patches.json`: (what, value) -> subject id."""
    marks: dict[tuple[str, str], str] = {}
    for row in read_list(path, "patches")["training"]:
        subject, digest = row["subject_id"], image_digest(image_path(path, row))
        marks |= dict.fromkeys(zip(MARKS, (digest, patient_of(row), subject), strict=True), subject)
    return marks
