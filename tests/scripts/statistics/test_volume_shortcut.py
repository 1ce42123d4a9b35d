"""Effect sizes and correlations in closed form, and their limits by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata

from scripts.statistics.volume_shortcut import volume_correlation, volume_difference

POSITIVE = np.array([False] * 15 + [True] * 52)


def test_separate_volumes_have_full_effect_and_swapping_the_classes_turns_it_round():
    volumes = np.arange(1.0, 68.0)
    found, swapped = volume_difference(POSITIVE, volumes), volume_difference(~POSITIVE, volumes)
    assert found.rank_biserial == 1 == -swapped.rank_biserial
    assert found.medians_ml == (41.5, 8.0) == swapped.medians_ml[::-1]
    assert found.p < 1e-6


def test_the_effect_is_the_share_of_pairs_less_the_others():
    random = np.random.RandomState(0)
    volumes = random.lognormal(POSITIVE * 0.5)
    pairs = np.sign(volumes[POSITIVE][:, None] - volumes[~POSITIVE])
    assert volume_difference(POSITIVE, volumes).rank_biserial == pytest.approx(pairs.mean())


def test_equal_volumes_say_nothing():
    found = volume_difference(POSITIVE, np.full(67, 3.1))
    assert (found.p, found.rank_biserial) == (1, 0)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="positive must hold subjects of both classes, got 67 of 67"):
        volume_difference(np.ones(67, dtype=bool), np.arange(67.0))


def test_the_correlation_is_pearsons_of_the_ranks_and_sees_order_only():
    random = np.random.RandomState(0)
    scores, volumes = random.normal(size=(2, 40))
    estimate, p = volume_correlation(scores + volumes, np.exp(volumes))
    expected = np.corrcoef(rankdata(scores + volumes), rankdata(volumes))[0, 1]
    assert estimate.value == pytest.approx(expected)
    assert estimate.low < estimate.value < estimate.high
    assert (p < 0.001) == (kendalltau(scores + volumes, volumes).pvalue < 0.001)


@pytest.mark.parametrize(("scores", "volumes"), [([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4])])
def test_too_few_or_equal_values_have_no_correlation(scores, volumes):
    assert volume_correlation(np.array(scores, float), np.array(volumes, float))[0].value is None


def test_a_perfect_order_has_no_limits():
    assert volume_correlation(np.arange(9.0), np.arange(9.0))[0][:3] == (1, None, None)


def test_the_limits_hold_the_truth_of_normal_pairs():
    random, rho = np.random.default_rng(0), 0.5
    truth = 6 / math.pi * math.asin(rho / 2)  # Spearman's of a bivariate normal
    hits = 0
    for _ in range(400):
        x, noise = random.normal(size=(2, 52))
        estimate, _ = volume_correlation(x, rho * x + math.sqrt(1 - rho**2) * noise)
        hits += estimate.low <= truth <= estimate.high
    assert 0.92 <= hits / 400 <= 0.98
