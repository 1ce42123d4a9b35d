"""The one writer of NIfTI: equal images give equal bytes, and a file is there whole or not at all."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.running.files import atomic_path


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray, description: bytes = b"", level: int = 6) -> None:
    """Write an array as NIfTI-1 in mm, gzipped where the name ends in `.gz`.

    Args:
        path: file to write, `.nii` or `.nii.gz`.
        voxels: three to five dimensions, of a type that NIfTI holds.
        affine: voxel indices -> mm, (4, 4).
        description: `descrip` of the header, at most 79 bytes.
        level: of compression, 1 (fast) to 9 (small).
    """
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description
    content = image.to_bytes()
    # nibabel would store the time and the temporary name in the gzip header.
    packed = gzip.compress(content, compresslevel=level, mtime=0) if path.name.endswith(".gz") else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed)


def write_image(path: Path, image: np.ndarray, affine: np.ndarray) -> None:
    """Write a patch or a synthetic image with the modalities along the fourth dimension, as stock MONAI reads it.

    Args:
        path: file to write, `.nii.gz`.
        image: (C, H, W) or (C, H, W, D), float32.
        affine: cell indices -> mm, (4, 4).
    """
    channels_last = np.moveaxis(image, 0, -1)
    write_nifti(path, channels_last if channels_last.ndim == 4 else channels_last[:, :, None], affine)
