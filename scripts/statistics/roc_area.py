"""Area under the ROC curve, and the difference of two, when several classifiers answered a part of the subjects each.

Scores of two classifiers, those of two folds for example, have no common scale: ranked against each other they give an
area that is none of theirs (Parker, Guenter, Bedo 2007, "Stratification bias in low signal microarray studies";
Forman, Scholz 2010, "Apples-to-apples in cross-validation studies"). Here pairs are made inside a stratum alone, the
subjects of one classifier, and the area is the share of all such pairs that are ranked rightly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm

from scripts.statistics.classification_measures import stratum_members
from scripts.statistics.intervals import CONFIDENCE, Estimate, distances

NO_ERROR = 1e-12  # standard errors below this are rounding


class Stratum(NamedTuple):
    """Subjects of one classifier.

    Args:
        of_cases: placement of each positive subject, [0, 1].
        of_controls: placement of each other, [0, 1].
    """

    of_cases: np.ndarray
    of_controls: np.ndarray

    @property
    def sizes(self) -> tuple[int, int]:
        """Positive subjects and others."""
        return len(self.of_cases), len(self.of_controls)

    @property
    def pairs(self) -> int:
        """Number of pairs of both, its weight."""
        return len(self.of_cases) * len(self.of_controls)


def delong(
    positive: np.ndarray, scores: np.ndarray, strata: ArrayLike | None = None, confidence: float = CONFIDENCE
) -> Estimate:
    """AUC with DeLong's variance and an interval on the logit scale.

    Source: DeLong, DeLong, Clarke-Pearson 1988, "Comparing the areas under two or more correlated ROC curves".
    The variance of several strata is that of their weighted mean. Where it is zero or unknown (perfect separation, one
    case in a class), the score interval of Newcombe 2006 takes over.

    Args:
        positive: booleans, shape (N,).
        scores: larger means more likely positive, shape (N,).
        strata: number of the classifier that answered for each subject, shape (N,); None where it was one.
        confidence: coverage in (0, 1).

    Returns:
        AUC in [0, 1] and its limits; no value where no stratum holds both classes.
    """
    parts = split(positive, scores, strata)
    if not parts:
        return Estimate(None)
    area = _area(parts)
    variance = _covariance(parts, parts)
    if not variance or not 0 < area < 1:
        return newcombe_auc(area, [part.sizes for part in parts], confidence)
    return Estimate(area, *logit_limits(area, variance, confidence), "DeLong on the logit scale")


def logit_limits(area: float, variance: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Limits of an area in (0, 1) that are symmetric on the logit scale.

    Source: the delta method, as in Pepe 2003, "The statistical evaluation of medical tests", section 5.2.4.
    """
    half_width = norm.ppf((1 + confidence) / 2) * math.sqrt(variance) / (area * (1 - area))
    center = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(-(center + side * half_width))) for side in (-1, 1))
    return low, high


