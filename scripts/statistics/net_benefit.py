"""Decision curves: whether acting on the probabilities is worth more than acting on everybody, or on nobody."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from scripts.statistics.intervals import CONFIDENCE, Estimate

THRESHOLDS = tuple(percent / 100 for percent in range(1, 100))


class NetBenefit(NamedTuple):
    """Net benefit at one threshold probability.

    Args:
        threshold: probability from which on one would act, in (0, 1).
        value: net benefit of acting on the classifier, in units of true positives per subject, with limits.
        of_all: that of acting on everybody; that of acting on nobody is 0.
    """

    threshold: float
    value: Estimate
    of_all: float


def net_benefit(
    positive: np.ndarray, probabilities: np.ndarray, threshold: float, confidence: float = CONFIDENCE
) -> NetBenefit:
    """Net benefit of acting on those whose probability is at least the threshold; higher is better, at most the share.

    Source: Vickers, Elkin 2006, "Decision curve analysis: a novel method for evaluating prediction models":
    TP / N - FP / N * p / (1 - p), since who acts from p on holds a false alarm for p / (1 - p) of a hit. It is the mean
    over the subjects of what each adds, whose standard error gives the limits.

    Args:
        positive: booleans, shape (N,), N >= 2.
        probabilities: of the positive class, in [0, 1], shape (N,).
        threshold: p in (0, 1).
        confidence: coverage in (0, 1).

    Returns:
        Net benefit; without limits where every subject adds the same.

    >>> net_benefit(np.array([True, False]), np.array([0.9, 0.8]), 0.5).value.value
    0.0
    """
    odds = threshold / (1 - threshold)
    gains = np.where(positive, 1.0, -odds)
    own = gains * (probabilities >= threshold)
    value, of_all = float(own.mean()), float(gains.mean())
    half_width = float(norm.isf((1 - confidence) / 2) * own.std(ddof=1) / np.sqrt(len(own)))
    limits = (value - half_width, value + half_width, "normal, of the mean over subjects") if half_width else ()
    return NetBenefit(threshold, Estimate(value, *limits), of_all)


def useful_range(curve: list[NetBenefit]) -> tuple[float, float] | None:
    """Return the lowest and the highest threshold at which acting on the classifier beats both acting on all and none.

    Args:
        curve: by threshold.

    Returns:
        Both in (0, 1); None where it never does. Between them it may fail to.
    """
    better = [
        point.threshold
        for point in curve
        if point.value.value is not None and point.value.value > max(0.0, point.of_all) + 1e-12
    ]
    return (better[0], better[-1]) if better else None
