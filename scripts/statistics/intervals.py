"""How good a classifier is, and how sure one can be of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A measure and its confidence interval; None where it is not defined or no interval is known."""

    value: float | None
    low: float | None = None
    high: float | None = None
    interval: str | None = None


def wilson(successes: int, total: int, confidence: float = CONFIDENCE) -> Estimate:
    """Proportion with the Wilson score interval.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference"; scipy's `binomtest`.

    Args:
        successes: 0 <= successes <= total.
        total: number of cases; 0 gives no value.
        confidence: coverage in (0, 1).

    Returns:
        Proportion in [0, 1] and its limits.

    >>> [round(x, 3) for x in wilson(8, 10)[:3]]
    [0.8, 0.49, 0.943]
    """
    return _proportion(successes, total, confidence, "wilson", "Wilson")


def clopper_pearson(successes: int, total: int, confidence: float = CONFIDENCE) -> Estimate:
    """Proportion with the exact interval, which holds the truth at least as often as it says.

    Source: Clopper, Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial";
    scipy's `binomtest`.

    Args:
        successes: 0 <= successes <= total.
        total: number of cases; 0 gives no value.
        confidence: coverage in (0, 1).

    Returns:
        Proportion in [0, 1] and its limits.

    >>> [round(x, 3) for x in clopper_pearson(8, 10)[:3]]
    [0.8, 0.444, 0.975]
    """
    return _proportion(successes, total, confidence, "exact", "Clopper-Pearson")


def _proportion(successes: int, total: int, confidence: float, method: str, interval: str) -> Estimate:
    if total == 0:
        return Estimate(None)
    limits = binomtest(successes, total).proportion_ci(confidence, method=method)
    return Estimate(successes / total, float(limits.low), float(limits.high), interval)


def square_and_add(proportions: Sequence[Estimate]) -> Estimate:
    """Mean of independent proportions, its interval by square-and-add of their own limits.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10,
    here for the mean: each distance to a limit is added in squares and divided by the number of proportions.

    Args:
        proportions: each with limits, such as the sensitivities of the classes.

    Returns:
        Mean in [0, 1] and its limits; no value if one proportion has none.
    """
    values, lows, highs = (np.array([item[i] for item in proportions], dtype=float) for i in range(3))
    if np.isnan(values).any():
        return Estimate(None)
    mean = values.mean()
    low = mean - np.sqrt(((values - lows) ** 2).sum()) / len(values)
    high = mean + np.sqrt(((highs - values) ** 2).sum()) / len(values)
    return Estimate(float(mean), float(low), float(high), "Newcombe square-and-add of Wilson limits")


def sensitivities(labels: ArrayLike, predictions: ArrayLike, num_classes: int) -> list[Estimate]:
    """Sensitivity of each class with its Wilson interval; higher is better, [0, 1].

    Args:
        labels: true classes, integers in 0..num_classes-1.
        predictions: predicted classes, same length.
        num_classes: K.

    Returns:
        K estimates; one without value where a class has no case.
    """
    truth, guess = np.asarray(labels), np.asarray(predictions)
    cases = [truth == index for index in range(num_classes)]
    return [wilson(int((guess[case] == i).sum()), int(case.sum())) for i, case in enumerate(cases)]


def balanced_accuracy(labels: ArrayLike, predictions: ArrayLike, num_classes: int) -> Estimate:
    """Mean sensitivity of the classes with its square-and-add interval; higher is better, [0, 1], chance 1/K.

    >>> round(balanced_accuracy([0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], 2).value, 2)
    0.75
    """
    estimate = square_and_add(sensitivities(labels, predictions, num_classes))
    if estimate.value is None:
        return estimate
    return estimate._replace(value=float(balanced_accuracy_score(labels, predictions)))


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> Estimate:
    """Share of right answers with its Wilson interval; higher is better, [0, 1]."""
    right = round(accuracy_score(labels, predictions, normalize=False))
    return wilson(right, len(np.asarray(labels)))


def distances(estimate: Estimate) -> tuple[float, float]:
    """From a value down to its lower limit and up to its upper one.

    >>> distances(Estimate(0.5, 0.25, 1.0))
    (0.25, 0.5)
    """
    assert estimate.value is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.value - estimate.low, estimate.high - estimate.value


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Average the numbers among some values; None where there is none.

    >>> mean_of_known([1.0, None, 2.0]), mean_of_known([None])
    (1.5, None)
    """
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
