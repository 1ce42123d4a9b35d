from __future__ import annotations

import pytest

from scripts.evaluation.members import Member, refuse_other_members


def member(fold, setup="real", cohort="A"):
    return Member(f"member{fold}/model.pt", {}, {"fold": fold, "setup": setup, "cohorts": [cohort]})


def test_one_classifier_per_fold_of_one_setup_and_cohort_is_accepted():
    refuse_other_members([member(0), member(1)], "real", "A", "patches.json")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], r"one classifier per fold, got folds \[\]"),
        ([member(0), member(0)], r"one classifier per fold, got folds \[0, 0\]"),
        ([member(0), member(1, setup="ddpm")], "member1/model.pt must be of setup 'real' and cohort 'A', got 'ddpm'"),
        ([member(0, cohort="B")], r"member0/model.pt must be of setup 'real' and cohort 'A', got 'real' and \['B'\]"),
    ],
)
def test_others_are_refused_by_name(members, message):
    with pytest.raises(ValueError, match=message):
        refuse_other_members(members, "real", "A", "patches.json")
