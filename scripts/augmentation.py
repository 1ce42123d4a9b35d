"""Random changes of intensity that leave the background what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose
from monai.utils import convert_to_tensor


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
