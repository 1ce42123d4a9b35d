"""What a brain mask makes of images that are not skull-stripped."""

from __future__ import annotations

from collections.abc import Mapping

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
