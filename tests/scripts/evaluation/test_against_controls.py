"""A diffusion model beats the controls where it is better than each of them, with few false alarms."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.evaluation.against_controls import compare_with_controls
from scripts.evaluation.answers import group_answers
from scripts.statistics.roc_area import auc_difference
from tests.predictions import prediction_rows

CONTROLS = dict.fromkeys(("ddpm", "ddpm_mi"), ("pca_gaussian", "mixed"))


def compared(skills, **options):
    groups = group_answers(prediction_rows(skills, **options))
    return compare_with_controls(groups, CONTROLS)


def test_a_setup_better_than_every_control_beats_them():
    rows = compared({"real": 0, "ddpm": 3.0, "pca_gaussian": 0.2, "mixed": 0.0}, sizes=(40, 60))
    assert [(row["setup"], row["control"]) for row in rows] == [("ddpm", "pca_gaussian"), ("ddpm", "mixed")]
    assert all(row["beats_all"] and row["low"] > 0 for row in rows)
    assert {row["p_holm"] for row in rows} == {max(row["p"] for row in rows)}


def test_one_control_that_is_as_good_is_enough_not_to_be_beaten():
    rows = compared({"ddpm": 3.0, "pca_gaussian": 0.0, "mixed": 3.4}, sizes=(40, 60))
    assert {row["control"]: row["value"] > 0 for row in rows} == {"mixed": False, "pca_gaussian": True}
    assert not any(row["beats_all"] for row in rows)
    assert {row["p_holm"] for row in rows} == {1.0}


def test_differences_are_those_of_the_same_subjects_by_delong():
    groups = {answers.setup: answers for answers in group_answers(prediction_rows({"ddpm": 1.5, "mixed": 1.0}))}
    (row,) = compared({"ddpm": 1.5, "mixed": 1.0})
    scores = [groups[name].probabilities @ [-1.0, 1.0] for name in ("ddpm", "mixed")]
    estimate, p = auc_difference(groups["ddpm"].labels == 1, *scores)
    assert (row["value"], row["low"], row["high"], row["p"]) == (estimate.value, estimate.low, estimate.high, p)


def test_setups_and_directions_are_corrected_together_and_roles_apart():
    skills = {"ddpm": 1.4, "ddpm_mi": 1.2, "mixed": 1.0}
    rows = prediction_rows(skills)
    rows += [{**row, "direction": "b", "cohort": "a"} for row in prediction_rows(skills, seed=1)]
    rows += prediction_rows(skills, role="out_of_fold", seed=2)
    found = compare_with_controls(group_answers(rows), CONTROLS)
    assert {row["role"]: row["num_tests"] for row in found} == {"external": 4, "out_of_fold": 2}


def test_false_alarms_are_at_most_as_frequent_as_their_level():
    skills = {"ddpm": 1.0, "ddpm_mi": 1.0, "pca_gaussian": 1.0, "mixed": 1.0}
    alarms = [any(row["beats_all"] for row in compared(skills, seed=seed, sizes=(20, 30))) for seed in range(100)]
    assert np.mean(alarms) <= 0.05


def test_three_classes_are_judged_as_two_are():
    options = {"sizes": (30, 30, 30), "classes": ("A", "B", "C")}
    (better,) = compared({"ddpm": 3.0, "mixed": 0.0}, **options)
    (equal,) = compared({"ddpm": 1.0, "mixed": 1.0}, **options)
    assert (better["beats_all"], equal["beats_all"]) == (True, False)
    assert better["p"] == better["p_holm"] < 0.001


@pytest.mark.parametrize("skills", [{"real": 1.0, "ddpm": 1.0}, {"real": 1.0, "mixed": 1.0}])
def test_there_is_nothing_to_compare_without_both_kinds(skills):
    assert compared(skills) == []


def test_a_test_with_one_subject_of_a_class_is_left_out():
    assert compared({"ddpm": 1.0, "mixed": 1.0}, sizes=(1, 20)) == []


def test_a_setup_is_compared_with_its_own_controls_alone():
    groups = group_answers(prediction_rows({"ddpm": 1.0, "half": 1.0, "mixed": 1.0, "half_mixed": 1.0}))
    rows = compare_with_controls(groups, {"ddpm": ["mixed"], "half": ["half_mixed"]})
    assert {(row["setup"], row["control"]) for row in rows} == {("ddpm", "mixed"), ("half", "half_mixed")}
    assert {row["num_tests"] for row in rows} == {2}
