"""The background of synthetic images, exactly -1 as in real patches."""

from __future__ import annotations

from torch import Tensor

from scripts.patches.intensities import DARKEST


def snap_background(images: Tensor, tolerance: float | None = 0.1) -> Tensor:
    """Clip to [-1, 1] and set background to exactly -1, as it is in real patches.

    A sample's background is never exactly -1, and a classifier would learn that as the mark of a synthetic image. A
    pixel is background where *every* channel is at most `tolerance` above -1: fluid is dark in some contrasts, never in
    all.

    Args:
        images: intensities about [-1, 1], shape (B, C, *spatial).
        tolerance: in units of [-1, 1], >= 0; None for images that have no background: they are clipped to stay above
            it, as real ones do.

    Returns:
        Intensities in [-1, 1], same shape.

    Raises:
        ValueError: if `tolerance` is not in [0, 1).
    """
    if tolerance is None:
        return images.clamp(DARKEST, 1)
    if not 0 <= tolerance < 1:
        raise ValueError(
            f"snap_tolerance must be in [0, 1), got {tolerance!r}; brain tissue begins well above -1 + 0.1"
        )
    images = images.clamp(-1, 1)
    background = (images <= -1 + tolerance).all(dim=1, keepdim=True)
    return images.masked_fill(background, -1)
