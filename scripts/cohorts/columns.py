"""The names of a table's columns: which are understood in any spelling, and which come so near that they are asked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scripts.cohorts.words import plain
from scripts.running.errors import some_names
from scripts.volumes.modality_names import parse_modality

COLUMNS = (
    "subject_id",
    "patient_id",
    "grade",
    "site",
    "image",
    "images",
    "channel_order",
    "mask",
    "mask_source",
    "mask_codes",
    "brain_mask",
)
# What a table may say of a patient besides: read, shown in the report, and the molecular ones usable as the class.
MOLECULAR = ("idh", "codeletion_1p19q")
FACTS = (*MOLECULAR, "field_strength_t")
NAMES_OF_FACTS = {
    "idh": ("idh status", "idh mutation", "idh mutation status", "idh 1/2"),
    "codeletion_1p19q": ("1p19q", "1p/19q", "1p19q codeletion", "1p/19q codeletion", "1p19q status", "1p/19q status"),
    "field_strength_t": ("field strength", "magnetic field strength", "tesla"),
}
# Names that people give to a column; they are not taken for it, as they may mean something else.
MEANT = {
    "subject_id": ("id", "subject", "scan", "scan id", "case", "case id", "image id", "name"),
    "patient_id": (
        *("patient", "patients", "patient no", "patient nr", "patient number", "patient name", "patient code", "pid"),
        *("person", "person id", "participant", "participant id", "individual", "individual id", "mrn"),
    ),
    "grade": ("who", "class", "label", "diagnosis"),
    "site": ("center", "centre", "hospital", "clinic", "institution", "institute", "site name"),
}
OWN = ("sha256", "file_stamp")  # of a cohort.json that is scanned again
NEAR = 0.8  # ratio of difflib: "patientid" and "patientsid" are near, "side" and "site" or "age" and "image" are not


@dataclass
class Columns:
    """What the columns of a table are.

    Args:
        known: name in the table -> one of `COLUMNS` or `FACTS`.
        modalities: name in the table -> modality.
        ignored: names in the table that mean nothing here.
        faults: a sentence for each column that nearly is one of `COLUMNS`, and for two that are the same.
    """

    known: dict[str, str] = field(default_factory=dict)
    modalities: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_columns(names: Iterable[str], modalities: Sequence[str]) -> Columns:
    """Tell what the columns of a table are, by their names in any spelling of case, blank, hyphen and underscore.

    Args:
        names: as they stand in the table.
        modalities: those wanted.

    Returns:
        What is understood, what is not, and what is refused: a name that is nearly that of a column which the table
        lacks must not be passed over, as "patient" for patient_id would put a patient into training and test.
    """
    columns = Columns()
    by_word = {_word(column): column for column in (*COLUMNS, *FACTS)}
    by_word |= {_word(name): column for column, others in NAMES_OF_FACTS.items() for name in others}
    for name in names:
        if column := by_word.get(_word(name)):
            if column in columns.known.values():
                columns.faults.append(f"column {column} must be there once, got it again as {name!r}; remove one")
            columns.known[name] = column
        elif modality := parse_modality(name, modalities):
            columns.modalities[name] = modality
        elif name not in OWN:
            columns.ignored.append(name)
    lacking = [column for column in COLUMNS if column not in columns.known.values()]
    for name in columns.ignored:
        if column := _nearest(name, lacking):
            columns.faults.append(f"column {name!r} must be renamed or removed; did you mean {column}?")
    return columns


def require_subject_id(columns: Columns, where: str) -> None:
    """Refuse a table that does not say who its rows are.

    Raises:
        ValueError: naming the columns that it has.
    """
    if "subject_id" not in columns.known.values():
        names = [*columns.known, *columns.modalities, *columns.ignored]
        meant = [fault for fault in columns.faults if fault.endswith("subject_id?")]
        raise ValueError(
            f"{where} must have a column subject_id, got {some_names(names) or 'no columns'};"
            f" {'; '.join(meant) or 'see docs/reference/data.md'}"
        )


def _word(name: str) -> str:
    return plain(name).replace(" ", "")


def _nearest(name: str, lacking: Sequence[str]) -> str | None:
    for column in lacking:
        if _word(name) in map(_word, MEANT.get(column, ())):
            return column
    if "grade" in lacking and "grade" in plain(name).split():
        return "grade"
    words = {_word(column): column for column in lacking}
    close = difflib.get_close_matches(_word(name), words, 1, NEAR)
    return words[close[0]] if close else None
