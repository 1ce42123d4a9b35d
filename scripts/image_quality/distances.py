"""Distances between two sets of feature vectors: Frechet, and maximum mean discrepancy with its test and interval."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

CONFIDENCE = 0.95
MAX_MEDIAN_IMAGES = 2000  # of the median heuristic, of which four million distances say enough


class Interval(NamedTuple):
    """Limits of a confidence interval."""

    low: float
    high: float


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Frechet distance of the Gaussians fitted to two sets; lower is better, >= 0, biased upwards at small N.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), with unbiased covariances. The trace of the root is the sum of the
    singular values of R1 R2^T, where S = R^T R: no root of a matrix is taken, so fewer images than features are exact.

    Source: Dowson, Landau 1982, "The Frechet distance between multivariate normal distributions"; Heusel et al. 2017,
    "GANs trained by a two time-scale update rule", for features of Inception-v3 (FID).

    Args:
        first: (N, D), any unit.
        second: (M, D).

    Returns:
        Distance in squared units of the features.

    Raises:
        ValueError: if a set has fewer than two images, or the features differ in length.

    >>> shape = torch.tensor([[0.0], [1.0], [2.0]])
    >>> round(frechet_distance(shape, shape + 3), 6)
    9.0
    """
    _require(first, second, minimum=2, measure="frechet_distance")
    roots, means, traces = [], [], []
    for features in (first.double(), second.double()):
        mean = features.mean(dim=0)
        root = (features - mean) / math.sqrt(len(features) - 1)
        traces.append(root.square().sum())
        # Two roots of one covariance differ by a rotation, which no singular value sees: take the one of fewer rows.
        roots.append(torch.linalg.qr(root, mode="r").R if len(root) > root.shape[1] else root)
        means.append(mean)
    trace_of_root = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    distance = (means[0] - means[1]).square().sum() + traces[0] + traces[1] - 2 * trace_of_root
    return max(float(distance), 0.0)  # rounding


def polynomial_kernel(features: Tensor) -> Tensor:
    """Cubic kernel of the KID between all pairs of rows, (x . y / D + 1)^3.

    Source: Binkowski et al. 2018, "Demystifying MMD GANs", section 4.

    Args:
        features: (N, D).

    Returns:
        (N, N) float64.
    """
    rows = features.double()
    return (rows @ rows.T / rows.shape[1] + 1) ** 3


def rbf_kernel(features: Tensor) -> tuple[Tensor, float]:
    """Gaussian kernel between all pairs of rows, exp(-d^2 / (2 s^2)), its width s the median distance of the rows.

    Source: Gretton et al. 2012, "A kernel two-sample test", section 8 for the median heuristic.

    Args:
        features: (N, D), both sets together, N >= 2.

    Returns:
        (N, N) float64 in [0, 1], and s in the unit of the features.

    Raises:
        ValueError: if all rows are equal.
    """
    rows = features.double()
    chosen = rows[torch.linspace(0, len(rows) - 1, min(len(rows), MAX_MEDIAN_IMAGES), device=rows.device).long()]
    width = float(torch.pdist(chosen).median())
    if width == 0:
        raise ValueError(
            "features must differ between images, got a median distance of 0; look at the images, or the weights"
        )
    squared = torch.cdist(rows, rows).square()
    return torch.exp(-squared / (2 * width**2)), width


def squared_discrepancy(kernel: Tensor, num_first: int) -> float:
    """Unbiased squared maximum mean discrepancy; lower is better, 0 on average for equal distributions, may be < 0.

    With the polynomial kernel on Inception features this is the KID. Over all images it equals the mean over all
    subsets of any size, so nothing is drawn.

    Source: Gretton et al. 2012, "A kernel two-sample test", lemma 6.

    Args:
        kernel: (N + M, N + M) symmetric, of both sets together; a mean of kernels gives the mean of their values.
        num_first: N, rows of the first set; they come first.

    Returns:
        Squared discrepancy in the unit of the kernel.

    Raises:
        ValueError: if a set has fewer than two images.
    """
    sums = _Sums.of(kernel, num_first)
    return float(sums.first.sum() / _pairs(sums.n) + sums.second.sum() / _pairs(sums.m) - 2 * sums.cross_mean)


