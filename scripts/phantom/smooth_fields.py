"""Smooth Gaussian random fields that look the same on any grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

Field = NDArray[np.float32]


class SmoothField:
    """Random cubic B-spline on a lattice of knots that is fixed in mm, so two grids sample one and the same field.

    Args:
        rng: source of the coefficients; as many are drawn whatever grid is asked for later.
        knot_spacing_mm: distance of the knots, > 0 mm; features are two to three times as wide.
        half_width_mm: the field lives on [-half_width_mm, half_width_mm] in each dimension, mm.
        spatial_dims: number of dimensions.
    """

    def __init__(
        self, rng: np.random.Generator, knot_spacing_mm: float, half_width_mm: float = 130.0, spatial_dims: int = 3
    ) -> None:
        if knot_spacing_mm <= 0:
            raise ValueError(f"knot_spacing_mm must be > 0, got {knot_spacing_mm!r}")
        num_coefficients = int(np.ceil(2 * half_width_mm / knot_spacing_mm)) + 3
        self.knots = (np.arange(num_coefficients + 4) - 3) * knot_spacing_mm - half_width_mm
        # The mean of the squared cubic B-spline weights is 151/315 in each dimension; divide for unit variance.
        scale = (315 / 151) ** (spatial_dims / 2)
        shape = (num_coefficients,) * spatial_dims
        self.coefficients = rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    def __call__(self, axes_mm: Sequence[NDArray[np.floating]], derivative: int | None = None) -> Field:
        """Sample the field, or one of its partial derivatives, on a rectilinear grid.

        Args:
            axes_mm: one 1D array of positions per dimension, mm, inside the half width.
            derivative: dimension to differentiate by, or None for the field itself.

        Returns:
            Values, one dimension an axis; over realizations the field has mean 0, variance 1. Derivatives are per mm.
        """
        values = self.coefficients
        for dimension, axis in enumerate(axes_mm):
            weights = self._weights(axis, order=int(dimension == derivative))
            # Contracting the leading dimension appends the new one at the end: after all of them the order is restored.
            values = np.tensordot(values, weights, axes=(0, 1))
        return values

    def _weights(self, axis_mm: NDArray[np.floating], order: int) -> Field:
        num_coefficients = len(self.knots) - 4
        if axis_mm.min() < self.knots[3] or axis_mm.max() > self.knots[-4]:
            raise ValueError(
                f"axes_mm must lie within [{self.knots[3]:g}, {self.knots[-4]:g}] mm,"
                f" got [{axis_mm.min():g}, {axis_mm.max():g}]; make the field with a larger half_width_mm"
            )
        basis = BSpline(self.knots, np.eye(num_coefficients), 3)
        return np.asarray(basis(axis_mm, nu=order), dtype=np.float32)
