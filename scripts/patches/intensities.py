"""Which intensities of a volume become -1 and 1, its patch in these units, and what of that is background."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from monai.transforms import Transform
from torch import Tensor

from scripts.patches.subject_volumes import Subject
from scripts.volumes.volume import Volume

BACKGROUND = -1.0
# The darkest pixel of an image without a background: a step of float32 above it, so that nobody takes it for one.
DARKEST = float(np.nextafter(np.float32(BACKGROUND), np.float32(0)))
Array = TypeVar("Array", np.ndarray, Tensor)


class MeasureIntensitiesd(Transform):
    """Measure, once a volume, which intensities of the brain become -1 and 1.

    The brain is what is not exactly zero: interpolation leaves small negative values at its rim (a few in a thousand
    voxels of the TCGA cases), which "greater than zero" would take for background, together with half of a volume that
    was z-scored before. Adds `intensity_ranges` (modality -> (low, high)) and `has_background`.

    Args:
        mode: "percentile": low and high are percentiles; "zscore": mean -+ `zscore_limit` standard deviations; "fixed":
            `intensity_range` for all channels and images, as colors need it: a scale for each would change them.
        percentiles: lower and upper, exact with linear interpolation, in [0, 100].
        zscore_limit: standard deviations that become -1 and 1, > 0.
        intensity_range: low and high of mode "fixed", in the units of the files; 0 to 255 are those of pictures.
        background: whether exact zeros are background. Without one they count as any intensity, and no pixel of the
            patch is `BACKGROUND`: the darkest is `DARKEST`.
    """

    def __init__(
        self,
        mode: str = "percentile",
        percentiles: Sequence[float] = (0.5, 99.5),
        zscore_limit: float = 4.0,
        intensity_range: Sequence[float] = (0, 255),
        background: bool = True,
    ) -> None:
        if mode not in ("percentile", "zscore", "fixed"):
            raise ValueError(f"intensity_mode must be 'percentile', 'zscore' or 'fixed', got {mode!r}")
        if len(intensity_range) != 2 or not intensity_range[0] < intensity_range[1]:
            raise ValueError(f"intensity_range must be two increasing numbers, got {list(intensity_range)!r}")
        if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ValueError(
                f"intensity_percentiles must be two increasing numbers in [0, 100], got {list(percentiles)!r}"
            )
        if not zscore_limit > 0:
            raise ValueError(f"zscore_limit must be > 0, got {zscore_limit!r}")
        self.mode = mode
        self.percentiles = list(percentiles)
        self.zscore_limit = zscore_limit
        self.intensity_range = list(intensity_range)
        self.background = background

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Measure the volumes.

        Raises:
            ValueError: if a volume is constant inside the brain.
        """
        ranges = {key: self.measure(volume) for key, volume in data["volumes"].items()}
        return {**data, "intensity_ranges": ranges, "has_background": self.background}

    def pixel_settings(self) -> dict[str, Any]:
        """Return what the facts of images do not tell by name, as they do mode, percentiles and limit."""
        fixed = {"range": self.intensity_range} if self.mode == "fixed" else {}
        return {**fixed, **({} if self.background else {"background": False})}

    def measure(self, volume: Volume) -> tuple[float, float]:
        """Return the intensities of a volume that become -1 and 1, in its own units."""
        if self.mode == "fixed":
            return float(self.intensity_range[0]), float(self.intensity_range[1])
        stored = volume.stored
        brain = stored[stored != 0] if self.background else stored
        if brain.size and self.mode == "percentile":
            low, high = np.percentile(brain, self.percentiles).tolist()
        elif brain.size:
            mean, deviation = brain.mean(dtype=np.float64), brain.std(dtype=np.float64)
            low, high = float(mean - self.zscore_limit * deviation), float(mean + self.zscore_limit * deviation)
        if not brain.size or not low < high:
            raise ValueError(
                f"{volume.path} must vary inside the brain (its non-zero voxels), got a constant volume;"
                " export the file again or leave the subject out"
            )
        return low, high


def scale_intensities(values: np.ndarray, low: float, high: float, background: bool = True) -> np.ndarray:
    """Map intensities to [-1, 1], clipped, and exact zeros, the background, to exactly -1.

    Args:
        values: intensities, any shape and real type.
        low: intensity that becomes -1.
        high: intensity that becomes 1.
        background: false: zeros are intensities as others.

    Returns:
        Same shape, float64, in [-1, 1].
    """
    scaled = np.clip((values.astype(np.float64) - low) * (2 / (high - low)) - 1, -1, 1)
    return np.where(values == 0, BACKGROUND, scaled) if background else scaled


def foreground(image: Array, channel_axis: int = 0) -> Array:
    """Mark where any channel is not background.

    Args:
        image: intensities in [-1, 1], exactly -1 where there is nothing.
        channel_axis: axis of the channels.

    Returns:
        Booleans, the shape of `image` without that axis.
    """
    return (image != BACKGROUND).any(channel_axis)
