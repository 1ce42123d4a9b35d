"""The first step of the search: small images, compared at every turn, rotation, scale and shift by matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from scripts.memorization.alignment import Turn, pixel_coordinates, read_at, similarity_transforms, turns
from scripts.patches.intensities import BACKGROUND

DEGREES = (-12.0, 12.0)  # and 0: what lies between is found by the second step, up to about 18
SCALES = (0.85, 1.0, 1.17)  # likewise, up to about 1.25
CELLS = {2: 12, 3: 8}  # of the longest side, by the number of dimensions
TINY = 1e-3  # norm of a channel below which it shows nothing; others have about 1 per cell
MAX_SCORES = 2**23  # compared at once, which bounds the memory
SNAP = 0.1  # of [-1, 1]: generated background lies this near to -1


class Lattice(NamedTuple):
    """The alignments of the first step: every turn with every shift of the image and every matrix of the reference."""

    turns: list[Turn]
    shifts: Tensor  # (S, D) in `Alignment.coordinates`
    matrices: Tensor  # (K, D, D) likewise

    def coordinates(self, numbers: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Decode numbers of alignments (B,): of each the number of its turn, and its coordinates (B, *shape, D)."""
        matrix = self.matrices[numbers % len(self.matrices)]
        place = torch.div(numbers, len(self.matrices), rounding_mode="floor")
        shift = self.shifts[place % len(self.shifts)]
        pixels = pixel_coordinates(shape).to(matrix)
        moved = pixels - shift.view(-1, *[1] * len(shape), len(shape))
        return torch.div(place, len(self.shifts), rounding_mode="floor"), (
            moved.flatten(1, -2) @ matrix.transpose(1, 2)
        ).view(moved.shape)


class Scores(NamedTuple):
    """What the first step found of each image and reference, over all channels (first) and in each channel.

    `values` (1 + C, N, M), or (1, N, M): highest magnitude of the correlation; `alignments`: number of its alignment.
    """

    values: Tensor
    alignments: Tensor
    lattice: Lattice


def standardized(images: Tensor, inside: Tensor) -> Tensor:
    """Give each channel mean 0 and standard deviation 1 where `inside` (N, 1, *spatial) is 1, and 0 elsewhere."""
    axes = tuple(range(2, images.ndim))
    count = inside.sum(axes, keepdim=True).clamp_min(1)
    centered = (images - (images * inside).sum(axes, keepdim=True) / count) * inside
    deviation = (centered.square().sum(axes, keepdim=True) / count).sqrt()
    return torch.where(deviation > TINY, centered / deviation.clamp_min(TINY), 0.0)


def brain(images: Tensor) -> Tensor:
    """Mark what is no background, as (N, 1, *spatial) of 0 and 1: up to `SNAP` above -1, or 1 in an inverted image."""
    dark = (images <= BACKGROUND + SNAP).all(1, keepdim=True)
    return (~(dark | (images == -BACKGROUND).all(1, keepdim=True))).float()


