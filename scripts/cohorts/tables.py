"""A cohort as a table of the user's own: CSV or JSON, one row per scan."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.cohorts.columns import FACTS, Columns, read_columns, require_subject_id
from scripts.cohorts.csv_rows import read_csv_rows
from scripts.cohorts.grades import GradeMap, parse_grade
from scripts.cohorts.subjects import Source, Subject
from scripts.cohorts.words import is_unknown, name_of, plain
from scripts.running.files import read_json
from scripts.volumes.file_names import as_named, is_nifti, is_picture
from scripts.volumes.mask_codes import parse_mask_codes
from scripts.volumes.modality_names import describe_aliases, parse_modality

MASK_SOURCES = ("expert", "model", "simulated")
STRUCTURED = ("images", "mask_codes", "channel_order")  # columns of JSON that may hold more than one word
TABLES = (".csv", ".tsv", ".txt", ".json")

Row = dict[str, Any]


def find_table(
    path: Path,
    modalities: Sequence[str],
    classes: Collection[str],
    grade_map: GradeMap | None = None,
    class_column: str = "grade",
) -> Source:
    """Read the subjects that a table lists.

    Args:
        path: `.csv` (comma, semicolon or tab), or `.json`: a list of rows, or a mapping with a list `subjects`; a row
            may hold `images`, a mapping from modality to path. Relative paths start at the folder of the table.
        modalities: those wanted; each is a column, under any of its aliases, unless there is a column `image`.
        classes: names of the classes.
        grade_map: as in `parse_grade`.
        class_column: column that says the class: `grade`, or one of `scripts.cohorts.columns.MOLECULAR`.

    Returns:
        Subjects and problems; `notes` lists columns that were not read (`ignored_columns`) and, of what is said of
        single patients besides, what was not understood (`unread_facts`).

    Raises:
        ValueError: if the table cannot be read at all, or has not the column of the class.
    """
    source = Source("table")
    names, rows = _read_rows(path, source)
    columns = read_columns(names, modalities)
    require_subject_id(columns, str(path))
    if class_column != "grade" and class_column not in columns.known.values():
        raise ValueError(
            f"{path} must have a column {class_column}, which class_column takes for the class, got"
            f" {', '.join(columns.known)}; add it, or pass --class_column grade"
        )
    for fault in columns.faults:
        source.add_problem("", f"{path}: {fault}")
    for where, row in rows:
        known = {column: row[name] for name, column in columns.known.items() if name in row}
        subject = _read_subject(where, known, source)
        if subject is None:
            continue
        _read_images(subject, row, known, columns, path.parent, modalities, source)
        _read_mask(subject, known, path.parent, source)
        _read_facts(subject, known, source)
        try:
            subject.grade = parse_grade(known.get(class_column), classes, grade_map)
        except ValueError as error:
            source.add_problem(subject.subject_id, f"{where}, subject {subject.subject_id}: {error}")
        source.subjects.append(subject)
    if columns.ignored:
        source.notes["ignored_columns"] = sorted(columns.ignored)
    return source


def _read_rows(path: Path, source: Source) -> tuple[Iterable[str], list[tuple[str, Row]]]:
    """Names of the columns, and (where, row) of each row."""
    if path.suffix.lower() not in TABLES:
        raise ValueError(f"source_path must be a folder, a .csv or a .json, got {path}")
    if path.suffix.lower() != ".json":
        names, lines = read_csv_rows(path)
        return names, [(where, dict(row)) for where, row in lines]
    content = read_json(path)
    if isinstance(content, dict) and content.get("simulated"):
        source.notes["simulated"] = True  # patients of the phantom stay what they are
    entries = content["subjects"] if isinstance(content, dict) and "subjects" in content else content
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} must be a list of subjects, or a mapping with such a list as `subjects`")
    rows = [(f"{path} entry {number}", entry) for number, entry in enumerate(entries, start=1)]
    return dict.fromkeys(name for entry in entries for name in entry), rows


def _read_subject(where: str, known: Row, source: Source) -> Subject | None:
    """Who the row is about; None, and the row is told, if it does not say so."""
    for column in known:
        value = known[column]
        if column not in STRUCTURED and not isinstance(value, str | int | float | None):
            source.add_problem("", f"{where}: {column} must be text or a number, got {value!r}; correct it")
            known[column] = None
    subject_id, patient_id, site = (name_of(known.get(column)) for column in ("subject_id", "patient_id", "site"))
    if not subject_id:
        source.add_problem("", f"{where} must have a subject_id, got {known.get('subject_id')!r}; name it")
        return None
    return Subject(subject_id, where, patient_id=patient_id, site=site or None)


def _read_facts(subject: Subject, known: Row, source: Source) -> None:
    """Note what a row says of a patient besides, in one spelling; nothing of what is empty or said to be unknown.

    A field strength that is no number of tesla is not stated, and is told: no patient is refused for it.
    """
    subject.facts = {column: plain(known[column]) for column in FACTS if not is_unknown(known.get(column))}
    if "field_strength_t" in subject.facts:
        strength = _tesla(known["field_strength_t"])
        if strength is None:
            del subject.facts["field_strength_t"]
            unread = f"{subject.subject_id}: field_strength_t {known['field_strength_t']!r}"
            source.notes.setdefault("unread_facts", []).append(unread)
        else:
            subject.facts["field_strength_t"] = f"{strength:g} T"


def _tesla(value: object) -> float | None:
    """Number of tesla in a cell such as 3, 1.5 T or 1,5 Tesla; None if there is none between 0 and 15."""
    text = unicodedata.normalize("NFKC", str(value)).strip().lower()
    number = re.fullmatch(r"(\d+(?:[.,]\d+)?)\s*(?:t|tesla)?", text)
    strength = float(number[1].replace(",", ".")) if number else 0.0
    return strength if 0 < strength < 15 else None


def _text(value: Any) -> str:
    return "" if is_unknown(value) else str(value).strip()


def _read_images(
    subject: Subject,
    row: Row,
    known: Row,
    columns: Columns,
    folder: Path,
    modalities: Sequence[str],
    source: Source,
) -> None:
    """Put the image files of a row into the subject."""
    images = known.get("images") or {}
    if not isinstance(images, Mapping):
        source.add_problem(
            subject.subject_id,
            f"{subject.where}: images must be a mapping from modality to path, got {images!r}; correct it",
        )
        images = {}
    cells = [(name, _text(row.get(name))) for name in (*columns.modalities, *columns.ignored)]
    for name, text in [*cells, *((str(name), _text(path)) for name, path in images.items())]:
        modality = parse_modality(name, modalities)
        if modality is None and text and (is_nifti(text) or is_picture(text) or name in images):
            source.add_problem(
                subject.subject_id,
                f"{subject.where} must have columns for {describe_aliases(modalities)}, got {name!r} ({text});"
                " rename or remove this column",
            )
        elif modality in subject.images and text:
            source.add_problem(
                subject.subject_id,
                f"{subject.where} must have one file for {modality}, got {subject.images[modality]} and {text};"
                " remove one",
            )
        elif modality and text:
            subject.images[modality] = _path(folder, text)
    if _text(known.get("image")):
        _read_channels(subject, known, folder, modalities, source)


def _read_channels(subject: Subject, known: Row, folder: Path, modalities: Sequence[str], source: Source) -> None:
    subject.image = _path(folder, _text(known["image"]))
    order = known.get("channel_order") or (list(modalities) if is_picture(subject.image) else "")
    words = order if isinstance(order, list) else re.split(r"[\s,;|/]+", _text(order))
    subject.channel_order = [parse_modality(str(word), modalities) or str(word) for word in words if word]
    if subject.images:
        source.add_problem(
            subject.subject_id,
            f"{subject.where} must have either `image` (4D) or one file per modality, got both; remove one",
        )
    once = len(set(subject.channel_order)) == len(subject.channel_order)
    if not once or not set(modalities) <= set(subject.channel_order):
        source.add_problem(
            subject.subject_id,
            f"{subject.where} must have a channel_order that names each of {', '.join(modalities)} once, got {order!r}",
        )


def _read_mask(subject: Subject, known: Row, folder: Path, source: Source) -> None:
    mask, brain_mask = _text(known.get("mask")), _text(known.get("brain_mask"))
    subject.mask = _path(folder, mask) if mask else None
    subject.brain_mask = _path(folder, brain_mask) if brain_mask else None
    mask_source = _text(known.get("mask_source")).lower()
    subject.mask_source = mask_source or None
    if mask_source and mask_source not in MASK_SOURCES:
        source.add_problem(
            subject.subject_id,
            f"{subject.where}: mask_source must be one of {', '.join(MASK_SOURCES)} or empty, got {mask_source!r}",
        )
    codes = known.get("mask_codes")
    subject.mask_codes = _text(codes) or None if isinstance(codes, str | None) else codes
    if subject.mask_codes is not None:
        try:
            parse_mask_codes(subject.mask_codes)
        except (TypeError, ValueError) as error:
            source.add_problem(subject.subject_id, f"{subject.where}, subject {subject.subject_id}: {error}")


def _path(folder: Path, text: str) -> Path:
    """The path that a cell names; a name with umlauts is found in either form, as macOS writes them apart."""
    forms = (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD") if not text.isascii()))
    paths = [as_named(os.path.join(folder, os.path.expanduser(form))) for form in forms]
    return next((path for path in paths if os.path.lexists(path)), paths[0])
