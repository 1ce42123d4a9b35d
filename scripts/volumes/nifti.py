"""Patches and synthetic images as NIfTI files that stock MONAI reads."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.running.files import atomic_path


def write_image(path: Path, image: np.ndarray, affine: np.ndarray) -> None:
    """Write an image as gzipped NIfTI with the modalities along the fourth dimension; equal images give equal bytes.

    Args:
        path: file to write, `.nii.gz`.
        image: (C, H, W) or (C, H, W, D), float32.
        affine: cell indices -> mm, (4, 4).
    """
    channels_last = np.moveaxis(image, 0, -1)
    volume = channels_last if channels_last.ndim == 4 else channels_last[:, :, None]
    nifti = nib.Nifti1Image(volume, affine)
    nifti.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        # nibabel would store the temporary name in the gzip header.
        temporary.write_bytes(gzip.compress(nifti.to_bytes(), compresslevel=6, mtime=0))
