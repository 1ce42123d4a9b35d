"""Distances between sets of images in pixel-PCA features, with intervals and real-versus-real floors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scripts.image_quality.distances import polynomial_kernel, squared_discrepancy
from scripts.image_quality.manifold import NEAREST, manifold_measures, pairwise
from scripts.memorization.nearest_images import pearson

Z95 = 1.959964
SAME = 1 - 1e-9  # a correlation above is that of an image with itself


class PixelPCA:
    """Whitened principal components of the pixels of real images: features that need no weights.

    Scores in them carry this name. They are no FID or KID of a network, and say nothing about what lies outside the
    components.

    Args:
        reals: (N, C, *spatial), the images that the components are computed from.
        num_components: at most this many, and at most half of N - 1, so that each has a spread worth dividing by.
    """

    def __init__(self, reals: Tensor, num_components: int = 64) -> None:
        flat = reals.double().flatten(1)
        self.mean = flat.mean(0)
        count = max(1, min(num_components, (len(flat) - 1) // 2))
        _, spread, directions = torch.linalg.svd(flat - self.mean, full_matrices=False)
        self.directions = directions[:count].T / (spread[:count] / math.sqrt(len(flat) - 1))

    @property
    def name(self) -> str:
        """What a table calls scores in these features."""
        return f"{self.directions.shape[1]} whitened pixel-PCA components"

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of images (N, C, *spatial), shape (N, F), float64."""
        return (images.double().flatten(1) - self.mean) @ self.directions


class Difference(NamedTuple):
    """A difference of two measures with the limits of its 95 % interval."""

    value: float
    low: float
    high: float


def kid(features: Tensor, references: Tensor) -> float:
    """Kernel distance of two sets of features; lower is better, about 0 for equal distributions, may be negative.

    Args:
        features: (N, F), N >= 2.
        references: (M, F), M >= 2.
    """
    return squared_discrepancy(polynomial_kernel(torch.cat([features, references])), len(features))


def kid_difference(features: Tensor, baseline: Tensor, references: Tensor) -> Difference:
    """KID of one set less KID of another, to the same references, with its interval.

    Image k of the one and image k of the other start from the same noise and are left out together; the variance is
    that of the jackknife over the pairs plus that over the references (Arvesen 1969, "Jackknifing U-statistics").

    Args:
        features: (N, F).
        baseline: (N, F), in the same order.
        references: (M, F).

    Raises:
        ValueError: if the sets are not of the same number.
    """
    if features.shape != baseline.shape:
        raise ValueError(
            f"baseline must have the shape of features {tuple(features.shape)}, got {tuple(baseline.shape)}"
        )
    count, others = len(features), len(references)
    own, cross = (
        (_row_sums(features) - _row_sums(baseline)),
        _kernel(features, references) - _kernel(baseline, references),
    )
    value = own.sum() / (count * (count - 1)) - 2 * cross.mean()
    without_pair = (own.sum() - 2 * own) / ((count - 1) * (count - 2)) - 2 * (cross.sum() - cross.sum(1)) / (
        (count - 1) * others
    )
    without_reference = own.sum() / (count * (count - 1)) - 2 * (cross.sum() - cross.sum(0)) / (count * (others - 1))
    variance = sum((len(v) - 1) ** 2 / len(v) * v.var() for v in (without_pair, without_reference))
    half_width = Z95 * float(variance) ** 0.5
    return Difference(float(value), float(value) - half_width, float(value) + half_width)


def coverage(features: Tensor, references: Tensor) -> float:
    """Share of references that have a feature nearer than their fifth nearest reference; higher is better, [0, 1].

    Args:
        features: (N, F), N > 5.
        references: (M, F), M > 5.
    """
    return manifold_measures(pairwise(torch.cat([references, features])), len(references))["coverage"]


def mean_max_pearson(images: Tensor, training: Tensor) -> float:
    """Mean over images of the highest Pearson correlation with a training image, [-1, 1]; no direction of its own."""
    return float(pearson(images, training).amax(1).mean())


def mean_max_pearson_of_others(reals: Tensor, training: Tensor) -> float:
    """Mean of the highest Pearson correlation with a training image over real images that are none, [-1, 1]."""
    nearest = pearson(reals, training).amax(1)
    return float(nearest[nearest <= SAME].mean())


class Floors(NamedTuple):
    """How far two sets of real images are apart by chance: 95 % of random halves are nearer."""

    kid: float
    coverage: float
    max_pearson: float


def real_floors(features: Tensor, reals: Tensor, training: Tensor, num_splits: int = 200, seed: int = 0) -> Floors:
    """Measure what differs between random halves of the real images.

    The KID of a half to the other has a mean of 0: its floor is the 95th percentile of the splits. Floors of coverage
    and max-Pearson are those of the absolute difference, between two splits and between two halves.

    Args:
        features: of the real images, (M, F), M >= 14.
        reals: the images themselves, (M, C, *spatial).
        training: those of them that the generator was trained on; a real image is not compared with itself.
        num_splits: random halves drawn.
        seed: of the draws.

    Raises:
        ValueError: if there are too few images for two halves with five neighbors.
    """
    needed = 2 * (NEAREST + 2)
    if len(reals) < needed:
        raise ValueError(f"reals must be at least {needed} images, got {len(reals)}; take more patches")
    correlations = pearson(reals, training)
    nearest = correlations.masked_fill(correlations > SAME, -1).amax(1)
    generator = torch.Generator().manual_seed(seed)

    def over_splits(measure: Callable[[Tensor, Tensor], float]) -> np.ndarray:
        halves = (torch.randperm(len(reals), generator=generator).tensor_split(2) for _ in range(num_splits))
        return np.array([measure(one, other) for one, other in halves])

    distances = over_splits(lambda one, other: kid(features[one], features[other]))
    coverages = over_splits(lambda one, other: coverage(features[one], features[other]))
    pearsons = over_splits(lambda one, other: float(nearest[one].mean() - nearest[other].mean()))
    moved = (distances, np.abs(np.diff(coverages)), np.abs(pearsons))
    return Floors(*(float(np.quantile(values, 0.95)) for values in moved))


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _row_sums(features: Tensor) -> Tensor:
    kernel = _kernel(features, features)
    return kernel.sum(1) - kernel.diagonal()
