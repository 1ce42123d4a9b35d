"""Region, slice and center of a patch, by mask and by click."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.patches.centers import ChooseCenterd
from tests.tiny_subjects import (
    AFFINE,
    MASK_CODES,
    SHAPE,
    array_of,
    make_mask,
    patch_of,
    write_subject,
    write_volume,
)


def test_region_slice_center_and_volumes_are_those_of_the_mask(subject):
    patch = patch_of(subject)
    mask = make_mask()
    areas = (mask == 4).sum(axis=(0, 1))
    assert patch["region"] == "enhancing"
    assert patch["region_reason"] is None
    assert patch["slice"] == areas.argmax()
    center = np.floor(np.argwhere(mask[..., areas.argmax()] == 4).mean(axis=0) + 0.5)
    assert patch["center_voxel"] == [*center, areas.argmax()]
    np.testing.assert_allclose(patch["center_mm"], nib.affines.apply_affine(AFFINE, patch["center_voxel"]))
    assert patch["lesion_volume_ml"] == pytest.approx((mask > 0).sum() / 1000)
    assert patch["region_volume_ml"] == pytest.approx((mask == 4).sum() / 1000)


def test_a_click_on_the_center_gives_the_patch_of_the_mask(subject):
    for options in ({}, {"patch_size": [10, 9, 8], "spatial_dims": 3}):
        by_mask = patch_of(subject, **options)
        without_mask = {key: value for key, value in subject.items() if key not in ("mask", "mask_codes")}
        by_click = patch_of({**without_mask, "center": by_mask["center_voxel"]}, **options)
        np.testing.assert_array_equal(np.asarray(by_click["image"]), np.asarray(by_mask["image"]))
        assert by_click["region"] == "click"
        assert by_click["lesion_volume_ml"] is None
        assert by_click["center_voxel"] == by_mask["center_voxel"]


@pytest.mark.parametrize("size_mm", [0.47, 0.9375, 1.2, 3.0])
def test_a_click_on_the_center_gives_the_patch_of_the_mask_at_any_voxel_size(tmp_path, size_mm):
    affine = AFFINE @ np.diag([-size_mm, size_mm, 5, 1])
    subject = write_subject(tmp_path / "S", affine=affine)
    by_mask = patch_of(subject)
    np.testing.assert_array_equal(array_of({**subject, "center": by_mask["center_voxel"]}), by_mask["image"])


@pytest.mark.parametrize("center", [[-1, 3, 4], [SHAPE[0], 3, 4], [3, 4, SHAPE[2]], [1000, 0, 0]])
def test_a_click_outside_the_volume_names_file_and_shape(subject, center):
    with pytest.raises(ValueError, match=r"center must lie inside .*t1n\.nii\.gz of shape \(40, 33, 22\)"):
        patch_of({**subject, "center": center})


def test_a_click_outside_the_brain_is_refused(subject):
    with pytest.raises(ValueError, match=r"click \[0, 0, 0\] must lie in the brain, got only background within 5 mm"):
        patch_of({**subject, "center": [0, 0, 0]})


@pytest.mark.parametrize("center", [[1, 2], [1.5, 2, 3], [[1, 2, 3]]])
def test_a_click_that_is_no_voxel_is_refused(subject, center):
    with pytest.raises(ValueError, match="center must be three whole voxel indices"):
        patch_of({**subject, "center": center})


def test_neither_mask_nor_click_is_refused(subject):
    with pytest.raises(ValueError, match="S1 must have a mask or a center"):
        patch_of({**subject, "mask": None})


def test_the_fallback_is_written_down(subject):
    patch = patch_of(subject, min_et_ml=50)
    assert patch["region"] == "core"
    assert patch["region_reason"].startswith("enhancing 0.")


def test_the_centroid_slice_runs_through_the_middle_of_the_region(subject):
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:20, 10:14, 4] = 4  # large, low
    mask[12:15, 11:13, 5:19] = 4  # thin, high
    write_volume(Path(subject["mask"]), mask)
    assert patch_of(subject)["slice"] == 4
    middle = int(np.floor(np.argwhere(mask)[:, 2].mean() + 0.5))
    patch = patch_of(subject, slice="centroid")
    assert patch["slice"] == middle
    assert patch["center_voxel"][:2] == [13, 12]


def test_a_centroid_slice_that_misses_the_region_is_centered_in_its_middle(subject):
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:21, 10:15, [4, 10]] = 4
    write_volume(Path(subject["mask"]), mask)
    assert patch_of(subject, slice="centroid")["center_voxel"] == [15, 12, 7]


def test_all_slices_with_enough_tumor_give_a_patch_each(subject):
    patches = patch_of(subject, slice="all", min_tumor_voxels=40)
    areas = (make_mask() > 0).sum(axis=(0, 1))
    assert [patch["slice"] for patch in patches] == np.flatnonzero(areas >= 40).tolist()
    assert {patch["region"] for patch in patches} == {"enhancing", "whole"}
    single = patch_of(subject)
    same = next(patch for patch in patches if patch["slice"] == single["slice"])
    np.testing.assert_array_equal(np.asarray(same["image"]), np.asarray(single["image"]))


def test_no_slice_with_enough_tumor_is_an_error(subject):
    with pytest.raises(ValueError, match=r"seg\.nii\.gz must hold a slice with min_tumor_voxels 5000"):
        patch_of(subject, slice="all", min_tumor_voxels=5000)


def test_codes_without_a_meaning_are_refused(subject):
    with pytest.raises(ValueError, match="mask_codes must say what the codes"):
        patch_of({**subject, "mask_codes": None})
    with pytest.raises(ValueError, match="must hold the codes of mask_codes"):
        patch_of({**subject, "mask_codes": {**MASK_CODES, "enhancing": 3}})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ChooseCenterd("middle"), "slice must be one of"),
        (lambda: ChooseCenterd("all", spatial_dims=3), "spatial_dims must be 2, or 3"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
