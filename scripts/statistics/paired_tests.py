"""Whether one classifier is better than another on the same subjects."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from scripts.statistics.intervals import CONFIDENCE, Estimate, distances, square_and_add, wilson


def count_discordant(right: ArrayLike, reference_right: ArrayLike) -> tuple[int, int]:
    """Count the subjects that only one of two classifiers gets right.

    Args:
        right: booleans, one per subject.
        reference_right: the same of the classifier compared with.

    Returns:
        Those that only the first has right, and those that only the reference has right.

    Raises:
        ValueError: if the two are of different numbers of subjects.
    """
    own, other = _pair(right, reference_right)
    return int((own & ~other).sum()), int((other & ~own).sum())


def mcnemar(only_own: int, only_reference: int) -> float:
    """Exact McNemar test of equal accuracy: p in (0, 1], two-sided, lower is stronger evidence of a difference.

    Source: McNemar 1947; the exact form is a binomial test of the discordant pairs against one half. Without
    discordant pairs p is 1.

    >>> round(mcnemar(9, 1), 4)
    0.0215
    """
    discordant = only_own + only_reference
    return float(binomtest(only_own, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values of several tests so that the chance of one false alarm among them keeps its level.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Args:
        p_values: in [0, 1], one per test of the family.

    Returns:
        Adjusted p values in [0, 1], in the same order, each at least as large as before.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    raised = np.minimum(np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors), 1.0)
    adjusted = np.empty(len(p_values))
    adjusted[order] = raised
    return [float(value) for value in adjusted]


def accuracy_difference(right: ArrayLike, reference_right: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Difference of two accuracies on the same subjects, with Newcombe's interval for paired proportions.

    Source: Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", method 10: square-and-add of Wilson limits less twice their product times the correlation phi, which
    is corrected for continuity.

    Args:
        right: booleans, one per subject; which the classifier answers rightly.
        reference_right: the same of the classifier compared with.
        confidence: coverage in (0, 1).

    Returns:
        Accuracy less that of the reference, in [-1, 1], positive where the first is better, and its limits; no value
        without subjects.

    Raises:
        ValueError: if the two are of different numbers of subjects.
    """
    own, other = _pair(right, reference_right)
    if len(own) == 0:
        return Estimate(None)
    first, second = (wilson(int(one.sum()), len(one), confidence) for one in (own, other))
    down, up = distances(first)
    down_reference, up_reference = distances(second)
    phi = _corrected_phi(own, other)
    difference = float(own.mean() - other.mean())
    low = difference - math.sqrt(max(0.0, down**2 - 2 * phi * down * up_reference + up_reference**2))
    high = difference + math.sqrt(max(0.0, down_reference**2 - 2 * phi * down_reference * up + up**2))
    return Estimate(difference, low, high, "Newcombe's method 10 for paired proportions")


def balanced_accuracy_difference(
    labels: ArrayLike, right: ArrayLike, reference_right: ArrayLike, confidence: float = CONFIDENCE
) -> Estimate:
    """Difference of two balanced accuracies on the same subjects.

    The mean of the differences of the sensitivities, each with Newcombe's paired interval, joined by square-and-add
    (Newcombe 1998), because the classes are independent samples.

    Args:
        labels: true classes, one per subject.
        right: booleans; which the classifier answers rightly.
        reference_right: the same of the classifier compared with.
        confidence: coverage in (0, 1).

    Returns:
        Balanced accuracy less that of the reference, in [-1, 1], and its limits.
    """
    truth, (own, other) = np.asarray(labels), _pair(right, reference_right)
    classes = [truth == label for label in np.unique(truth)]
    differences = [accuracy_difference(own[members], other[members], confidence) for members in classes]
    return square_and_add(differences)._replace(interval="square-and-add of Newcombe's paired limits")


def _corrected_phi(own: np.ndarray, other: np.ndarray) -> float:
    """Correlation of the two answers in [-1, 1]; 0 where one of them is always the same."""
    both, neither = int((own & other).sum()), int((~own & ~other).sum())
    only_own, only_other = count_discordant(own, other)
    margins = own.sum() * (~own).sum() * other.sum() * (~other).sum()
    surplus = both * neither - only_own * only_other
    if margins == 0:
        return 0.0
    corrected = max(surplus - len(own) / 2, 0.0) if surplus > 0 else surplus
    return float(corrected / math.sqrt(margins))


def _pair(right: ArrayLike, reference_right: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    own, other = np.asarray(right, dtype=bool), np.asarray(reference_right, dtype=bool)
    if own.shape != other.shape:
        raise ValueError(
            f"right and reference_right must be of the same subjects, got {own.size} and {other.size};"
            " compare predictions of one test"
        )
    return own, other
