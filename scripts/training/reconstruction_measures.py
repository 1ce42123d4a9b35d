"""How well an autoencoder gives images back, before anything is built on its latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.metrics import PSNRMetric, SSIMMetric
from torch import Tensor, nn

RANGE = 2.0  # of intensities in [-1, 1]


def measure_reconstruction(images: Tensor, reconstructions: Tensor) -> dict[str, Any]:
    """Compare reconstructions with their images.

    Args:
        images: shape (N, C, *spatial), in [-1, 1].
        reconstructions: same shape.

    Returns:
        "number" of images; "psnr" in dB and "ssim" (Wang et al. 2004; MONAI's `SSIMMetric`), means over the images,
        higher is better; "l1", mean absolute difference in units of [-1, 1]; "spectrum_ratio", see there.

    Raises:
        ValueError: if the shapes differ.
    """
    if images.shape != reconstructions.shape:
        raise ValueError(
            f"reconstructions must have the shape of images {tuple(images.shape)}, got {tuple(reconstructions.shape)}"
        )
    similarity = SSIMMetric(images.ndim - 2, data_range=RANGE, win_size=_window(images))
    return {
        "number": len(images),
        "psnr": float(PSNRMetric(max_val=RANGE)(reconstructions, images).mean()),
        "ssim": float(similarity(reconstructions, images).mean()),
        "l1": float((images - reconstructions).abs().mean()),
        "spectrum_ratio": spectrum_ratio(images, reconstructions),
    }


def spectrum_ratio(images: Tensor, reconstructions: Tensor) -> list[float | None]:
    """Power of reconstructions over that of their images, by spatial frequency.

    Args:
        images: shape (N, C, *spatial).
        reconstructions: same shape.

    Returns:
        For 1, 2, ... cycles in the longest side, up to half its cells (Nyquist), the ratio of mean powers over images,
        channels and directions: 1 where detail is kept, below 1 where it is blurred away. None where images have none.
    """
    given, made = (radial_power(batch) for batch in (images, reconstructions))
    return [float(after / before) if before > 0 else None for before, after in zip(given, made, strict=True)]


def radial_power(images: Tensor) -> Tensor:
    """Mean power of images by spatial frequency, over directions, images and channels; the mean intensity left out.

    Args:
        images: shape (N, C, *spatial).

    Returns:
        Shape (F,), float64, >= 0, for 1 to F cycles in the longest side of S cells, F = S // 2.
    """
    axes, longest = list(range(2, images.ndim)), max(images.shape[2:])
    power = torch.fft.fftn(images.double(), dim=axes).abs().square().mean((0, 1)).flatten()
    frequencies = [torch.fft.fftfreq(size, dtype=torch.float64) * longest for size in images.shape[2:]]
    squares = torch.stack([axis.square() for axis in torch.meshgrid(*frequencies, indexing="ij")])
    rings = squares.sum(0).sqrt().round().long().flatten()
    count = torch.bincount(rings).clamp_min(1)
    return (torch.bincount(rings, power) / count)[1 : longest // 2 + 1]


@torch.no_grad()
def reconstruct(network: nn.Module, images: Tensor, batch_size: int = 16) -> Tensor:
    """Give images back by an autoencoder in eval mode, clipped to [-1, 1], on the device of the images.

    Args:
        network: returns a `scripts.training.reconstruction_loss.Reconstruction`.
        images: shape (N, C, *spatial), in [-1, 1].
        batch_size: images at once; bounds memory only.
    """
    device = next(network.parameters()).device
    network.eval()
    return torch.cat(
        [network(part.to(device)).images.float().clamp(-1, 1).to(part) for part in images.split(batch_size)]
    )


def reconstruction_report(network: nn.Module, parts: Mapping[str, Tensor], batch_size: int = 16) -> dict[str, Any]:
    """Measure the reconstructions of each part of a fold.

    Args:
        network: autoencoder.
        parts: name -> images, (N, C, *spatial), in [-1, 1].
        batch_size: images at once.

    Returns:
        Name -> what `measure_reconstruction` returns.
    """
    return {
        name: measure_reconstruction(images, reconstruct(network, images, batch_size)) for name, images in parts.items()
    }


def _window(images: Tensor) -> int:
    """Cells of a side of SSIM's window: 11 as in its paper, or the largest odd number that small images hold."""
    smallest = min(images.shape[2:])
    return min(11, smallest - 1 + smallest % 2)
