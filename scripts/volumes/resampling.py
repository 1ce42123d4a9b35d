"""A box in millimetres cut out of a volume and resampled, one axis after the other, on a background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Axis:
    """Sampling of one axis: `size` cells of `spacing_mm` that begin at `start_mm`.

    Args:
        start_mm: edge of the first cell, mm from the edge of the volume's first voxel.
        spacing_mm: length of a cell, mm.
        size: number of cells.
    """

    start_mm: float
    spacing_mm: float
    size: int

    def centers_mm(self) -> np.ndarray:
        """Return the centers of the cells, (size,), mm from the edge of the volume's first voxel."""
        return self.start_mm + (np.arange(self.size) + 0.5) * self.spacing_mm


def axis_weights(axis: Axis, num_voxels: int, voxel_mm: float) -> tuple[slice, np.ndarray]:
    """Weigh the voxels of one axis for each cell: area means where cells are larger, linear where they are smaller.

    Cells that coincide with voxels get exactly one weight of 1; outside the volume weights are missing, so that a sum
    of values above the background falls to the background there.

    Args:
        axis: cells to fill.
        num_voxels: voxels of the volume along the axis.
        voxel_mm: voxel size along the axis, mm.

    Returns:
        The voxels that are touched, and their weights, (size, voxels touched), in [0, 1], rows sum to at most 1.
    """
    centers, half = axis.centers_mm(), max(axis.spacing_mm, voxel_mm)
    first = max(int(np.floor((centers[0] - half) / voxel_mm)), 0)
    last = min(int(np.ceil((centers[-1] + half) / voxel_mm)), num_voxels)
    touched = slice(min(first, num_voxels), max(last, min(first, num_voxels)))
    edges = np.arange(touched.start, touched.stop) * voxel_mm
    if axis.spacing_mm >= voxel_mm:
        upper = np.minimum(edges[None] + voxel_mm, centers[:, None] + axis.spacing_mm / 2)
        lower = np.maximum(edges[None], centers[:, None] - axis.spacing_mm / 2)
        return touched, np.maximum(upper - lower, 0) / axis.spacing_mm
    distance = np.abs(edges[None] + voxel_mm / 2 - centers[:, None])
    return touched, np.maximum(1 - distance / voxel_mm, 0)


def weigh(cells: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Apply one weight matrix to each axis.

    Args:
        cells: the touched voxels, as values above a background of 0, any number of dimensions.
        matrices: weights of each axis, (size, voxels touched), as `axis_weights` returns them.

    Returns:
        The cells, one size an axis, float64; 0 outside the volume.
    """
    for axis, matrix in enumerate(matrices):
        cells = np.moveaxis(np.tensordot(matrix, cells, axes=(1, axis)), 0, axis)
    return cells
