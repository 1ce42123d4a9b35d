"""The locked test as the folders of a data set name it: `Testing` beside `Training`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scripts.running.errors import some_names
from scripts.splits.patients import patient_of

Patient = dict[str, Any]  # see `scripts.splits.draw`
TEST = "test"  # the other hints, training and validation, name what is left to train and select on


def draw_hinted(
    patients: Sequence[Patient], subjects: Iterable[Mapping[str, Any]], classes: Sequence[str | None]
) -> tuple[list[Patient], list[Patient]]:
    """Take the patients whose images lie in a test folder, and return them and the rest.

    Args:
        patients: one row per patient, as `make_splits` has them.
        subjects: of the cohort, with `split_hint` (`scripts.cohorts.class_folders`).
        classes: that the test must hold; [None] for those of a cohort without classes.

    Raises:
        ValueError: if a subject of a patient has no hint, a patient stands on both sides, or a class is not tested.
    """
    hints: dict[str, set[str | None]] = defaultdict(set)
    in_parts = {name for patient in patients for name in patient["subject_ids"]}
    for subject in subjects:
        if subject["subject_id"] in in_parts:
            hints[patient_of(subject)].add(subject.get("split_hint"))
    unknown = sorted(name for name, own in hints.items() if None in own)
    if unknown:
        raise ValueError(
            f"split_hint must be known for every image with splits_hold_out hint, got none for {some_names(unknown)};"
            " put them below folders Training and Testing, or set splits_hold_out to patients"
        )
    both = sorted(name for name, own in hints.items() if TEST in own and len(own) > 1)
    if both:
        raise ValueError(
            f"split_hint must be one for all images of a patient with splits_hold_out hint, got test and others for"
            f" {some_names(both)}; keep one of alike images (duplicates keep_first), leave images out (`leave_out` of"
            " configs/cohort.yaml), or set splits_hold_out to patients"
        )
    test = [patient for patient in patients if TEST in hints[patient["patient_id"]]]
    missing = [name for name in classes if all(patient["grade"] != name for patient in test)]
    if missing:
        raise ValueError(
            f"the locked test must hold every class with splits_hold_out hint, got no image of"
            f" {some_names([str(name) for name in missing])} in a test folder; set splits_hold_out to patients"
        )
    return test, [patient for patient in patients if TEST not in hints[patient["patient_id"]]]
