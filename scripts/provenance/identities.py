"""One person under two names: the same patient or the same image where subjects must be others."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.provenance.leakage import LeakageError
from scripts.provenance.same_picture import Picture, fingerprint, same_pictures
from scripts.running.errors import some_names
from scripts.splits.lists import FOLD_PARTS, image_path, read_list
from scripts.splits.parts import load_splits, part_subjects
from scripts.splits.patients import patient_of

logger = logging.getLogger(__name__)

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
            the number of the slice, as when images and not subjects were split), or show the same picture, also scaled,
            shifted or mirrored. Two names of one picture in one part are named in the log.
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
    _refuse_same_picture(patches_path, rows, parts, fold)


def refuse_shared_subjects(patches_path: str | Path, other_path: str | Path) -> None:
    """Stop where a person of one cohort is in another, which was to be of other people.

    Args:
        patches_path: `patches.json` of the cohort trained on; its images are read.
        other_path: `patches.json` of the cohort tested on, likewise.

    Raises:
        LeakageError: naming the shared subjects, and what is the same of them: subject id, patient id, image, or the
            picture, scaled, shifted or mirrored.
    """
    own, other = (_marks_of(path) for path in (patches_path, other_path))
    same = sorted(own.keys() & other.keys())
    shared = {other[mark]: f"{other[mark]} (the {mark[0]} of {own[mark]})" for mark in same}
    shared = {**_shared_pictures(patches_path, other_path), **shared}
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
    return fingerprint(str(path)).digest


def _refuse_same_picture(patches_path: str | Path, rows: Sequence[Row], parts: Mapping[str, str], fold: int) -> None:
    for pair in same_pictures([Picture(image_path(patches_path, row), patient_of(row)) for row in rows]):
        one, other = (rows[number]["subject_id"] for number in (pair.first, pair.second))
        found = f"the same picture as {one} ({parts[one]}) and {other} ({parts[other]}) of fold {fold}"
        way_out = "if they are one person, give both one patient_id (docs/reference/data.md) or leave one out"
        if parts[one] != parts[other]:
            raise LeakageError(
                f"{patches_path} must show a subject under one subject_id, got {found}, perhaps scaled, shifted or"
                f" mirrored (correlation {pair.correlation:.3f}); {way_out} (leave_out of"
                " configs/cohort.yaml), then make patches and splits again"
            )
        logger.warning("%s shows %s (correlation %.3f); %s", patches_path, found, pair.correlation, way_out)


def _shared_pictures(patches_path: str | Path, other_path: str | Path) -> dict[str, str]:
    """Subjects of the other cohort who are the picture of one of this cohort -> what is the same, in words."""
    rows = [
        (path, row["subject_id"], Picture(image_path(path, row), f"{path} {patient_of(row)}", path))
        for path in map(str, (patches_path, other_path))
        for row in read_list(path, "patches")["training"]
    ]
    shared = {}
    for pair in reversed(same_pictures([picture for *_, picture in rows])):
        one, name = rows[pair.first][1], rows[pair.second][1]
        shared[name] = f"{name} (the picture of {one}, correlation {pair.correlation:.3f})"
    return shared


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
