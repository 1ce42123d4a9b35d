"""What a part of an image becomes when it is covered, to see what the answer owes to it."""

from __future__ import annotations

import torch
from torch import Tensor

from scripts.patches.intensities import BACKGROUND, foreground

BASELINES = ("background", "mean")
BATCH = 32  # covered images at once


def covered(image: Tensor, groups: Tensor, baseline: str) -> Tensor:
    """Return an image with everything covered.

    Args:
        image: (C, *spatial), [-1, 1], background -1.
        groups: (C, *spatial) integers; what has one number shares a mean, the highest number is background.
        baseline: one of `BASELINES`: "background" is -1 in every modality, "mean" the mean of the group.

    Returns:
        (C, *spatial), on the device of the image.
    """
    if baseline == "background":
        return torch.full_like(image, BACKGROUND)
    flat = groups.reshape(-1)
    sums = torch.zeros(int(flat.max()) + 1, device=image.device).index_add(0, flat, image.reshape(-1))
    means = sums / torch.bincount(flat).clamp(min=1).to(sums.dtype)
    return torch.where(foreground(image), means[groups], BACKGROUND)
