"""The second step of the search: a rough alignment made exact, and bent, by Gauss-Newton steps on the correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from scripts.memorization.alignment import pixel_coordinates, read_at

MIN_VARIANCE = 1e-5  # of a channel, intensities in [-1, 1], below which it correlates with nothing
MIN_OVERLAP = 0.5  # of the brain of the reference that must lie inside the image: among few pixels anything correlates
INSIDE = 0.9  # of a pixel of the mask that must be brain: rims mix with background
DAMPING = 0.05  # of the diagonal, Levenberg and Marquardt's
BENDING_WEIGHT = 0.02  # of the squared frequency of a bend: smooth bends are cheap
BENDING_ORDER = 4  # cosines along each axis
VALUES_AT_ONCE = 2**17  # of images: what is worked on stays in the cache of the processor


class Basis(NamedTuple):
    """Functions (K, P) of which a displacement is put together, and what each costs (K,).

    `products` (K (K + 1) / 2, P) of every two functions, in the order of `torch.triu_indices`.
    """

    functions: Tensor
    costs: Tensor
    products: Tensor

    @classmethod
    def of(cls, functions: Tensor, costs: Tensor) -> Basis:
        """Multiply every two functions, once for all steps."""
        first, second = torch.triu_indices(len(functions), len(functions))
        return cls(functions, costs, functions[first] * functions[second])


class Refined(NamedTuple):
    """The best of the alignments that were passed: `correlations` (B, C) with sign, `coordinates` (B, *spatial, D)."""

    correlations: Tensor
    coordinates: Tensor

    @property
    def similarities(self) -> Tensor:
        """Magnitude of the correlation, mean over channels, (B,); 0 where too little overlaps."""
        return self.correlations.abs().mean(1)

    def or_better(self, other: Refined) -> Refined:
        """Take the other where it correlates better."""
        is_better = other.similarities > self.similarities
        return Refined(
            torch.where(is_better[:, None], other.correlations, self.correlations),
            torch.where(is_better.view(-1, *[1] * (self.coordinates.ndim - 1)), other.coordinates, self.coordinates),
        )


def affine_basis(shape: Sequence[int], device: torch.device | str = "cpu") -> Basis:
    """Shifts, rotations, scales and shears."""
    pixels = pixel_coordinates(shape).to(device).flatten(0, -2).T
    functions = torch.cat([torch.ones_like(pixels[:1]), pixels])
    return Basis.of(functions, torch.zeros(len(functions), device=device))


def bending_basis(shape: Sequence[int], device: torch.device | str = "cpu") -> Basis:
    """Products of the first cosines along each axis, as of a discrete cosine transform (Ashburner, Friston 1999)."""
    waves = [
        torch.stack([torch.cos(math.pi * order * (torch.arange(size) + 0.5) / size) for order in range(BENDING_ORDER)])
        for size in shape
    ]
    functions, costs = [], []
    for orders in product(range(BENDING_ORDER), repeat=len(shape)):
        wave = torch.ones(())
        for axis, order in enumerate(orders):
            wave = wave[..., None] * waves[axis][order]
        functions.append(wave.flatten())
        costs.append(BENDING_WEIGHT * sum(order**2 for order in orders))
    return Basis.of(torch.stack(functions).to(device), torch.tensor(costs, device=device))


def refine(
    images: Tensor, references: Tensor, inside: Tensor, coordinates: Tensor, basis: Basis, num_steps: int
) -> Refined:
    """Move each reference, from where it is read now, to where it correlates best with its image.

    Source: Evangelidis, Psarakis 2008, "Parametric image alignment using enhanced correlation coefficient
    maximization"; the displacement is linear in its parameters. Gain and offset of each channel, also negative ones,
    change nothing. The best of all steps is kept, so that no result is worse than its start.

    Args:
        images: (B, C, *spatial).
        references: (B, C, *spatial), 0 outside.
        inside: (B, 1, *spatial), 1 where the reference counts, else 0.
        coordinates: (B, *spatial, D) to start from, see `Alignment`.
        basis: of the displacement.
        num_steps: Gauss-Newton steps; 0 only evaluates.
    """
    # Small steps pay on a processor, whose cache they stay in; a GPU waits for each.
    size = max(1, VALUES_AT_ONCE // images[0].numel()) if images.device.type == "cpu" else len(images)
    parts = [
        _refine(image, reference, mask, start, basis, num_steps)
        for image, reference, mask, start in zip(
            *(values.split(size) for values in (images, references, inside, coordinates)), strict=True
        )
    ]
    return Refined(*(torch.cat(fields) for fields in zip(*parts, strict=True)))


def _refine(
    images: Tensor, references: Tensor, inside: Tensor, coordinates: Tensor, basis: Basis, num_steps: int
) -> Refined:
    dims, channels = images.ndim - 2, images.shape[1]
    values = torch.cat([references, inside], 1)
    with_slopes = torch.cat([values, *_gradients(references)], 1) if num_steps else values
    enough = MIN_OVERLAP * inside.flatten(1).sum(1)
    flat = images.flatten(2)
    best = torch.zeros(len(images), channels, device=images.device)
    chosen = coordinates.clone()
    for step in range(num_steps + 1):
        is_last = step == num_steps
        read = read_at(values if is_last else with_slopes, coordinates).flatten(2)
        mask = (read[:, channels : channels + 1] > INSIDE).to(read)
        ours, theirs = _Standardized.under(flat, mask), _Standardized.under(read[:, :channels], mask)
        count = mask.sum(2).clamp_min(1)
        correlation = ((ours.centered * theirs.centered).sum(2) * ours.scale * theirs.scale / count).clamp(-1, 1)
        correlation = torch.where(mask.sum((1, 2))[:, None] >= enough[:, None], correlation, 0.0)
        better = correlation.abs().mean(1) > best.abs().mean(1)
        best[better], chosen[better] = correlation[better], coordinates[better]
        if not is_last:
            # Each channel is explained as far as it correlates: what does not belong together pulls nowhere.
            weights = correlation.abs() * theirs.deviation.reciprocal()
            error = ours.centered * (ours.scale * correlation.sign() * weights)[..., None]
            error -= theirs.centered * (theirs.scale * weights)[..., None]
            slopes = read[:, channels + 1 :].unflatten(1, (dims, channels))
            moved = _gauss_newton(slopes, error, weights / theirs.deviation, mask, basis)
            coordinates = coordinates + moved.view(coordinates.shape)
    return Refined(best, chosen)


def _gauss_newton(slopes: Tensor, error: Tensor, weights: Tensor, mask: Tensor, basis: Basis) -> Tensor:
    """Solve for the displacement (B, P, D) that explains the error (B, C, P).

    The slopes are (B, D, C, P); `weights` (B, C) are those of their products, and `mask` (B, 1, P) is where they count.
    """
    count, dims = len(basis.functions), slopes.shape[1]
    first, second = torch.triu_indices(count, count)
    right = torch.cat([(slopes[:, axis] * error).sum(1, keepdim=True) for axis in range(dims)], 1) @ basis.functions.T
    matrix = slopes.new_empty(len(slopes), dims, count, dims, count)
    for row in range(dims):
        weighted = slopes[:, row] * weights[..., None]
        for column in range(row, dims):
            entries = ((weighted * slopes[:, column]).sum(1) * mask[:, 0]) @ basis.products.T
            for i, j in ((row, column), (column, row)):
                matrix[:, i, first, j, second] = matrix[:, i, second, j, first] = entries
    matrix = matrix.view(-1, dims * count, dims * count)
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True)
    damping = DAMPING * diagonal + mean * (1e-4 + basis.costs.repeat(dims)) + 1e-6
    solved = torch.linalg.solve(matrix + torch.diag_embed(damping), right.flatten(1))
    return (solved.view(-1, dims, count) @ basis.functions).transpose(1, 2)


def _gradients(images: Tensor) -> list[Tensor]:
    """Central differences by the units of `Alignment.coordinates`, the last axis first; 0 at the border."""
    gradients = []
    for axis in reversed(range(2, images.ndim)):
        size = images.shape[axis]
        result = torch.zeros_like(images)
        if size > 2:
            middle = images.narrow(axis, 2, size - 2) - images.narrow(axis, 0, size - 2)
            result.narrow(axis, 1, size - 2).copy_(middle * (size / 4))
        gradients.append(result)
    return gradients


class _Standardized(NamedTuple):
    """Images less their mean under a mask, 0 outside (B, C, P), and by what they are multiplied to deviate by 1 (B, C).

    `scale` is 1 / `deviation`, or 0 where a channel shows too little.
    """

    centered: Tensor
    deviation: Tensor
    scale: Tensor

    @classmethod
    def under(cls, images: Tensor, mask: Tensor) -> _Standardized:
        """Standardize (B, C, P) under (B, 1, P)."""
        count = mask.sum(2, keepdim=True).clamp_min(1)
        centered = (images - images @ mask.mT / count) * mask
        variance = centered.square().sum(2) / count[..., 0]
        deviation = variance.clamp_min(MIN_VARIANCE).sqrt()
        return cls(centered, deviation, torch.where(variance > MIN_VARIANCE, 1 / deviation, 0.0))
