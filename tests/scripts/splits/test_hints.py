"""The locked test as the folders of a data set name it."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.splits.draw import make_splits

CLASSES = ("a", "b")


def cohort_of(hints: dict[str, str | None], **changes: Any) -> dict[str, Any]:
    subjects = [{"subject_id": name, "grade": name[0], "split_hint": hint} for name, hint in hints.items()]
    return {
        "name": "pictures",
        "patients": "unknown",
        "subjects": [{**one, **changes.get(one["subject_id"], {})} for one in subjects],
    }


HINTS = {f"{label}{number}": "test" if number % 3 == 0 else "training" for label in CLASSES for number in range(18)}
OPTIONS = {"classes": CLASSES, "num_folds": 2, "stratify_by": ["grade"], "hold_out": "hint"}


def test_the_test_part_is_the_test_folder_whatever_the_seed_and_fraction() -> None:
    wanted = sorted(name for name, hint in HINTS.items() if hint == "test")
    for seed, fraction in ((0, 0.2), (1, 0.5)):
        splits = make_splits(cohort_of(HINTS), seed=seed, test_fraction=fraction, **OPTIONS)
        assert splits["test"] == wanted
        assert splits["test_fraction"] == pytest.approx(1 / 3, abs=1e-6)
        rest = sorted(name for part in splits["folds"][0].values() for name in part)
        assert rest == sorted(set(HINTS) - set(wanted))


def test_a_validation_folder_is_left_to_train_and_select_on() -> None:
    hints = {**HINTS, "a1": "validation"}
    assert "a1" in sum(make_splits(cohort_of(hints), **OPTIONS)["folds"][0].values(), [])


@pytest.mark.parametrize(
    ("hints", "changes", "message"),
    [
        ({**HINTS, "a1": None}, {}, "split_hint must be known for every image .*, got none for a1; put them below"),
        (
            HINTS,
            {"a0": {"patient_id": "copy"}, "a1": {"patient_id": "copy"}},
            "split_hint must be one for all images of a patient .* got test and others for copy; keep one of alike",
        ),
        (
            {name: "training" if name[0] == "b" else hint for name, hint in HINTS.items()},
            {},
            "the locked test must hold every class with splits_hold_out hint, got no image of b in a test folder",
        ),
        (
            {name: "test" if name[0] == "b" else hint for name, hint in HINTS.items()},
            {},
            "fold 0 must have subjects of class b in each part, got 0 such patients",
        ),
    ],
)
def test_folders_that_do_not_say_who_is_tested_are_refused(hints, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_splits(cohort_of(hints, **changes), **OPTIONS)


def test_only_one_setting_says_who_is_tested() -> None:
    with pytest.raises(ValueError, match="generator_fraction must be null where splits_hold_out is hint, .* got 0.2"):
        make_splits(cohort_of(HINTS), generator_fraction=0.2, test_fraction=0.8, **OPTIONS)
