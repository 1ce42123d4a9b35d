"""The reliability plot adds up to the calibration error, and calibrated answers show its level of chance."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.calibration import chance_error, reliability
from scripts.measures import expected_calibration_error, value_of
from tests.scripts.test_measures import predictions


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
