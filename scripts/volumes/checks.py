"""Is a volume of a cohort what it should be: readable, finite, not constant, on the grid of the others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.volumes.analyze import is_pair, read_analyze_header
from scripts.volumes.brain_images import USUAL_LIMITS, BrainLimits, require_brain_images
from scripts.volumes.file_names import is_picture
from scripts.volumes.headers import VolumeError, read_header
from scripts.volumes.picture_files import RGB, ROWS_RUN_DOWN, picture_header, read_picture, require_channels
from scripts.volumes.reading import mask_codes_in, read_channels, read_mask, read_volume
from scripts.volumes.volume import Volume, geometry_difference


def check_grid(
    paths: Mapping[str, Path], num_channels: int | None = None, orientation: str | None = None
) -> dict[str, Any]:
    """Check from the headers alone that the volumes of one subject lie on one grid.

    Args:
        paths: name of the volume (a modality, `image`, `mask`) -> file.
        num_channels: of the 4D file `image`, if there is one.
        orientation: of Analyze pairs, see `scripts.volumes.analyze.check_orientation`.

    Returns:
        Of the first, `size`, voxels along the axes to the right, the front and up, and `spacing_mm`, their lengths.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if one is no volume, has a fourth dimension that was not declared, or is on another grid.
    """
    volumes = {
        name: _empty_volume(path, num_channels if name == "image" else None, orientation)
        for name, path in paths.items()
    }
    (first, reference), *others = volumes.items()
    for name, volume in others:
        if difference := geometry_difference(reference, volume):
            raise ValueError(
                f"{volume.path} ({name}) must lie on the voxel grid of {reference.path} ({first}), got {difference};"
                " resample it, or set require_one_grid: false here and registration: true in configs/patches.yaml"
            )
    return {"size": list(reference.ras.shape), "spacing_mm": reference.spacing_mm.tolist()}


def check_image(
    path: Path,
    channel_order: Sequence[str] | None = None,
    limits: BrainLimits | None = USUAL_LIMITS,
    orientation: str | None = None,
) -> dict[str, str]:
    """Read an image and check that every modality in it is finite, not constant, and of a brain.

    Args:
        path: NIfTI file.
        channel_order: modality of each channel of a 4D file; None for a 3D file.
        limits: of what counts as skull-stripped; None for an image that a brain mask strips later.
        orientation: of an Analyze pair, see `scripts.volumes.analyze.check_orientation`.

    Returns:
        Path, or path and modality -> sha256 of the voxels.

    Raises:
        ValueError: if the file is cut short or corrupt, or a modality is constant, not finite or not skull-stripped.
    """
    if channel_order is None:
        volumes = [read_volume(path, orientation)]
    else:
        volumes = list(read_channels(path, channel_order, orientation).values())
    hashes = {volume.path: _hash_of_varied(volume) for volume in volumes}
    if limits is not None:
        require_brain_images({volume.path: volume for volume in volumes}, limits)
    return hashes


def check_picture(path: Path, channel_order: Sequence[str]) -> tuple[str, dict[str, Any], np.ndarray | None]:
    """Read a picture and check that it shows something.

    Args:
        path: of the picture.
        channel_order: of grey, or of red, green and blue.

    Returns:
        sha256 of the pixels of these channels, and facts and thumbnail of `scripts.volumes.picture_files.Picture`.

    Raises:
        ValueError: if it cannot be read, is of one color throughout, or has colors where grey is asked for.
    """
    picture = read_picture(path)
    if all(plane.min() == plane.max() for plane in picture.planes):
        color = picture.planes[:, 0, 0].tolist()
        raise ValueError(f"{path} must not be constant, got {color} in every pixel; export it again")
    return picture.digest(channel_order), picture.facts(), picture.thumbnail()


def find_mask_codes(path: Path, orientation: str | None = None) -> list[int]:
    """Read a mask and list its codes.

    Args:
        path: NIfTI file of whole numbers, whatever their type.
        orientation: of an Analyze pair, see `scripts.volumes.analyze.check_orientation`.

    Returns:
        Codes that occur, sorted, without the background (0).

    Raises:
        ValueError: if the file is cut short, holds fractions or negative numbers, or is empty.
    """
    codes = mask_codes_in(read_mask(path, orientation))
    if not codes:
        raise ValueError(
            f"{path} must hold a tumor, got an empty mask; correct it, or leave the subject out (leave_out)"
        )
    return codes


def _empty_volume(path: Path, num_channels: int | None, orientation: str | None = None) -> Volume:
    """A volume with the geometry of a file and no voxels in memory."""
    if is_picture(path):
        require_channels(RGB if num_channels == len(RGB) else ["grey"] * (num_channels or 1), path)
        return Volume(str(path), np.broadcast_to(np.uint8(0), (*picture_header(path)["size"], 1)), ROWS_RUN_DOWN)
    header = read_analyze_header(path, orientation) if is_pair(path) else read_header(path)
    channels = header.shape[3] if len(header.shape) == 4 else 1
    if num_channels is not None and channels != num_channels:
        raise VolumeError(
            f"{path} must be 4D with the {num_channels} channels of its channel_order, got shape {header.shape}"
        )
    if num_channels is None and channels != 1:
        raise VolumeError(
            f"{path} must be one 3D volume, got shape {header.shape}; a 4D file is an `image` with a channel_order"
        )
    return Volume(str(path), np.broadcast_to(np.uint8(0), header.shape[:3]), header.affine)


def _hash_of_varied(volume: Volume) -> str:
    stored = volume.stored
    if stored.min() == stored.max():
        raise ValueError(f"{volume.path} must not be constant, got {stored[0]} in every voxel; export it again")
    return hashlib.sha256(np.ascontiguousarray(stored).data.cast("B")).hexdigest()