def discrepancy_interval(kernel: Tensor, num_first: int, confidence: float = CONFIDENCE) -> Interval:
    """Confidence interval of `squared_discrepancy` by the jackknife over the images of both sets.

    Wider than needed for equal distributions, where the discrepancy varies in second order only.

    Source: Arvesen 1969, "Jackknifing U-statistics".

    Args:
        kernel: (N + M, N + M) symmetric, of both sets together.
        num_first: N.
        confidence: coverage in (0, 1).

    Raises:
        ValueError: if a set has fewer than three images.
    """
    sums = _Sums.of(kernel, num_first, minimum=3)
    n, m, first, second = sums.n, sums.m, sums.first.sum(), sums.second.sum()
    cross = sums.cross_first.sum()
    without_first = (
        (first - 2 * sums.first) / _pairs(n - 1) + second / _pairs(m) - 2 * (cross - sums.cross_first) / ((n - 1) * m)
    )
    without_second = (
        first / _pairs(n) + (second - 2 * sums.second) / _pairs(m - 1) - 2 * (cross - sums.cross_second) / (n * (m - 1))
    )
    variance = sum((len(v) - 1) * v.var(correction=0) for v in (without_first, without_second))
    value = squared_discrepancy(kernel, num_first)
    half = float(norm.ppf((1 + confidence) / 2) * math.sqrt(float(variance)))
    return Interval(value - half, value + half)


def permutation_p_value(kernel: Tensor, num_first: int, num_permutations: int = 1000, seed: int = 0) -> float:
    """Probability of so large a discrepancy if both sets came from one distribution, by exchanging their images.

    Source: Gretton et al. 2012; Phipson, Smyth 2010, "Permutation p-values should never be zero", for the added one.

    Args:
        kernel: (N + M, N + M) symmetric, of both sets together.
        num_first: N.
        num_permutations: B; the smallest p value is 1 / (B + 1).
        seed: of the permutations.

    Returns:
        p in (0, 1].
    """
    total, (n, m) = len(kernel), (num_first, len(kernel) - num_first)
    observed = squared_discrepancy(kernel, num_first)
    bare = kernel - torch.diag(kernel.diagonal())
    random = np.random.default_rng(seed)
    chosen = np.zeros((total, num_permutations))
    for column in range(num_permutations):
        chosen[random.permutation(total)[:n], column] = 1
    first = torch.from_numpy(chosen).to(kernel)
    sums = bare @ first
    within_first = (first * sums).sum(dim=0)
    cross = sums.sum(dim=0) - within_first
    within_second = bare.sum() - within_first - 2 * cross
    drawn = within_first / _pairs(n) + within_second / _pairs(m) - 2 * cross / (n * m)
    # A permutation that repeats the observed sets must count, whatever its rounding.
    as_large = int((drawn >= observed - 1e-12 * max(1.0, abs(observed))).sum())
    return (1 + as_large) / (1 + num_permutations)


class _Sums(NamedTuple):
    """Sums of a kernel's rows without the diagonal: within each set, and across."""

    n: int
    m: int
    first: Tensor
    second: Tensor
    cross_first: Tensor
    cross_second: Tensor

    @property
    def cross_mean(self) -> Tensor:
        return self.cross_first.mean() / self.m

    @classmethod
    def of(cls, kernel: Tensor, num_first: int, minimum: int = 2) -> _Sums:
        n, m = num_first, len(kernel) - num_first
        if min(n, m) < minimum:
            raise ValueError(
                f"kernel must be of at least {minimum} images in each set, got {n} and {m}; give more images"
            )
        diagonal = kernel.diagonal()
        return cls(
            n,
            m,
            kernel[:n, :n].sum(dim=1) - diagonal[:n],
            kernel[n:, n:].sum(dim=1) - diagonal[n:],
            kernel[:n, n:].sum(dim=1),
            kernel[:n, n:].sum(dim=0),
        )


def _pairs(count: int) -> int:
    return count * (count - 1)


def _require(first: Tensor, second: Tensor, minimum: int, measure: str) -> None:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"first and second must be (N, D) and (M, D) features of one network,"
            f" got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if min(len(first), len(second)) < minimum:
        raise ValueError(
            f"{measure} must have at least {minimum} images in each set, got {len(first)} and {len(second)};"
            " give more images"
        )
