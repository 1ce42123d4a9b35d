"""Whether images are images of anybody: nearness to real ones, likeness to their average, and repetition."""

from __future__ import annotations

import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from scripts.memorization.coarse_search import brain, standardized
from scripts.memorization.parts import block_correlations

USUAL = 0.05  # of real images, nearest to one another, that set the measure of a repetition


def share_above(first: Tensor, second: Tensor) -> float:
    """Share of pairs in which the value of the first set is the larger, ties half: Mann-Whitney's U over m n.

    >>> share_above(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 3.0]))
    0.625
    """
    statistic = mannwhitneyu(first.double().numpy(), second.double().numpy()).statistic
    return float(statistic / (len(first) * len(second)))


def average_likeness(synthetic: Tensor, real: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """Correlate images with the average real image, real ones with that of all other subjects.

    Args:
        synthetic: (N, C, *spatial) in [-1, 1].
        real: (M, C, *spatial).
        owners: number 0..G-1 of the subject of each real image.

    Returns:
        (N,) and (M,) in [-1, 1], mean over channels, each standardized inside its brain. A blurred image, that of a
        network which has learned no more than the mean, comes nearer to 1 than any patient does.
    """
    ours, theirs = (standardized(images, brain(images)).flatten(2) for images in (synthetic, real))
    total = theirs.sum(0)
    own = torch.stack([theirs[owners == owner].sum(0) for owner in owners])
    return _cosine(ours, total).cpu(), _cosine(theirs, total - own).cpu()


def detail(images: Tensor) -> Tensor:
    """Root mean square difference of neighboring pixels inside the brain, (N,): low in an average of many patients."""
    inside = brain(images)
    total, count = torch.zeros(len(images), device=images.device), torch.zeros(len(images), device=images.device)
    for axis in range(2, images.ndim):
        size = images.shape[axis] - 1
        steps = images.narrow(axis, 1, size) - images.narrow(axis, 0, size)
        both = inside.narrow(axis, 1, size) * inside.narrow(axis, 0, size)
        total += (steps.square() * both).flatten(1).sum(1)
        count += both.flatten(1).sum(1) * images.shape[1]
    return (total / count.clamp_min(1)).sqrt().cpu()


def same_images(synthetic: Tensor, real: Tensor, owners: Tensor, ratio: float) -> Tensor:
    """Mark the pairs of images that are one picture, turned or not: (N, N) booleans, true on the diagonal.

    Args:
        synthetic: (N, C, *spatial) in [-1, 1].
        real: (M, C, *spatial) of two subjects or more.
        owners: number of the subject of each real image.
        ratio: of the distance to which one in twenty real images comes near another subject's, below which two
            images are the same; distances are sqrt(1 - r).
    """
    between = block_correlations(real, real, 1)[0]
    between[owners[:, None] == owners] = -1
    usual = (1 - between.max(1).values).clamp_min(0).sqrt().quantile(USUAL)
    distances = (1 - block_correlations(synthetic, synthetic, 1)[0]).clamp_min(0).sqrt().cpu()
    return (distances < ratio * usual.cpu()).fill_diagonal_(True)


def repeated_share(same: Tensor) -> float:
    """Share of images that repeat an earlier one, by `same_images`: near 1 if a generator draws one image only."""
    return float(same.tril(-1).any(1).double().mean())


def largest_clique(same: Tensor) -> list[int]:
    """Find the images drawn most often alike: a large set of which each is the same picture as each other.

    Source: Carlini et al. 2023, "Extracting training data from diffusion models", section 4.2, where training images
    that a generator knows by heart are extracted as cliques among many images drawn. The clique is the largest that a
    greedy search from every image on finds. It need not be the largest there is: finding that for certain takes time
    exponential in the images.

    Args:
        same: (N, N) booleans, symmetric but for rounding, see `same_images`.

    Returns:
        Numbers of the images, rising; empty where no two are the same.

    >>> same = torch.eye(5, dtype=torch.bool)
    >>> same[:3, :3] = same[2:4, 2:4] = True
    >>> largest_clique(same)
    [0, 1, 2]
    """
    same = same & same.T
    degrees = same.sum(1)
    order = degrees.argsort(descending=True, stable=True).tolist()
    best: list[int] = []
    for start in order:
        if int(degrees[start]) <= len(best):
            break
        members, others = [start], same[start].clone()
        for other in order:
            if other != start and bool(others[other]):
                members.append(other)
                others &= same[other]
        best = max(best, members, key=len)
    return sorted(best) if len(best) > 1 else []


def _cosine(images: Tensor, others: Tensor) -> Tensor:
    norms = images.norm(dim=-1) * others.norm(dim=-1)
    return ((images * others).sum(-1) / norms.clamp_min(1e-6)).mean(1)
