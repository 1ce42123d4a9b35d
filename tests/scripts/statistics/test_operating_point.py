"""Thresholds, and what an answer is worth, against counts by hand and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from scripts.statistics.operating_point import (
    check_goal,
    check_prevalence,
    choose_threshold,
    predictive_values,
    rates,
)

POSITIVE = np.array([True, True, True, True, False, False, False, False])
SCORES = np.array([0.9, 0.8, 0.6, 0.3, 0.7, 0.5, 0.2, 0.1])


@pytest.mark.parametrize(
    ("goal", "level", "value", "sensitivity", "specificity"),
    [
        ("sensitivity", 0.75, 0.6, 0.75, 0.75),
        ("sensitivity", 0.8, 0.3, 1.0, 0.5),
        ("sensitivity", 0.5, 0.8, 0.5, 1.0),
        ("specificity", 1.0, 0.8, 0.5, 1.0),
        ("specificity", 0.7, 0.6, 0.75, 0.75),
        ("specificity", 0.5, 0.3, 1.0, 0.5),
    ],
)
def test_of_the_thresholds_that_reach_the_goal_the_best_in_the_other_measure_is_taken(
    goal, level, value, sensitivity, specificity
):
    threshold = choose_threshold(POSITIVE, SCORES, goal, level)
    assert threshold == (value, None, 4, 4, sensitivity, specificity)
    answers = value <= SCORES
    assert [one.value for one in rates(POSITIVE, answers)] == [sensitivity, specificity]


def test_a_level_that_is_reached_exactly_is_reached_whatever_the_rounding():
    positive = np.repeat([True, False], [1, 100])
    scores = np.concatenate([[0.5], np.arange(100) / 100])
    # 32 of 100 false alarms: 1 - .32 is less than .68 by one rounding.
    threshold = choose_threshold(positive, np.where(positive, 0.68, scores), "specificity", 0.68)
    assert threshold.value == 0.68
    assert threshold.specificity == pytest.approx(0.68)


@pytest.mark.parametrize(
    ("positive", "scores", "reason"),
    [
        (np.array([True, True]), np.array([0.1, 0.2]), "one class only"),
        (np.array([False, False]), np.array([0.1, 0.2]), "one class only"),
        (np.array([True, False]), np.array([0.5, 0.5]), "only one answer to everybody reaches a sensitivity of 0.9"),
        (np.array([True, False]), np.array([0.1, 0.2]), "only one answer to everybody reaches a sensitivity of 0.9"),
        (np.array([True, False]), np.array([0.1, np.nan]), "not finite"),
    ],
)
def test_what_cannot_be_reached_has_a_reason_and_no_number(positive, scores, reason):
    threshold = choose_threshold(positive, scores, "sensitivity", 0.9)
    assert reason in threshold.reason
    assert threshold.value is threshold.sensitivity is threshold.specificity is None


def test_predictive_values_at_the_own_prevalence_are_shares_of_the_answers():
    answers = SCORES >= 0.6
    positive, negative = predictive_values(POSITIVE, answers, 0.5)
    assert positive.value == pytest.approx(POSITIVE[answers].mean())
    assert negative.value == pytest.approx((~POSITIVE[~answers]).mean())
    assert positive.low < positive.value < positive.high


def test_predictive_values_follow_bayes_rule():
    positive = np.repeat([True, False], [50, 40])
    answers = np.concatenate([np.arange(50) < 45, np.arange(40) < 8])
    forward, backward = predictive_values(positive, answers, 0.1)
    assert forward.value == pytest.approx(0.9 * 0.1 / (0.9 * 0.1 + 0.2 * 0.9))
    assert backward.value == pytest.approx(0.8 * 0.9 / (0.8 * 0.9 + 0.1 * 0.1))


def test_an_answer_that_is_never_given_has_no_predictive_value():
    forward, backward = predictive_values(POSITIVE, np.zeros(8, dtype=bool), 0.3)
    assert forward.value is None
    assert backward.value == pytest.approx(0.7)
    forward, backward = predictive_values(POSITIVE, POSITIVE, 0.3)
    assert (forward.value, forward.high, backward.value, backward.high) == (1, 1, 1, 1)
    assert 0 < forward.low < 1
    assert predictive_values(np.array([True]), np.array([True]), 0.3)[0].value is None


def test_the_limits_hold_the_truth_in_about_95_of_100_studies():
    sensitivity, specificity, cases, controls = 0.8, 0.8, 15, 52
    truth, covered = 0.8 * 0.3 / (0.8 * 0.3 + 0.2 * 0.7), 0.0
    positive = np.repeat([True, False], [cases, controls])
    for hits in range(6, cases + 1):
        for alarms in range(2, 24):
            answers = np.concatenate([np.arange(cases) < hits, np.arange(controls) < alarms])
            chance = binom.pmf(hits, cases, sensitivity) * binom.pmf(alarms, controls, 1 - specificity)
            forward = predictive_values(positive, answers, 0.3)[0]
            covered += chance * (forward.low <= truth <= forward.high)
    assert 0.93 < covered < 0.98


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, 1.5, float("nan")])
def test_a_prevalence_of_nobody_or_everybody_is_refused(prevalence):
    with pytest.raises(ValueError, match=r"stated_prevalence must be in \(0, 1\), got"):
        check_prevalence(prevalence)


def test_a_goal_that_is_none_is_refused():
    check_goal("specificity", 1)
    with pytest.raises(ValueError, match="operating_goal must be one of sensitivity, specificity, got 'accuracy'"):
        check_goal("accuracy", 0.9)
    for level in (0, 1.1, -1):
        with pytest.raises(ValueError, match=r"operating_level must be a sensitivity in \(0, 1\]"):
            check_goal("sensitivity", level)
