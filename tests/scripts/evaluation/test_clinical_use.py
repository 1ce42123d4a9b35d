"""A threshold of the inner parts, applied to patients that it was not chosen by."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.evaluation.answers import group_answers
from scripts.evaluation.clinical_use import OperatingRule, calibration_row, decision_curve, operating_point
from tests.predictions import prediction_rows

RULE = OperatingRule("sensitivity", 0.8)


def answers_of(rows):
    (answers,) = group_answers(rows)
    return answers


def in_two_folds(rows):
    return [{**row, "fold": str(index % 2)} for index, row in enumerate(rows)]


REAL = {"real": 1.0}
INNER = answers_of(in_two_folds(prediction_rows(REAL, role="inner", seed=5)))


def test_each_fold_is_answered_by_the_threshold_of_its_own_inner_part():
    answers = answers_of(in_two_folds(prediction_rows(REAL, role="out_of_fold")))
    row = operating_point(answers, INNER, RULE)
    assert [one["fold"] for one in row["thresholds"]] == [0, 1]
    answered = np.zeros(answers.n, dtype=bool)
    for one in row["thresholds"]:
        own, chosen = answers.folds == one["fold"], INNER.folds == one["fold"]
        cases = INNER.probabilities[chosen & (INNER.labels == 1), 1]
        assert np.mean(cases >= one["value"]) == one["sensitivity"] >= 0.8
        answered[own] = answers.probabilities[own, 1] >= one["value"]
    cases = answers.labels == 1
    assert row["sensitivity"]["value"] == answered[cases].mean()
    assert row["specificity"]["value"] == (~answered[~cases]).mean()
    assert row["prevalence"] == pytest.approx(28 / 40)
    assert row["positive_predictive_value"]["value"] == pytest.approx(cases[answered].mean())


def test_an_ensemble_is_answered_by_one_threshold_of_all_inner_parts():
    answers = answers_of([{**row, "fold": "-1"} for row in prediction_rows(REAL)])
    row = operating_point(answers, INNER, RULE)
    (one,) = row["thresholds"]
    assert (one["fold"], one["num_positive"], one["num_negative"]) == (-1, 28, 12)
    assert np.mean(INNER.probabilities[INNER.labels == 1, 1] >= one["value"]) >= 0.8


def test_a_stated_prevalence_and_another_class_are_used():
    answers = answers_of([{**row, "fold": "-1"} for row in prediction_rows(REAL)])
    row = operating_point(answers, INNER, OperatingRule("specificity", 0.7, "LGG", 0.2))
    assert (row["class"], row["prevalence"], row["is_stated"]) == ("LGG", 0.2, True)
    sensitivity, specificity = row["sensitivity"]["value"], row["specificity"]["value"]
    expected = sensitivity * 0.2 / (sensitivity * 0.2 + (1 - specificity) * 0.8)
    assert row["positive_predictive_value"]["value"] == pytest.approx(expected)


def one_class(rows):
    return answers_of([row for row in rows if row["label"] == "1"])


@pytest.mark.parametrize(
    ("role", "inner", "ensemble", "reason"),
    [
        ("external", None, "mean_probability", "wrote no inner_predictions.csv; evaluate again"),
        ("external", INNER, "vote", "ensemble vote are not on the scale"),
        ("validation_selected_on", INNER, "mean_probability", "would be fitted to it"),
        (
            "external",
            one_class(prediction_rows(REAL, role="inner")),
            "mean_probability",
            "inner parts of all folds: it holds one class only",
        ),
    ],
)
def test_where_no_threshold_can_be_chosen_the_reason_stands_and_no_number(role, inner, ensemble, reason):
    answers = answers_of([{**row, "fold": "-1"} for row in prediction_rows(REAL, role=role)])
    row = operating_point(answers, inner, RULE, ensemble)
    assert reason in row["reason"]
    assert "sensitivity" not in row


def test_a_cohort_of_one_class_has_the_measure_of_that_class_and_no_predictive_values():
    answers = one_class([{**row, "fold": "-1"} for row in prediction_rows(REAL)])
    row = operating_point(answers, INNER, RULE)
    assert row["reason"] is None
    assert row["sensitivity"]["value"] == np.mean(answers.probabilities[:, 1] >= row["thresholds"][0]["value"])
    names = ("specificity", "positive_predictive_value", "negative_predictive_value")
    assert [row[name]["value"] for name in names] == [None] * 3


def test_one_fold_without_threshold_leaves_the_test_without_one():
    answers = answers_of(in_two_folds(prediction_rows(REAL, role="out_of_fold")))
    first = answers_of([row for row in INNER.rows if row["fold"] == "0"])
    row = operating_point(answers, first, RULE)
    assert row["reason"] == "inner part of fold 1: it holds nobody"


def test_three_classes_are_one_against_the_rest():
    rows = prediction_rows(REAL, sizes=(9, 14, 20), classes=("A", "B", "C"))
    answers = answers_of([{**row, "fold": "-1"} for row in rows])
    rule = OperatingRule("sensitivity", 0.8, "B")
    inner = answers_of(prediction_rows(REAL, sizes=(9, 14, 20), classes=("A", "B", "C"), role="inner", seed=3))
    assert operating_point(answers, inner, rule)["thresholds"][0]["num_positive"] == 14
    assert calibration_row(answers, rule)["slope"]["value"] is not None
    assert len(decision_curve(answers, rule)["points"]) == 99


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (OperatingRule(goal="auc"), "operating_goal must be one of"),
        (OperatingRule(level=0), "operating_level must be a sensitivity in"),
        (OperatingRule(prevalence=1), "stated_prevalence must be in"),
        (OperatingRule(positive_class="GBM"), "positive_class must be one of the classes LGG, HGG, got 'GBM'"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        rule.check(["LGG", "HGG"])
