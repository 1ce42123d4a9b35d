"""Copies of images, altered as a generator or a careless pipeline may alter them."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from scripts.patches.intensities import BACKGROUND, foreground

Alteration = Callable[[Tensor, torch.Generator], Tensor]
SNAP = 0.1  # of [-1, 1]: what is nearer to background than this in every channel is background, as in generated images


def flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each image along one of its axes, drawn at random."""
    axes = torch.randint(images.ndim - 2, (len(images),), generator=generator).tolist()
    return torch.stack([image.flip(axis + 1) for image, axis in zip(images, axes, strict=True)])


def turned(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn each image (C, H, H) by 90 degrees, to either side."""
    sides = torch.randint(2, (len(images),), generator=generator).tolist()
    return torch.stack([image.rot90(2 * side - 1, (1, 2)) for image, side in zip(images, sides, strict=True)])


def transposed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Exchange the last two axes of (N, C, H, H)."""
    return images.transpose(-1, -2).clone()


def shifted(images: Tensor, generator: torch.Generator, pixels: int = 4) -> Tensor:
    """Move each image by `pixels` along every axis, in a random direction; background comes in."""
    moved = []
    for image in images:
        for axis in range(1, image.ndim):
            step = pixels if torch.rand((), generator=generator) < 0.5 else -pixels
            image = image.roll(step, axis)
            image.narrow(axis, 0 if step > 0 else image.shape[axis] - pixels, pixels).fill_(BACKGROUND)
        moved.append(image)
    return torch.stack(moved)


def rotated(images: Tensor, generator: torch.Generator, degrees: float = 7.0) -> Tensor:
    """Rotate each image around its middle, to either side; of volumes each in a plane of two axes, drawn at random."""
    dims = images.ndim - 2
    angles = math.radians(degrees) * (2.0 * torch.randint(2, (len(images),), generator=generator) - 1)
    still = torch.randint(dims, (len(images),), generator=generator) if dims == 3 else [None] * len(images)
    matrices = torch.eye(dims).repeat(len(images), 1, 1)
    for matrix, angle, axis in zip(matrices, angles, still, strict=True):
        first, second = [other for other in range(dims) if other != axis]
        matrix[first, first] = matrix[second, second] = angle.cos()
        matrix[first, second], matrix[second, first] = -angle.sin(), angle.sin()
    return warped(images, matrices)


def zoomed(images: Tensor, generator: torch.Generator, factor: float = 1.2) -> Tensor:
    """Enlarge each image by `factor`, or make it as much smaller, around its middle."""
    larger = torch.randint(2, (len(images),), generator=generator).bool()
    scale = torch.where(larger, 1 / factor, factor)
    return warped(images, torch.eye(images.ndim - 2) * scale[:, None, None])


def bent(images: Tensor, generator: torch.Generator, pixels: float = 4 / 3, knots: int = 5) -> Tensor:
    """Deform each image (C, H, W) smoothly: `pixels` of displacement in the root mean square, random at 5 x 5 knots."""
    coarse = torch.randn(len(images), 2, knots, knots, generator=generator)
    fine = functional.interpolate(coarse, images.shape[2:], mode="bicubic", align_corners=True)
    rms = fine.square().sum(1).flatten(1).mean(1).sqrt()[:, None, None, None]
    return warped(images, torch.eye(2).expand(len(images), 2, 2), pixels * fine / rms)


def warped(images: Tensor, matrices: Tensor, displacement: Tensor | None = None) -> Tensor:
    """Read images (N, C, *spatial) where matrices (N, D, D) and a displacement (N, D, *spatial), pixels, point to.

    Axes are those of the grid of `torch.nn.functional.grid_sample`, the last one first; background comes in.
    """
    dims = images.ndim - 2
    matrices = torch.cat([matrices, matrices.new_zeros(len(images), dims, 1)], dim=2).float()
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    if displacement is not None:
        sizes = torch.tensor(images.shape[2:][::-1], dtype=torch.float32)
        grid = grid + displacement.movedim(1, -1) * 2 / sizes
    moved = functional.grid_sample(images - BACKGROUND, grid, padding_mode="zeros", align_corners=False) + BACKGROUND
    is_background = (moved < BACKGROUND + SNAP).all(1, keepdim=True)
    return torch.where(is_background, BACKGROUND, moved.clamp(-1, 1))


def rescaled(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change gain (.6 to 1.4) and offset (-.2 to .2) of every channel; the background stays."""
    shape = (*images.shape[:2], *[1] * (images.ndim - 2))
    gain, offset = (torch.rand(shape, generator=generator) for _ in range(2))
    return inside_only(images * (0.6 + 0.8 * gain) + 0.4 * offset - 0.2, images)


def darkened(images: Tensor, generator: torch.Generator, gamma: float = 0.3) -> Tensor:
    """Raise intensities, on [0, 1], to a power; the background stays."""
    return inside_only(2 * ((images + 1) / 2) ** gamma - 1, images)


def inverted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn bright into dark inside the brain; the background stays."""
    return inside_only(-images, images)


def blurred(images: Tensor, generator: torch.Generator, pixels: float = 1.5) -> Tensor:
    """Smooth (N, C, H, W) with a Gaussian of a standard deviation in pixels."""
    offsets = torch.arange(-5.0, 6.0)
    kernel = torch.exp(-offsets.square() / (2 * pixels**2))
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)
    smooth = functional.pad(images, (5, 5, 5, 5), mode="replicate")
    smooth = functional.conv2d(smooth, kernel[:, :, None], groups=images.shape[1])
    return functional.conv2d(smooth, kernel[..., None], groups=images.shape[1])


def noisy(images: Tensor, generator: torch.Generator, decibel: float = 20.0) -> Tensor:
    """Add white Gaussian noise at a ratio of mean squared signal to noise."""
    power = images.square().flatten(1).mean(1).reshape(-1, *[1] * (images.ndim - 1))
    noise = torch.randn(images.shape, generator=generator)
    return (images + noise * (power / 10 ** (decibel / 10)).sqrt()).clamp(-1, 1)


def permuted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Hand every channel's content on to the next channel."""
    return images.roll(1, dims=1)


def altered(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip, move, rescale and add noise, all of them."""
    for change in (flipped, shifted, rescaled, noisy):
        images = change(images, generator)
    return images


def inside_only(changed: Tensor, images: Tensor) -> Tensor:
    """Take changed intensities, clipped to [-1, 1], inside the brain of `images`, and background elsewhere."""
    return torch.where(foreground(images, channel_axis=1)[:, None], changed.clamp(-1, 1), BACKGROUND)


def collage(images: Tensor, parts: int) -> Tensor:
    """Put together, from each image (H, W) and those listed after it, images of `parts` x `parts` tiles."""
    size = images.shape[-1] // parts
    result = images.clone()
    for number, (row, column) in enumerate(product(range(parts), repeat=2)):
        tile = (..., slice(row * size, (row + 1) * size), slice(column * size, (column + 1) * size))
        result[tile] = images.roll(number, 0)[tile]
    return result


def centers(shape: tuple[int, ...], share: float = 0.17) -> Tensor:
    """Mark the middle of a patch, where its lesion lies: a disc with a radius of `share` of the side, booleans."""
    axes = [torch.arange(size) - (size - 1) / 2 for size in shape]
    distances = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
    return distances <= share * min(shape)


ALTERATIONS: dict[str, Alteration] = {
    "none": lambda images, generator: images.clone(),
    "flip": flipped,
    "4-pixel shift": shifted,
    "gain and offset": rescaled,
    "noise at 20 dB": noisy,
    "all four": altered,
}
