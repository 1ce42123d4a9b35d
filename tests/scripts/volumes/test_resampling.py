"""Boxes in millimeters resampled axis by axis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from scripts.volumes.resampling import Axis, axis_weights, centered_axis, weigh


def resample(values, axes, voxel_mm=1.0):
    found = [axis_weights(axis, size, voxel_mm) for axis, size in zip(axes, values.shape, strict=True)]
    return weigh(values[tuple(touched for touched, _ in found)], [matrix for _, matrix in found])


def test_cells_that_coincide_with_voxels_are_copied_bit_for_bit():
    values = np.random.default_rng(0).random((9, 8, 7))
    axes = [Axis(2, 1, 4), Axis(3, 1, 5), Axis(0, 1, 7)]
    np.testing.assert_array_equal(resample(values, axes), values[2:6, 3:8, :])


def test_cells_outside_the_volume_are_background():
    values = np.ones((5, 6))
    expected = np.zeros((9, 4))
    expected[3:8, :2] = 1
    np.testing.assert_array_equal(resample(values, [Axis(-3, 1, 9), Axis(4, 1, 4)]), expected)
    np.testing.assert_array_equal(resample(values, [Axis(-30, 1, 9), Axis(40, 1, 4)]), np.zeros((9, 4)))


def test_cells_of_three_voxels_hold_what_average_pooling_does():
    values = np.random.default_rng(0).random((12, 9))
    expected = F.avg_pool2d(torch.from_numpy(values)[None], 3)[0].numpy()
    np.testing.assert_allclose(resample(values, [Axis(0, 3, 4), Axis(0, 3, 3)]), expected, atol=1e-12)


def test_smaller_cells_are_linear_between_voxel_centers():
    values = np.arange(6.0)
    cells = resample(values, [Axis(1, 0.25, 16)])
    np.testing.assert_allclose(cells, Axis(1, 0.25, 16).centers_mm() - 0.5, atol=1e-12)


@given(
    start=st.floats(-20, 40),
    spacing=st.floats(0.1, 5),
    size=st.integers(1, 30),
    num_voxels=st.integers(1, 30),
    voxel_mm=st.floats(0.2, 4),
)
def test_weights_are_shares_of_one_and_whole_inside(start, spacing, size, num_voxels, voxel_mm):
    axis = Axis(start, spacing, size)
    touched, weights = axis_weights(axis, num_voxels, voxel_mm)
    assert 0 <= touched.start <= touched.stop <= num_voxels
    assert weights.shape == (size, touched.stop - touched.start)
    assert (weights >= 0).all()
    assert (weights.sum(axis=1) <= 1 + 1e-9).all()
    half = max(spacing, voxel_mm) / 2
    inside = (axis.centers_mm() - half >= 0) & (axis.centers_mm() + half <= num_voxels * voxel_mm)
    np.testing.assert_allclose(weights[inside].sum(axis=1), 1, atol=1e-9)


@pytest.mark.parametrize("voxel_mm", [0.5, 0.9375, 1.3])
def test_a_constant_stays_constant_at_any_spacing(voxel_mm):
    cells = resample(np.full((60, 60), 3.0), [Axis(5, 1, 20), Axis(6, 1, 20)], voxel_mm)
    np.testing.assert_allclose(cells, 3, atol=1e-12)


@given(
    center=st.integers(0, 200),
    voxel_mm=st.floats(0.2, 6),
    num_voxels=st.integers(1, 4),
    size=st.integers(1, 33),
    error=st.floats(-9e-4, 9e-4),
)
def test_cells_of_whole_voxels_begin_and_end_where_voxels_do(center, voxel_mm, num_voxels, size, error):
    axis = centered_axis(center, voxel_mm, voxel_mm * (num_voxels + error), size)
    edges = (axis.start_mm + np.arange(size + 1) * axis.spacing_mm) / voxel_mm
    np.testing.assert_allclose(edges, np.rint(edges), atol=1e-6)
    # In the middle up to a voxel, or one and a half mm of finer ones.
    middle_mm = axis.start_mm + size * axis.spacing_mm / 2
    assert abs(middle_mm - (center + 0.5) * voxel_mm) <= max(voxel_mm, 1.5) + 2e-3


@pytest.mark.parametrize(("voxel_mm", "spacing_mm"), [(0.9375, 1.0), (0.4, 1.0), (2.0, 3.0), (2.0, 1.0)])
def test_other_cells_begin_at_a_whole_mm(voxel_mm, spacing_mm):
    axis = centered_axis(57, voxel_mm, spacing_mm, 24)
    assert axis.spacing_mm == spacing_mm
    assert axis.start_mm == round(axis.start_mm)


def test_finer_voxels_of_one_volume_give_the_same_cells():
    one = centered_axis(57, 1.0, 1.0, 24)
    assert centered_axis(114, 0.5, 1.0, 24) == centered_axis(115, 0.5, 1.0, 24) == one
