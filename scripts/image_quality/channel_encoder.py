"""The modalities as three colors: a linear 1 x 1 convolution autoencoder, fitted to training images."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

NUM_COLORS = 3
MAX_PIXELS = 2_000_000  # of the fit, which has fifteen numbers to find


class ChannelEncoder(nn.Module):
    """1 x 1 convolution from C modalities to three colors in [-1, 1] on the images that it was fitted to.

    Of all linear 1 x 1 convolution autoencoders with three channels between, this one reconstructs the training pixels
    with the least squared error: its colors span their first three principal components. So it is computed, not
    trained by steps, and has no seed. Each color is scaled so that the training pixels fill [-1, 1], as Inception-v3
    needs; that changes no reconstruction.

    Source: Baldi, Hornik 1989, "Neural networks and principal component analysis: learning from examples without local
    minima". Moshe et al. do not describe their encoder beyond four channels in and three out.

    Args:
        images: training images (N, C, *spatial) in [-1, 1], C >= 3.

    Raises:
        ValueError: if the images have fewer than three channels or do not vary.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        if images.shape[1] < NUM_COLORS:
            raise ValueError(
                f"images must have at least {NUM_COLORS} channels for an encoder, got {images.shape[1]};"
                " set measure_encoder: false"
            )
        pixels = images.double().movedim(1, -1).reshape(-1, images.shape[1])
        pixels = pixels[:: max(1, len(pixels) // MAX_PIXELS)]
        mean = pixels.mean(dim=0)
        _, components = torch.linalg.eigh(torch.cov(pixels.T))
        axes = components.T.flip(0)[:NUM_COLORS]
        # A component's sign is arbitrary; its largest entry is made positive.
        axes = axes * torch.gather(axes, 1, axes.abs().argmax(dim=1, keepdim=True)).sign()
        colors = (pixels - mean) @ axes.T
        low, high = colors.amin(dim=0), colors.amax(dim=0)
        if bool((high <= low).any()):
            raise ValueError("images must vary in three directions for an encoder, got constant ones; look at the set")
        scale = 2 / (high - low)
        self.register_buffer("weight", (axes * scale[:, None]).float())
        self.register_buffer("bias", (-(axes @ mean) * scale - low * scale - 1).float())

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, *spatial) to (B, 3, *spatial); not clipped, so images unlike the training ones leave [-1, 1]."""
        mixed = torch.einsum("bc...,kc->bk...", image, self.weight)
        return mixed + self.bias.reshape(-1, *[1] * (image.ndim - 2))

    def sha256(self) -> str:
        """Hash the weights to 64 hexadecimal digits."""
        values = torch.cat([self.weight.flatten(), self.bias]).cpu().numpy()
        return hashlib.sha256(values.tobytes()).hexdigest()
