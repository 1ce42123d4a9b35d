"""The grid of a network and the way back to the voxels of a file."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from scripts.patches.network_grid import NetworkGrid
from scripts.volumes.volume import Volume
from tests.tiny_subjects import AFFINE, SHAPE, reoriented


def volume(codes: str = "RAS", scale: float = 1.0) -> Volume:
    array = np.random.default_rng(0).integers(0, 5, SHAPE).astype(np.uint8)
    return Volume("test", *reoriented(array, AFFINE @ np.diag([scale, scale, scale, 1]), codes))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "IAL"])
def test_a_volume_goes_there_in_the_axes_of_brats_and_comes_back_voxel_for_voxel(codes):
    one = volume(codes)
    grid = NetworkGrid(one, 1.0)
    image = grid.image_of(one)
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.shape == SHAPE
    np.testing.assert_array_equal(grid.to_reference(np.asarray(image.dataobj)), one.data)


def test_volumes_of_other_axes_are_the_same_image_there():
    grid = NetworkGrid(volume("PSR"), 1.0)
    images = [np.asarray(grid.image_of(volume(codes)).dataobj) for codes in ("RAS", "LPS", "PSR")]
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])


@pytest.mark.parametrize("spacing", [0.8, 2.0])
def test_voxels_of_another_size_become_cubes_of_the_network_and_a_mask_comes_back_in_place(spacing):
    patient = volume("PSR", spacing)
    box = np.zeros(SHAPE, np.uint8)
    box[10:20, 8:18, 5:15] = 1
    mask = Volume("mask", *reoriented(box, AFFINE @ np.diag([spacing] * 3 + [1]), "PSR"))
    grid = NetworkGrid(patient, 1.0)
    image = grid.image_of(mask)
    np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine), 1)
    np.testing.assert_allclose(np.multiply(image.shape, 1.0), np.multiply(SHAPE, spacing), atol=1)
    back = grid.to_reference(np.asarray(image.dataobj) > 0.5)
    assert back.shape == mask.data.shape
    overlap = 2 * (back & mask.data).sum() / (back.sum() + mask.data.sum())
    assert overlap == pytest.approx(1.0, abs=0.06)


def test_the_own_voxels_of_a_patient_stay_if_asked_for():
    grid = NetworkGrid(volume("RAS", 2.0), None)
    assert tuple(grid.shape) == SHAPE


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="segmentation_spacing_mm must be > 0"):
        NetworkGrid(volume(), 0.0)
    with pytest.raises(ValueError, match=r"codes must have the shape \(40, 33, 22\)"):
        NetworkGrid(volume(), 1.0).to_reference(np.zeros((22, 33, 40)))
