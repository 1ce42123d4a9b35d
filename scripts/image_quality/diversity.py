"""How varied a set of images is in itself: similarity of its pairs, and the inception score."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

# Wang et al. 2003, the weights of the finest scales first.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MAX_SCALES = 3
STABILIZERS = (0.01**2, 0.03**2)  # of luminance and contrast, for intensities in [0, 1]


class Scales(NamedTuple):
    """What MS-SSIM is computed with: number of scales, and width of the Gaussian window in pixels and as sigma."""

    num_scales: int
    window: int
    sigma: float

    @property
    def smallest_side(self) -> int:
        """Pixels along each side from which the window fits the coarsest scale."""
        return self.window * 2 ** (self.num_scales - 1)

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the scales, summing to 1."""
        weights = SCALE_WEIGHTS[: self.num_scales]
        return tuple(weight / sum(weights) for weight in weights)


# The first that fits: the published five scales with 11 pixels need more than 160.
SCALES = (Scales(MAX_SCALES, 11, 1.5), Scales(MAX_SCALES, 5, 0.5), Scales(2, 5, 0.5))


def choose_scales(spatial_shape: Sequence[int]) -> Scales:
    """Choose the scales and the window that fit an image; one size always gets the same.

    Args:
        spatial_shape: pixels of each axis.

    Returns:
        Three scales with a window of 11 pixels from 44 pixels on, of 5 from 20 on; below, two scales.

    Raises:
        ValueError: if the image is smaller than 10 pixels.
    """
    side = min(spatial_shape)
    for scales in SCALES:
        if side >= scales.smallest_side:
            return scales
    raise ValueError(
        f"MS-SSIM must have images of at least {SCALES[-1].smallest_side} pixels along each side, got"
        f" {tuple(spatial_shape)}; make larger patches (patch_size)"
    )


def ms_ssim(first: Tensor, second: Tensor) -> Tensor:
    """Multi-scale structural similarity of pairs of images; 1 for equal images.

    Source: Wang, Simoncelli, Bovik 2003, "Multiscale structural similarity for image quality assessment"; here three
    scales at most, with the weights of the finest ones. The term of luminance is made for intensities >= 0, so images
    are brought to [0, 1] first: on [-1, 1] it would depend on where grey 0 lies. Of pictures it is computed by
    torchmetrics; of volumes by the window along one axis after the other, ten times as fast, and where the window lies
    inside the volume alone: torchmetrics counts what it pads volumes with.

    Args:
        first: (N, C, *spatial) in [-1, 1].
        second: same shape.

    Returns:
        (N,) in [0, 1], mean over channels.
    """
    scales = choose_scales(first.shape[2:])
    if first.ndim == 5:
        return _ms_ssim_of_volumes((first + 1) / 2, (second + 1) / 2, scales)
    values: Tensor = multiscale_structural_similarity_index_measure(
        (first + 1) / 2,
        (second + 1) / 2,
        sigma=scales.sigma,
        kernel_size=scales.window,
        reduction="none",
        data_range=1.0,
        betas=scales.weights,
    )
    return values


def _ms_ssim_of_volumes(first: Tensor, second: Tensor, scales: Scales) -> Tensor:
    result = torch.ones(len(first), device=first.device)
    for number, weight in enumerate(scales.weights):
        if number:
            first, second = (functional.avg_pool3d(volumes, 2) for volumes in (first, second))
        similarity, contrast = _ssim_and_contrast(first, second, scales)
        result = result * (contrast if number < scales.num_scales - 1 else similarity).relu() ** weight
    return result


