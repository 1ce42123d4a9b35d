"""A box in millimetres cut out of a volume and resampled, one axis after the other, on a background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LATTICE_MM = 1.0  # where cells are not made of whole voxels, patches begin at whole mm
TOLERANCE = 1e-3  # of a voxel; a header in float32 does not hold a size more closely


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


def centered_axis(center: int, voxel_mm: float, spacing_mm: float, size: int) -> Axis:
    """Place cells around a voxel, on the voxels' own edges wherever a cell can be a whole number of voxels.

    The cells then begin at the edge of a voxel: at a whole mm where the voxels divide 1 mm, so that a volume and its
    copy on finer voxels give the same cells. Other cells begin at a whole mm.

    Args:
        center: index of the voxel in the middle, from 0.
        voxel_mm: voxel size along the axis, mm.
        spacing_mm: length of a cell, mm; within a thousandth of a whole number of voxels it is taken as that number.
        size: number of cells.

    Returns:
        Cells, the middle one (or the first after the middle) in the voxel `center`, up to a step of the lattice.
    """
    voxels_in_cell, voxels_in_mm = _whole(spacing_mm / voxel_mm), _whole(LATTICE_MM / voxel_mm)
    spacing = voxels_in_cell * voxel_mm if voxels_in_cell else spacing_mm
    step = (voxels_in_mm or 1) * voxel_mm if voxels_in_cell else LATTICE_MM
    middle = np.floor((center + 0.5) * voxel_mm / step + 1e-6)
    start = np.floor(middle + 0.5 - size * spacing / 2 / step + 1e-6) * step
    return Axis(float(start), spacing, size)


def _whole(ratio: float) -> int:
    """The whole number, of at least 1, that a ratio is; 0 if it is none."""
    return round(ratio) if abs(ratio - round(ratio)) <= TOLERANCE else 0


def axis_weights(axis: Axis, num_voxels: int, voxel_mm: float, sharp_ends: bool = False) -> tuple[slice, np.ndarray]:
    """Weigh the voxels of one axis for each cell: area means where cells are larger, linear where they are smaller.

    Cells that coincide with voxels get exactly one weight of 1; outside the volume weights are missing, so that a sum
    of values above the background falls to the background there.

    Args:
        axis: cells to fill.
        num_voxels: voxels of the volume along the axis.
        voxel_mm: voxel size along the axis, mm.
        sharp_ends: a cell with its center in the volume is the mean of what it holds of it, and any other is empty: an
            image that is shown to its end has no rim that fades out.

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
        weights = np.maximum(upper - lower, 0) / axis.spacing_mm
    else:
        distance = np.abs(edges[None] + voxel_mm / 2 - centers[:, None])
        weights = np.maximum(1 - distance / voxel_mm, 0)
    if sharp_ends:
        sums = weights.sum(axis=1, keepdims=True)
        inside = (centers >= 0) & (centers <= num_voxels * voxel_mm)
        weights = np.where(inside[:, None], weights / np.where(sums > 0, sums, 1), 0)
    return touched, weights


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