def auc_difference(
    positive: np.ndarray,
    scores: np.ndarray,
    reference_scores: np.ndarray,
    strata: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> tuple[Estimate, float | None]:
    """Difference of two AUCs on the same subjects, with an interval from those of the areas and DeLong's test.

    Sources: DeLong, DeLong, Clarke-Pearson 1988, for covariance and test; Zou, Donner 2008, "Construction of confidence
    limits about effect measures: a general approach", for the limits: square-and-add of the limits of each area, less
    twice their product times the correlation of the areas. Near 1, where the distribution of an area is skewed, they
    hold what DeLong's symmetric limits miss. Where the variance of the difference is zero or unknown (both separate the
    classes perfectly, or rank them alike) the correlation is taken for 0, which is too wide rather than too narrow.

    Args:
        positive: booleans, shape (N,).
        scores: larger means more likely positive, shape (N,).
        reference_scores: those of the classifier compared with, shape (N,).
        strata: number of the classifier that answered for each subject, alike for both, shape (N,); None for one.
        confidence: coverage in (0, 1).

    Returns:
        AUC less that of the reference, in [-1, 1], with its limits; and the two-sided p, 1 where the variance is zero
        and so is the difference, None where only the variance is zero or unknown.

    Raises:
        ValueError: if a class has fewer than two subjects, no stratum holds both classes, or the scores are of
            different subjects in number.
    """
    if not len(positive) == len(scores) == len(reference_scores):
        raise ValueError(
            f"scores and reference_scores must be of the same {len(positive)} subjects, got {len(scores)} and"
            f" {len(reference_scores)}; compare predictions of one test"
        )
    sizes = int(positive.sum()), int((~positive).sum())
    if min(sizes) < 2:
        raise ValueError(
            f"positive must hold two subjects of each class, got {sizes[0]} and {sizes[1]}; test on more subjects"
        )
    own, other = split(positive, scores, strata), split(positive, reference_scores, strata)
    if not own:
        raise ValueError("strata must hold both classes in one of them at least, got none; test on more subjects")
    gains = [
        Stratum(first.of_cases - second.of_cases, first.of_controls - second.of_controls)
        for first, second in zip(own, other, strict=True)
    ]
    area, reference = (delong(positive, one, strata, confidence) for one in (scores, reference_scores))
    covariance, variances = _covariance(own, other), (_covariance(own, own), _covariance(other, other))
    correlation = correlation_of(covariance or 0.0, variances[0] or 0.0, variances[1] or 0.0)
    return compare_areas(area, reference, _area(gains), _covariance(gains, gains), correlation)


def compare_areas(
    area: Estimate, reference: Estimate, difference: float, variance: float | None, correlation: float
) -> tuple[Estimate, float | None]:
    """Limits of the difference of two areas of the same subjects, and DeLong's test; see `auc_difference`.

    Args:
        area: with its limits.
        reference: area compared with, with its limits.
        difference: area less that of the reference.
        variance: of the difference; None where it is unknown.
        correlation: of the two areas, [-1, 1].
    """
    is_known = variance is not None and math.sqrt(variance) > NO_ERROR
    low, high = _limits(area, reference, correlation if is_known else 0.0)
    estimate = Estimate(difference, max(-1.0, low), min(1.0, high), "square-and-add of the limits of each AUC")
    if is_known:
        return estimate, float(2 * norm.sf(abs(difference) / math.sqrt(variance)))  # type: ignore[arg-type]
    return estimate, 1.0 if variance is not None and abs(difference) < NO_ERROR else None


def split(positive: np.ndarray, scores: np.ndarray, strata: ArrayLike | None = None) -> list[Stratum]:
    """Put the subjects of each classifier together; those of a classifier that saw one class only make no pair.

    Args:
        positive: booleans, shape (N,).
        scores: larger means more likely positive, shape (N,).
        strata: number of the classifier that answered for each subject, shape (N,); None where it was one.
    """
    paired = (own for own in stratum_members(positive, strata) if 0 < positive[own].sum() < own.sum())
    return [Stratum(*placements(positive[own], scores[own])) for own in paired]


def placements(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the other class that each subject stands on the right side of; ties count half.

    Source: DeLong, DeLong, Clarke-Pearson 1988, eq. 5 (V10 and V01).

    Args:
        positive: booleans, shape (N,), both values present.
        scores: larger means more likely positive, shape (N,).

    Returns:
        Of the positive subjects and of the others, in their order, each in [0, 1]; the mean of either is the AUC.
    """
    cases, controls = scores[positive], scores[~positive]
    return _numbers_below(cases, controls) / len(controls), 1 - _numbers_below(controls, cases) / len(cases)


def _numbers_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Count the others below each value, equal ones half; nan where a score is nan, which stands nowhere.

    By bisection in the sorted others: a bootstrap or an interval asks for thousands of areas.
    """
    ordered = np.sort(others)
    counts = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2
    return np.full_like(counts, np.nan) if np.isnan(values).any() or np.isnan(ordered[-1]) else counts


def newcombe_auc(area: float, sizes: Sequence[tuple[int, int]], confidence: float = CONFIDENCE) -> Estimate:
    """AUC with a score interval that needs only the area and the numbers of cases.

    Source: Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic",
    method 5; of several strata the variance is that of the mean weighted by their pairs.

    Args:
        area: AUC in [0, 1].
        sizes: cases of the positive class and of the other in each stratum, >= 1.
        confidence: coverage in (0, 1).
    """
    z = norm.ppf((1 + confidence) / 2)
    total = sum(cases * controls for cases, controls in sizes)

    def variance(theta: float) -> float:
        skewness = (1 - theta) / (2 - theta) + theta / (1 + theta)
        spreads = (cases * controls * (1 + ((cases + controls) / 2 - 1) * skewness) for cases, controls in sizes)
        return theta * (1 - theta) * sum(spreads) / total**2

    def excess(theta: float) -> float:
        return (area - theta) ** 2 - z**2 * variance(theta)

    margin = 1e-9  # the equation also holds at 0 and 1, which are no limits
    low = 0.0 if area == 0 else brentq(excess, 0.0, area - margin)
    high = 1.0 if area == 1 else brentq(excess, area + margin, 1.0)
    return Estimate(area, float(low), float(high), "Newcombe score interval of the Mann-Whitney statistic")


def _area(parts: Sequence[Stratum]) -> float:
    # Shares of the pairs would not sum to exactly 1, which a perfect ranking has.
    return float(sum(part.pairs * part.of_cases.mean() for part in parts) / _total(parts))


def _total(parts: Sequence[Stratum]) -> int:
    return sum(part.pairs for part in parts)


def _covariance(own: Sequence[Stratum], other: Sequence[Stratum]) -> float | None:
    """Covariance of two areas over the same strata; None where a class has no two subjects in any of them."""
    total = 0.0
    for field in ("of_cases", "of_controls"):
        pairs = [(getattr(first, field), getattr(second, field)) for first, second in zip(own, other, strict=True)]
        products = [float(((a - a.mean()) * (b - b.mean())).sum()) for a, b in pairs]
        freedom = [len(a) - 1 for a, _ in pairs]
        if not sum(freedom):
            return None
        # A subject alone says nothing of its spread: it is taken from the other strata.
        pooled = sum(products) / sum(freedom)
        for part, product, degrees in zip(own, products, freedom, strict=True):
            spread = product / degrees if degrees else pooled
            total += (part.pairs / _total(own)) ** 2 * spread / (degrees + 1)
    return total


def correlation_of(covariance: float, *variances: float) -> float:
    """Correlation from a covariance and two variances, [-1, 1]; 0 where one of them is zero.

    >>> correlation_of(0.5, 1.0, 0.25), correlation_of(0.0, 0.0, 1.0)
    (1.0, 0.0)
    """
    product = math.prod(variances)
    return covariance / math.sqrt(product) if covariance and product else 0.0


def _limits(own: Estimate, other: Estimate, correlation: float) -> tuple[float, float]:
    """Limits of the difference of two areas from those of each."""
    (down, up), (other_down, other_up) = distances(own), distances(other)
    difference = own.value - other.value  # type: ignore[operator]
    low = difference - math.sqrt(max(0.0, down**2 - 2 * correlation * down * other_up + other_up**2))
    high = difference + math.sqrt(max(0.0, up**2 - 2 * correlation * up * other_down + other_down**2))
    return low, high
