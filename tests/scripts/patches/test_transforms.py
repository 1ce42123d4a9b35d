"""Transforms from the files of one subject to its patch."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from monai.transforms import Compose, NormalizeIntensity, ScaleIntensityRangePercentiles
from scipy.ndimage import zoom

from scripts.patches.transforms import ChooseCenterd, CropPatchd, MeasureIntensitiesd, scale_intensities
from scripts.running.errors import root_cause
from scripts.volumes.volume import Volume
from tests.helpers import config_files
from tests.tiny_subjects import (
    AFFINE,
    MASK_CODES,
    MODALITIES,
    SHAPE,
    make_images,
    make_mask,
    reoriented,
    write_subject,
    write_volume,
)


def chain(**overrides) -> Compose:
    """Return the `preprocessing` of configs/patches.yaml at 16 x 14 cells."""
    parser = ConfigParser(ConfigParser.load_config_files(config_files("patches")))
    parser.update({"patch_size": [16, 14], "min_et_ml": 0.05, **overrides})
    return parser.get_parsed_content("preprocessing")


def patch_of(subject, **overrides):
    try:
        return chain(**overrides)(dict(subject))
    except RuntimeError as error:
        raise root_cause(error) from error


def array_of(subject, **overrides):
    return np.asarray(patch_of(subject, **overrides)["image"])


@pytest.fixture
def subject(tmp_path):
    return write_subject(tmp_path / "S1")


@pytest.mark.parametrize("dims", [2, 3])
def test_cells_lie_on_the_anatomy_that_their_affine_says(subject, dims):
    size = [16, 14, 9][:dims]
    patch = patch_of(subject, patch_size=size, spatial_dims=dims)
    affine = np.asarray(patch["image"].affine)
    cells = np.stack(np.meshgrid(*[np.arange(n) for n in (*size, 1)[:3]], indexing="ij"), -1).reshape(-1, 3)
    voxels = nib.affines.apply_affine(np.linalg.inv(AFFINE) @ affine, cells)
    np.testing.assert_allclose(voxels, np.rint(voxels), atol=1e-6)
    indices = np.rint(voxels).astype(int)
    for channel, modality in enumerate(MODALITIES):
        volume = nib.load(subject["images"][modality]).get_fdata()
        expected = scaled(volume)[tuple(indices.T)].reshape(size)
        np.testing.assert_allclose(np.asarray(patch["image"])[channel], expected, atol=1e-6)


@pytest.mark.parametrize("voxel_mm", [3.0, 2.0, 1.2, 0.9375, 0.47, 0.99999])
@pytest.mark.parametrize(("dims", "by_click"), [(2, False), (3, False), (2, True)], ids=["2d", "3d", "click"])
def test_voxels_of_the_size_of_the_cells_are_copied_wherever_the_grid_begins(tmp_path, voxel_mm, dims, by_click):
    affine = np.diag([-voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = [17.31, -11.07, -6.6]
    subject = write_subject(tmp_path / "S", affine=affine)
    if by_click:
        subject = {**subject, "mask": None, "center": [21, 13, 9]}
    size = [16, 13, 9][:dims]
    patch = patch_of(subject, patch_size=size, patch_spacing_mm=round(voxel_mm, 4), spatial_dims=dims, min_et_ml=0)
    indices = voxels_of(patch, affine, size)
    volume = nib.load(subject["images"]["t1n"]).get_fdata()
    np.testing.assert_allclose(np.asarray(patch["image"])[0], scaled(volume)[indices], atol=1e-6)


@pytest.mark.parametrize("num_voxels", [2, 3])
def test_cells_of_several_voxels_hold_the_mean_of_whole_voxels(tmp_path, num_voxels):
    affine = np.diag([2.5, 2.5, 4.0, 1.0])
    subject = write_subject(tmp_path / "S", affine=affine)
    fine = array_of(subject, patch_size=[6 * num_voxels, 4 * num_voxels], patch_spacing_mm=2.5)
    coarse = array_of(subject, patch_size=[6, 4], patch_spacing_mm=2.5 * num_voxels)
    blocks = fine.reshape(4, 6, num_voxels, 4, num_voxels)
    np.testing.assert_allclose(coarse, blocks.mean(axis=(2, 4)), atol=1e-6)


def voxels_of(patch, affine, size):
    """The voxels of the file under the cells of a patch, which must lie on them."""
    to_file = np.linalg.inv(affine) @ np.asarray(patch["image"].affine)
    cells = np.stack(np.meshgrid(*[np.arange(n) for n in (*size, 1)[:3]], indexing="ij"), -1).reshape(-1, 3)
    voxels = nib.affines.apply_affine(to_file, cells)
    np.testing.assert_allclose(voxels, np.rint(voxels), atol=1e-3)
    return tuple(axis.reshape(size) for axis in np.rint(voxels).astype(int).T)


def scaled(volume):
    low, high = np.percentile(volume[volume != 0], [0.5, 99.5])
    return np.where(volume == 0, -1, np.clip((volume - low) / (high - low) * 2 - 1, -1, 1))


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


@pytest.mark.parametrize("codes", ["LPS", "RAI", "SAR", "PIL", "ASR"])
@pytest.mark.parametrize("options", [{}, {"patch_size": [10, 9, 8], "spatial_dims": 3}, {"patch_spacing_mm": 3.0}])
def test_flipped_and_permuted_copies_give_the_same_patch_bit_for_bit(tmp_path, subject, codes, options):
    images = {key: reoriented(array, AFFINE, codes)[0] for key, array in make_images().items()}
    mask, affine = reoriented(make_mask(), AFFINE, codes)
    copy = write_subject(tmp_path / codes, images, mask, affine)
    expected, found = patch_of(subject, **options), patch_of(copy, **options)
    np.testing.assert_array_equal(np.asarray(found["image"]), np.asarray(expected["image"]))
    np.testing.assert_allclose(found["image"].affine, expected["image"].affine, atol=1e-9)
    np.testing.assert_allclose(found["center_mm"], expected["center_mm"], atol=1e-9)
    np.testing.assert_allclose(nib.affines.apply_affine(affine, found["center_voxel"]), expected["center_mm"])


def test_modalities_stored_in_different_orders_give_the_same_patch(tmp_path, subject):
    array, affine = reoriented(make_images()["t2w"], AFFINE, "PIL")
    paths = {**subject["images"], "t2w": write_volume(tmp_path / "t2w.nii.gz", array, affine)}
    np.testing.assert_array_equal(array_of({**subject, "images": paths}), array_of(subject))


def halved(array, order):
    """Return the volume on voxels of 0.5 mm with the same edges, and with the same brain."""
    fine = zoom(array, 2, order=order, mode="nearest", grid_mode=True)
    brain = zoom(array, 2, order=0, mode="nearest", grid_mode=True) != 0
    return np.where(brain, fine, 0)


HALF_AFFINE = AFFINE @ np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("order", "largest", "mean"),
    # Repeated voxels move the percentiles by a rank (3e-4 at 240 x 240 x 155); linear interpolation blurs the texture.
    [(0, 0.01, 0.003), (1, 0.5, 0.05)],
    ids=["repeated", "interpolated"],
)
def test_a_copy_at_half_a_millimeter_gives_the_patch_within_its_tolerance(tmp_path, subject, order, largest, mean):
    images = {key: halved(array.astype(np.float32), order) for key, array in make_images().items()}
    copy = patch_of(write_subject(tmp_path / "fine", images, halved(make_mask(), 0), HALF_AFFINE))
    expected = patch_of(subject)
    difference = np.abs(np.asarray(copy["image"]) - np.asarray(expected["image"]))
    assert difference.max() < largest
    assert difference.mean() < mean
    assert np.abs(np.subtract(copy["center_mm"], expected["center_mm"])).max() <= 0.25
    np.testing.assert_allclose(copy["image"].affine[:2], expected["image"].affine[:2], atol=1e-9)


def test_a_quick_patch_is_the_full_one_averaged(subject):
    full = array_of(subject, patch_size=[18, 12])
    quick = array_of(subject, patch_size=[6, 4], patch_spacing_mm=3.0)
    np.testing.assert_allclose(quick, full.reshape(4, 6, 3, 4, 3).mean(axis=(2, 4)), atol=1e-6)


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


@pytest.mark.parametrize("center", [[1, 2], [1.5, 2, 3], [[1, 2, 3]]])
def test_a_click_that_is_no_voxel_is_refused(subject, center):
    with pytest.raises(ValueError, match="center must be three whole voxel indices"):
        patch_of({**subject, "center": center})


def test_neither_mask_nor_click_is_refused(subject):
    with pytest.raises(ValueError, match="S1 must have a mask or a center"):
        patch_of({**subject, "mask": None})


def test_one_4d_file_gives_the_patch_of_its_channels(tmp_path, subject):
    order = ["t2f", "t1n", "t1c", "t2w"]
    path = write_volume(tmp_path / "4d.nii.gz", np.stack([make_images()[name] for name in order], axis=-1))
    joined = {key: value for key, value in subject.items() if key != "images"} | {"image": path, "channel_order": order}
    np.testing.assert_array_equal(array_of(joined), array_of(subject))


def test_modalities_decide_number_and_order_of_channels(subject):
    full = array_of(subject)
    np.testing.assert_array_equal(array_of(subject, modalities=["t2f", "t1n"]), full[[3, 0]])
    np.testing.assert_array_equal(array_of(subject, modalities=["t1c"]), full[[1]])


def test_a_missing_modality_is_named(subject):
    images = {key: path for key, path in subject["images"].items() if key != "t1c"}
    with pytest.raises(ValueError, match=r"images must hold the modalities .* without \['t1c'\]"):
        patch_of({**subject, "images": images})


def test_background_is_exactly_minus_one_and_the_range_is_kept(subject):
    patch = array_of(subject, patch_size=[48, 48])
    center = patch_of(subject, patch_size=[48, 48])["center_voxel"]
    assert patch.dtype == np.float32
    assert patch.min() == -1
    assert 0.5 < patch.max() <= 1
    rows = np.arange(48) + center[0] - 24
    outside = (rows < 0) | (rows >= SHAPE[0])
    assert outside.any()
    assert (patch[:, outside] == -1).all()


@pytest.mark.parametrize("corner", [(0.02, 0.03, 0.04), (0.98, 0.97, 0.96)])
def test_a_lesion_at_the_border_is_padded(tmp_path, corner):
    patch = patch_of(write_subject(tmp_path / "S", mask=make_mask(center=corner)))
    assert patch["image"].shape == (4, 16, 14)


def test_brain_percentiles_are_those_of_monai(subject):
    volume = make_images()["t2f"]
    low, high = MeasureIntensitiesd().measure(Volume("a", volume, AFFINE))
    brain = volume[volume != 0].astype(np.float32)
    expected = ScaleIntensityRangePercentiles(0.5, 99.5, -1, 1, clip=True)(brain[None])[0]
    np.testing.assert_allclose(scale_intensities(brain, low, high), np.asarray(expected), atol=1e-5)


def test_zscores_are_those_of_monai_up_to_the_limit(subject):
    volume = make_images()["t2f"]
    low, high = MeasureIntensitiesd("zscore", zscore_limit=3.0).measure(Volume("a", volume, AFFINE))
    expected = np.asarray(NormalizeIntensity(nonzero=True)(volume.astype(np.float32)[None]))[0]
    found = scale_intensities(volume, low, high)
    np.testing.assert_allclose(found[volume != 0], np.clip(expected / 3, -1, 1)[volume != 0], atol=1e-5)
    assert (found[volume == 0] == -1).all()


def test_patches_do_not_depend_on_the_scale_of_the_scanner(tmp_path, subject):
    images = {key: array * np.float32(3.7) for key, array in make_images().items()}
    np.testing.assert_allclose(array_of(write_subject(tmp_path / "S", images)), array_of(subject), atol=1e-5)


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_volume_is_named(subject, value):
    array = np.where(make_images()["t1n"] != 0, value, 0).astype(np.int16)
    write_volume(Path(subject["images"]["t2w"]), array)
    with pytest.raises(ValueError, match=r"t2w\.nii\.gz must vary inside the brain"):
        patch_of(subject)


def test_a_modality_on_another_grid_is_refused(subject):
    write_volume(Path(subject["images"]["t2w"]), make_images()["t2w"], AFFINE @ np.diag([1, 1, 1.1, 1]))
    with pytest.raises(ValueError, match=r"t2w must lie on the voxel grid of t1n.*registration: true"):
        patch_of(subject)


def test_a_mask_on_another_grid_is_refused(subject):
    write_volume(Path(subject["mask"]), make_mask()[:-1])
    with pytest.raises(ValueError, match="mask must lie on the voxel grid of t1n, got shape"):
        patch_of(subject)


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


@pytest.mark.parametrize("dims", [2, 3])
def test_the_lesion_box_fills_its_share_of_the_patch(subject, dims):
    size = [16, 14, 12][:dims]
    patch = patch_of(subject, crop="lesion_box", box_margin=2.0, patch_size=size, spatial_dims=dims)
    mask = make_mask()
    points = np.argwhere(mask == 4)
    if dims == 2:
        points = points[points[:, 2] == patch["slice"]]
    extent = (points.max(0) - points.min(0) + 1)[:dims]
    assert patch["spacing_mm"] == pytest.approx((extent * 2.0 / size).max())
    middle = np.asarray(patch["image"].affine) @ [*[(n - 1) / 2 for n in size], *[0] * (3 - dims), 1]
    box_middle = (points.max(0) + points.min(0)) / 2
    np.testing.assert_allclose(middle[:dims], nib.affines.apply_affine(AFFINE, box_middle)[:dims], atol=1e-6)


def test_a_lesion_box_needs_a_mask(subject):
    with pytest.raises(ValueError, match="crop must be 'field_of_view' for a click"):
        patch_of({**subject, "center": [20, 16, 11]}, crop="lesion_box")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MeasureIntensitiesd("minmax"), "mode must be 'percentile' or 'zscore'"),
        (lambda: MeasureIntensitiesd(percentiles=[99, 1]), "percentiles must be two increasing"),
        (lambda: MeasureIntensitiesd("zscore", zscore_limit=0), "zscore_limit must be > 0"),
        (lambda: ChooseCenterd("middle"), "slice must be one of"),
        (lambda: ChooseCenterd("all", spatial_dims=3), "spatial_dims must be 2, or 3"),
        (lambda: CropPatchd([96]), "patch_size must be two or three"),
        (lambda: CropPatchd([96, 96], crop="zoom"), "crop must be"),
        (lambda: CropPatchd([96, 96], patch_spacing_mm=0), "patch_spacing_mm must be > 0"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_codes_without_a_meaning_are_refused(subject):
    with pytest.raises(ValueError, match="mask_codes must say what the codes"):
        patch_of({**subject, "mask_codes": None})
    with pytest.raises(ValueError, match="must hold the codes of mask_codes"):
        patch_of({**subject, "mask_codes": {**MASK_CODES, "enhancing": 3}})
