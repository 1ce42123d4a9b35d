"""The reliability plot adds up to the calibration error, and calibrated answers show its level of chance."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from scripts.statistics.calibration import chance_error, fit_temperature, reliability
from scripts.statistics.classification_measures import expected_calibration_error, value_of
from tests.scripts.statistics.test_classification_measures import predictions


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_bins_add_up_to_the_calibration_error(num_classes):
    labels, probabilities = predictions(num_classes)
    bins = [row for row in reliability(labels, probabilities) if row.n]
    gaps = sum(row.n * abs(row.confidence - row.accuracy.value) for row in bins) / len(labels)
    assert gaps == pytest.approx(value_of(expected_calibration_error, labels, probabilities))
    assert sum(row.n for row in bins) == len(labels)
    assert all(row.low < row.confidence <= row.high + 1e-12 for row in bins)


def test_an_empty_bin_has_no_value():
    empty = reliability(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))[0]
    assert (empty.n, empty.confidence, empty.accuracy.value) == (0, None, None)


def test_the_chance_error_is_what_calibrated_answers_show_and_falls_with_their_number():
    random = np.random.default_rng(0)
    positive = random.uniform(size=4000)
    probabilities = np.stack([1 - positive, positive], axis=1)
    labels = (random.uniform(size=4000) < positive).astype(int)
    assert value_of(expected_calibration_error, labels, probabilities) < 2 * chance_error(probabilities, 50)
    assert chance_error(probabilities[:60], 200) > 4 * chance_error(probabilities, 50)


def test_sure_answers_leave_nothing_to_chance():
    assert chance_error(np.eye(3)[[0, 1, 2, 0]], 100) == 0


def calibrated(size, num_classes=3, seed=0):
    """Logits and labels drawn from their own probabilities."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(size, num_classes)) * 2
    cumulated = softmax(logits, axis=1).cumsum(axis=1)
    return logits, np.minimum((random.random((size, 1)) > cumulated).sum(axis=1), num_classes - 1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_factor_that_made_answers_too_sure_is_found_again(temperature):
    logits, labels = calibrated(20_000)
    found = fit_temperature(softmax(logits * temperature, axis=1), labels, 20_000, "inner part")
    assert found == pytest.approx(temperature, rel=0.03)


def test_for_two_classes_the_temperature_is_one_over_the_slope_of_a_logistic_regression():
    logits, labels = calibrated(200, num_classes=2)
    slope = LogisticRegression(C=1e12, fit_intercept=False).fit(logits[:, 1:] - logits[:, :1], labels).coef_.item()
    found = fit_temperature(softmax(logits, axis=1), labels, 200, "inner part")
    assert found == pytest.approx(1 / slope, rel=1e-3)


def test_answers_that_are_all_right_do_not_fix_a_temperature(caplog):
    with caplog.at_level(logging.WARNING):
        found = fit_temperature(np.eye(2)[[0, 1] * 6] * 0.4 + 0.3, np.array([0, 1] * 6), 12, "inner part of fold 3")
    assert found == pytest.approx(0.05, rel=1e-2)
    assert "temperature of inner part of fold 3 is at the end of its range" in caplog.text


def test_few_subjects_are_refused_with_the_way_out():
    with pytest.raises(
        ValueError, match="inner part of fold 1 must hold at least 10 subjects .* larger inner_fraction"
    ):
        fit_temperature(np.full((4, 2), 0.5), np.zeros(4, dtype=int), 4, "inner part of fold 1")
