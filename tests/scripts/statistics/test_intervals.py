"""Intervals against closed forms, published examples and other implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from scripts.statistics.intervals import (
    Estimate,
    accuracy,
    auc,
    balanced_accuracy,
    delong,
    newcombe_auc,
    sensitivities,
    square_and_add,
    wilson,
)

LABELS = [0] * 15 + [1] * 52


def scores(seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).normal(np.array(LABELS) * 1.2)


@pytest.mark.parametrize(("successes", "total"), [(0, 12), (7, 12), (12, 12), (81, 263)])
def test_wilson_is_its_closed_form(successes: int, total: int) -> None:
    z, p = norm.ppf(0.975), successes / total
    center = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    assert wilson(successes, total)[:3] == pytest.approx((p, center - half, center + half))


def test_no_case_gives_no_value() -> None:
    assert wilson(0, 0).value is None
    assert square_and_add([wilson(3, 4), wilson(0, 0)]).value is None


def test_square_and_add_of_one_proportion_is_that_proportion() -> None:
    assert square_and_add([wilson(7, 12)])[:3] == pytest.approx(wilson(7, 12)[:3])


def test_square_and_add_halves_newcombes_interval_of_a_difference() -> None:
    # The mean of p and 1 - q is half the difference p - q plus a half: Newcombe 1998, method 10, 56/70 against 48/80,
    # whose published interval of the difference .2000 is .0524 to .3339.
    mean = square_and_add([wilson(56, 70), wilson(80 - 48, 80)])
    limits = [2 * (limit - 0.5) for limit in mean[:3] if limit is not None]
    assert limits == pytest.approx([0.2, 0.0524, 0.3339], abs=5e-5)


def test_measures_equal_those_of_scikit_learn() -> None:
    probability = 1 / (1 + np.exp(-scores()))
    predictions = (probability > 0.5).astype(int)
    assert balanced_accuracy(LABELS, predictions, 2).value == pytest.approx(
        balanced_accuracy_score(LABELS, predictions)
    )
    assert accuracy(LABELS, predictions).value == pytest.approx((predictions == LABELS).mean())
    both = np.stack([1 - probability, probability], axis=1)
    assert auc(LABELS, both).value == pytest.approx(roc_auc_score(LABELS, probability))


def test_auc_of_three_classes_is_the_mean_of_one_against_the_rest() -> None:
    labels = np.arange(30) % 3
    probabilities = np.random.RandomState(0).dirichlet([1, 1, 1], 30)
    expected = np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in range(3)])
    assert auc(labels, probabilities).value == pytest.approx(expected)
    assert auc(labels % 2, probabilities).value is None


def test_delong_area_is_the_mann_whitney_statistic_with_ties() -> None:
    positive, rounded = np.array(LABELS) == 1, np.round(scores(), 0)
    statistic = mannwhitneyu(rounded[positive], rounded[~positive]).statistic
    assert delong(positive, rounded).value == pytest.approx(statistic / (15 * 52))


def test_delong_variance_is_that_of_the_placements_counted_one_by_one() -> None:
    positive, score = np.array(LABELS) == 1, scores()
    wins = (score[positive][:, None] > score[~positive][None]).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / 52 + wins.mean(axis=0).var(ddof=1) / 15
    area, low, high, _ = delong(positive, score)
    assert area is not None
    assert low is not None
    assert high is not None
    half = (math.log(high / (1 - high)) - math.log(low / (1 - low))) / 2
    assert half == pytest.approx(norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area)))


@pytest.mark.parametrize("area", [0.0, 0.3, 0.5, 0.93, 1.0])
def test_newcombes_limits_solve_their_equation(area: float) -> None:
    _, low, high, _ = newcombe_auc(area, 15, 52)
    assert low is not None
    assert high is not None
    assert 0 <= low <= area <= high <= 1
    assert high - low < 0.5
    for theta in (low, high):
        if 0 < theta < 1:
            spread = 1 + (33.5 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
            variance = theta * (1 - theta) * spread / (15 * 52)
            assert abs(area - theta) == pytest.approx(norm.ppf(0.975) * math.sqrt(variance), rel=1e-3)


def test_perfect_separation_has_an_interval_with_width() -> None:
    estimate = delong(np.array([False, False, True, True, True]), np.arange(5.0))
    assert estimate.value == 1
    assert estimate.high == 1
    assert estimate.low is not None
    assert estimate.low < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(15, 52), (37, 187), (76, 259)])
def test_intervals_cover_the_truth_in_ninety_three_to_ninety_seven_percent(sizes: tuple[int, int]) -> None:
    random = np.random.RandomState(0)
    labels = np.repeat([0, 1], sizes)
    shift = 1.5
    truth = {"auc": norm.cdf(shift / math.sqrt(2)), "balanced_accuracy": norm.cdf(shift / 2)}
    hits = dict.fromkeys(truth, 0)
    for _ in range(400):
        score = random.normal(labels * shift)
        found: dict[str, Estimate] = {
            "auc": delong(labels == 1, score),
            "balanced_accuracy": balanced_accuracy(labels, (score > shift / 2).astype(int), 2),
        }
        for name, estimate in found.items():
            assert estimate.low is not None
            assert estimate.high is not None
            hits[name] += estimate.low <= truth[name] <= estimate.high
    assert all(0.92 <= count / 400 <= 0.98 for count in hits.values()), hits


def test_sensitivities_are_one_a_class() -> None:
    found = sensitivities([0, 0, 1], [0, 1, 1], 3)
    assert [item.value for item in found] == [0.5, 1.0, None]
