"""Generators without a network, which a diffusion model must beat before it earns its cost.

Each takes the training images of one class, once, and returns what draws images of that class from them: a Gaussian
that copies nobody, a mix that copies two at a time, deformed and noisy copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from monai.transforms import Rand2DElastic, Rand3DElastic
from monai.utils import convert_to_tensor
from torch import Tensor

from scripts.patches.intensities import foreground

Draw = Callable[[int, torch.Generator], Tensor]


def pca_gaussian(images: Tensor) -> Draw:
    """Draw from the Gaussian with the mean and the covariance of the training images.

    x = mean + X^T z / sqrt(N - 1), X the centered images, z standard normal of length N: it has the sample covariance
    of the images, as a draw from all of their principal components has.

    Args:
        images: training images, shape (N, C, *spatial), in [-1, 1]; N >= 2.

    Returns:
        A function of the number of images and the source of randomness, to images (count, C, *spatial) in [-1, 1].

    Raises:
        ValueError: if there are too few images.
    """
    require_images("pca_gaussian", len(images))
    mean = images.mean(0)
    deviations = (images - mean).flatten(1) / (len(images) - 1) ** 0.5

    def draw(count: int, generator: torch.Generator) -> Tensor:
        weights = torch.randn(count, len(images), generator=generator)
        return (mean + (weights @ deviations).view(count, *mean.shape)).clamp(-1, 1)

    return draw


def mixed(images: Tensor) -> Draw:
    """Mix two training images of the class, with a share drawn from [0, 1]; the audit calls such images copies.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", eq. 1, within a class, Beta(1, 1).

    Args, returns and raises as for `pca_gaussian`.
    """
    require_images("mixed", len(images))

    def draw(count: int, generator: torch.Generator) -> Tensor:
        first, second = (images[torch.randint(len(images), (count,), generator=generator)] for _ in range(2))
        share = torch.rand(count, generator=generator).reshape(-1, *[1] * (images.ndim - 1))
        return share * first + (1 - share) * second

    return draw


def noisy(images: Tensor, std: float = 0.1) -> Draw:
    """Add Gaussian noise to training images: copies, which the audit must name.

    Args and returns as for `pca_gaussian`; `std` is in units of [-1, 1]. The background stays -1.
    """

    def draw(count: int, generator: torch.Generator) -> Tensor:
        originals = images[torch.randint(len(images), (count,), generator=generator)]
        noise = std * torch.randn(originals.shape, generator=generator)
        inside = foreground(originals, channel_axis=1).unsqueeze(1)
        return torch.where(inside, (originals + noise).clamp(-1, 1), originals)

    return draw


def deformed(images: Tensor) -> Draw:
    """Turn, scale, mirror and bend training images, by MONAI's elastic transform: copies, seen by the audit or not.

    Up to 15 degrees, of volumes around each axis, 10 %, and 4 pixels of displacement at a spacing of a quarter of the
    image; of volumes up to 1/24 of the smallest side (root mean square along an axis), smooth over 1/8 of it.

    Args and returns as for `pca_gaussian`.
    """
    dims = images.ndim - 2
    options = {
        "prob": 1.0,
        "rotate_range": [0.26] * (1 if dims == 2 else 3),
        "scale_range": [0.1] * dims,
        "padding_mode": "border",
    }
    elastic: Callable[[Tensor], Tensor]
    if dims == 2:
        elastic = Rand2DElastic(spacing=max(images.shape[-1] // 4, 2), magnitude_range=(0.5, 2), **options)
    else:
        side = min(images.shape[2:])
        magnitude = side / 24 / smoothed_deviation(side / 8)
        elastic = Rand3DElastic(sigma_range=(side / 8, side / 8), magnitude_range=(magnitude / 4, magnitude), **options)

    def draw(count: int, generator: torch.Generator) -> Tensor:
        elastic.set_random_state(seed=int(torch.randint(2**31, (1,), generator=generator)))  # type: ignore[attr-defined]
        originals = images[torch.randint(len(images), (count,), generator=generator)]
        mirrored = torch.rand(count, generator=generator) < 0.5
        bent = [elastic(image.flip(1) if mirror else image) for image, mirror in zip(originals, mirrored, strict=True)]
        return torch.stack([convert_to_tensor(image, track_meta=False) for image in bent]).clamp(-1, 1)

    return draw


def smoothed_deviation(sigma: float) -> float:
    """Standard deviation of noise from [-1, 1], as of MONAI's elastic transform, smoothed by a 3D Gaussian of `sigma`.

    The squares of the Gaussian's values sum to 1 / (8 pi^(3/2) sigma^3) for a sigma of a voxel and more.
    """
    return (3 * 8 * math.pi**1.5 * max(sigma, 1.0) ** 3) ** -0.5


CONTROLS: dict[str, Callable[[Tensor], Draw]] = {
    "pca_gaussian": pca_gaussian,
    "mixed": mixed,
    "deformed": deformed,
    "noisy": noisy,
}
PUT_TOGETHER = ("pca_gaussian", "mixed")  # of several training images each


def check_control(name: str) -> None:
    """Refuse a name that is no control generator.

    Raises:
        ValueError: listing the names that there are.
    """
    if name not in CONTROLS:
        raise ValueError(f"control must be one of {', '.join(CONTROLS)}, got {name!r}")


def require_images(name: str, count: int, source: str = "the class") -> None:
    """Refuse fewer training images than a control generator puts together.

    Args:
        name: key of `CONTROLS`.
        count: number of training images.
        source: where they are from, for the message.

    Raises:
        ValueError: naming the source and the way out.
    """
    if count < 2 and name in PUT_TOGETHER:
        others = " or ".join(control for control in CONTROLS if control not in PUT_TOGETHER)
        raise ValueError(
            f"control {name} must have at least 2 training images of {source}, got {count}; take {others}, set"
            " controls: [] in a study, or split more patients"
        )
