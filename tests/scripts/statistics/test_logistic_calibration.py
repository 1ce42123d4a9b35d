"""Intercept and slope against the equations of maximum likelihood, and against what was put in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from scripts.statistics.logistic_calibration import calibrate

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0.5, 1.5, 400)
POSITIVE = RANDOM.random(400) < expit(LOGITS)


def newton(design, outcome, offset):
    """Maximum likelihood by Newton's method: coefficients and their covariance."""
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        p = expit(offset + design @ beta)
        information = design.T @ (design * (p * (1 - p))[:, None])
        beta = beta + np.linalg.solve(information, design.T @ (outcome - p))
    return beta, np.linalg.inv(information)


def test_both_are_those_of_newtons_method():
    result = calibrate(POSITIVE, LOGITS)
    ones = np.ones((400, 1))
    (intercept,), spread = newton(ones, POSITIVE, LOGITS)
    assert result.intercept.value == pytest.approx(intercept, abs=1e-6)
    assert result.intercept.high - intercept == pytest.approx(1.959964 * np.sqrt(spread[0, 0]), rel=1e-4)
    (_, slope), spread = newton(np.column_stack([ones, LOGITS]), POSITIVE, np.zeros(400))
    assert result.slope.value == pytest.approx(slope, abs=1e-4)
    assert result.slope.high - slope == pytest.approx(1.959964 * np.sqrt(spread[1, 1]), rel=1e-3)
    assert result.slope.low < 1 < result.slope.high
    assert result.reason is None


def test_logits_that_are_too_large_have_a_small_slope_and_shifted_ones_an_intercept():
    plain = calibrate(POSITIVE, LOGITS)
    assert calibrate(POSITIVE, 2 * LOGITS).slope.value == pytest.approx(plain.slope.value / 2, rel=1e-4)
    assert calibrate(POSITIVE, LOGITS - 3).intercept.value == pytest.approx(plain.intercept.value + 3)


def test_the_other_class_has_the_same_slope_and_the_opposite_intercept():
    own, other = calibrate(POSITIVE, LOGITS), calibrate(~POSITIVE, -LOGITS)
    assert other.slope.value == pytest.approx(own.slope.value, rel=1e-4)
    assert other.intercept.value == pytest.approx(-own.intercept.value)


@pytest.mark.parametrize(
    ("positive", "logits", "reason", "has_intercept"),
    [
        ([True, True], [0.0, 1.0], "one class only", False),
        ([True, False, True], [0.0, -np.inf, 1.0], "a probability of 0 or 1 has no logit", False),
        ([True, False, True], [0.0, np.nan, 1.0], "a probability of 0 or 1 has no logit", False),
        ([True, False, True], [0.3, 0.3, 0.3], "all probabilities are equal", True),
        ([True, False, True], [0.0, -1.0, 1.0], "the classes do not overlap", True),
    ],
)
def test_what_is_not_known_has_a_reason_and_no_number(positive, logits, reason, has_intercept):
    result = calibrate(np.array(positive), np.array(logits))
    assert reason in result.reason
    assert result.slope.value is None
    assert (result.intercept.value is not None) == has_intercept
