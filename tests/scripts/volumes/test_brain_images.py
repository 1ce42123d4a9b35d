"""What no door lets in: images with a skull, one image twice, clicks outside the brain."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.volumes.brain_images import USUAL_LIMITS, BrainLimits, require_brain_images, strip_skull
from scripts.volumes.volume import Volume
from tests.tiny_subjects import AFFINE, SHAPE, make_images, reoriented

BRAIN = make_images()["t1n"]
LIKE_BRAIN = {"air that is not 0": 30, "air that is nearly 0": 1e-7, "air below 0": -1.2}


def brain(array: np.ndarray = BRAIN, name: str = "a", scale: float = 1.0) -> Volume:
    return Volume(name, array, AFFINE @ np.diag([scale, scale, scale, 1]))


@pytest.mark.parametrize("air", LIKE_BRAIN.values(), ids=LIKE_BRAIN)
def test_an_image_whose_background_is_not_zero_is_refused_by_name(air):
    volumes = {"t1n": brain(), "t2w": brain(np.where(BRAIN == 0, air, BRAIN), "skull.nii")}
    with pytest.raises(ValueError, match=r"^skull.nii must be skull-stripped, .* got 0% .* or give a brain_mask"):
        require_brain_images(volumes, USUAL_LIMITS)


def test_an_image_that_is_larger_than_a_brain_is_refused():
    with pytest.raises(ValueError, match=r"big.nii must be skull-stripped.* got \d\d% of its voxels at 0 and \d+ ml"):
        require_brain_images({"t1n": brain(name="big.nii", scale=10.0)}, USUAL_LIMITS)
    require_brain_images({"t1n": brain(scale=10.0)}, BrainLimits(max_brain_ml=1e6))


def test_a_brain_in_its_tightest_box_is_taken():
    inside = np.nonzero(BRAIN)
    box = tuple(slice(axis.min(), axis.max() + 1) for axis in inside)
    require_brain_images({"t1n": brain(BRAIN[box])}, USUAL_LIMITS)


@pytest.mark.parametrize("inside", ["one voxel", "constant", "denormal"])
def test_a_brain_without_contrast_is_refused(inside):
    array = np.zeros(SHAPE)
    array[20, 16, 11] = 1
    if inside != "one voxel":
        array[BRAIN != 0] = 7 if inside == "constant" else np.abs(BRAIN[BRAIN != 0]) * 1e-315
    with pytest.raises(ValueError, match="flat.nii must vary inside the brain"):
        require_brain_images({"t1n": brain(array, "flat.nii")}, USUAL_LIMITS)


def test_of_images_of_no_brain_nothing_is_asked():
    whole = np.ones(SHAPE)
    volumes = {"red": brain(whole), "green": brain(whole)}
    require_brain_images(volumes, BrainLimits(max_brain_ml=None), np.zeros(3))


def test_one_image_for_two_modalities_is_refused_in_whatever_order_it_is_stored():
    turned = Volume("b.nii", *reoriented(BRAIN, AFFINE, "PIL"))
    volumes = {"t1n": brain(), "t1c": brain(make_images()["t1c"]), "t2w": turned}
    with pytest.raises(ValueError, match="t1n and t2w must be different images, got the same voxels in a and b.nii"):
        require_brain_images(volumes, USUAL_LIMITS)


@pytest.mark.parametrize("click", [[0, 0, 0], [39, 32, 21], [2, 30, 2]])
def test_a_click_outside_the_brain_is_refused(click):
    turned = Volume("b.nii", *reoriented(BRAIN, AFFINE, "LPS"))
    file_voxel = np.rint(turned.ras_to_file @ [*click, 1])[:3].astype(int).tolist()
    message = rf"click \[{file_voxel[0]}, {file_voxel[1]}, .* must lie in the brain, got only background within 5 mm"
    with pytest.raises(ValueError, match=message):
        require_brain_images({"t1n": turned}, USUAL_LIMITS, np.array(click, float))


def test_a_click_two_coarse_voxels_beside_the_brain_is_refused():
    array = np.zeros((10, 9, 8), np.int16)
    array[2:8, 2:7, 2:6] = np.arange(120).reshape(6, 5, 4) + 1
    coarse = Volume("a", array, np.diag([3.0, 3, 3, 1]))
    with pytest.raises(ValueError, match=r"click \[0, 0, 0\] must lie in the brain"):
        require_brain_images({"t1n": coarse}, USUAL_LIMITS, np.zeros(3))
    require_brain_images({"t1n": coarse}, USUAL_LIMITS, np.ones(3))


def test_a_click_in_a_small_hole_of_the_brain_is_taken():
    array = BRAIN.copy()
    array[18:23, 14:19, 9:14] = 0
    require_brain_images({"t1n": brain(array)}, USUAL_LIMITS, np.array([20.0, 16, 11]))


@pytest.mark.parametrize("options", [{"max_brain_ml": 0}, {"min_background": 1.0}, {"min_background": -0.1}])
def test_limits_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="max_brain_ml must be > 0, or null .*, and min_background in"):
        BrainLimits(**options)


def head(background: int = 30) -> np.ndarray:
    return np.where(BRAIN == 0, background, BRAIN).astype(np.int16)


def test_a_brain_mask_of_any_axes_leaves_the_brain_alone():
    volumes = {"t1n": Volume("a", head(), AFFINE), "t1c": Volume("b", *reoriented(head(), AFFINE, "PSR"))}
    before = volumes["t1c"].data.copy()
    mask = Volume("brain", *reoriented((BRAIN != 0).astype(np.uint8), AFFINE, "LPS"))
    stripped = strip_skull(volumes, mask)
    np.testing.assert_array_equal(stripped["t1n"].data, BRAIN)
    np.testing.assert_array_equal(stripped["t1c"].ras, BRAIN)
    np.testing.assert_array_equal(volumes["t1c"].data, before)
    assert stripped["t1c"].affine is volumes["t1c"].affine


def test_a_brain_mask_that_is_empty_or_elsewhere_is_refused():
    volumes = {"t1n": Volume("a", head(), AFFINE)}
    with pytest.raises(ValueError, match="brain_mask must hold a brain, got an empty mask"):
        strip_skull(volumes, Volume("m", np.zeros(SHAPE, np.uint8), AFFINE))
    with pytest.raises(ValueError, match="brain_mask must lie on the voxel grid of t1n"):
        strip_skull(volumes, Volume("m", np.ones(SHAPE, np.uint8), np.eye(4)))
