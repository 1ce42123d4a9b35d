"""Distances between two sets of feature vectors: Frechet, and maximum mean discrepancy with its test and interval."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from scripts.splits.patients import number_patients

CONFIDENCE = 0.95
MAX_VALUES = 2**27  # of features that are held as float64 at once: 1 GB
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


def linear_kernel(features: Tensor) -> Tensor:
    """Linear kernel between all pairs of rows, x . y / D: its discrepancy is that of the means, a feature.

    Source: Gretton et al. 2012, "A kernel two-sample test", section 2.

    Args:
        features: (N, D).

    Returns:
        (N, N) float64.
    """
    return _products(features) / features.shape[1]


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
    chosen = torch.linspace(0, len(features) - 1, min(len(features), MAX_MEDIAN_IMAGES), device=features.device).long()
    if features.numel() > MAX_VALUES:
        products = _products(features)
        squared = (products.diagonal()[:, None] + products.diagonal() - 2 * products).clamp_min(0)
        first, second = torch.triu_indices(len(chosen), len(chosen), 1, device=features.device)
        width = float(squared[chosen[first], chosen[second]].sqrt().median())
    else:
        rows = features.double()
        squared = torch.cdist(rows, rows).square()
        width = float(torch.pdist(rows[chosen]).median())
    if width == 0:
        raise ValueError(
            "features must differ between images, got a median distance of 0; look at the images, or the weights"
        )
    return torch.exp(-squared / (2 * width**2)), width


def _products(features: Tensor) -> Tensor:
    """Scalar products of all pairs of rows (N, N), float64, of so many features at once that they fit into memory."""
    size = max(1, MAX_VALUES // max(1, len(features)))
    return sum(
        (part.double() @ part.double().T for part in features.split(size, dim=1)),
        start=features.new_zeros((), dtype=torch.float64),
    )


def squared_discrepancy(kernel: Tensor, num_first: int, patients: Sequence[Hashable] | None = None) -> float:
    """Unbiased squared maximum mean discrepancy; lower is better, 0 on average for equal distributions, may be < 0.

    With the polynomial kernel on Inception features this is the KID. Over all images it equals the mean over all
    subsets of any size, so nothing is drawn. Two images of one patient resemble each other and are no pair.

    Source: Gretton et al. 2012, "A kernel two-sample test", lemma 6.

    Args:
        kernel: (N + M, N + M) symmetric, of both sets together; a mean of kernels gives the mean of their values.
        num_first: N, rows of the first set; they come first.
        patients: whose each image is; None is a patient for each image.

    Returns:
        Squared discrepancy in the unit of the kernel.

    Raises:
        ValueError: if a set is of fewer than two patients.
    """
    sums = _Sums.of(kernel, num_first, patients)
    return float(sums.value(sums.totals, sums.counts))


def discrepancy_interval(
    kernel: Tensor, num_first: int, patients: Sequence[Hashable] | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """Confidence interval of `squared_discrepancy` by the jackknife over the patients of both sets.

    Wider than needed for equal distributions, where the discrepancy varies in second order only.

    Source: Arvesen 1969, "Jackknifing U-statistics".

    Args:
        kernel: (N + M, N + M) symmetric, of both sets together.
        num_first: N.
        patients: whose each image is, and left out together; None is a patient for each image.
        confidence: coverage in (0, 1).

    Raises:
        ValueError: if a set is of fewer than three patients.
    """
    sums = _Sums.of(kernel, num_first, patients, minimum=3)
    left_out = sums.value(sums.totals - sums.of_patients, sums.counts - sums.pairs_of_patients)
    # A patient of the first set, of the second, or of both: strata that were drawn apart.
    strata = [left_out[sums.stratum == number] for number in sums.stratum.unique()]
    variance = sum((len(values) - 1) * values.var(correction=0) for values in strata)
    value = float(sums.value(sums.totals, sums.counts))
    half = float(norm.ppf((1 + confidence) / 2) * math.sqrt(float(variance)))
    return Interval(value - half, value + half)


def discrepancy_p_value(
    kernel: Tensor,
    num_first: int,
    patients: Sequence[Hashable] | None = None,
    num_permutations: int = 1000,
    seed: int = 0,
) -> float:
    """Probability of so large a discrepancy if both sets came from one distribution.

    Images of different patients are exchanged between the sets, which is exact. Where a patient has several images,
    sets of other make cannot be exchanged: the images of each patient get one random sign together, by which the
    distance of a set from the mean of all images varies as from one draw of patients to the next.

    Sources: Gretton et al. 2012; Chwialkowski, Sejdinovic, Gretton 2014, "A wild bootstrap for degenerate kernel
    tests", for signs; Phipson, Smyth 2010, "Permutation p-values should never be zero", for the added one.

    Args:
        kernel: (N + M, N + M) symmetric, of both sets together.
        num_first: N.
        patients: whose each image is; None is a patient for each image.
        num_permutations: B, exchanges or signs; the smallest p value is 1 / (B + 1).
        seed: of the exchanges or signs.

    Returns:
        p in (0, 1].

    Raises:
        ValueError: if a set is of fewer than two patients, or the kernel holds NaN or infinity, by which no draw would
            count and p be smallest.
    """
    if not bool(torch.isfinite(kernel).all()):
        raise ValueError("kernel must be finite, got NaN or infinity; the features of an image are none: look for it")
    numbers = _numbers(patients, len(kernel))
    observed = squared_discrepancy(kernel, num_first, patients)
    random = np.random.default_rng(seed)
    if len(set(numbers.tolist())) == len(kernel):
        drawn = _exchanged(kernel, num_first, num_permutations, random)
    else:
        drawn = _signed(kernel, num_first, numbers, num_permutations, random)
    # A draw that repeats the observed sets must count, whatever its rounding.
    as_large = int((drawn >= observed - 1e-12 * max(1.0, abs(observed))).sum())
    return (1 + as_large) / (1 + num_permutations)


def _exchanged(kernel: Tensor, num_first: int, num_draws: int, random: np.random.Generator) -> Tensor:
    """Discrepancies after random exchanges of the images of both sets."""
    total, (n, m) = len(kernel), (num_first, len(kernel) - num_first)
    bare = kernel - torch.diag(kernel.diagonal())
    in_first = np.zeros((total, num_draws))
    for column in range(num_draws):
        in_first[random.permutation(total)[:n], column] = 1
    first = torch.from_numpy(in_first).to(kernel)
    sums = bare @ first
    within_first = (first * sums).sum(dim=0)
    cross = sums.sum(dim=0) - within_first
    within_second = bare.sum() - within_first - 2 * cross
    return within_first / _pairs(n) + within_second / _pairs(m) - 2 * cross / (n * m)


def _signed(
    kernel: Tensor, num_first: int, patients: np.ndarray, num_draws: int, random: np.random.Generator
) -> Tensor:
    """Discrepancies under random signs of whole patients, around the mean of all images in the kernel's space."""
    mean = kernel.mean(dim=0)
    centered = kernel - mean[:, None] - mean[None, :] + mean.mean()
    different = _of_different(patients, kernel)
    centered *= different
    signs = random.choice([-1.0, 1.0], size=(patients.max() + 1, num_draws))[patients]
    first = torch.from_numpy(signs).to(kernel)
    second = first.clone()
    first[num_first:], second[:num_first] = 0, 0
    by_first, by_second = centered @ first, centered @ second
    n = num_first
    return (
        (first * by_first).sum(dim=0) / different[:n, :n].sum()
        + (second * by_second).sum(dim=0) / different[n:, n:].sum()
        - 2 * (first * by_second).sum(dim=0) / different[:n, n:].sum()
    )


