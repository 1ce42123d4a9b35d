"""Analyze 7.5, an image in a pair of files: sizes from the header, the place in the body as a person states it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt

from scripts.running.files import why_no_file
from scripts.volumes.file_names import HEADER_ENDING, is_analyze, other_half
from scripts.volumes.headers import GZIP_MAGIC, HEADER_SIZES, Header, VolumeError, require_supported, spatial_shape

OPPOSITES = ("LR", "PA", "IS")


def is_pair(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is half of a pair: a .hdr, or a .img that is not a whole NIfTI file by itself."""
    path = Path(path)
    if not is_analyze(path):
        return False
    if path.suffix.lower() == HEADER_ENDING or other_half(path).exists() or not path.is_file():
        return True
    with path.open("rb") as stream:
        begins = stream.read(4)
    return not begins.startswith(GZIP_MAGIC) and not any(
        int.from_bytes(begins, order) in HEADER_SIZES for order in ("little", "big")
    )


def check_orientation(orientation: str | None) -> None:
    """Refuse letters that are no orientation.

    Args:
        orientation: towards which the three axes of the file run: one letter each of L and R, P and A, I and S, in the
            order of the axes, as nibabel's `aff2axcodes` writes it; None where no file needs one.

    Raises:
        ValueError: with an example.
    """
    if orientation is None:
        return
    letters = list(orientation) if isinstance(orientation, str) else []
    if len(letters) != 3 or any(sum(letter in pair for letter in letters) != 1 for pair in OPPOSITES):
        raise ValueError(
            f"orientation must be three letters, one each of L or R, P or A, I or S, got {orientation!r}; LAS is an"
            " image whose axes run to the left, to the front and up"
        )


def read_analyze_header(path: str | os.PathLike[str], orientation: str | None) -> Header:
    """Read the header of an Analyze pair; neither file says how the image lies in the body.

    Args:
        path: either half.
        orientation: as in `check_orientation`. The middle of the image is then 0 mm.

    Raises:
        FileNotFoundError: if a half is missing.
        VolumeError: if no orientation is stated, or the header is none that is taken.
    """
    path = Path(path)
    for half in (path, other_half(path)):
        if why := why_no_file(half):
            raise FileNotFoundError(
                f"{half} {why}: an Analyze image is a pair of .hdr and .img; copy both, or leave the subject out"
            )
    if orientation is None:
        raise VolumeError(
            f"{path} must come with an orientation, as an Analyze pair does not say where left is; set orientation of"
            " configs/cohort.yaml, such as LAS, after a look at one image whose left side is known"
        )
    check_orientation(orientation)
    header_path = path if path.suffix.lower() == HEADER_ENDING else other_half(path)
    fields = _fields(header_path)
    shape = spatial_shape(header_path, fields)
    return Header(
        shape=shape,
        dtype=fields.get_data_dtype(),
        offset=int(fields.get_data_offset()),
        slope=1.0,
        intercept=0.0,
        affine=_affine(shape, [float(size) for size in fields.get_zooms()[:3]], orientation, header_path),
        description=bytes(fields["descrip"].item()),
    )


def _fields(path: Path) -> Any:
    raw = path.read_bytes()
    size = nib.AnalyzeHeader.template_dtype.itemsize
    if len(raw) < size or size not in (int.from_bytes(raw[:4], order) for order in ("little", "big")):
        raise VolumeError(
            f"{path} must be the header of an Analyze pair, {size} bytes or more, got {len(raw)} of others"
        )
    fields: Any = nib.AnalyzeHeader(raw[:size], check=False)
    if raw[344:347] == b"ni1":
        raise VolumeError(f"{path} must be of Analyze, got the .hdr of a NIfTI pair; convert it to .nii.gz")
    require_supported(path, int(fields["datatype"]), nib.analyze.data_type_codes)
    return fields


def _affine(shape: tuple[int, ...], spacing_mm: list[float], orientation: str, path: Path) -> np.ndarray:
    if not all(0 < size < np.inf for size in spacing_mm):
        raise VolumeError(f"{path} must have voxel sizes above 0 mm (pixdim), got {spacing_mm}; export it again")
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (towards, direction) in enumerate(axcodes2ornt(tuple(orientation))):
        affine[int(towards), axis] = direction * spacing_mm[axis]
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape[:3]) - 1) / 2
    return affine
