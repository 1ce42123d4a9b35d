"""Are these images of a brain as the method needs them? What every door refuses, and what a brain mask mends."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scripts.volumes.volume import Volume, require_one_geometry

REACH_MM = 5.0  # of a click: a hole of zeros in the brain is smaller


@dataclass(frozen=True)
class BrainLimits:
    """What counts as skull-stripped: what is not exactly 0 is taken for brain.

    A head with air of noise has no background; a head with clean air is larger than a brain. A field of view that holds
    a small part of a head in clean air is not found out.

    Args:
        max_brain_ml: ml; a skull holds at most about 1900. None: these are no images of a brain, and none of the checks
            here is made.
        min_background: share of the voxels that are 0, in [0, 1); the box around an ellipsoid has 0.48.
    """

    max_brain_ml: float | None = 2200.0
    min_background: float = 0.2

    def __post_init__(self) -> None:
        if not (self.max_brain_ml is None or self.max_brain_ml > 0) or not 0 <= self.min_background < 1:
            raise ValueError(
                f"max_brain_ml must be > 0, or null for images of no brain, and min_background in [0, 1), got"
                f" {self.max_brain_ml!r} and {self.min_background!r}"
            )


USUAL_LIMITS = BrainLimits()


def require_brain_images(
    volumes: Mapping[str, Volume],
    limits: BrainLimits,
    click_ras: np.ndarray | None = None,
    clicked: Volume | None = None,
) -> None:
    """Refuse volumes that the method would take without a word, and answer about wrongly.

    Args:
        volumes: modality -> volume, on one grid.
        limits: of what counts as skull-stripped.
        click_ras: voxel that somebody clicked on (RAS+ indices), if anybody did.
        clicked: volume in whose file it was, for messages; None for the first.

    Raises:
        ValueError: naming the file, if two modalities are one image, the click is outside the brain, an image is not
            skull-stripped or constant inside the brain.
    """
    if limits.max_brain_ml is None:
        return
    _require_different(volumes)
    if click_ras is not None:
        _require_brain_at(volumes, click_ras, clicked or next(iter(volumes.values())))
    for volume in volumes.values():
        _require_skull_stripped(volume, limits.max_brain_ml, limits.min_background)


def strip_skull(volumes: Mapping[str, Volume], brain_mask: Volume) -> dict[str, Volume]:
    """Set what lies outside the brain to 0.

    Args:
        volumes: modality -> volume.
        brain_mask: 0 outside the brain, on the RAS+ grid of the volumes.

    Returns:
        Modality -> new volume; the brain is unchanged.

    Raises:
        ValueError: if the mask is empty, or on another grid.
    """
    if not brain_mask.stored.any():
        raise ValueError(f"brain_mask must hold a brain, got an empty mask {brain_mask.path}; correct it")
    require_one_geometry({**volumes, "brain_mask": brain_mask})
    outside = brain_mask.ras == 0
    stripped = {}
    for modality, volume in volumes.items():
        stripped[modality] = Volume(volume.path, volume.data.copy(), volume.affine)
        stripped[modality].ras[outside] = 0
    return stripped


def _require_different(volumes: Mapping[str, Volume]) -> None:
    for (name, one), (other_name, other) in itertools.combinations(volumes.items(), 2):
        if np.array_equal(one.ras, other.ras):
            raise ValueError(
                f"{name} and {other_name} must be different images, got the same voxels in {one.path} and"
                f" {other.path}; give each modality its own file"
            )


def _require_brain_at(volumes: Mapping[str, Volume], click_ras: np.ndarray, reference: Volume) -> None:
    reach = np.floor(REACH_MM / reference.spacing_mm)
    low = np.maximum(click_ras - reach, 0).astype(int)
    near = tuple(slice(start, int(end) + 1) for start, end in zip(low, click_ras + reach, strict=True))
    if not any(volume.ras[near].any() for volume in volumes.values()):
        raise ValueError(
            f"click {reference.voxel_in_file(click_ras)} must lie in the brain, got only background within {REACH_MM:g}"
            f" mm of it in {reference.path}; give zero-based voxel indices of that file, in the order of its axes"
        )


def _require_skull_stripped(volume: Volume, max_brain_ml: float, min_background: float) -> None:
    stored = volume.stored
    brain = stored[stored != 0]
    background = 1 - brain.size / stored.size
    brain_ml = brain.size * volume.voxel_volume_ml
    if background < min_background or brain_ml > max_brain_ml:
        raise ValueError(
            f"{volume.path} must be skull-stripped, 0 outside the brain, got {background:.0%} of its voxels at 0 and"
            f" {brain_ml:.0f} ml that are not; strip the skull (skull_strip of configs/segment.yaml, of a"
            " DICOM study --skull_strip), or give a brain_mask (a column of the cohort's table, a key of"
            " configs/inference.yaml); max_brain_ml and min_background say what is taken, null takes images of no brain"
        )
    if not brain.size or not float(brain.max()) - float(brain.min()) > np.finfo(np.float32).tiny:
        raise ValueError(
            f"{volume.path} must vary inside the brain (its non-zero voxels), got a constant volume;"
            " export the file again or leave the subject out"
        )
