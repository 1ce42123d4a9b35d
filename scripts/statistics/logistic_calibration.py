"""Whether probabilities are too high or too sure: intercept and slope of the outcome on their logits."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from scripts.statistics.intervals import CONFIDENCE, Estimate

INTERVAL = "Wald"
MAX_SHIFT = 50.0  # of the logits: more than any probability needs


class LogisticCalibration(NamedTuple):
    """How the outcome goes with the logits of the probabilities.

    Args:
        intercept: shift of the logits that makes their mean right; 0 is right, above it the class is underrated.
        slope: factor of the logits that makes their spread right; 1 is right, below 1 they are too sure.
        reason: why one of them is not known; None where both are.
    """

    intercept: Estimate
    slope: Estimate
    reason: str | None = None


def calibrate(positive: np.ndarray, logits: np.ndarray, confidence: float = CONFIDENCE) -> LogisticCalibration:
    """Fit the outcome to the logits of its probabilities, once with slope 1 and once with a free slope.

    Sources: Cox 1958, "Two further applications of a model for binary regression"; Van Calster et al. 2019,
    "Calibration: the Achilles heel of predictive analytics", for the intercept at slope 1 (calibration in the large).
    Maximum likelihood without penalty; Wald's limits.

    Args:
        positive: booleans, shape (N,).
        logits: log(p / (1 - p)) of the positive class, shape (N,).
        confidence: coverage in (0, 1).

    Returns:
        Both; without value and with the `reason` where a class has no subject, a probability is 0 or 1, all are
        equal (no slope), or they part the classes without overlap, so that no slope is large enough (no slope).
    """
    if positive.all() or not positive.any():
        return LogisticCalibration(Estimate(None), Estimate(None), "one class only")
    if not np.isfinite(logits).all():
        return LogisticCalibration(Estimate(None), Estimate(None), "a probability of 0 or 1 has no logit")
    intercept = _intercept(positive, logits, confidence)
    if np.ptp(logits) == 0:
        return LogisticCalibration(intercept, Estimate(None), "all probabilities are equal")
    own, others = logits[positive], logits[~positive]
    if own.min() >= others.max() or own.max() <= others.min():
        return LogisticCalibration(intercept, Estimate(None), "the classes do not overlap")
    return LogisticCalibration(intercept, _slope(positive, logits, confidence))


def _intercept(positive: np.ndarray, logits: np.ndarray, confidence: float) -> Estimate:
    def excess(shift: float) -> float:
        return float(expit(logits + shift).sum() - positive.sum())

    bound = float(np.abs(logits).max()) + MAX_SHIFT
    shift = float(brentq(excess, -bound, bound))
    probabilities = expit(logits + shift)
    return _wald(shift, 1 / float((probabilities * (1 - probabilities)).sum()), confidence)


def _slope(positive: np.ndarray, logits: np.ndarray, confidence: float) -> Estimate:
    scale = float(logits.std())
    model = LogisticRegression(C=math.inf, tol=1e-10, max_iter=1000).fit(logits[:, None] / scale, positive)
    probabilities = model.predict_proba(logits[:, None] / scale)[:, 1]
    design = np.column_stack([np.ones_like(logits), logits])
    information = design.T @ (design * (probabilities * (1 - probabilities))[:, None])
    return _wald(float(model.coef_[0, 0]) / scale, float(np.linalg.inv(information)[1, 1]), confidence)


def _wald(value: float, variance: float, confidence: float) -> Estimate:
    half_width = float(norm.isf((1 - confidence) / 2)) * math.sqrt(variance)
    return Estimate(value, value - half_width, value + half_width, INTERVAL)
