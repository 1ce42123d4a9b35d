"""Whether the size of the lesion alone tells the classes apart, and whether the classifier follows it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import mannwhitneyu, norm, spearmanr

from scripts.statistics.intervals import CONFIDENCE, Estimate
from scripts.statistics.roc_area import delong


class VolumeDifference(NamedTuple):
    """How the volumes of two groups differ.

    Args:
        medians_ml: of the positive subjects and of the others.
        p: of the two-sided Mann-Whitney test.
        area: chance that a positive subject's lesion is the larger one (AUC of the volume), with DeLong's interval.
        rank_biserial: 2 area - 1, in [-1, 1]; 0 where the size says nothing.
    """

    medians_ml: tuple[float, float]
    p: float
    area: Estimate
    rank_biserial: float


def volume_difference(positive: np.ndarray, volumes_ml: np.ndarray) -> VolumeDifference:
    """Compare lesion volumes between a class and the others.

    Source: Mann, Whitney 1947; the effect size is the common-language one of McGraw, Wong 1992, and its rank-biserial
    form (Cureton 1956; Kerby 2014).

    Args:
        positive: booleans, shape (N,), both values present.
        volumes_ml: ml, shape (N,), > 0.

    Returns:
        Medians, p and effect size.

    Raises:
        ValueError: if a group is empty.
    """
    if positive.all() or not positive.any():
        raise ValueError(
            f"positive must hold subjects of both classes, got {int(positive.sum())} of {len(positive)};"
            " compare volumes where both classes are tested"
        )
    own, others = volumes_ml[positive], volumes_ml[~positive]
    area = delong(positive, volumes_ml)
    assert area.value is not None
    medians = float(np.median(own)), float(np.median(others))
    return VolumeDifference(medians, float(mannwhitneyu(own, others).pvalue), area, 2 * area.value - 1)


def volume_correlation(
    scores: np.ndarray, volumes_ml: np.ndarray, confidence: float = CONFIDENCE
) -> tuple[Estimate, float | None]:
    """Spearman's correlation of the classifier's logit with the volume of the lesion.

    Sources: Spearman 1904; limits on Fisher's scale with the standard error sqrt((1 + rho^2 / 2) / (n - 3)) of Bonett,
    Wright 2000, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations". Within one class
    the grade explains nothing of it; over all subjects, classes of different size correlate by themselves.

    Args:
        scores: difference of logits, shape (N,).
        volumes_ml: ml, shape (N,).
        confidence: coverage in (0, 1).

    Returns:
        Correlation in [-1, 1] with limits, and the two-sided p; nothing of either for fewer than four subjects or where
        all scores or all volumes are equal.
    """
    if len(scores) < 4 or np.ptp(scores) == 0 or np.ptp(volumes_ml) == 0:
        return Estimate(None), None
    result = spearmanr(scores, volumes_ml)
    rho = float(result.statistic)
    if abs(rho) >= 1:
        return Estimate(rho), float(result.pvalue)
    half_width = norm.ppf((1 + confidence) / 2) * math.sqrt((1 + rho**2 / 2) / (len(scores) - 3))
    low, high = (math.tanh(math.atanh(rho) + side * half_width) for side in (-1, 1))
    return Estimate(rho, low, high, "Bonett and Wright on Fisher's scale"), float(result.pvalue)
