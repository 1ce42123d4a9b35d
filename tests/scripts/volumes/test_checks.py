from __future__ import annotations

import numpy as np
import pytest

from scripts.volumes.checks import check_grid, check_image, find_mask_codes
from tests.cohort_files import SHAPE, image, mask, save
from tests.volume_folders import write_pair


def shifted(distance: float) -> np.ndarray:
    affine = np.eye(4)
    affine[1, 3] = distance
    return affine


def test_one_grid_within_the_tolerance_passes(tmp_path):
    check_grid(
        {"t1n": save(tmp_path / "a.nii", image("a")), "t2w": save(tmp_path / "b.nii", image("b"), shifted(9e-4))}
    )


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((6, 5, 3), np.eye(4), r"b.nii \(mask\) must lie on the voxel grid of .*a.nii \(t1n\), got shape"),
        (SHAPE, shifted(2e-3), "got affines that differ by 0.002"),
    ],
)
def test_unequal_grids_are_refused_with_both_files(tmp_path, shape, affine, message):
    paths = {"t1n": save(tmp_path / "a.nii", image("a")), "mask": save(tmp_path / "b.nii", image("b", shape), affine)}
    with pytest.raises(ValueError, match=message):
        check_grid(paths)


def test_the_same_grid_stored_in_another_order_passes(tmp_path):
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = SHAPE[0] - 1
    check_grid({"t1n": save(tmp_path / "a.nii", image("a")), "t2w": save(tmp_path / "b.nii", image("b"), flipped)})


def test_a_fourth_dimension_must_be_declared(tmp_path):
    path = save(tmp_path / "a.nii", image("a", (*SHAPE, 3)))
    with pytest.raises(ValueError, match="a.nii must be one 3D volume, got shape"):
        check_grid({"t1n": path})
    with pytest.raises(ValueError, match="a.nii must be 4D with the 4 channels of its channel_order"):
        check_grid({"image": path}, num_channels=4)
    check_grid({"image": path}, num_channels=3)


def test_a_4d_analyze_pair_is_checked_channel_by_channel_as_it_is_said_to_lie(tmp_path):
    path = write_pair(tmp_path / "a.img", np.stack([image("a"), image("b")], axis=-1))
    check_grid({"image": path}, 2, "LAS")
    assert len(check_image(path, ["t1n", "t2w"], None, "LAS")) == 2
    with pytest.raises(ValueError, match=r"a.img must come with an orientation"):
        check_image(path, ["t1n", "t2w"], None)


def test_a_file_that_is_missing_or_no_volume_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="a.nii does not exist"):
        check_grid({"t1n": tmp_path / "a.nii"})
    (tmp_path / "a.nii.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="a.nii.gz must be a NIfTI file .* got text"):
        check_grid({"t1n": tmp_path / "a.nii.gz"})


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.99])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = save(tmp_path / "a.nii.gz", image("a", (40, 30, 20)))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(ValueError, match="a.nii.gz must"):
        check_image(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = save(tmp_path / "a.nii.gz", image("a", (40, 30, 20)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="a.nii.gz must"):
        check_image(path)


def test_nan_and_constant_images_are_refused(tmp_path):
    array = image("a").astype(np.float32)
    array[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="nan.nii must hold finite values"):
        check_image(save(tmp_path / "nan.nii", array))
    with pytest.raises(ValueError, match="flat.nii must not be constant, got 7 in every voxel"):
        check_image(save(tmp_path / "flat.nii", np.full(SHAPE, 7, np.int16)))


def test_a_constant_channel_is_named(tmp_path):
    array = image("a", (*SHAPE, 2))
    array[..., 1] = 0
    with pytest.raises(ValueError, match=r"a.nii \(t2w\) must not be constant"):
        check_image(save(tmp_path / "a.nii", array), ["t1n", "t2w"])


def test_the_same_voxels_hash_alike_however_they_are_packed(tmp_path):
    one = check_image(save(tmp_path / "a.nii", image("a")))
    two = check_image(save(tmp_path / "b.nii.gz", image("a")))
    assert list(one.values()) == list(two.values())
    assert list(one.values()) != list(check_image(save(tmp_path / "c.nii", image("c"))).values())


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_codes_are_read_whatever_the_type(tmp_path, kind):
    assert find_mask_codes(save(tmp_path / "m.nii.gz", mask([4, 1]).astype(kind))) == [1, 4]


@pytest.mark.parametrize(
    ("values", "message"), [([], "empty mask"), ([1.5], "whole codes .* got 1.5"), ([-1.0], "whole codes .* got -1")]
)
def test_a_mask_that_is_none_is_refused(tmp_path, values, message):
    array = np.zeros(SHAPE, np.float32)
    array.flat[: len(values)] = values
    with pytest.raises(ValueError, match=message):
        find_mask_codes(save(tmp_path / "m.nii", array))


def test_an_image_with_a_skull_is_refused_unless_a_brain_mask_strips_it(tmp_path):
    path = save(tmp_path / "a.nii", image("a") + np.int16(5))
    with pytest.raises(ValueError, match=r"^.*a\.nii must be skull-stripped, 0 outside the brain, got 0%"):
        check_image(path)
    assert check_image(path, limits=None)


def test_two_channels_of_the_same_voxels_are_refused(tmp_path):
    path = save(tmp_path / "a.nii", np.stack([image("a")] * 2, axis=-1))
    with pytest.raises(ValueError, match=r"must be different images, got the same voxels in .*\(t1n\) and .*\(t2w\)"):
        check_image(path, ["t1n", "t2w"])
