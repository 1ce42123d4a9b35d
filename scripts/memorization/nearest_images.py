"""The nearest of many images as they lie: exact, in blocks on the device, by several similarities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from scripts.patches.intensities import foreground

# A channel that varies less than this (variance, intensities in [-1, 1]) correlates with nothing.
MIN_VARIANCE = 1e-5
USUAL_SHIFT = 6  # sides: a copy may have been moved by a sixth of the smallest
Similarity = Callable[[Tensor, Tensor], Tensor]


class Nearness(NamedTuple):
    """How near each image comes to each subject, who may have several images.

    `similarities` (N, G): to the nearest image of each of G subjects, higher is nearer; `images` (N, G): its index.
    """

    similarities: Tensor
    images: Tensor


def pearson(images: Tensor, references: Tensor) -> Tensor:
    """Correlate each image with each reference, over all channels and pixels together, as the paper does.

    Args:
        images: (N, C, *spatial), any intensity unit; a constant one, such as a blank sample, correlates 0 with all.
        references: (M, C, *spatial), same unit, none constant.

    Returns:
        (N, M) float64 in [-1, 1].

    Raises:
        ValueError: if the shapes differ or a reference is constant, which no patient is.
    """
    _require_same_shape(images, references)
    (first, _), (second, varies) = _standardized(images), _standardized(references)
    if not bool(varies.all()):
        raise ValueError(
            "references must not be constant, got an image without any contrast; look at the set it came from"
        )
    return first @ second.T


def negative_l2(images: Tensor, references: Tensor) -> Tensor:
    """Return the negative Euclidean distance of each image to each reference, (N, M) float64, <= 0."""
    _require_same_shape(images, references)
    mode = "donot_use_mm_for_euclid_dist"
    return -torch.cdist(images.double().flatten(1), references.double().flatten(1), compute_mode=mode)


def brain_pearson(images: Tensor, references: Tensor) -> Tensor:
    """Correlate inside the brain of the reference, mean over channels.

    Gain and offset of each channel change nothing; the contrast of brain and background, which all patients share,
    does not count. By matrix products (Padfield 2012, "Masked object registration in the Fourier domain", eq. 7).

    Args:
        images: (N, C, *spatial) in [-1, 1].
        references: (M, C, *spatial); its brain is where any channel is not background (-1).

    Returns:
        (N, M) float32 in [-1, 1]. A channel without contrast in the reference is left out; one in the image gives 0.

    Raises:
        ValueError: if the shapes differ, or a reference shows no brain.
    """
    _require_same_shape(images, references)
    masks = foreground(references, channel_axis=1)
    if not bool(masks.flatten(1).any(1).all()):
        raise ValueError("references must show brain, got one that is background everywhere; run patches again")
    return _masked_pearson(images.float().flatten(2), references.float().flatten(2), masks.flatten(1).float())


SIMILARITIES: dict[str, Similarity] = {"pearson": pearson, "brain_pearson": brain_pearson, "l2": negative_l2}


def pixels_of_shift(max_shift: int | None, shape: Sequence[int]) -> int:
    """Return the pixels that a copy may have been moved along each axis; None is a sixth of the smallest side.

    Raises:
        ValueError: if `max_shift` is more than a quarter of a side of `shape`, pixels: so small an overlap is left that
            anything correlates.
    """
    if max_shift is None:
        return round(min(shape) / USUAL_SHIFT)
    if not 0 <= max_shift <= min(shape) // 4:
        raise ValueError(
            f"audit_max_shift must be 0 to a quarter of the sides of the images {tuple(shape)}, or null, got"
            f" {max_shift!r}; pass --audit_max_shift {min(shape) // 4}"
        )
    return max_shift


def best_of_subjects(similarities: Tensor, owners: Tensor) -> Nearness:
    """Take the highest similarity of each subject's images, and the first of the images that reach it.

    Args:
        similarities: to each of M images, (..., M).
        owners: number 0..G-1 of the subject of each image, (M,).

    Returns:
        Nearness (..., G), on the device of `similarities`.
    """
    shape = (*similarities.shape[:-1], int(owners.max()) + 1)
    spread = owners.expand_as(similarities)
    best = similarities.new_full(shape, -torch.inf).scatter_reduce(-1, spread, similarities, "amax")
    count = similarities.shape[-1]
    positions = torch.arange(count, device=owners.device).expand_as(similarities)
    winners = torch.where(similarities == best.gather(-1, spread), positions, count)
    first = torch.full(shape, count, device=owners.device).scatter_reduce(-1, spread, winners, "amin")
    return Nearness(best, first)


def between_subjects(similarities: Tensor, owners: Tensor) -> Tensor:
    """Take the highest similarity of each subject's images to each subject, from (M, G): (G, G), a row for each."""
    return best_of_subjects(similarities.T, owners).similarities.T


def nearest_by_subject(
    images: Tensor, references: Tensor, subjects: Sequence[int], similarity: Similarity, block_size: int = 64
) -> Nearness:
    """Compare each image with all references and keep, for each subject, the nearest: exact, in bounded memory.

    Args:
        images: (N, C, *spatial).
        references: (M, C, *spatial), on the same device.
        subjects: number 0..G-1 of the subject of each reference.
        similarity: (N, ...) and (M, ...) to (N, M), higher is nearer.
        block_size: images compared at once.

    Returns:
        Nearness to each of G subjects, on the CPU, float64.
    """
    owners = torch.as_tensor(list(subjects), device=references.device)
    blocks = [best_of_subjects(similarity(block, references).double(), owners) for block in images.split(block_size)]
    return Nearness(*(torch.cat(parts).cpu() for parts in zip(*blocks, strict=True)))


def _masked_pearson(images: Tensor, references: Tensor, masks: Tensor) -> Tensor:
    # images (N, C, P), references (M, C, P), masks (M, P); the sums of the formula are products with the mask.
    channels, weights, pixels = images.transpose(0, 1), masks.T, masks.sum(1).clamp_min(1)
    masked = (references * masks[:, None]).permute(1, 2, 0)
    total, total_reference = channels @ weights, masked.sum(1)
    covariance = (channels @ masked - total * total_reference[:, None] / pixels) / pixels
    variance = (channels.square() @ weights - total.square() / pixels) / pixels
    of_reference = (masked.square().sum(1) - total_reference.square() / pixels) / pixels
    valid = (variance > MIN_VARIANCE) & (of_reference > MIN_VARIANCE)[:, None]
    scale = (variance * of_reference[:, None]).clamp_min(MIN_VARIANCE**2).sqrt()
    correlation = torch.where(valid, covariance / scale, 0.0).clamp(-1, 1)
    return correlation.sum(0) / (of_reference > MIN_VARIANCE).sum(0).clamp_min(1)


def _require_same_shape(images: Tensor, references: Tensor) -> None:
    if images.shape[1:] != references.shape[1:]:
        raise ValueError(
            f"references must have the shape of images {tuple(images.shape[1:])}, got {tuple(references.shape[1:])};"
            " make both with the same modalities and patch_size"
        )


def _standardized(images: Tensor) -> tuple[Tensor, Tensor]:
    flat = images.double().flatten(1)
    centered = flat - flat.mean(dim=1, keepdim=True)
    norm = centered.norm(dim=1, keepdim=True)
    # The mean of a constant image is exact only up to rounding, so compare with its size, not with 0.
    varies = norm > 1e-9 * flat.norm(dim=1, keepdim=True)
    return torch.where(varies, centered / norm.clamp_min(1e-300), 0.0), varies
