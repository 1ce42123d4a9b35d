"""How far the probabilities of a classifier are from the frequencies with which it is right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scripts.measures import NUM_BINS, Floats, Labels, confidence_bins, expected_calibration_error, value_of
from scripts.statistics import Estimate, wilson


class ReliabilityBin(NamedTuple):
    """One bin of a reliability plot.

    Args:
        low: lower edge, outside the bin.
        high: upper edge, inside.
        n: subjects whose answer has a probability in the bin.
        confidence: mean of these probabilities, in [0, 1]; None without subjects.
        accuracy: share of right answers among them with its Wilson limits.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: Estimate


def reliability(labels: Labels, probabilities: Floats) -> list[ReliabilityBin]:
    """Compare the probability of the answered class with how often it is the right one, in 15 bins of equal width.

    Source: DeGroot, Fienberg 1983; Guo et al. 2017 for the bins. A calibrated classifier has accuracy equal to
    confidence in each bin.

    Args:
        labels: true classes, shape (N,).
        probabilities: shape (N, K).

    Returns:
        One item a bin, also for empty ones. The mean of |accuracy - confidence| weighted by n is the expected
        calibration error.
    """
    confidence, bins = confidence_bins(probabilities)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, NUM_BINS + 1).tolist()
    return [_bin(edges[k], edges[k + 1], confidence[bins == k], right[bins == k]) for k in range(NUM_BINS)]


def chance_error(probabilities: Floats, num_draws: int = 1000, seed: int = 0) -> float:
    """Expected calibration error that a perfectly calibrated classifier with these probabilities shows on average.

    Labels are drawn from the probabilities themselves (consistency resampling: Broecker, Smith 2007, "Increasing the
    reliability of reliability diagrams"). An error about as large as this is no sign of bad calibration.

    Args:
        probabilities: shape (N, K), rows sum to 1.
        num_draws: of the labels.
        seed: of the draws.

    Returns:
        In [0, 1]; lower with more subjects.
    """
    random = np.random.default_rng(seed)
    cumulated = probabilities.cumsum(axis=1)[:, :-1]
    errors = []
    for draws in random.random((num_draws, len(probabilities))):
        labels = (draws[:, None] > cumulated).sum(axis=1)
        errors.append(value_of(expected_calibration_error, labels, probabilities))
    return float(np.mean(np.array(errors, dtype=float)))


def _bin(low: float, high: float, confidence: Floats, right: np.ndarray) -> ReliabilityBin:
    mean = float(confidence.mean()) if len(confidence) else None
    return ReliabilityBin(low, high, len(confidence), mean, wilson(int(right.sum()), len(right)))
