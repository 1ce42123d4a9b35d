"""Intervals against closed forms, published examples and other implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from scripts.statistics.intervals import (
    Estimate,
    accuracy,
    balanced_accuracy,
    sensitivities,
    square_and_add,
    wilson,
)
from scripts.statistics.multiclass_area import auc
from scripts.statistics.roc_area import delong

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
