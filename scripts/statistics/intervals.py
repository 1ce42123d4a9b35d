"""How good a classifier is, and how sure one can be of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, rankdata
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

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
    if total == 0:
        return Estimate(None)
    limits = binomtest(successes, total).proportion_ci(confidence, method="wilson")
    return Estimate(successes / total, float(limits.low), float(limits.high), "Wilson")


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


def auc(labels: ArrayLike, probabilities: np.ndarray) -> Estimate:
    """Area under the ROC curve; higher is better, [0, 1], chance .5.

    Two classes: of class 1, with the DeLong interval. More: mean of one class against the rest, without interval.

    Args:
        labels: true classes, integers in 0..K-1.
        probabilities: shape (N, K).

    Returns:
        Estimate; no value where a class has no case.
    """
    num_classes = probabilities.shape[1]
    if len(np.unique(labels)) < num_classes:
        return Estimate(None)
    if num_classes == 2:
        return delong(np.asarray(labels) == 1, probabilities[:, 1] - probabilities[:, 0])
    return Estimate(float(roc_auc_score(labels, probabilities, multi_class="ovr")))


def delong(positive: np.ndarray, scores: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """AUC with DeLong's variance and an interval on the logit scale.

    Sources: DeLong, DeLong, Clarke-Pearson 1988, "Comparing the areas under two or more correlated ROC curves";
    Sun, Xu 2014 for the form with ranks. Where the variance is zero or unknown (perfect separation, one case in a
    class), the score interval of Newcombe 2006 takes over.

    Args:
        positive: booleans, shape (N,), both values present.
        scores: larger means more likely positive, shape (N,).
        confidence: coverage in (0, 1).

    Returns:
        AUC in [0, 1] and its limits.
    """
    of_cases, of_controls = placements(positive, scores)
    num_cases, num_controls = len(of_cases), len(of_controls)
    area = float(of_cases.mean())
    if min(num_cases, num_controls) < 2:
        return newcombe_auc(area, num_cases, num_controls, confidence)
    variance = of_cases.var(ddof=1) / num_cases + of_controls.var(ddof=1) / num_controls
    if variance == 0 or not 0 < area < 1:
        return newcombe_auc(area, num_cases, num_controls, confidence)
    half_width = norm.ppf((1 + confidence) / 2) * math.sqrt(variance) / (area * (1 - area))
    center = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(-(center + side * half_width))) for side in (-1, 1))
    return Estimate(area, low, high, "DeLong on the logit scale")


def placements(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the other class that each subject stands on the right side of; ties count half.

    Source: DeLong, DeLong, Clarke-Pearson 1988, eq. 5 (V10 and V01); Sun, Xu 2014 for the form with ranks.

    Args:
        positive: booleans, shape (N,), both values present.
        scores: larger means more likely positive, shape (N,).

    Returns:
        Of the positive subjects and of the others, in their order, each in [0, 1]; the mean of either is the AUC.
    """
    cases, controls = scores[positive], scores[~positive]
    ranks = rankdata(np.concatenate([cases, controls]))
    of_cases = (ranks[: len(cases)] - rankdata(cases)) / len(controls)
    of_controls = 1 - (ranks[len(cases) :] - rankdata(controls)) / len(cases)
    return of_cases, of_controls


def newcombe_auc(area: float, num_cases: int, num_controls: int, confidence: float = CONFIDENCE) -> Estimate:
    """AUC with a score interval that needs only the area and the two numbers of cases.

    Source: Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic",
    method 5.

    Args:
        area: AUC in [0, 1].
        num_cases: cases of the positive class, >= 1.
        num_controls: cases of the other, >= 1.
        confidence: coverage in (0, 1).
    """
    z = norm.ppf((1 + confidence) / 2)
    mean_size = (num_cases + num_controls) / 2

    def excess(theta: float) -> float:
        spread = 1 + (mean_size - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (area - theta) ** 2 - z**2 * theta * (1 - theta) * spread / (num_cases * num_controls)

    margin = 1e-9  # the equation also holds at 0 and 1, which are no limits
    low = 0.0 if area == 0 else brentq(excess, 0.0, area - margin)
    high = 1.0 if area == 1 else brentq(excess, area + margin, 1.0)
    return Estimate(area, float(low), float(high), "Newcombe score interval of the Mann-Whitney statistic")


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Average the numbers among some values; None where there is none.

    >>> mean_of_known([1.0, None, 2.0]), mean_of_known([None])
    (1.5, None)
    """
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
