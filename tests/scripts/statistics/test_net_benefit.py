"""Net benefit against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.statistics.net_benefit import THRESHOLDS, net_benefit, useful_range

POSITIVE = np.array([True, True, True, False, False])
PROBABILITIES = np.array([0.9, 0.6, 0.2, 0.7, 0.1])


@pytest.mark.parametrize(
    ("threshold", "hits", "alarms"), [(0.05, 3, 2), (0.2, 3, 1), (0.5, 2, 1), (0.8, 1, 0), (0.95, 0, 0)]
)
def test_it_is_hits_less_weighed_false_alarms_per_subject(threshold, hits, alarms):
    point = net_benefit(POSITIVE, PROBABILITIES, threshold)
    odds = threshold / (1 - threshold)
    assert point.value.value == pytest.approx(hits / 5 - alarms / 5 * odds)
    assert point.of_all == pytest.approx(3 / 5 - 2 / 5 * odds)


def test_the_limits_are_of_the_mean_over_subjects():
    point = net_benefit(POSITIVE, PROBABILITIES, 0.5)
    own = np.array([1, 1, 0, -1, 0])
    assert point.value.high - point.value.value == pytest.approx(1.959964 * own.std(ddof=1) / np.sqrt(5))


def test_a_threshold_that_nobody_reaches_gives_nothing_and_no_limits():
    point = net_benefit(POSITIVE, PROBABILITIES, 0.95)
    assert (point.value.value, point.value.low) == (0, None)


def test_a_faultless_classifier_is_useful_at_every_threshold_and_a_constant_one_at_none():
    faultless = [net_benefit(POSITIVE, POSITIVE.astype(float), threshold) for threshold in THRESHOLDS]
    constant = [net_benefit(POSITIVE, np.full(5, 0.6), threshold) for threshold in THRESHOLDS]
    assert useful_range(faultless) == (THRESHOLDS[0], THRESHOLDS[-1])
    assert useful_range(constant) is None
