"""Random changes of intensity as scanners make them, that leave the background what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose, Fourier, MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor
from torch import Tensor


class OnForeground(Compose):
    """Apply transforms to images in [0, 1] with background 0, then put the background back and clip to [0, 1].

    Without this, noise or a bias field in the background would tell an augmented image from a real one.

    Args:
        transforms: random dictionary transforms of the image.
        key: key of the image, (C, *spatial) in [0, 1]; a value of exactly 0 is background.
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]] = (), key: str = "image") -> None:
        super().__init__(transforms)
        self.key = key

    def __call__(self, data: Mapping[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the data with a changed image."""
        foreground = torch.as_tensor(data[self.key]) != 0
        changed = super().__call__(dict(data), *args, **kwargs)
        image = convert_to_tensor(changed[self.key], track_meta=False).clamp(0, 1)
        return {**changed, self.key: torch.where(foreground, image, torch.zeros_like(image))}


def add_ghosts(image: Tensor, num_ghosts: int, strength: float, axis: int) -> Tensor:
    """Repeat an image faintly along one axis, as motion or flow does along the axis of phase encoding.

    Every `num_ghosts`-th line of k-space is lowered; the center, of a 32nd of the lines, is kept, and with it the mean.
    Source: Shaw et al. 2020, "A k-space model of movement artefacts"; as in TorchIO's `RandomGhosting`. MONAI has none.

    Args:
        image: (C, *spatial).
        num_ghosts: copies along the axis, >= 2: the copies lie size / num_ghosts cells apart.
        strength: part taken off the lines, [0, 1]; 0 changes nothing.
        axis: spatial axis, from 0.

    Returns:
        Image of the same shape, not clipped.

    Raises:
        ValueError: if a number is out of range.
    """
    if num_ghosts < 2 or not 0 <= strength <= 1:
        raise ValueError(f"num_ghosts must be >= 2 and strength in [0, 1], got {num_ghosts!r} and {strength!r}")
    spatial_dims, size = image.ndim - 1, image.shape[axis + 1]
    weights = torch.ones(size, device=image.device)
    weights[size // 2 % num_ghosts :: num_ghosts] = 1 - strength
    reach = max(1, size // 64)
    weights[size // 2 - reach : size // 2 + reach + 1] = 1
    shape = [size if dimension == axis + 1 else 1 for dimension in range(image.ndim)]
    spectrum = Fourier.shift_fourier(image, spatial_dims) * weights.reshape(shape)
    return Fourier.inv_shift_fourier(spectrum, spatial_dims).to(image)


class RandGhostingd(RandomizableTransform, MapTransform):
    """Add ghosts of random number, strength and axis, the same to all modalities; see `add_ghosts`.

    Args:
        keys: keys of images, (C, *spatial).
        prob: how often, [0, 1].
        num_ghosts: fewest and most copies, >= 2.
        strength: least and greatest strength, [0, 1].
    """

    def __init__(
        self,
        keys: str | Sequence[str],
        prob: float = 0.1,
        num_ghosts: Sequence[int] = (2, 5),
        strength: Sequence[float] = (0.1, 0.4),
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.num_ghosts = tuple(num_ghosts)
        self.strength = tuple(strength)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the data with changed images, or as they are."""
        changed = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return changed
        num_ghosts = int(self.R.randint(self.num_ghosts[0], self.num_ghosts[1] + 1))
        strength, place = self.R.uniform(*self.strength), self.R.uniform()
        for key in self.key_iterator(changed):
            image = convert_to_tensor(changed[key], track_meta=False)
            changed[key] = add_ghosts(image, num_ghosts, strength, axis=int(place * (image.ndim - 1)))
        return changed
