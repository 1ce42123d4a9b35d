"""Measures of a classifier for many weightings of its subjects at once: a draw of a bootstrap is a weighting."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
# Of labels (N,), probabilities (N, K) and weights (B, N) of the subjects: a value for each weighting, shape (B,).
Measure = Callable[[Labels, Floats, Floats], Floats]

ROUNDING = 1e-9  # of a value that is a count over a count
NUM_BINS = 15  # of the calibration error, as in Guo et al. 2017


def value_of(
    measure: Callable[..., Floats], labels: Labels, probabilities: Floats, strata: ArrayLike | None = None
) -> float | None:
    """Compute a measure with every subject counted once; None where it is not defined.

    Args:
        measure: of this module.
        labels: true classes, integers in 0..K-1, shape (N,).
        probabilities: shape (N, K).
        strata: for a measure that ranks: number of the classifier of each subject, shape (N,); None for one.
    """
    ranked = {} if strata is None else {"strata": strata}
    value = float(measure(labels, probabilities, np.ones((1, len(labels))), **ranked)[0])
    return value if math.isfinite(value) else None


def weighted_f1(labels: Labels, probabilities: Floats, weights: Floats) -> Floats:
    """F1 of each class weighted by its cases; higher is better, [0, 1]; 0 for a class that has no true positive.

    Args:
        labels: true classes, integers in 0..K-1, shape (N,).
        probabilities: shape (N, K); the most probable class is the answer.
        weights: of the subjects, >= 0, shape (B, N).

    Returns:
        Shape (B,).

    >>> value_of(weighted_f1, np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]))
    1.0
    """
    f1, truth = _f1(labels, probabilities, weights)
    return (f1 * truth).sum(axis=1) / truth.sum(axis=1)


def macro_f1(labels: Labels, probabilities: Floats, weights: Floats) -> Floats:
    """Mean F1 of the classes, each of equal weight; higher is better, [0, 1]; 0 for a class that has no true positive.

    Source: scikit-learn's `average="macro"` (Opitz, Burst 2019, "Macro F1 and macro F1", compare it with the F1 of the
    mean precision and recall). Arguments as in `weighted_f1`; not a number where a class has no case.

    >>> value_of(macro_f1, np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]))
    1.0
    """
    f1, truth = _f1(labels, probabilities, weights)
    return np.where((truth > 0).all(axis=1), f1.mean(axis=1), np.nan)


def matthews(labels: Labels, probabilities: Floats, weights: Floats) -> Floats:
    """Matthews correlation coefficient; higher is better, [-1, 1], chance 0; 0 if one class is always answered.

    Source: Matthews 1975; Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation
    coefficient", for K classes. Arguments as in `weighted_f1`.

    >>> value_of(matthews, np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]))
    1.0
    """
    hits, truth, answers = _margins(confusion(labels, probabilities, weights))
    total = truth.sum(axis=1)
    covariance = hits.sum(axis=1) * total - (truth * answers).sum(axis=1)
    product = (total**2 - (truth**2).sum(axis=1)) * (total**2 - (answers**2).sum(axis=1))
    return np.divide(covariance, np.sqrt(product), out=np.zeros_like(total), where=product > 0)


def average_precision(
    labels: Labels, probabilities: Floats, weights: Floats, strata: ArrayLike | None = None
) -> Floats:
    """Area under the precision-recall curve of class 0 (AUPRC of LGG); higher is better, [0, 1], chance its share.

    Source: average precision, sum over thresholds of (R_i - R_{i-1}) P_i, without interpolation (Davis, Goadrich 2006
    say why). Arguments as in `weighted_f1`; not a number where class 0 has no case. Of several classifiers the mean,
    weighted by their cases of class 0: `strata` as in `scripts.statistics.multiclass_area.auc`.

    >>> round(value_of(average_precision, np.array([0, 1, 0]), np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])), 3)
    0.833
    """
    cases = (weights * (labels == 0)).sum(axis=1)
    members = stratum_members(labels, strata)
    parts = [_precision_of_cases(labels[own], probabilities[own], weights[:, own]) for own in members]
    return _divide(np.sum(parts, axis=0), cases)


def brier(labels: Labels, probabilities: Floats, weights: Floats) -> Floats:
    """Brier score: half the mean squared distance of the probabilities from the truth; lower is better, [0, 1].

    Source: Brier 1950, halved, so that for two classes it is the mean of (p - y)^2, as scikit-learn has it. The answer
    .5 scores .25. Arguments as in `weighted_f1`.

    >>> value_of(brier, np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]]))
    0.25
    """
    truth = np.eye(probabilities.shape[1])[labels]
    return weights @ (((probabilities - truth) ** 2).sum(axis=1) / 2) / weights.sum(axis=1)


def expected_calibration_error(labels: Labels, probabilities: Floats, weights: Floats) -> Floats:
    """Expected calibration error of the answered class, 15 bins of equal width; lower is better, [0, 1].

    Source: Guo, Pleiss, Sun, Weinberger 2017, "On calibration of modern neural networks", eq. 5. At the size of these
    cohorts it is above 0 for a perfectly calibrated classifier too: see `scripts.statistics.calibration.chance_error`.
    Arguments as in `weighted_f1`.

    >>> value_of(expected_calibration_error, np.array([0, 1]), np.array([[0.75, 0.25], [0.25, 0.75]]))
    0.25
    """
    confidence, bins = confidence_bins(probabilities)
    surplus = weights * (confidence - (probabilities.argmax(axis=1) == labels))
    gaps = np.abs(surplus @ np.eye(NUM_BINS)[bins])
    return gaps.sum(axis=1) / weights.sum(axis=1)


def stratum_members(subjects: ArrayLike, strata: ArrayLike | None = None) -> list[NDArray[np.bool_]]:
    """Which subjects each classifier answered for, booleans, shape (N,) each; all of one where `strata` is None."""
    numbers = np.zeros(len(np.asarray(subjects)), dtype=int) if strata is None else np.asarray(strata)
    return [numbers == number for number in np.unique(numbers)]


def confidence_bins(probabilities: Floats) -> tuple[Floats, Labels]:
    """Return the probability of the answered class and the bin it falls in: (0, 1/15] is bin 0, (14/15, 1] is 14."""
    confidence = probabilities.max(axis=1)
    edges = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
    return confidence, np.digitize(confidence, edges, right=True).astype(np.int64)


def confusion(labels: Labels, probabilities: Floats, weights: Floats) -> Floats:
    """Count pairs of true class and answer, shape (B, K, K); arguments as in `weighted_f1`."""
    num_classes = probabilities.shape[1]
    pairs = np.eye(num_classes**2)[labels * num_classes + probabilities.argmax(axis=1)]
    return (weights @ pairs).reshape(len(weights), num_classes, num_classes)


def _f1(labels: Labels, probabilities: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """F1 and cases of each class, each (B, K)."""
    hits, truth, answers = _margins(confusion(labels, probabilities, weights))
    return np.divide(2 * hits, truth + answers, out=np.zeros_like(hits), where=hits > 0), truth


def _margins(table: Floats) -> tuple[Floats, Floats, Floats]:
    """Hits, cases and answers of each class, each (B, K)."""
    return np.diagonal(table, axis1=1, axis2=2).copy(), table.sum(axis=2), table.sum(axis=1)


def _precision_of_cases(labels: Labels, probabilities: Floats, weights: Floats) -> Floats:
    """Sum over the cases of class 0 of the precision at their score, shape (B,)."""
    positive, everybody = (_by_score(w, -probabilities[:, 0]) for w in (weights * (labels == 0), weights))
    true_positives, answered = positive.cumsum(axis=1), everybody.cumsum(axis=1)
    precision = np.divide(true_positives, answered, out=np.zeros_like(true_positives), where=answered > 0)
    return (positive * precision).sum(axis=1)


def _by_score(weights: Floats, scores: Floats) -> Floats:
    """Sum the weights of equal scores, in ascending order of the scores."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] > ranked[:-1]]))
    return np.add.reduceat(weights[:, order], starts, axis=1)


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)
