"""Volumes of any orientation, and the grids of several."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.volumes.volume import Volume, require_one_geometry
from tests.tiny_subjects import AFFINE, make_images, reoriented


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL"])
def test_every_orientation_is_viewed_as_the_same_ras_volume_without_a_copy(codes):
    array = make_images()["t1n"]
    volume = Volume("a", *reoriented(array, AFFINE, codes))
    np.testing.assert_array_equal(volume.ras, array)
    np.testing.assert_allclose(volume.ras_affine, AFFINE)
    assert np.shares_memory(volume.ras, volume.data)


def test_affines_within_a_thousandth_count_as_one_grid():
    array = make_images()["t1n"]
    near, far = AFFINE.copy(), AFFINE.copy()
    near[0, 3] += 9e-4
    far[0, 3] += 2e-3
    require_one_geometry({"t1n": Volume("a", array, AFFINE), "t1c": Volume("b", array, near)})
    with pytest.raises(ValueError, match=r"t1c must lie on the voxel grid of t1n, got affines that differ by 0\.002"):
        require_one_geometry({"t1n": Volume("a", array, AFFINE), "t1c": Volume("b", array, far)})


def test_one_grid_stored_in_two_orders_is_one_grid():
    array = make_images()["t1n"]
    other = Volume("b", *reoriented(array, AFFINE, "PIL"))
    require_one_geometry({"t1n": Volume("a", array, AFFINE), "t1c": other})


def test_unequal_shapes_name_both_files():
    array = make_images()["t1n"]
    with pytest.raises(
        ValueError, match=r"shape \(40, 33, 21\) instead of \(40, 33, 22\) \(b against a\).*registration"
    ):
        require_one_geometry({"t1n": Volume("a", array, AFFINE), "t1c": Volume("b", array[..., :-1], AFFINE)})
