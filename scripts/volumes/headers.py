"""The header of a NIfTI file: read by content, not by name, and refused where it is damaged or contradicts the file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib

from scripts.running.files import why_no_file

GZIP_MAGIC = b"\x1f\x8b"
LFS_POINTER = b"version https://git-lfs"
HEADER_SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
LONGEST_HEADER = max(HEADER_SIZES)
BEGINNING = 1 << 16  # bytes of a file that surely hold its header, packed or not
EXTRA_BYTES = 16  # that may follow the voxels
UNIT_CODES = 7  # bits of xyzt_units that say the unit of length
LENGTH_UNITS = {0, 2}  # unknown (taken as mm, as everybody does) and mm


class VolumeError(ValueError):
    """A file that cannot be used as a volume; the message names it."""


@dataclass(frozen=True)
class Header:
    """What a NIfTI header says, checked.

    Args:
        shape: (I, J, K), or (I, J, K, C) of a file of several channels; dimensions of 1 behind the third are left out.
        dtype: of the voxels in the file.
        offset: bytes before the first voxel.
        slope: factor of the stored numbers.
        intercept: what is added then.
        affine: voxel indices -> mm, (4, 4) float64, invertible.
        description: `descrip`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float
    affine: np.ndarray
    description: bytes

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole file, unpacked."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read the header of a NIfTI file, packed or not, whatever its name ends in.

    Args:
        path: NIfTI-1 or NIfTI-2 in one file.

    Raises:
        FileNotFoundError: if there is no such file.
        VolumeError: if it is no NIfTI file, or its header is damaged or one that is not taken (see `parse_header`).
    """
    path = Path(path)
    with naming(path), path.open("rb") as stream:
        raw = stream.read(BEGINNING)
        if raw[:2] == GZIP_MAGIC:
            raw = isal_zlib.decompressobj(wbits=31).decompress(raw, LONGEST_HEADER)
            if len(raw) < LONGEST_HEADER:  # the file is cut short, or of very short members
                raw = unpack(path, path.read_bytes())
        return parse_header(path, raw)


def parse_header(path: Path, raw: bytes) -> Header:
    """Read the header at the beginning of a file's content.

    Args:
        path: for messages.
        raw: at least the header, unpacked.

    Raises:
        VolumeError: if there is none, if its fields contradict each other, or if it does not say where the voxels lie
            in the body, in mm.
    """
    kind = HEADER_SIZES.get(int.from_bytes(raw[:4], "little")) or HEADER_SIZES.get(int.from_bytes(raw[:4], "big"))
    if kind is None:
        raise VolumeError(f"{path} must be a NIfTI file (.nii or .nii.gz), got {_describe_content(raw)}")
    block = raw[: kind.template_dtype.itemsize]
    as_written: Any = kind(block, check=False)
    require_supported(path, int(as_written["datatype"]), nib.nifti1.data_type_codes)
    fields: Any = kind(block)  # mended where nibabel can
    if as_written["magic"] == b"ni1":
        raise VolumeError(f"{path} must hold header and image in one file, got a .hdr of a pair; convert it to .nii.gz")
    dtype = fields.get_data_dtype()
    _require_consistent(path, as_written, dtype)
    slope, intercept = fields.get_slope_inter()
    return Header(
        shape=spatial_shape(path, fields),
        dtype=dtype,
        offset=int(fields.get_data_offset()),
        slope=1.0 if slope is None else float(slope),
        intercept=float(intercept or 0) if slope is not None else 0.0,
        affine=_affine_of(path, fields),
        description=bytes(fields["descrip"].item()),
    )


def unpack(path: Path, raw: bytes) -> bytes:
    """Decompress what is gzip, of one member or several, and check its sums; bytes behind the stream are no image.

    Args:
        path: for messages.
        raw: content of the file.

    Raises:
        VolumeError: if the stream is cut short or corrupt.
    """
    if raw[:2] != GZIP_MAGIC:
        return raw
    try:
        # Faster than igzip.decompress, which reads files of several members (bgzip) too.
        member = isal_zlib.decompressobj(wbits=31)
        content = member.decompress(raw)
        if not member.eof:
            raise EOFError("an end in the middle of its stream")
        return igzip.decompress(raw) if member.unused_data[:2] == GZIP_MAGIC else content
    except Exception as error:
        raise VolumeError(f"{path} must be a complete gzip file, got {error}; copy or download it again") from error


def require_length(path: Path, header: Header, num_bytes: int) -> None:
    """Refuse a file that is shorter, or longer, than its header says.

    Args:
        path: for messages.
        header: of the file.
        num_bytes: of the file, unpacked.

    Raises:
        VolumeError: if bytes are missing, or more than a few are left over.
    """
    content = f"{header.num_bytes} bytes for shape {header.shape} of {header.dtype}"
    if num_bytes < header.num_bytes:
        raise VolumeError(f"{path} must hold {content}, got {num_bytes}; copy the file again")
    if num_bytes > header.num_bytes + EXTRA_BYTES:
        raise VolumeError(
            f"{path} must end behind {content}, got {num_bytes}: its header is of another image; export it again"
        )


@contextmanager
def naming(path: Path, kind: str = "NIfTI file") -> Iterator[None]:
    """Name the file in whatever goes wrong while it is read.

    Args:
        path: of the file.
        kind: what it should be.

    Raises:
        FileNotFoundError: if there is no such file, or none that may be read.
        VolumeError: for all else.
    """
    if why := why_no_file(path):
        raise FileNotFoundError(f"{path} {why}; correct the path, or leave the subject out")
    try:
        yield
    except (VolumeError, FileNotFoundError, MemoryError):
        raise
    except Exception as error:
        fault = f"{error.strerror}" if isinstance(error, OSError) and error.strerror else f"{error}"
        raise VolumeError(
            f"{path} must be a whole {kind} that can be read, got {fault or type(error).__name__}; copy or"
            " export it again"
        ) from error


def _describe_content(raw: bytes) -> str:
    """Say in a few words what a file is that is no NIfTI."""
    if raw.startswith(LFS_POINTER):
        return "a pointer of Git LFS in its place; fetch the file with `git lfs pull`"
    if not raw:
        return "an empty file; copy or download it again"
    start = raw[:60]
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return f"text that begins with {start.decode()!r}; download the image itself"
    return "another kind of file; convert it to .nii.gz, or give a picture the ending of its format (.png, .jpg)"


def _require_consistent(path: Path, fields: Any, dtype: np.dtype) -> None:
    bits, offset, least = int(fields["bitpix"]), float(fields["vox_offset"]), fields.single_vox_offset
    if bits != dtype.itemsize * 8:
        raise VolumeError(
            f"{path} must hold {dtype.itemsize * 8} bits per voxel (bitpix), as its datatype {dtype} says, got {bits};"
            " its header contradicts itself: export it again"
        )
    if not least <= offset < math.inf:
        raise VolumeError(
            f"{path} must have its voxels behind the header (vox_offset of at least {least}), got {offset:g}; export"
            " it again"
        )
    if int(fields["xyzt_units"]) & UNIT_CODES not in LENGTH_UNITS:
        unit = fields.get_xyzt_units()[0]
        raise VolumeError(f"{path} must be measured in mm (xyzt_units), got {unit}; write it in mm")


def require_supported(path: Path, code: int, known: Any) -> None:
    """Refuse a code of a data type that a format does not have.

    Args:
        path: for messages.
        code: of the header.
        known: nibabel's codes of the format.

    Raises:
        VolumeError: with the code.
    """
    if code not in known.code:
        raise VolumeError(f"{path} must hold numbers of a type of NIfTI, got data code {code}; copy or export it again")


def spatial_shape(path: Path, fields: Any) -> tuple[int, ...]:
    """Return the shape that a header gives, (I, J, K) or (I, J, K, C), without dimensions of 1 behind the third.

    Raises:
        VolumeError: if there are fewer than three dimensions, or more than four.
    """
    shape = tuple(int(size) for size in fields.get_data_shape())
    channels = tuple(size for size in shape[3:] if size != 1)
    if len(shape) < 3 or min(shape) < 1 or len(channels) > 1:
        raise VolumeError(
            f"{path} must have three dimensions of at least 1, and at most one more (channels), got shape {shape};"
            " export it again"
        )
    return shape[:3] + channels


def _affine_of(path: Path, fields: Any) -> np.ndarray:
    if int(fields["qform_code"]) <= 0 and int(fields["sform_code"]) <= 0:
        raise VolumeError(
            f"{path} must say how it lies in the body, got neither qform nor sform (both codes are 0), so left and"
            " right are unknown; export it again from what it was made of"
        )
    affine = np.asarray(fields.get_best_affine(), np.float64)
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise VolumeError(f"{path} must have an invertible affine, got {affine.tolist()}; fix its header")
    return affine
