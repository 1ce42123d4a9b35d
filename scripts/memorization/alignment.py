"""How a reference is laid over an image: turned, rotated, scaled, moved and bent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations, product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from scripts.patches.intensities import BACKGROUND, foreground


class Turn(NamedTuple):
    """One of the symmetries of a square: its axes are put in the order of `axes`, then those in `flips` are flipped."""

    axes: tuple[int, ...]
    flips: tuple[bool, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Turn images (..., *spatial)."""
        first = images.ndim - len(self.axes)
        turned = images.permute(*range(first), *[first + axis for axis in self.axes])
        flipped = [first + axis for axis, flip in enumerate(self.flips) if flip]
        return turned.flip(flipped) if flipped else turned

    def undo(self, images: Tensor) -> Tensor:
        """Turn images (..., *spatial) back."""
        first = images.ndim - len(self.axes)
        flipped = [first + axis for axis, flip in enumerate(self.flips) if flip]
        back = [first + self.axes.index(axis) for axis in range(len(self.axes))]
        return (images.flip(flipped) if flipped else images).permute(*range(first), *back)


class Alignment(NamedTuple):
    """How a reference is laid over an image: the image is turned by `turn`, then the reference read at `coordinates`.

    `coordinates` (*spatial, D): of each pixel of the turned image the place in the reference, in the units of
    `torch.nn.functional.grid_sample`: [-1, 1] from border to border, the last axis first.
    """

    turn: Turn
    coordinates: Tensor


def turns(shape: Sequence[int]) -> list[Turn]:
    """List the turns under which images are compared; the first changes nothing.

    Args:
        shape: sides of the images.

    Returns:
        The eight of a square; the flips of a rectangle and of a volume, which is not turned onto its side.
    """
    dims = len(shape)
    orders = permutations(range(dims)) if dims == 2 and len(set(shape)) == 1 else [tuple(range(dims))]
    return [Turn(tuple(order), flips) for order in orders for flips in product((False, True), repeat=dims)]


def pixel_coordinates(shape: Sequence[int]) -> Tensor:
    """Coordinates of the pixels of an image, (*spatial, D), in the units of `Alignment.coordinates`."""
    axes = [(2 * torch.arange(size) + 1) / size - 1 for size in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)


def similarity_transforms(shape: Sequence[int], degrees: Sequence[float], scales: Sequence[float]) -> Tensor:
    """List rotations, one in each plane of the axes, with every scale: (K, D, D) matrices of `Alignment.coordinates`.

    Args:
        shape: sides of the images; a rotation of a rectangle is one in pixels.
        degrees: angles tried besides 0.
        scales: by which coordinates are multiplied.
    """
    dims = len(shape)
    sides = torch.tensor(list(shape)[::-1], dtype=torch.float32)
    rotations = [torch.eye(dims)]
    for first in range(dims):
        for second in range(first + 1, dims):
            for angle in map(math.radians, degrees):
                matrix = torch.eye(dims)
                matrix[first, first] = matrix[second, second] = math.cos(angle)
                matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
                rotations.append(matrix * sides / sides[:, None])
    return torch.stack([scale * rotation for rotation in rotations for scale in scales])


def read_at(images: Tensor, coordinates: Tensor) -> Tensor:
    """Read images (B, C, *spatial) at coordinates (B, *other, D), linearly; 0 is read outside."""
    return functional.grid_sample(images, coordinates, padding_mode="zeros", align_corners=False)


def resized_coordinates(coordinates: Tensor, shape: Sequence[int], is_affine: bool = False) -> Tensor:
    """Give coordinates (B, *spatial, D) for images of another size; what is affine stays exactly affine.

    Args:
        coordinates: of `Alignment`.
        shape: sides of the images.
        is_affine: whether they are not bent; what bends them is then not looked for, which takes longest.
    """
    own = pixel_coordinates(coordinates.shape[1:-1]).to(coordinates)
    matrix = torch.cat([torch.ones_like(own[..., :1]), own], dim=-1).flatten(0, -2)
    flat = coordinates.flatten(1, -2)
    affine = torch.linalg.pinv(matrix) @ flat
    other = pixel_coordinates(shape).to(coordinates)
    target = torch.cat([torch.ones_like(other[..., :1]), other], dim=-1) @ affine.view(
        len(flat), *[1] * (len(shape) - 1), *affine.shape[1:]
    )
    target = target.view(len(flat), *shape, -1)
    if is_affine:
        return target
    bend = (flat - matrix @ affine).view(coordinates.shape).movedim(-1, 1)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    bend = functional.interpolate(bend, list(shape), mode=mode, align_corners=False)
    return target + bend.movedim(1, -1)


def align(reference: Tensor, alignment: Alignment) -> Tensor:
    """Lay a reference over the image that `alignment` was found for.

    Args:
        reference: (C, *spatial) in [-1, 1].
        alignment: of a search.

    Returns:
        Same shape; what came in from outside is background, -1, and so is what is more background than brain.
    """
    coordinates = resized_coordinates(alignment.coordinates[None].cpu(), reference.shape[1:])
    inside = foreground(reference).float()
    read = read_at(torch.cat([(reference - BACKGROUND), inside[None]])[None], coordinates)[0]
    moved = torch.where(read[-1:] > 0.5, read[:-1] + BACKGROUND, BACKGROUND)
    return alignment.turn.undo(moved)


def in_words(alignment: Alignment) -> str:
    """Say how the reference was laid over: turns, degrees, per cent of size, pixels of shift and of bending."""
    shape = alignment.coordinates.shape[:-1]
    dims = len(shape)
    points = torch.cat([torch.ones(*shape, 1), pixel_coordinates(shape)], dim=-1).flatten(0, -2)
    flat = alignment.coordinates.flatten(0, -2)
    affine = torch.linalg.pinv(points) @ flat
    sides = torch.tensor(shape[::-1], dtype=torch.float32)
    matrix = affine[1:].T * sides[:, None] / sides
    shift = (-affine[0] * sides / 2).flip(0).round().int().tolist()
    scale = float(matrix.det().abs() ** (-1 / dims))
    angle = _degrees(matrix)
    bend = float(((flat - points @ affine) * sides / 2).square().sum(1).mean().sqrt())
    axes = [axis for axis, flip in zip("xyz", alignment.turn.flips, strict=False) if flip]
    words = [
        "axes exchanged" if alignment.turn.axes != tuple(range(dims)) else "",
        f"flipped along {' and '.join(axes)}" if axes else "",
        f"rotated by {angle:{'+' if dims == 2 else ''}.0f} degrees" if abs(angle) >= 1 else "",
        f"scaled by {scale:.2f}" if abs(scale - 1) >= 0.02 else "",
        f"moved by {', '.join(f'{step:+d}' for step in shift)} pixels" if any(shift) else "",
        f"bent by {bend:.1f} pixels" if bend >= 0.3 else "",
    ]
    return ", ".join(filter(None, words))


def _degrees(matrix: Tensor) -> float:
    """Angle of the rotation that is nearest to a matrix (D, D); of volumes around whatever axis, without a sign."""
    if len(matrix) == 2:
        return math.degrees(math.atan2(float(matrix[1, 0] - matrix[0, 1]), float(matrix[0, 0] + matrix[1, 1])))
    left, _, right = torch.linalg.svd(matrix)
    return math.degrees(math.acos(min(1.0, max(-1.0, (float((left @ right).trace()) - 1) / 2))))
