"""Random fields: the same on any grid, of unit variance, with the derivative that differences give."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.phantom.smooth_fields import SmoothField


@pytest.mark.parametrize("sizes", [(20, 31), (12, 13, 14)], ids=["2d", "3d"])
def test_coarse_grid_samples_the_fine_one(sizes):
    field = SmoothField(np.random.default_rng(0), 9.0, half_width_mm=60, spatial_dims=len(sizes))
    fine = [np.linspace(-50, 50, 2 * size - 1) for size in sizes]
    every_second = tuple(slice(None, None, 2) for _ in sizes)
    coarse = field([axis[::2] for axis in fine])
    assert coarse.shape == sizes
    assert np.allclose(field(fine)[every_second], coarse, atol=1e-5)


def test_variance_is_one():
    axes = [np.linspace(-100, 100, 60)] * 3
    values = np.stack([SmoothField(np.random.default_rng(k), 8.0)(axes) for k in range(4)])
    assert values.mean() == pytest.approx(0, abs=0.05)
    assert values.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("dimension", [0, 1, 2])
def test_derivative_is_the_limit_of_differences(dimension):
    field = SmoothField(np.random.default_rng(1), 10.0)
    axes = [np.linspace(-20, 20, size) for size in (401, 5, 6)]
    axes[0], axes[dimension] = axes[dimension], axes[0]
    differences = np.gradient(field(axes), 0.1, axis=dimension)
    inner = [slice(None)] * 3
    inner[dimension] = slice(1, -1)
    assert np.allclose(differences[tuple(inner)], field(axes, derivative=dimension)[tuple(inner)], atol=2e-3)


def test_position_outside_the_lattice_is_refused():
    with pytest.raises(ValueError, match="larger half_width_mm"):
        SmoothField(np.random.default_rng(0), 5.0, half_width_mm=20)([np.array([0.0, 30.0])] * 3)
