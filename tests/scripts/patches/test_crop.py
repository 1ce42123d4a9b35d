"""The patch lies on the anatomy, and holds the voxels, that its affine says."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import zoom

from scripts.patches.crop import CropPatchd
from tests.tiny_subjects import (
    AFFINE,
    MODALITIES,
    SHAPE,
    array_of,
    make_images,
    make_mask,
    patch_of,
    reoriented,
    write_subject,
)


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


@pytest.mark.parametrize("dims", [2, 3])
def test_the_overview_shows_the_patch_in_its_slice(subject, dims):
    size = [16, 14, 9][:dims]
    made = patch_of(subject, patch_size=size, spatial_dims=dims, keep_overview=True)
    overview = made["overview"]
    middle = np.asarray(made["image"])[(..., size[2] // 2) if dims == 3 else ...]
    (left, bottom), (width, height) = overview.corner.astype(int), overview.sides.astype(int)
    for channel, modality in enumerate(MODALITIES):
        framed = overview.planes[modality][left : left + width, bottom : bottom + height]
        np.testing.assert_allclose(framed, middle[channel], atol=1e-6)
    assert ((overview.center >= overview.corner) & (overview.center < overview.corner + overview.sides)).all()
    assert "overview" not in patch_of(subject, patch_size=size, spatial_dims=dims)


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


@pytest.mark.parametrize("corner", [(0.02, 0.5, 0.5), (0.98, 0.5, 0.5), (0.5, 0.97, 0.5)])
def test_a_lesion_at_the_border_is_padded(tmp_path, corner):
    patch = patch_of(write_subject(tmp_path / "S", mask=make_mask(center=corner)))
    assert patch["image"].shape == (4, 16, 14)


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
        (lambda: CropPatchd([96]), "patch_size must be two or three"),
        (lambda: CropPatchd([96, 96], crop="zoom"), "crop must be"),
        (lambda: CropPatchd([96, 96], patch_spacing_mm=0), "patch_spacing_mm must be > 0"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_mask_outside_the_brain_gives_no_patch(tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:3, :3, :3] = 4
    subject = write_subject(tmp_path / "S", mask=mask)
    with pytest.raises(ValueError, match=r"patch around voxel \[1, 1, 0\] .* must show the brain.* correct the mask"):
        patch_of(subject, patch_size=[4, 4], min_et_ml=0)
