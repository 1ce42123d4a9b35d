"""A cohort as a table of the user's own: CSV or JSON, one row a scan."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.cohorts.grades import parse_grade
from scripts.cohorts.layouts import SUFFIXES, Found, Subject
from scripts.running.files import read_json
from scripts.volumes.modality_names import describe_aliases, parse_modality

COLUMNS = (
    "subject_id",
    "patient_id",
    "grade",
    "site",
    "image",
    "channel_order",
    "mask",
    "mask_source",
    "mask_codes",
    "brain_mask",
)
MASK_SOURCES = ("expert", "model", "simulated")

Row = dict[str, Any]


def find_table(
    path: Path,
    modalities: Sequence[str],
    classes: Collection[str],
    grade_map: Mapping[str, str | None] | None = None,
) -> Found:
    """Read the subjects that a table lists.

    Args:
        path: `.csv` (comma, semicolon or tab), or `.json`: a list of rows, or a mapping with a list `subjects`; a row
            may hold `images`, a mapping from modality to path. Relative paths start at the folder of the table.
        modalities: those wanted; each is a column, under any of its aliases, unless there is a column `image`.
        classes: names of the classes.
        grade_map: as in `parse_grade`.

    Returns:
        Subjects and problems; `notes` lists columns that were not read.

    Raises:
        ValueError: if the table cannot be read at all.
    """
    found = Found("table")
    rows = _read_rows(path)
    ignored = set()
    for where, row in rows:
        subject_id = _text(row.get("subject_id"))
        if not subject_id:
            found.add_problem("", f"{where} must have a subject_id, got none; give every row one")
            continue
        subject = Subject(
            subject_id, where, patient_id=_text(row.get("patient_id")), site=_text(row.get("site")) or None
        )
        ignored |= _read_images(subject, row, path.parent, modalities, found)
        _read_mask(subject, row, path.parent, found)
        try:
            subject.grade = parse_grade(row.get("grade"), classes, grade_map)
        except ValueError as error:
            found.add_problem(subject_id, f"{where}, subject {subject_id}: {error}")
        found.subjects.append(subject)
    if ignored:
        found.notes["ignored_columns"] = sorted(ignored)
    return found


def _read_rows(path: Path) -> list[tuple[str, Row]]:
    """(where, row) of each line; the keys in lower case, the mapping `images` spread out."""
    if path.suffix.lower() == ".json":
        content = read_json(path)
        entries = content["subjects"] if isinstance(content, dict) and "subjects" in content else content
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{path} must be a list of subjects, or a mapping with such a list as `subjects`")
        return [
            (
                f"{path} entry {number}",
                {**_lower({k: v for k, v in row.items() if k != "images"}), **row.get("images", {})},
            )
            for number, row in enumerate(entries, start=1)
        ]
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise ValueError(f"source_path must be a folder, a .csv or a .json, got {path}")
    with path.open(newline="", encoding="utf-8-sig") as stream:
        header = stream.readline()
        stream.seek(0)
        delimiter = max(",;\t", key=header.count)
        reader = csv.DictReader(stream, delimiter=delimiter)
        rows = [(f"{path} row {reader.line_num}", row) for row in reader]
    names = [name.strip().lower() for name in reader.fieldnames or []]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "subject_id" not in names:
        raise ValueError(
            f"{path} must have a column subject_id and no column twice, got {', '.join(names) or 'no columns'};"
            " see docs/reference/data.md"
        )
    for where, row in rows:
        if None in row or None in row.values():
            raise ValueError(f"{where} must have {len(names)} fields as the first line, got another number; correct it")
    return [(where, _lower(row)) for where, row in rows]


def _lower(row: Mapping[str, Any]) -> Row:
    return {key.strip().lower(): value for key, value in row.items()}


def _text(value: Any) -> str:
    text = "" if value is None else str(value).strip()
    return "" if text.lower() in ("na", "n/a", "nan", "none", "null") else text


def _read_images(subject: Subject, row: Row, folder: Path, modalities: Sequence[str], found: Found) -> set[str]:
    """Put the image files of a row into the subject; return the columns that are none of its business."""
    ignored = set()
    for column, value in row.items():
        text = _text(value)
        if column in COLUMNS:
            continue
        modality = parse_modality(column, modalities)
        if modality is None and not text.endswith(SUFFIXES):
            ignored.add(column)
        elif modality is None:
            found.add_problem(
                subject.subject_id,
                f"{subject.where} must have columns for {describe_aliases(modalities)}, got {column!r} ({text});"
                " rename or remove this column",
            )
        elif text and modality in subject.images:
            found.add_problem(
                subject.subject_id,
                f"{subject.where} must have one file for {modality}, got {subject.images[modality]} and {text};"
                " remove one",
            )
        elif text:
            subject.images[modality] = _path(folder, text)
    if _text(row.get("image")):
        _read_channels(subject, row, folder, modalities, found)
    return ignored


def _read_channels(subject: Subject, row: Row, folder: Path, modalities: Sequence[str], found: Found) -> None:
    subject.image = _path(folder, _text(row["image"]))
    order = row.get("channel_order") or ""
    words = order if isinstance(order, list) else re.split(r"[\s,;|/]+", _text(order))
    subject.channel_order = [parse_modality(str(word), modalities) or str(word) for word in words if word]
    if subject.images:
        found.add_problem(
            subject.subject_id,
            f"{subject.where} must have either `image` (4D) or one file a modality, got both; remove one",
        )
    if sorted(set(subject.channel_order)) != sorted(subject.channel_order) or not set(modalities) <= set(
        subject.channel_order
    ):
        found.add_problem(
            subject.subject_id,
            f"{subject.where} must have a channel_order that names each of {', '.join(modalities)} once, got {order!r}",
        )


def _read_mask(subject: Subject, row: Row, folder: Path, found: Found) -> None:
    mask, source = _text(row.get("mask")), _text(row.get("mask_source")).lower()
    subject.mask = _path(folder, mask) if mask else None
    brain_mask = _text(row.get("brain_mask"))
    subject.brain_mask = _path(folder, brain_mask) if brain_mask else None
    subject.mask_source = source or None
    if source and source not in MASK_SOURCES:
        found.add_problem(
            subject.subject_id,
            f"{subject.where}: mask_source must be one of {', '.join(MASK_SOURCES)} or empty, got {source!r}",
        )
    codes = row.get("mask_codes")
    subject.mask_codes = codes if isinstance(codes, Mapping) else _text(codes) or None


def _path(folder: Path, text: str) -> Path:
    return (folder / Path(text).expanduser()).resolve()
