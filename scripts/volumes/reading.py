"""NIfTI volumes read in one pass and turned to one orientation without a copy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from isal.igzip_lib import IsalError

from scripts.volumes.volume import Volume

GZIP_MAGIC = b"\x1f\x8b"


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file of one 3D image, decompressing it once.

    Args:
        path: `.nii` or `.nii.gz` file; a fourth dimension of size 1 is dropped.

    Returns:
        The voxels with slope and intercept applied, in the file's order, and the affine.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, corrupt, not NIfTI, not 3D, or holds values that are not finite.
    """
    data, affine = _read(Path(path))
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise ValueError(f"{path} must hold one 3D image, got shape {data.shape}; give a 4D file as `image`")
    return _checked(Volume(str(path), data, affine))


def read_channels(path: str | os.PathLike[str], channel_order: Sequence[str] | None) -> dict[str, Volume]:
    """Read a NIfTI file that holds all modalities along its fourth dimension (Medical Decathlon).

    Args:
        path: `.nii` or `.nii.gz` file, (I, J, K, C).
        channel_order: modality of each channel, C names.

    Returns:
        Modality -> volume; the volumes share the memory of one read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or `channel_order` is absent or does not name each channel once.
    """
    data, affine = _read(Path(path))
    if not channel_order:
        raise ValueError(f"channel_order must name the {data.shape[-1]} channels of {path}, got {channel_order!r}")
    if data.ndim != 4 or data.shape[3] != len(channel_order) or len(set(channel_order)) != len(channel_order):
        raise ValueError(
            f"channel_order must name each channel of {path} of shape {data.shape} once, got {list(channel_order)!r}"
        )
    return {
        modality: _checked(Volume(f"{path} ({modality})", data[..., channel], affine))
        for channel, modality in enumerate(channel_order)
    }


def mask_codes_in(volume: Volume) -> list[int]:
    """List the codes of a mask that was read.

    Args:
        volume: whole numbers of at least 0, whatever their type.

    Returns:
        Codes that occur, sorted, without the background (0).

    Raises:
        ValueError: if the mask holds fractions or negative numbers.
    """
    stored = volume.stored
    codes = np.unique(stored[stored != 0])
    if codes.size and ((codes != np.round(codes)).any() or codes[0] < 0):
        raise ValueError(
            f"{volume.path} must hold whole codes of at least 0, got {', '.join(f'{code:g}' for code in codes[:5])};"
            " resample masks with nearest neighbors only"
        )
    return [int(code) for code in codes]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; check the path in cohort.json, or scan the cohort again")
    raw = _decompress(path, path.read_bytes())
    header = _header(path, raw)
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    offset = int(header.get_data_offset())
    needed = offset + int(np.prod(shape)) * dtype.itemsize
    if len(raw) < needed:
        raise ValueError(f"{path} must hold {needed} bytes for shape {shape}, got {len(raw)}; copy the file again")
    data = np.ndarray(shape, dtype, buffer=raw, offset=offset, order="F")
    return _scaled(data, header), header.get_best_affine()


def _decompress(path: Path, raw: bytes) -> bytes:
    if raw[:2] != GZIP_MAGIC:
        return raw
    try:
        # Faster than igzip.decompress, which reads files of several members (bgzip) too.
        member = isal_zlib.decompressobj(wbits=31)
        content = member.decompress(raw)
        return content if member.eof and not member.unused_data else igzip.decompress(raw)
    except (IsalError, EOFError, OSError) as error:  # type: ignore[misc]
        raise ValueError(f"{path} must be a complete gzip file, got {error}; copy or download it again") from error


def _header(path: Path, raw: bytes) -> nib.Nifti1Header:
    try:
        kind = nib.Nifti2Header if _header_size(raw) == 540 else nib.Nifti1Header
        header = kind(raw[: kind.template_dtype.itemsize])
    except (nib.spatialimages.HeaderDataError, nib.wrapstruct.WrapStructError, ValueError, IndexError) as error:
        raise ValueError(f"{path} must be a NIfTI file (.nii or .nii.gz), got a header with {error}") from error
    if header["magic"] == b"ni1":
        raise ValueError(f"{path} must hold header and image in one file, got a .hdr of a pair; convert it to .nii.gz")
    return header


def _header_size(raw: bytes) -> int:
    sizes = {int.from_bytes(raw[:4], "little"), int.from_bytes(raw[:4], "big")}
    known = sizes & {348, 540}
    if not known:
        raise ValueError("no NIfTI signature")
    return known.pop()


def _scaled(data: np.ndarray, header: nib.Nifti1Header) -> np.ndarray:
    slope, intercept = header.get_slope_inter()
    if slope is None or (slope == 1 and not intercept):
        return data
    return data * np.float64(slope) + np.float64(intercept or 0)


def _checked(volume: Volume) -> Volume:
    if volume.data.dtype.kind not in "iuf":
        raise ValueError(f"{volume.path} must hold real numbers, got {volume.data.dtype}; convert it to int16")
    # The extremes carry any not-a-number or infinity, and need no array of booleans.
    if volume.data.dtype.kind == "f" and not np.isfinite([volume.data.min(), volume.data.max()]).all():
        raise ValueError(f"{volume.path} must hold finite values, got NaN or infinity; export the file again")
    if not np.isfinite(volume.affine).all() or np.linalg.det(volume.affine[:3, :3]) == 0:
        raise ValueError(f"{volume.path} must have an invertible affine, got {volume.affine.tolist()}; fix its header")
    return volume
