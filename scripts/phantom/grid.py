"""The grid of a simulated volume: positions of its voxels, and parts of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FIELD_OF_VIEW_MM = (240.0, 240.0, 155.0)
MAX_MATRIX_SIZE = (240, 240, 155)


def grid(matrix_size: Sequence[int]) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Positions of the voxels and affine of a matrix over the field of view, in the voxel order of BraTS (L, P, S).

    Args:
        matrix_size: voxels in x, y, z.

    Returns:
        Three arrays of positions along the RAS axes, mm, and the affine, shape (4, 4).

    Raises:
        ValueError: if the matrix does not have three sizes between 16 and those of BraTS.
    """
    sizes = tuple(int(size) for size in matrix_size)
    if len(sizes) != 3 or any(not 16 <= size <= limit for size, limit in zip(sizes, MAX_MATRIX_SIZE, strict=True)):
        raise ValueError(
            f"phantom_matrix_size must be three sizes from 16 to {MAX_MATRIX_SIZE}, got {list(matrix_size)!r}"
        )
    spacing = np.array(FIELD_OF_VIEW_MM) / sizes * [-1, -1, 1]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(sizes) - 1) / 2
    return [affine[d, 3] + affine[d, d] * np.arange(sizes[d]) for d in range(3)], affine


def voxel_size_mm(axes_mm: Sequence[NDArray[np.floating]]) -> list[float]:
    """Return the size of a voxel along each axis, mm, from the positions of the voxels."""
    return [abs(float(axis[1] - axis[0])) for axis in axes_mm]


def part_within(axis_mm: NDArray[np.floating], reach_mm: float, middle_mm: float = 0.0) -> slice:
    """Return the part of an axis that lies within a distance of its middle; at least one voxel must."""
    inside = np.flatnonzero(np.abs(axis_mm - middle_mm) <= reach_mm)
    return slice(int(inside[0]), int(inside[-1]) + 1)
