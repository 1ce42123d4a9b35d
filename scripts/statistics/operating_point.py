"""A threshold at a stated sensitivity or specificity, and what an answer is worth at a stated prevalence."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from sklearn.metrics import roc_curve

from scripts.statistics.classification_measures import ROUNDING
from scripts.statistics.intervals import CONFIDENCE, Estimate, distances, wilson

GOALS = ("sensitivity", "specificity")


class Threshold(NamedTuple):
    """A threshold and what it gives where it was chosen.

    Args:
        value: scores from this on are positive; None where the goal cannot be reached.
        reason: why it cannot; None where it is.
        num_positive: subjects of the positive class that it was chosen on.
        num_negative: the others.
        sensitivity: in these subjects, in [0, 1]; None without a threshold.
        specificity: likewise.
    """

    value: float | None
    reason: str | None
    num_positive: int
    num_negative: int
    sensitivity: float | None = None
    specificity: float | None = None


def check_goal(goal: str, level: float) -> None:
    """Refuse an unknown goal and a level outside (0, 1].

    Raises:
        ValueError: naming the key and the way out.
    """
    if goal not in GOALS:
        raise ValueError(f"operating_goal must be one of {', '.join(GOALS)}, got {goal!r}")
    if not 0 < level <= 1:
        raise ValueError(f"operating_level must be a {goal} in (0, 1], got {level!r}; 0.9 is common")


def check_prevalence(prevalence: float | None) -> None:
    """Refuse a prevalence at which every answer is right or wrong beforehand.

    Raises:
        ValueError: naming the key and the way out.
    """
    if prevalence is not None and not 0 < prevalence < 1:
        raise ValueError(
            f"stated_prevalence must be in (0, 1), got {prevalence!r}: where nobody or everybody is of the class, no"
            " answer is needed; null takes the share in each cohort tested on"
        )


def choose_threshold(positive: np.ndarray, scores: np.ndarray, goal: str, level: float) -> Threshold:
    """Choose the threshold that reaches a goal at the least cost: of those that do, the best in the other measure.

    Source: the points of the empirical ROC curve (Fawcett 2006, "An introduction to ROC analysis", algorithm 1, as
    scikit-learn has it).

    Args:
        positive: booleans, shape (N,).
        scores: larger means more likely positive, shape (N,).
        goal: "sensitivity" or "specificity".
        level: at least this, in (0, 1].

    Returns:
        Threshold, one of the scores. None, with the reason, where a class has no subject, a score is not finite, or
        only answering one class to everybody reaches the goal.
    """
    check_goal(goal, level)
    counts = int(positive.sum()), int((~positive).sum())
    if not min(counts):
        return Threshold(None, "it holds one class only", *counts)
    if not np.isfinite(scores).all():
        return Threshold(None, "it holds scores that are not finite", *counts)
    false_alarms, sensitivity, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    specificity = 1 - false_alarms
    reaches, other = (sensitivity, specificity) if goal == "sensitivity" else (specificity, sensitivity)
    enough = np.flatnonzero((reaches >= level - ROUNDING) & (other > 0) & np.isfinite(thresholds))
    if not len(enough):
        return Threshold(None, f"only one answer to everybody reaches a {goal} of {level:g}", *counts)
    best = enough[np.lexsort((reaches[enough], other[enough]))[-1]]
    found = (float(array[best]) for array in (sensitivity, specificity))
    return Threshold(float(thresholds[best]), None, *counts, *found)


def rates(positive: np.ndarray, answers: np.ndarray) -> tuple[Estimate, Estimate]:
    """Sensitivity and specificity of answers, with Wilson's limits; higher is better, [0, 1].

    Args:
        positive: booleans, shape (N,).
        answers: booleans, whether a subject is answered positive, shape (N,).

    Returns:
        Both; one without value where its class has no subject.
    """
    return (
        wilson(int(answers[positive].sum()), int(positive.sum())),
        wilson(int((~answers[~positive]).sum()), int((~positive).sum())),
    )


def predictive_values(
    positive: np.ndarray, answers: np.ndarray, prevalence: float, confidence: float = CONFIDENCE
) -> tuple[Estimate, Estimate]:
    """Chance that a positive answer, and that a negative one, is right, where the class has a stated prevalence.

    Sources: Bayes' rule on sensitivity and specificity; the limits are those of the likelihood ratio, a ratio of
    two proportions with Wilson's limits each (Newcombe 2016, "MOVER-R confidence intervals for ratios and products of
    two independently estimated quantities"). The prevalence is taken as known.

    Args:
        positive: booleans, shape (N,).
        answers: booleans, whether a subject is answered positive, shape (N,).
        prevalence: share of the positive class among those who will be asked about, in (0, 1).
        confidence: coverage in (0, 1).

    Returns:
        Positive and negative predictive value, each in [0, 1]; without value where that answer is never given, or a
        class has no subject.

    Raises:
        ValueError: if both classes have subjects and the prevalence is 0, 1 or outside.
    """
    hits, rejections = int(answers[positive].sum()), int((~answers[~positive]).sum())
    cases, controls = int(positive.sum()), int((~positive).sum())
    # Before the check: the share in a cohort of one class is 0 or 1, and nobody stated that.
    if not min(cases, controls):
        return Estimate(None), Estimate(None)
    check_prevalence(prevalence)
    own = (hits, cases), (controls - rejections, controls)
    other = (rejections, controls), (cases - hits, cases)
    odds = logit(prevalence)
    return _predictive_value(*own, odds, confidence), _predictive_value(*other, -odds, confidence)


def _predictive_value(right: tuple[int, int], wrong: tuple[int, int], log_odds: float, confidence: float) -> Estimate:
    """Share of right ones among the answers to one class, from (answered so, subjects) of this class and the other."""
    own, other = (wilson(*pair, confidence) for pair in (right, wrong))
    ratio = _ratio(own, other)
    if ratio is None:
        return Estimate(None)
    value, low, high = (float(expit(log_odds + math.log(one))) if one else 0.0 for one in ratio)
    return Estimate(value, low, high, "Newcombe's MOVER-R of Wilson limits")


def _ratio(own: Estimate, other: Estimate) -> tuple[float, float, float] | None:
    """Ratio of two proportions and its limits, infinite where the second may be 0; None where both are 0."""
    (down, up), (other_down, other_up) = distances(own), distances(other)
    assert own.value is not None
    assert other.value is not None
    if not own.value + other.value:
        return None
    value = own.value / other.value if other.value else math.inf
    product = own.value * other.value
    # Limits of quantity a / b: roots of a quadratic equation, that of the lower one in the form that has no 0 / 0.
    numerator, denominator = own.value**2 - down**2, other.value**2 - other_up**2
    root = product + math.sqrt(max(0.0, product**2 - numerator * denominator))
    low = max(0.0, numerator) / root if root else 0.0
    numerator, denominator = own.value**2 - up**2, other.value**2 - other_down**2
    root = product + math.sqrt(max(0.0, product**2 - numerator * denominator))
    high = root / denominator if denominator > 0 else math.inf
    return value, min(low, value), max(high, value)
