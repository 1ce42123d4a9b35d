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
MAX_SCORES = 2**20  # of a channel, compared at once: what stays in the cache
TEMPLATES_AT_ONCE = 32  # references that are read under every matrix at once; bounds memory only
PAIRS_AT_ONCE = 8  # whose alignments are told: what stays in the cache
SNAP = 0.1  # of [-1, 1]: generated background lies this near to -1


class Lattice(NamedTuple):
    """The alignments of the first step: every turn with every shift of the image and every matrix of the reference."""

    turns: list[Turn]
    shifts: Tensor  # (S, D) in `Alignment.coordinates`
    matrices: Tensor  # (K, D, D) likewise

    def matrix(self, numbers: Tensor) -> Tensor:
        """Matrices (B, D, D) of numbers of alignments (B,)."""
        return self.matrices[numbers % len(self.matrices)]

    def coordinates(self, numbers: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Decode numbers of alignments (B,): of each the number of its turn, and its coordinates (B, *shape, D)."""
        matrix = self.matrix(numbers)
        place = torch.div(numbers, len(self.matrices), rounding_mode="floor")
        shift = self.shifts[place % len(self.shifts)]
        pixels = pixel_coordinates(shape).to(matrix)
        moved = pixels - shift.view(-1, *[1] * len(shape), len(shape))
        return torch.div(place, len(self.shifts), rounding_mode="floor"), (
            moved.flatten(1, -2) @ matrix.transpose(1, 2)
        ).view(moved.shape)


class Scores(NamedTuple):
    """What the first step found of each image and reference, over all channels (first) and in each channel.

    `values` (1 + C, N, M), or (1, N, M): highest magnitude of the correlation.
    """

    values: Tensor
    windows: Tensor  # (C, N, places, pixels): every image at every turn and shift
    templates: Tensor  # (C, matrices, M, pixels): every reference under every matrix

    def alignments(self, rows: Tensor, references: Tensor, channel: int | None = None) -> Tensor:
        """Return the numbers of the alignments at which pairs of images and references correlate best.

        Few pairs are asked for of all that were compared, so that their alignments cost less than to note all.

        Args:
            rows: of the images, (B,).
            references: of the references, (B,).
            channel: that is looked at; None is all of them.
        """
        channels = slice(None) if channel is None else slice(channel, channel + 1)
        windows, templates = self.windows[channels], self.templates[channels].movedim(1, 2)
        numbers = []
        for part in torch.arange(len(rows), device=rows.device).split(PAIRS_AT_ONCE):
            correlation = windows[:, rows[part]] @ templates[:, references[part]].mT
            numbers.append(correlation.abs_().mean(0).flatten(1).argmax(1))
        return torch.cat(numbers)


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


def brain_centers(images: Tensor) -> Tensor:
    """Middles of the brain of images (N, C, *spatial), (N, D) in `Alignment.coordinates`; 0 where there is no brain."""
    inside = brain(images).flatten(1)
    return inside @ pixel_coordinates(images.shape[2:]).to(inside).flatten(0, -2) / inside.sum(1, True).clamp_min(1)


def centered(images: Tensor) -> Tensor:
    """Move images (N, C, *spatial) so that the middle of their brain is that of the image; background comes in."""
    inside, dims = brain(images), images.ndim - 2
    places = pixel_coordinates(images.shape[2:]).to(images) + brain_centers(images).view(-1, *[1] * dims, dims)
    read = read_at(torch.cat([(images - BACKGROUND) * inside, inside], 1), places)
    share = read[:, -1:]
    return torch.where(share > 0.5, read[:, :-1] / share.clamp_min(0.5) + BACKGROUND, BACKGROUND)


class CoarseSearch:
    """Correlate images with references at every alignment of a lattice.

    The correlation is that of `brain_pearson`, of images averaged over cells, with a simplification that makes it a
    matrix product: an image is standardized once, inside its own brain, and not anew under that of every reference.

    Args:
        references: (M, C, *spatial) in [-1, 1].
        max_shift: pixels that a copy may have been moved along each axis; rounded up to cells.
        region: (*spatial) of the reference that counts; None is all of it.
        cells: of the longest side; None takes `CELLS`.
    """

    def __init__(
        self, references: Tensor, max_shift: int, region: Tensor | None = None, cells: int | None = None
    ) -> None:
        shape, dims = references.shape[2:], references.ndim - 2
        longest = min(max(shape), cells or CELLS[dims])
        self.grid = [max(1, round(size * longest / max(shape))) for size in shape]
        self.steps = [math.ceil(max_shift * count / size - 1e-6) for count, size in zip(self.grid, shape, strict=True)]
        self.shifts = list(product(*[range(-step, step + 1) for step in self.steps]))
        offsets = (torch.tensor(self.shifts, dtype=torch.float32) * 2 / torch.tensor(self.grid)).flip(1)
        matrices = similarity_transforms(shape, DEGREES, SCALES).to(references.device)
        self.lattice = Lattice(turns(shape), offsets.to(references.device), matrices)
        self.weights = None
        if region is not None:
            self.weights = functional.interpolate(region[None, None].float(), self.grid, mode="area").flatten()
        inside = brain(references)
        values = standardized(references, inside)
        blocks = zip(values.split(TEMPLATES_AT_ONCE), inside.split(TEMPLATES_AT_ONCE), strict=True)
        self.templates = torch.cat([_templates(*block, matrices, self.grid, region) for block in blocks], 2)

    def __call__(self, images: Tensor, by_channel: bool = True) -> Scores:
        """Compare (N, C, *spatial) in [-1, 1] with all references; `by_channel`, each channel on its own, too."""
        small = functional.interpolate(standardized(images, brain(images)), self.grid, mode="area")
        turned = torch.stack([turn(small) for turn in self.lattice.turns], 1)
        windows = _unit(_windows(turned, self.steps, self.shifts), self.weights)
        values = []
        for templates in self.templates.split(max(1, MAX_SCORES // (windows.shape[1] * self.templates.shape[1])), 2):
            correlation = (templates.flatten(1, 2) @ windows.mT).abs_()
            each = [correlation.mean(0), *(correlation if by_channel else ())]
            values.append(torch.stack([self._highest(one, templates.shape[2], len(images)) for one in each]))
        return Scores(torch.cat(values, 2), windows.unflatten(1, (len(images), -1)), self.templates)

    def _highest(self, correlation: Tensor, num_references: int, num_images: int) -> Tensor:
        """Highest at any alignment, (N, M), of (matrices M, N places)."""
        of_places = correlation.view(-1, num_references, correlation.shape[1]).amax(0)
        return of_places.view(num_references, num_images, -1).amax(2).T


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
    """Read references under every matrix, averaged over cells, mean 0 inside and length 1: (C, K, M, pixels)."""
    dims, count = len(grid), len(matrices)
    counted = inside if region is None else inside * region
    fine = pixel_coordinates([2 * size for size in grid]).to(matrices)
    coordinates = (fine.flatten(0, -2) @ matrices.transpose(1, 2)).view(count, *fine.shape)
    stacked = torch.cat([references * counted, counted], 1)
    read = read_at(stacked.repeat(count, *[1] * (dims + 1)), coordinates.repeat_interleave(len(references), 0))
    read = (functional.avg_pool2d if dims == 2 else functional.avg_pool3d)(read, 2).flatten(2)
    mask, values = read[:, -1:], read[:, :-1]
    centered = values - mask * values.sum(2, keepdim=True) / mask.sum(2, keepdim=True).clamp_min(TINY)
    return _unit(centered.transpose(0, 1), None).unflatten(1, (count, len(references)))
