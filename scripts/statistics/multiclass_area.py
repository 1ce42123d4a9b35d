"""Area under the ROC curve of two classes or more: of each class against the rest, their mean, and differences.

The area of a class against the rest is a U-statistic of as many independent samples as there are classes (Lehmann 1951,
"Consistency and unbiasedness of certain nonparametric tests"), and so are several such areas of the same subjects. Each
subject counts in all of them, as a case of its own class and as one of the rest of every other; the sum of its shares
in the areas is its structural component (Sen 1960, "On some convergence properties of U-statistics"), whose covariance
inside the classes is DeLong's estimate. Of two classes both areas are one, and everything here is that of `roc_area`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from scripts.statistics.classification_measures import Floats, Labels, stratum_members
from scripts.statistics.intervals import CONFIDENCE, Estimate
from scripts.statistics.roc_area import (
    NO_ERROR,
    auc_difference,
    compare_areas,
    correlation_of,
    delong,
    logit_limits,
    newcombe_auc,
    split,
)

OF_CLASSES = "mean of the Newcombe score intervals of the classes"


def auc(
    labels: ArrayLike, probabilities: Floats, strata: ArrayLike | None = None, confidence: float = CONFIDENCE
) -> Estimate:
    """Area under the ROC curve; higher is better, [0, 1], chance .5.

    Two classes: of class 1, with the DeLong interval. More: mean of one class against the rest (`mean_area`).

    Args:
        labels: true classes, integers in 0..K-1, shape (N,).
        probabilities: shape (N, K).
        strata: number of the classifier that answered for each subject, shape (N,); None where it was one.
        confidence: coverage in (0, 1).

    Returns:
        Estimate; no value where no stratum holds two classes, or a class has no case.
    """
    truth, num_classes = np.asarray(labels), probabilities.shape[1]
    if len(np.unique(truth)) < num_classes:
        return Estimate(None)
    if num_classes > 2:
        return mean_area(truth, probabilities, strata, confidence)
    return delong(truth == 1, probabilities[:, 1] - probabilities[:, 0], strata, confidence)


def class_areas(
    labels: Labels, probabilities: Floats, strata: ArrayLike | None = None, confidence: float = CONFIDENCE
) -> list[Estimate]:
    """Area of each class against the rest with DeLong's interval; the arguments of `auc`.

    Returns:
        K estimates in [0, 1], higher is better, chance .5; one without value where a class has no case, or all.
    """
    return [delong(labels == k, scores, strata, confidence) for k, scores in enumerate(probabilities.T)]


def mean_area(
    labels: Labels, probabilities: Floats, strata: ArrayLike | None = None, confidence: float = CONFIDENCE
) -> Estimate:
    """Mean over the classes of the area against the rest, its interval on the logit scale; higher is better, [0, 1].

    Its variance is that of the mean share of the classes (`area_covariance`). Where that is zero or unknown (all
    classes are told apart perfectly, one has a single subject) the limits are the means of the limits of the classes
    (Newcombe 2006): right if the areas rise and fall together, else too wide.

    Args:
        labels: true classes, integers in 0..K-1, shape (N,).
        probabilities: shape (N, K).
        strata: number of the classifier that answered for each subject, shape (N,); None where it was one.
        confidence: coverage in (0, 1).

    Returns:
        Estimate; no value where a class cannot be ranked against the rest.
    """
    return _mean_area(labels, probabilities, shares(labels, probabilities, strata), strata, confidence)


def mean_area_difference(
    labels: Labels,
    probabilities: Floats,
    reference_probabilities: Floats,
    strata: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> tuple[Estimate, float | None]:
    """Difference of two AUCs of the same subjects with its limits and DeLong's test; see `roc_area.auc_difference`.

    Args:
        labels: true classes, integers in 0..K-1, two subjects of each at least, shape (N,).
        probabilities: shape (N, K); of more than two classes the area is `mean_area`.
        reference_probabilities: those of the classifier compared with, shape (N, K).
        strata: number of the classifier that answered for each subject, alike for both, shape (N,); None for one.
        confidence: coverage in (0, 1).

    Returns:
        AUC less that of the reference, in [-1, 1], with its limits; and the two-sided p, None where the variance of the
        difference is unknown, or zero and the difference is not.
    """
    pair = probabilities, reference_probabilities
    if probabilities.shape[1] == 2:
        scores, others = (table @ [-1.0, 1.0] for table in pair)
        return auc_difference(labels == 1, scores, others, strata, confidence)
    own, other = (shares(labels, table, strata) for table in pair)
    area, reference = (
        _mean_area(labels, table, parts, strata, confidence) for table, parts in zip(pair, (own, other), strict=True)
    )
    if area.value is None or reference.value is None:
        return Estimate(None), None
    # The mean over the classes is linear in the shares: of the own areas, of those of the reference, of the gains.
    means = np.stack([parts.mean(axis=1) for parts in (own, other, own - other)], axis=1)
    covariance = area_covariance(labels, means, strata)
    if covariance is None:
        return compare_areas(area, reference, area.value - reference.value, None, 0.0)
    own_variance, other_variance, variance = (float(value) for value in np.diag(covariance))
    correlation = correlation_of(float(covariance[0, 1]), own_variance, other_variance)
    return compare_areas(area, reference, area.value - reference.value, variance, correlation)


def shares(labels: Labels, probabilities: Floats, strata: ArrayLike | None = None) -> Floats:
    """What each subject adds to the area of each class against the rest, shape (N, K).

    The cases of a class sum to its area, and so do those of the rest: each is the placement of DeLong et al. 1988,
    eq. 5, over the number of subjects on its side and weighted by the pairs of its stratum. Not a number for a class
    that makes no pair. The arguments of `auc`.
    """
    table = np.zeros_like(probabilities, dtype=float)
    members = stratum_members(labels, strata)
    for k, scores in enumerate(probabilities.T):
        positive = labels == k
        paired = [own for own in members if 0 < positive[own].sum() < own.sum()]
        parts = split(positive, scores, strata)
        total = sum(part.pairs for part in parts)
        table[:, k] = 0.0 if parts else math.nan
        for own, part in zip(paired, parts, strict=True):
            table[own & positive, k] = part.pairs / total * part.of_cases / len(part.of_cases)
            table[own & ~positive, k] = part.pairs / total * part.of_controls / len(part.of_controls)
    return table


def area_covariance(labels: Labels, table: Floats, strata: ArrayLike | None = None) -> Floats | None:
    """Covariance of sums of `shares` over subjects that are drawn inside each class and stratum.

    A subject alone in its class and stratum says nothing of its spread: that is taken from the other strata.

    Args:
        labels: true classes, shape (N,).
        table: columns of what `shares` returns, or sums, means and differences of them, shape (N, M).
        strata: as for `auc`.

    Returns:
        Shape (M, M); None where a class has no two subjects in any stratum.
    """
    members, total = stratum_members(labels, strata), np.zeros((table.shape[1], table.shape[1]))
    for label in np.unique(labels):
        groups = [table[own & (labels == label)] for own in members]
        products = [(group - group.mean(axis=0)).T @ (group - group.mean(axis=0)) for group in groups if len(group)]
        sizes = [(len(group), int(own.sum())) for group, own in zip(groups, members, strict=True) if len(group)]
        freedom = sum(count - 1 for count, _ in sizes)
        if not freedom:
            return None
        # A share is of the order of one over the size of its stratum: in these units those of all strata are alike.
        pooled = sum(product * size**2 for product, (_, size) in zip(products, sizes, strict=True)) / freedom
        for product, (count, size) in zip(products, sizes, strict=True):
            total += count * (product / (count - 1) if count > 1 else pooled / size**2)
    return total


def _mean_area(
    labels: Labels, probabilities: Floats, table: Floats, strata: ArrayLike | None, confidence: float
) -> Estimate:
    """Mean area of what `shares` returns."""
    num_classes = table.shape[1]
    area = round(float(table.sum()) / (2 * num_classes), 12)  # of a perfect ranking exactly 1
    if not math.isfinite(area):
        return Estimate(None)
    covariance = area_covariance(labels, table.mean(axis=1, keepdims=True), strata)
    variance = None if covariance is None else float(covariance[0, 0])
    # Of equal scores the variance is 0 but for rounding.
    if variance is None or variance < NO_ERROR**2 or not 0 < area < 1:
        limits = [_newcombe(labels == k, scores, strata, confidence) for k, scores in enumerate(probabilities.T)]
        low, high = (float(np.mean([one[i] for one in limits])) for i in (1, 2))
        return Estimate(area, min(low, area), max(high, area), OF_CLASSES)
    return Estimate(area, *logit_limits(area, variance, confidence), "DeLong on the logit scale")


def _newcombe(positive: np.ndarray, scores: Floats, strata: ArrayLike | None, confidence: float) -> Estimate:
    parts = split(positive, scores, strata)
    area = delong(positive, scores, strata).value
    assert area is not None
    return newcombe_auc(area, [part.sizes for part in parts], confidence)
