"""Who is one person: the patient of a scan, by what its row says, else by its name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

SUBJECT_ID = re.compile(r"(?!\.)[\w.+-]+")
SUBJECT_ID_RULE = "usable as a file name (letters, digits, _ - + . and no . at its beginning)"
SLICE = re.compile(r"_slice\d{3}$")  # what scripts.patches.stage adds to the name where a subject has several patches
NAMES_OF_SCANS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(BraTS(?:-[A-Z]+)+-\d+)-\d+",  # BraTS 2023 and later: BraTS-GLI-00001-001
        r"(UPENN-GBM-\d+)_\d+",  # UPENN-GBM-00001_21
        r"(UCSF-PDGM-\d+)_.+",  # UCSF-PDGM-0431_FU001d
        r"(sub-[A-Z0-9]+)_.+",  # BIDS: sub-01_ses-02_run-1
        # Words for a visit after a name with a number: Patient-001_week-044, PatientID_0003_Timepoint_1, P7-preop
        r"(.*\d.*?)[_-](?:ses|session|visit|timepoint|tp|week|month|day|fu|followup)[_-]?\d+[a-z]?(?:[_-]\d+)?",
        r"(.*\d.*?)[_-](?:baseline|followup|fu|pre|post|preop|postop)",
    )
)
COUNTED = re.compile(r"(.*\d[A-Za-z]?)[_.-]\d{1,2}")  # P001_2, as a second scan of P001 would be called
MAX_SCANS = 10  # of a patient; more names that begin alike are patients of one site


def patient_of(row: Mapping[str, Any]) -> str:
    """Name the patient of a row of `cohort.json` or `patches.json`: its `patient_id`, else by its `subject_id`."""
    return str(row.get("patient_id") or patient_by_name(row["subject_id"]))


def patient_by_name(subject_id: str) -> str:
    """Derive the patient from the name of a scan, or of a slice of it.

    >>> patient_by_name("BraTS-GLI-00001-001"), patient_by_name("sub-01_ses-02"), patient_by_name("TCGA-DU-7294")
    ('BraTS-GLI-00001', 'sub-01', 'TCGA-DU-7294')

    Args:
        subject_id: name of a scan; with the number of a slice where images and not subjects are listed.

    Returns:
        What scans of one patient have in common, in the public sets that are known and where a word says that a number
        counts visits; else the name itself.
    """
    scan = SLICE.sub("", subject_id)
    return next((match[1] for pattern in NAMES_OF_SCANS if (match := pattern.fullmatch(scan))), scan)


def patient_by_pattern(pattern: str, name: str) -> str | None:
    r"""Find the patient in a name by a regular expression: its first group or, without groups, all that it matches.

    >>> patient_by_pattern(r"P(\d+)", "COVID/P12 (3)"), patient_by_pattern("P[0-9]", "P1"), patient_by_pattern("x", "P")
    ('12', 'P1', None)
    """
    match = re.search(pattern, name)
    return (match[1 if match.re.groups else 0] or None) if match else None


def check_pattern(pattern: str | None) -> None:
    """Refuse a `patient_pattern` that is no regular expression.

    Raises:
        ValueError: with what is wrong with it.
    """
    try:
        re.compile(pattern or "")
    except (re.error, TypeError) as error:
        raise ValueError(
            f"patient_pattern must be a regular expression or null, got {pattern!r} ({error}); such as 'P(\\d+)_'"
        ) from error


def perhaps_one_patient(subject_ids: Iterable[str]) -> list[list[str]]:
    """Group names that differ only in a small number at the end, after a name that holds a number already.

    Such as P001_1 and P001_2. They may be scans of one patient or patients of one site: nothing tells.

    Args:
        subject_ids: of scans whose patients are known by their names alone.

    Returns:
        Groups of 2 to `MAX_SCANS` names, each sorted; none where all names begin alike.
    """
    groups = defaultdict(list)
    for subject_id in sorted(subject_ids):
        if match := COUNTED.fullmatch(patient_by_name(subject_id)):
            groups[match[1]].append(subject_id)
    return [names for names in groups.values() if len(groups) > 1 < len(names) <= MAX_SCANS]


def number_patients(patients: Sequence[Hashable]) -> np.ndarray:
    """Number patients from 0, in the order of their first image: (N,) integers, equal where the patient is.

    >>> number_patients(["P2", "P1", "P2"]).tolist()
    [0, 1, 0]
    """
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    return np.array([numbers[patient] for patient in patients], dtype=int)


def is_subject_id(name: object) -> bool:
    """Tell whether a name can be that of a subject, and so of its files: `SUBJECT_ID_RULE`."""
    return isinstance(name, str) and SUBJECT_ID.fullmatch(name) is not None
