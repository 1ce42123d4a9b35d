"""Is an image skull-stripped, and what a brain mask makes of one that is not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scripts.volumes.volume import Volume, require_one_geometry


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


def require_skull_stripped(
    volumes: Mapping[str, Volume], max_brain_ml: float = 2200.0, min_background: float = 0.2
) -> None:
    """Refuse images that show more than a brain: a network that learned from stripped images segments skulls.

    What is not exactly 0 counts as brain. A head with air of noise has no background; a head with clean air is larger
    than a brain. A field of view that holds a small part of a head in clean air is not found out.

    Args:
        volumes: modality -> volume.
        max_brain_ml: ml; a skull holds at most about 1900.
        min_background: share of the voxels, in [0, 1]; the box around an ellipsoid has 0.48.

    Raises:
        ValueError: naming the first image that is not skull-stripped.
    """
    for modality, volume in volumes.items():
        share = np.count_nonzero(volume.stored) / volume.data.size
        brain_ml = share * volume.data.size * volume.voxel_volume_ml
        if 1 - share < min_background or brain_ml > max_brain_ml:
            raise ValueError(
                f"{modality} must be skull-stripped, 0 outside the brain, got {1 - share:.0%} of its voxels at 0 and"
                f" {brain_ml:.0f} ml that are not ({volume.path}); give a brain mask in the column brain_mask of the"
                " cohort's table, or strip the skull first"
            )
