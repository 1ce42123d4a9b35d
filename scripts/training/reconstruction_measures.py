"""How well an autoencoder gives images back, before anything is built on its latents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

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
    return _merged([_Block.of(images, reconstructions)])


def spectrum_ratio(images: Tensor, reconstructions: Tensor) -> list[float | None]:
    """Power of reconstructions over that of their images, by spatial frequency.

    Args:
        images: shape (N, C, *spatial).
        reconstructions: same shape.

    Returns:
        For 1, 2, ... cycles in the longest side, up to half its cells (Nyquist), the ratio of mean powers over images,
        channels and directions: 1 where detail is kept, below 1 where it is blurred away. None where images have none.
    """
    return _ratios(radial_power(images), radial_power(reconstructions))


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


def reconstruction_report(network: nn.Module, parts: Mapping[str, Iterable[Tensor]]) -> dict[str, Any]:
    """Measure the reconstructions of each part of a fold.

    Args:
        network: autoencoder.
        parts: name -> images, some at a time, each block (B, C, *spatial), in [-1, 1].

    Returns:
        Name -> what `measure_reconstruction` returns.
    """
    return {
        name: _merged([_Block.of(images, reconstruct(network, images)) for images in blocks])
        for name, blocks in parts.items()
    }


class _Block(NamedTuple):
    """What is known of some images and their reconstructions: means, and mean powers by frequency."""

    number: int
    psnr: float
    ssim: float
    l1: float
    power: Tensor
    power_of_reconstructions: Tensor

    @classmethod
    def of(cls, images: Tensor, reconstructions: Tensor) -> _Block:
        similarity = SSIMMetric(images.ndim - 2, data_range=RANGE, win_size=_window(images))
        return cls(
            number=len(images),
            psnr=float(PSNRMetric(max_val=RANGE)(reconstructions, images).mean()),
            ssim=float(similarity(reconstructions, images).mean()),
            l1=float((images - reconstructions).abs().mean()),
            power=radial_power(images),
            power_of_reconstructions=radial_power(reconstructions),
        )


def _merged(blocks: Sequence[_Block]) -> dict[str, Any]:
    """Put the measures of blocks together to those of all their images, as `measure_reconstruction` returns them."""
    number = sum(block.number for block in blocks)

    def mean(key: str) -> Any:
        return sum(block.number * getattr(block, key) for block in blocks) / number

    ratios = _ratios(mean("power"), mean("power_of_reconstructions"))
    return {"number": number, **{key: mean(key) for key in ("psnr", "ssim", "l1")}, "spectrum_ratio": ratios}


def _ratios(before: Tensor, after: Tensor) -> list[float | None]:
    pairs = zip(before.tolist(), after.tolist(), strict=True)
    return [made / given if given > 0 else None for given, made in pairs]


def _window(images: Tensor) -> int:
    """Cells of a side of SSIM's window: 11 as in its paper, or the largest odd number that small images hold."""
    smallest = min(images.shape[2:])
    return min(11, smallest - 1 + smallest % 2)