def _ssim_and_contrast(first: Tensor, second: Tensor, scales: Scales) -> tuple[Tensor, Tensor]:
    """SSIM and its term of contrast of volumes in [0, 1], (N,) each; Wang et al. 2004, equations 12 and 13."""
    products = torch.stack([first, second, first * first, second * second, first * second])
    offsets = torch.arange(scales.window, device=first.device) - (scales.window - 1) / 2
    window = torch.exp(-((offsets / scales.sigma) ** 2) / 2)
    window = (window / window.sum()).tolist()
    for axis in range(3, products.ndim):
        size = products.shape[axis] - scales.window + 1
        total = products.narrow(axis, 0, size) * window[0]
        for start, value in enumerate(window[1:], 1):
            total.add_(products.narrow(axis, start, size), alpha=value)
        products = total
    mean, other_mean, square, other_square, product = products
    variances = (square - mean.square()).clamp_min(0) + (other_square - other_mean.square()).clamp_min(0)
    contrast = (2 * (product - mean * other_mean) + STABILIZERS[1]) / (variances + STABILIZERS[1])
    means = mean.square() + other_mean.square()
    similarity = contrast * (2 * mean * other_mean + STABILIZERS[0]) / (means + STABILIZERS[0])
    return similarity.flatten(1).mean(1), contrast.flatten(1).mean(1)


def mean_pair_similarity(
    images: Tensor,
    num_pairs: int = 100,
    seed: int = 0,
    block_size: int = 2,
    patients: Sequence[Hashable] | None = None,
) -> float:
    """Mean MS-SSIM of random pairs of a set, in [0, 1]; nearest to that of real pairs is best, above it is sameness.

    Source: Odena et al. 2017, "Conditional image synthesis with auxiliary classifier GANs", section 4.2.

    Args:
        images: (N, C, *spatial) in [-1, 1], N >= 2.
        num_pairs: pairs drawn without repetition; all of them where there are no more.
        seed: of the pairs.
        block_size: pairs at once; on a CPU, two take a quarter of the time a pair that 64 take.
        patients: whose each image is; two images of one patient, which resemble each other, are no pair.

    Raises:
        ValueError: if there are fewer than two images or patients, or the images are too small.
    """
    if len(images) < 2:
        raise ValueError(f"MS-SSIM of pairs must have at least 2 images, got {len(images)}; give more images")
    drawn = draw_pairs(len(images), num_pairs, seed)
    if patients is not None:
        drawn = drawn[[patients[first] != patients[second] for first, second in drawn]]
    if not len(drawn):
        raise ValueError("MS-SSIM of pairs must have images of at least 2 patients, got 1; give images of more")
    pairs = torch.from_numpy(drawn)
    blocks = [ms_ssim(images[block[:, 0]], images[block[:, 1]]) for block in pairs.split(block_size)]
    return float(torch.cat(blocks).double().mean())


def draw_pairs(count: int, num_pairs: int, seed: int) -> np.ndarray:
    """Draw pairs of different indices below `count`, none twice: (P, 2) integers, all pairs if there are no more."""
    total = count * (count - 1) // 2
    if total <= num_pairs:
        return np.array(list(combinations(range(count), 2)))
    numbers = np.random.default_rng(seed).choice(total, num_pairs, replace=False)
    # Pair number k in the order (1, 0), (2, 0), (2, 1), (3, 0), ...
    larger = ((1 + np.sqrt(1 + 8 * numbers.astype(np.float64))) / 2).astype(np.int64)
    larger += larger * (larger + 1) // 2 <= numbers
    larger -= larger * (larger - 1) // 2 > numbers
    return np.stack([larger, numbers - larger * (larger - 1) // 2], axis=1)


def inception_score(logits: Tensor) -> float:
    """Inception score with one split; higher is better, [1, K], and 1 where all images get one answer.

    exp of the mean Kullback-Leibler divergence from the class probabilities of an image to their mean.

    Source: Salimans et al. 2016, "Improved techniques for training GANs".

    Args:
        logits: (N, K) of Inception-v3.

    Raises:
        ValueError: if there are fewer than two images.

    >>> round(inception_score(1000 * torch.eye(4)), 6)
    4.0
    """
    if len(logits) < 2:
        raise ValueError(f"inception_score must have at least 2 images, got {len(logits)}; give more images")
    log_probabilities = logits.double().log_softmax(dim=1)
    probabilities = log_probabilities.exp()
    # Not the logarithm of the mean: it is minus infinity, and 0 times that no number, where a class never occurs.
    log_mean = log_probabilities.logsumexp(dim=0) - np.log(len(logits))
    return float((probabilities * (log_probabilities - log_mean)).sum(dim=1).mean().exp())