def coarse_search(
    images: Tensor,
    references: Tensor,
    max_shift: int,
    by_channel: bool = True,
    region: Tensor | None = None,
    cells: int | None = None,
) -> Scores:
    """Correlate each image with each reference at every alignment of a lattice.

    The correlation is that of `brain_pearson`, of images averaged over cells, with a simplification that makes it a
    matrix product: an image is standardized once, inside its own brain, and not anew under that of every reference.

    Args:
        images: (N, C, *spatial) in [-1, 1].
        references: (M, C, *spatial), same device.
        max_shift: pixels that a copy may have been moved along each axis; rounded up to cells.
        by_channel: whether the best alignment of each channel is wanted, too.
        region: (*spatial) of the reference that counts; None is all of it.
        cells: of the longest side; None takes `CELLS`.
    """
    shape, dims = images.shape[2:], images.ndim - 2
    longest = min(max(shape), cells or CELLS[dims])
    grid = [max(1, round(size * longest / max(shape))) for size in shape]
    steps = [math.ceil(max_shift * count / size - 1e-6) for count, size in zip(grid, shape, strict=True)]
    matrices = similarity_transforms(shape, DEGREES, SCALES).to(images.device)
    all_turns = turns(shape)
    shifts = list(product(*[range(-step, step + 1) for step in steps]))
    offsets = (torch.tensor(shifts, dtype=torch.float32) * 2 / torch.tensor(grid)).flip(1).to(images.device)
    lattice = Lattice(all_turns, offsets, matrices)
    weights = None
    if region is not None:
        weights = functional.interpolate(region[None, None].float(), grid, mode="area").flatten()
    small = functional.interpolate(standardized(images, brain(images)), grid, mode="area")
    windows = _windows(torch.stack([turn(small) for turn in all_turns], 1), steps, shifts)
    windows = _unit(windows, weights)
    values, numbers = [], []
    block = max(1, MAX_SCORES // (windows.shape[1] * len(matrices)))
    whole = standardized(references, brain(references))
    for part, inside in zip(whole.split(block), brain(references).split(block), strict=True):
        templates = _templates(part, inside, matrices, grid, region)
        correlation = (windows @ templates.transpose(1, 2)).abs_()
        each = [correlation.mean(0), *(correlation if by_channel else ())]
        best = [_highest(one.view(len(images), -1, len(part), len(matrices))) for one in each]
        values.append(torch.stack([value for value, _ in best]))
        numbers.append(torch.stack([number for _, number in best]))
    return Scores(torch.cat(values, 2), torch.cat(numbers, 2), lattice)


def _highest(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """Highest of (N, places, M, matrices) for each image and reference, and the number of its alignment."""
    of_matrices = correlation.max(3)
    values, places = of_matrices.values.max(1)
    matrices = of_matrices.indices.gather(1, places[:, None])[:, 0]
    return values, places * correlation.shape[3] + matrices


def _windows(small: Tensor, steps: Sequence[int], shifts: Sequence[Sequence[int]]) -> Tensor:
    """Cut, from turned images (N, T, C, *grid), the window of every shift: (C, N T S, pixels)."""
    grid = small.shape[3:]
    padded = functional.pad(small, [step for step in reversed(steps) for _ in range(2)])
    starts = [[step + own for step, own in zip(steps, shift, strict=True)] for shift in shifts]
    parts = [
        padded[(..., *[slice(first, first + size) for first, size in zip(start, grid, strict=True)])]
        for start in starts
    ]
    return torch.stack(parts, 2).movedim(3, 0).flatten(4).flatten(1, 3)


def _unit(values: Tensor, weights: Tensor | None) -> Tensor:
    """Scale vectors (..., pixels) to length 1, after taking their mean off where a region has weights."""
    if weights is not None:
        values = (values - (values @ weights / weights.sum())[..., None]) * weights
    norm = values.norm(dim=-1, keepdim=True)
    return torch.where(norm > TINY, values / norm.clamp_min(TINY), 0.0)


def _templates(
    references: Tensor, inside: Tensor, matrices: Tensor, grid: Sequence[int], region: Tensor | None
) -> Tensor:
    """Read references under every matrix, averaged over cells, mean 0 inside and length 1: (C, M K, pixels)."""
    dims, count = len(grid), len(matrices)
    counted = inside if region is None else inside * region
    fine = pixel_coordinates([2 * size for size in grid]).to(matrices)
    coordinates = (fine.flatten(0, -2) @ matrices.transpose(1, 2)).view(count, *fine.shape)
    stacked = torch.cat([references * counted, counted], 1).repeat_interleave(count, 0)
    read = read_at(stacked, coordinates.repeat(len(references), *[1] * (dims + 1)))
    read = (functional.avg_pool2d if dims == 2 else functional.avg_pool3d)(read, 2).flatten(2)
    mask, values = read[:, -1:], read[:, :-1]
    centered = values - mask * values.sum(2, keepdim=True) / mask.sum(2, keepdim=True).clamp_min(TINY)
    return _unit(centered.transpose(0, 1), None)
