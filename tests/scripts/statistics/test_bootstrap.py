"""Draws of the bootstrap keep the classes, and its limits are those of scipy's and of a known normal mean."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm

from scripts.statistics.bootstrap import bootstrap, draw_weights
from scripts.statistics.classification_measures import average_precision, brier, expected_calibration_error, weighted_f1
from tests.scripts.statistics.test_classification_measures import predictions


def test_a_draw_holds_as_many_of_each_class_as_the_test():
    labels = np.array([0] * 5 + [1] * 11)
    weights = draw_weights(labels, 200)
    assert (weights[:, labels == 0].sum(axis=1) == 5).all()
    assert (weights[:, labels == 1].sum(axis=1) == 11).all()
    assert weights[:, 0].mean() == pytest.approx(1, abs=0.2)


def test_the_seed_decides_the_draws():
    labels = np.array([0, 1] * 8)
    assert (draw_weights(labels, 100, seed=3) == draw_weights(labels, 100, seed=3)).all()
    assert (draw_weights(labels, 100, seed=3) != draw_weights(labels, 100, seed=4)).any()


def test_limits_of_a_mean_are_those_of_scipy():
    labels, probabilities = np.zeros(120, dtype=int), predictions(2, size=120)[1]
    estimate = bootstrap(brier, labels, probabilities, draw_weights(labels, 4000))
    squares = ((probabilities - [1, 0]) ** 2).sum(axis=1) / 2
    expected = scipy_bootstrap((squares,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert estimate[1:3] == pytest.approx(expected, abs=0.003)
    half_width = norm.ppf(0.975) * squares.std() / np.sqrt(120)
    assert estimate.high - estimate.low == pytest.approx(2 * half_width, rel=0.06)


def test_limits_of_the_calibration_error_hold_its_value_and_take_its_bias_off():
    labels, probabilities = predictions(2)
    weights = draw_weights(labels, 500)
    estimate = bootstrap(expected_calibration_error, labels, probabilities, weights)
    draws = expected_calibration_error(labels, probabilities, weights)
    assert 0 <= estimate.low <= estimate.value <= estimate.high
    assert draws.mean() > estimate.value > (estimate.low + estimate.high) / 2 - 0.02
    assert estimate.high == pytest.approx(max(2 * estimate.value - np.quantile(draws, 0.025), estimate.value))


def test_an_undefined_measure_has_no_interval():
    labels, probabilities = np.ones(6, dtype=int), predictions(2, size=6)[1]
    weights = draw_weights(labels, 100)
    assert bootstrap(average_precision, labels, probabilities, weights).value is None


def test_a_faultless_classifier_has_no_limits_rather_than_some_without_width():
    labels = np.array([0, 1, 1, 0, 1])
    estimate = bootstrap(weighted_f1, labels, np.eye(2)[labels] * 0.8 + 0.1, draw_weights(labels, 100))
    assert estimate == (1, None, None, None)


def test_too_few_draws_are_refused():
    with pytest.raises(ValueError, match="num_draws must be at least 100, got 10"):
        draw_weights(np.array([0, 1]), 10)