class _Sums(NamedTuple):
    """Sums of a kernel over pairs of different patients: within the first set, within the second, and across.

    `totals` and `counts` (3, 1) are sums and numbers of pairs; `of_patients` and `pairs_of_patients` (3, P) the part of
    them that holds each patient; `stratum` (P,) is 1, 2 or 3 for patients of the first set, the second, or both.
    """

    totals: Tensor
    counts: Tensor
    of_patients: Tensor
    pairs_of_patients: Tensor
    stratum: Tensor

    @staticmethod
    def value(totals: Tensor, counts: Tensor) -> Tensor:
        """Squared discrepancy of sums and numbers of pairs, (3, ...) each."""
        first, second, cross = totals / counts
        return first + second - 2 * cross

    @classmethod
    def of(cls, kernel: Tensor, num_first: int, patients: Sequence[Hashable] | None, minimum: int = 2) -> _Sums:
        n, numbers = num_first, _numbers(patients, len(kernel))
        sizes = [len(np.unique(part)) for part in (numbers[:n], numbers[n:])]
        if min(sizes) < minimum:
            raise ValueError(
                f"kernel must be of images of at least {minimum} patients in each set, got {sizes[0]} and {sizes[1]};"
                " give images of more patients"
            )
        different = _of_different(numbers, kernel)
        sums, pairs = (_by_image(table, n) for table in (kernel * different, different))
        owners = torch.from_numpy(numbers).to(kernel.device)
        count = int(numbers.max()) + 1
        # Both images of a pair within a set lose it.
        twice = torch.tensor([2.0, 2.0, 1.0]).to(kernel)[:, None]
        of_patients, pairs_of_patients = (
            twice * table.new_zeros(3, count).index_add(1, owners, table) for table in (sums, pairs)
        )
        within = torch.tensor([1.0, 1.0, 0.5]).to(kernel)[:, None]  # a pair across is seen from either side
        totals, counts = ((within * table).sum(dim=1, keepdim=True) for table in (sums, pairs))
        in_first, in_second = (owners.new_zeros(count).index_fill(0, part, 1) for part in (owners[:n], owners[n:]))
        return cls(totals, counts, of_patients, pairs_of_patients, in_first + 2 * in_second)


def _by_image(table: Tensor, num_first: int) -> Tensor:
    """Sums of each image with those of its set, where it is of the first or of the second, and with the other's."""
    n = num_first
    result = table.new_zeros(3, len(table))
    result[0, :n] = table[:n, :n].sum(dim=1)
    result[1, n:] = table[n:, n:].sum(dim=1)
    result[2, :n] = table[:n, n:].sum(dim=1)
    result[2, n:] = table[:n, n:].sum(dim=0)
    return result


def _numbers(patients: Sequence[Hashable] | None, count: int) -> np.ndarray:
    """Number the patients from 0."""
    if patients is None:
        return np.arange(count)
    if len(patients) != count:
        raise ValueError(f"patients must name one for each of {count} images, got {len(patients)}")
    return number_patients(patients)


def _of_different(patients: np.ndarray, kernel: Tensor) -> Tensor:
    """1 for pairs of images of different patients, else 0, (N + M, N + M)."""
    numbers = torch.from_numpy(patients).to(kernel.device)
    return (numbers[:, None] != numbers[None, :]).to(kernel)


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
