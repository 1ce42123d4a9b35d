"""Copies of images, altered as a generator or a careless pipeline may alter them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scripts.patches.intensities import BACKGROUND, foreground


def flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each image along one of its axes, drawn at random."""
    axes = torch.randint(images.ndim - 2, (len(images),), generator=generator).tolist()
    return torch.stack([image.flip(axis + 1) for image, axis in zip(images, axes, strict=True)])


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


def rescaled(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change gain (.6 to 1.4) and offset (-.2 to .2) of every channel; the background stays."""
    shape = (*images.shape[:2], *[1] * (images.ndim - 2))
    gain, offset = (torch.rand(shape, generator=generator) for _ in range(2))
    changed = (images * (0.6 + 0.8 * gain) + 0.4 * offset - 0.2).clamp(-1, 1)
    return torch.where(foreground(images, channel_axis=1)[:, None], changed, BACKGROUND)


def noisy(images: Tensor, generator: torch.Generator, decibel: float = 20.0) -> Tensor:
    """Add white Gaussian noise at a ratio of mean squared signal to noise."""
    power = images.square().flatten(1).mean(1).reshape(-1, *[1] * (images.ndim - 1))
    noise = torch.randn(images.shape, generator=generator)
    return (images + noise * (power / 10 ** (decibel / 10)).sqrt()).clamp(-1, 1)


def altered(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip, move, rescale and add noise, all of them."""
    for change in (flipped, shifted, rescaled, noisy):
        images = change(images, generator)
    return images


ALTERATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "none": lambda images, generator: images.clone(),
    "flip": flipped,
    "4-pixel shift": shifted,
    "gain and offset": rescaled,
    "noise at 20 dB": noisy,
    "all four": altered,
}
