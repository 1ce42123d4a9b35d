"""Noise of images: from a seed and the number of each image, never from the batch it is drawn in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scripts.running.files import sha256_text

# torch's CPU generator reads 32 bits of its seed.
NUM_SEEDS = 2**32


def image_seed(seed: int, k: int) -> int:
    """Seed of image k of a set: different for every k below 2^32, and far from those of another `seed`."""
    return (int(sha256_text(str(seed))[:8], 16) + k) % NUM_SEEDS


class ImageNoise:
    """Gaussian noise for a batch of images, each from a generator of its own, seeded by (seed, k).

    Numbers of one image do not depend on which others share its batch. They do depend on the device: torch draws other
    numbers on CUDA than on a CPU.

    Args:
        seed: seed of the set.
        numbers: k of each image, length B.
        shape: (C, *spatial) of an image.
        device: device to draw on.
    """

    def __init__(
        self, seed: int, numbers: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        self.shape = tuple(shape)
        self.device = torch.device(device)
        self.generators = [torch.Generator(self.device).manual_seed(image_seed(seed, k)) for k in numbers]

    def draw(self) -> Tensor:
        """Draw the next noise of every image, shape (B, C, *spatial)."""
        return torch.stack(
            [torch.randn(self.shape, generator=generator, device=self.device) for generator in self.generators]
        )
