"""NIfTI volumes read in one pass and turned to one orientation without a copy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from isal.igzip_lib import IsalError
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

GZIP_MAGIC = b"\x1f\x8b"
GEOMETRY_TOLERANCE = 1e-3  # mm (and mm a voxel) between the affines of one subject


@dataclass(frozen=True)
class Volume:
    """One 3D image as it lies in its file, and views of it in RAS+ order.

    Args:
        path: file it came from, for messages.
        data: voxels in the order of the file, (I, J, K), any real type.
        affine: voxel indices of the file -> mm, (4, 4).
    """

    path: str
    data: np.ndarray
    affine: np.ndarray

    @cached_property
    def orientation(self) -> np.ndarray:
        """Axis and direction of each file axis in RAS+, (3, 2), as nibabel's `io_orientation`."""
        return io_orientation(self.affine)

    @cached_property
    def ras(self) -> np.ndarray:
        """View of the voxels with axes towards right, anterior and superior; shares memory with `data`."""
        return apply_orientation(self.data, self.orientation)

    @cached_property
    def ras_to_file(self) -> np.ndarray:
        """Voxel indices of `ras` -> voxel indices of the file, (4, 4)."""
        return inv_ornt_aff(self.orientation, self.data.shape)

    @cached_property
    def ras_affine(self) -> np.ndarray:
        """Voxel indices of `ras` -> mm, (4, 4)."""
        return self.affine @ self.ras_to_file

    @cached_property
    def spacing_mm(self) -> np.ndarray:
        """Voxel size along the axes of `ras`, (3,), mm; rounded to 1e-6, below what a float32 header holds."""
        return np.round(np.linalg.norm(self.ras_affine[:3, :3], axis=0), 6)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel, ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def stored(self) -> np.ndarray:
        """All voxels in the order of memory, (N,): a view where possible, for statistics in which order is nothing."""
        return self.data.ravel(order="K")


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


def require_one_geometry(volumes: Mapping[str, Volume]) -> None:
    """Refuse volumes that do not lie on one voxel grid once they are in RAS+ order.

    Args:
        volumes: name -> volume; all are compared with the first.

    Raises:
        ValueError: naming the two files, if shapes differ or affines differ by more than 1e-3.
    """
    (reference_name, reference), *others = volumes.items()
    for name, volume in others:
        if difference := geometry_difference(reference, volume):
            raise ValueError(
                f"{name} must lie on the voxel grid of {reference_name}, got {difference} ({volume.path} against"
                f" {reference.path}); resample the file, or set registration: true in configs/patches.yaml"
            )


def geometry_difference(reference: Volume, volume: Volume) -> str:
    """Say in what the RAS+ grids of two volumes differ; empty if they agree within 1e-3."""
    if reference.ras.shape != volume.ras.shape:
        return f"shape {volume.ras.shape} instead of {reference.ras.shape}"
    distance = float(np.abs(reference.ras_affine - volume.ras_affine).max())
    return f"affines that differ by {distance:.4g}" if not distance <= GEOMETRY_TOLERANCE else ""


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
