"""The mask that a viewer shows as the answer: what the patch covers, on the voxel grid of an image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.volumes.headers import read_header
from scripts.volumes.nifti import write_nifti

EDGE = 1e-6  # cells; a voxel's center on the border between two cells belongs to the upper one


def mark_patch(
    grid_shape: Sequence[int], grid_affine: np.ndarray, patch_shape: Sequence[int], patch_affine: np.ndarray, value: int
) -> np.ndarray:
    """Mark the voxels whose centers lie in a patch.

    Args:
        grid_shape: (I, J, K) of the image.
        grid_affine: its voxel indices -> mm, (4, 4).
        patch_shape: spatial shape of the patch; with two axes it is one slice.
        patch_affine: its cell indices -> mm, (4, 4).
        value: of the marked voxels, in [1, 255].

    Returns:
        (I, J, K) uint8; the part of the patch that lies outside the image is not in it.
    """
    size = np.array([*patch_shape, 1][:3])
    to_cells = np.linalg.inv(patch_affine) @ grid_affine
    corners = np.array([[*corner, 1] for corner in itertools.product(*[(-0.5, side - 0.5) for side in size])])
    voxels = (corners @ np.linalg.inv(to_cells).T)[:, :3]
    low = np.clip(np.floor(voxels.min(0)).astype(int), 0, grid_shape)
    high = np.clip(np.ceil(voxels.max(0)).astype(int) + 1, low, grid_shape)
    indices = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1)
    cells = indices @ to_cells[:3, :3].T + to_cells[:3, 3]
    mask = np.zeros(grid_shape, np.uint8)
    inside = ((cells >= -0.5 - EDGE) & (cells < size - 0.5 - EDGE)).all(axis=-1)
    mask[tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))][inside] = value
    return mask


def write_viewer_mask(
    path: Path, image_path: str, patch_shape: Sequence[int], patch_affine: np.ndarray, value: int
) -> None:
    """Write the mask of a patch with shape and affine of an image, gzipped.

    Args:
        path: file to write, `.nii.gz`.
        image_path: NIfTI of three or four dimensions.
        patch_shape: spatial shape of the patch.
        patch_affine: its cell indices -> mm, (4, 4).
        value: of the marked voxels.
    """
    header = read_header(image_path)
    write_nifti(path, mark_patch(header.shape[:3], header.affine, patch_shape, patch_affine, value), header.affine)
