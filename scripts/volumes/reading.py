"""Volumes read in one pass, with the voxels in the order of their file: NIfTI, and pictures as volumes of one slice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.volumes.analyze import is_pair, read_analyze_header
from scripts.volumes.file_names import HEADER_ENDING, is_picture, other_half
from scripts.volumes.headers import Header, VolumeError, naming, parse_header, require_length, unpack
from scripts.volumes.picture_files import read_picture
from scripts.volumes.volume import Volume

CODE_TOLERANCE = 1e-3  # codes stored with a scale factor come back as .9999999
LARGEST_CODE = 65535


def read_volume(path: str | os.PathLike[str], orientation: str | None = None) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file of one 3D image, decompressing it once, an Analyze pair, or a grey picture.

    Args:
        path: file, packed or not, whatever its name ends in, but for the endings of pictures and of Analyze (either
            half); dimensions of 1 behind the third are dropped.
        orientation: of an Analyze pair, see `scripts.volumes.analyze.check_orientation`.

    Returns:
        The voxels with slope and intercept applied, in the file's order, and the affine.

    Raises:
        FileNotFoundError: if there is no such file.
        VolumeError: if it is truncated, corrupt, not NIfTI, not 3D, holds values that are not finite, or has a header
            that is refused (see `scripts.volumes.headers.parse_header`).
    """
    path = Path(path)
    if is_picture(path):
        return read_picture(path).volumes(["grey"])["grey"]
    with naming(path):
        header, data = _read(path, orientation)
        if data.ndim != 3:
            raise VolumeError(f"{path} must hold one 3D image, got shape {data.shape}; give a 4D file as `image`")
        return _checked(Volume(str(path), data, header.affine))


def read_channels(
    path: str | os.PathLike[str], channel_order: Sequence[str] | None, orientation: str | None = None
) -> dict[str, Volume]:
    """Read a file that holds all modalities along its fourth dimension (Medical Decathlon), or its fifth (ITK).

    Args:
        path: NIfTI or Analyze, (I, J, K, C) or (I, J, K, 1, C); or a picture, whose channels are grey or red, green
            and blue.
        channel_order: modality of each channel, C names.
        orientation: of an Analyze pair, see `scripts.volumes.analyze.check_orientation`.

    Returns:
        Modality -> volume; the volumes share the memory of one read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or `channel_order` is absent or does not name each channel once.
    """
    path = Path(path)
    if is_picture(path):
        return read_picture(path).volumes(channel_order or [])
    with naming(path):
        header, data = _read(path, orientation)
        data = data if data.ndim == 4 else data[..., None]
        if not channel_order:
            raise VolumeError(f"channel_order must name the {data.shape[3]} channels of {path}, got {channel_order!r}")
        if data.shape[3] != len(channel_order) or len(set(channel_order)) != len(channel_order):
            raise VolumeError(
                f"channel_order must name each channel of {path} of shape {header.shape} once, got"
                f" {list(channel_order)!r}"
            )
        return {
            modality: _checked(Volume(f"{path} ({modality})", data[..., channel], header.affine))
            for channel, modality in enumerate(channel_order)
        }


def read_mask(path: str | os.PathLike[str], orientation: str | None = None) -> Volume:
    """Read a mask: whole codes of at least 0, 0 the background.

    Args:
        path: as in `read_volume`; codes within a thousandth of whole numbers are stored with a scale factor.
        orientation: likewise.

    Returns:
        The codes as integers.

    Raises:
        FileNotFoundError: if there is no such file.
        VolumeError: if it cannot be read, or holds fractions, negative numbers or numbers that are no codes.
    """
    volume = read_volume(path, orientation)
    stored = volume.stored
    values = np.unique(stored[stored != 0]).astype(np.float64)
    codes = np.rint(values)
    odd = values[(np.abs(values - codes) > CODE_TOLERANCE) | (codes < 0) | (codes > LARGEST_CODE)]
    if odd.size:
        raise VolumeError(
            f"{volume.path} must hold whole codes of at least 0, got {', '.join(f'{code:.9g}' for code in odd[:5])};"
            " resample masks with nearest neighbors only"
        )
    if volume.data.dtype.kind != "f":
        return volume
    return Volume(volume.path, np.rint(volume.data).astype(np.uint16), volume.affine)


def mask_codes_in(mask: Volume) -> list[int]:
    """List the codes of a mask from `read_mask`, sorted, without the background (0)."""
    stored = mask.stored
    return [int(code) for code in np.unique(stored[stored != 0])]


def _read(path: Path, orientation: str | None = None) -> tuple[Header, np.ndarray]:
    if is_pair(path):
        header = read_analyze_header(path, orientation)
        path = other_half(path) if path.suffix.lower() == HEADER_ENDING else path
        raw = path.read_bytes()
    else:
        raw = unpack(path, path.read_bytes())
        header = parse_header(path, raw)
    require_length(path, header, len(raw))
    data = np.ndarray(header.shape, header.dtype, buffer=raw, offset=header.offset, order="F")
    if header.slope == 1 and not header.intercept:
        return header, data
    return header, data * np.float64(header.slope) + np.float64(header.intercept)


def _checked(volume: Volume) -> Volume:
    if volume.data.dtype.kind not in "iuf":
        raise VolumeError(f"{volume.path} must hold real numbers, got {volume.data.dtype}; convert it to int16")
    # The extremes carry any not-a-number or infinity, and need no array of booleans.
    if volume.data.dtype.kind == "f" and not np.isfinite([volume.data.min(), volume.data.max()]).all():
        raise VolumeError(f"{volume.path} must hold finite values, got NaN or infinity; export the file again")
    return volume
