"""Measures of a classifier for many weightings of its subjects at once: a draw of a bootstrap is a weighting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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
    table = confusion(labels, probabilities, weights)
    hits, truth, answers = _margins(table)
    f1 = np.divide(2 * hits, truth + answers, out=np.zeros_like(hits), where=hits > 0)
    return (f1 * truth).sum(axis=1) / truth.sum(axis=1)


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
    weighted by their cases of class 0: `strata` as in `scripts.statistics.roc_area.auc`.

    >>> round(value_of(average_precision, np.array([0, 1, 0]), np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])), 3)
    0.833
    """
    cases = (weights * (labels == 0)).sum(axis=1)
    parts = [_precision_of_cases(labels[own], probabilities[own], weights[:, own]) for own in _members(labels, strata)]
    return _divide(np.sum(parts, axis=0), cases)


def auc_one_against_rest(
    labels: Labels, probabilities: Floats, weights: Floats, strata: ArrayLike | None = None
) -> Floats:
    """Mean over the classes of the area under the ROC curve against all others; higher is better, [0, 1], chance .5.

    Source: Hand, Till 2001 discuss it; scikit-learn's `multi_class="ovr"`. Arguments as in `weighted_f1`; not a number
    where a class has no case. Pairs are made among the subjects of one classifier: `strata` as in
    `scripts.statistics.roc_area.auc`.

    >>> value_of(auc_one_against_rest, np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    1.0
    """
    members = _members(labels, strata)
    return np.mean([_auc(labels == k, p, weights, members) for k, p in enumerate(probabilities.T)], axis=0)


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


def _margins(table: Floats) -> tuple[Floats, Floats, Floats]:
    """Hits, cases and answers of each class, each (B, K)."""
    return np.diagonal(table, axis1=1, axis2=2).copy(), table.sum(axis=2), table.sum(axis=1)


def _members(labels: Labels, strata: ArrayLike | None) -> list[NDArray[np.bool_]]:
    """Which subjects each classifier answered for."""
    numbers = np.zeros(len(labels), dtype=int) if strata is None else np.asarray(strata)
    return [numbers == number for number in np.unique(numbers)]


def _precision_of_cases(labels: Labels, probabilities: Floats, weights: Floats) -> Floats:
    """Sum over the cases of class 0 of the precision at their score, shape (B,)."""
    positive, everybody = (_by_score(w, -probabilities[:, 0]) for w in (weights * (labels == 0), weights))
    true_positives, answered = positive.cumsum(axis=1), everybody.cumsum(axis=1)
    precision = np.divide(true_positives, answered, out=np.zeros_like(true_positives), where=answered > 0)
    return (positive * precision).sum(axis=1)


def _auc(positive: NDArray[np.bool_], scores: Floats, weights: Floats, members: Sequence[NDArray[np.bool_]]) -> Floats:
    """Share of the pairs of a positive subject and another, of one classifier, that are ranked rightly, shape (B,)."""
    right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for own in members:
        groups = (weights[:, own] * group[own] for group in (positive, ~positive))
        cases, controls = (_by_score(group, scores[own]) for group in groups)
        below = controls.cumsum(axis=1) - controls / 2  # of tied controls the half counts
        right += (cases * below).sum(axis=1)
        pairs += cases.sum(axis=1) * controls.sum(axis=1)
    return _divide(right, pairs)


def _by_score(weights: Floats, scores: Floats) -> Floats:
    """Sum the weights of equal scores, in ascending order of the scores."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] > ranked[:-1]]))
    return np.add.reduceat(weights[:, order], starts, axis=1)


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)
