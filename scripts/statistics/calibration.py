"""How far the probabilities of a classifier are from the frequencies with which it is right, and one step nearer."""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from scripts.statistics.classification_measures import (
    NUM_BINS,
    Floats,
    Labels,
    confidence_bins,
    expected_calibration_error,
    value_of,
)
from scripts.statistics.intervals import Estimate, wilson

logger = logging.getLogger(__name__)

TEMPERATURES = (0.05, 20.0)  # between which a temperature is sought
MIN_SUBJECTS = 10  # that a temperature is fitted on


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
        One item per bin, also for empty ones. The mean of |accuracy - confidence| weighted by n is the expected
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


def fit_temperature(probabilities: Floats, labels: Labels, num_subjects: int, name: str) -> float:
    """Find the temperature that makes the labels most likely.

    Source: Guo et al. 2017, section 4.2. The log-likelihood of softmax(log(p) / T) is concave in 1 / T, so the search
    in one dimension finds its top.

    Args:
        probabilities: of images that the network was not trained on, shape (N, K).
        labels: true classes, shape (N,).
        num_subjects: behind the images, at least 10.
        name: of the images, for messages, such as "inner part of fold 0".

    Returns:
        T in [.05, 20]; above 1 where the answers are too sure. A T at an end of the range is logged as a warning:
        where every answer is right, no T is sure enough.

    Raises:
        ValueError: if there are fewer subjects.
    """
    if num_subjects < MIN_SUBJECTS:
        raise ValueError(
            f"{name} must hold at least {MIN_SUBJECTS} subjects to fit a temperature, got {num_subjects}; make the"
            " splits with a larger inner_fraction, or set temperature_scaling to false"
        )
    logits = np.log(np.maximum(probabilities, np.finfo(float).tiny))

    def surprise(log_temperature: float) -> float:
        answers = log_softmax(logits / math.exp(log_temperature), axis=1)
        return -float(answers[np.arange(len(labels)), labels].mean())

    bounds = math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1])
    best = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x
    if min(abs(best - bound) for bound in bounds) < 1e-3:
        logger.warning(
            "temperature of %s is at the end of its range, %.2f: the images do not fix it", name, math.exp(best)
        )
    return math.exp(best)


def _bin(low: float, high: float, confidence: Floats, right: np.ndarray) -> ReliabilityBin:
    mean = float(confidence.mean()) if len(confidence) else None
    return ReliabilityBin(low, high, len(confidence), mean, wilson(int(right.sum()), len(right)))
