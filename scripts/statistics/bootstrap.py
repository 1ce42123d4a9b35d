"""The stratified bootstrap, for measures that have no better interval."""

from __future__ import annotations

import numpy as np

from scripts.statistics.classification_measures import Floats, Labels, Measure, expected_calibration_error, value_of
from scripts.statistics.intervals import CONFIDENCE, Estimate

INTERVAL = "stratified percentile bootstrap"
BASIC_INTERVAL = "stratified basic bootstrap"
MIN_DRAWS = 100  # with fewer, a limit of 95 % is decided by two draws


def draw_weights(labels: Labels, num_draws: int, seed: int = 0) -> Floats:
    """Draw subjects with replacement inside each class, as counts.

    Source: Efron, Tibshirani 1993, "An introduction to the bootstrap", chapter 8 (several samples). The same labels,
    number and seed give the same draws, so two classifiers on the same subjects are compared draw by draw.

    Args:
        labels: true classes, shape (N,).
        num_draws: B, at least 100.
        seed: of the draws.

    Returns:
        How often each subject is in each draw, shape (B, N); the sum over a class is its number of cases.

    Raises:
        ValueError: if there are too few draws.
    """
    if num_draws < MIN_DRAWS:
        raise ValueError(f"num_draws must be at least {MIN_DRAWS}, got {num_draws!r}; 2000 give two steady digits")
    random = np.random.default_rng(seed)
    weights = np.zeros((num_draws, len(labels)))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        share = np.full(len(members), 1 / len(members))
        weights[:, members] = random.multinomial(len(members), share, size=num_draws)
    return weights


def bootstrap(
    measure: Measure, labels: Labels, probabilities: Floats, weights: Floats, confidence: float = CONFIDENCE
) -> Estimate:
    """Measure with the percentiles of its values over the draws as limits.

    The calibration error is biased upward, and its draws twice as much: percentiles of it hold the truth in 15 % of
    small studies. Its limits are those of the basic bootstrap (Davison, Hinkley 1997, eq. 5.6), twice the value less
    the percentiles, which takes the bias off; never below 0, and never without the value.

    Args:
        measure: of `scripts.statistics.classification_measures`.
        labels: true classes, shape (N,).
        probabilities: shape (N, K).
        weights: what `draw_weights` returns.
        confidence: coverage aimed at, in (0, 1); `docs/results/coverage.md` has the coverage found.

    Returns:
        Value and limits in the range of the measure; nothing where it is not defined, and no limits where all draws
        agree, as those of a faultless classifier do, which is no certainty.
    """
    value = value_of(measure, labels, probabilities)
    if value is None:
        return Estimate(None)
    low, high = _percentiles(measure(labels, probabilities, weights), confidence)
    if low == high:
        return Estimate(value)
    if measure is expected_calibration_error:
        return Estimate(value, min(value, max(0.0, 2 * value - high)), max(value, 2 * value - low), BASIC_INTERVAL)
    return Estimate(value, low, high, INTERVAL)


def _percentiles(draws: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
