"""The files of a subject, read and brought together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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
    write_volume,
)
from tests.volume_folders import write_pair


def test_modalities_stored_in_different_orders_give_the_same_patch(tmp_path, subject):
    array, affine = reoriented(make_images()["t2w"], AFFINE, "PIL")
    paths = {**subject["images"], "t2w": write_volume(tmp_path / "t2w.nii.gz", array, affine)}
    np.testing.assert_array_equal(array_of({**subject, "images": paths}), array_of(subject))


def test_one_4d_file_gives_the_patch_of_its_channels(tmp_path, subject):
    order = ["t2f", "t1n", "t1c", "t2w"]
    path = write_volume(tmp_path / "4d.nii.gz", np.stack([make_images()[name] for name in order], axis=-1))
    joined = {key: value for key, value in subject.items() if key != "images"} | {"image": path, "channel_order": order}
    np.testing.assert_array_equal(array_of(joined), array_of(subject))


@pytest.mark.parametrize("is_4d", [False, True], ids=["3d", "4d"])
def test_analyze_pairs_give_the_patch_of_nifti_that_lies_alike(tmp_path, is_4d):
    middle = AFFINE.copy()
    middle[:3, 3] = -(np.array(SHAPE) - 1) / 2
    images, mask = make_images(), make_mask()
    subject = write_subject(tmp_path / "S", images, mask, affine=middle)
    turned = {name: reoriented(voxels, middle, "LAS")[0] for name, voxels in {**images, "mask": mask}.items()}
    pairs = {name: str(write_pair(tmp_path / f"{name}.img", turned[name], (1, 1, 1))) for name in turned}
    stacked = np.stack([turned[name] for name in MODALITIES], axis=-1)
    path = write_pair(tmp_path / "4d.img", stacked, (1, 1, 1))
    files = {"image": str(path), "channel_order": MODALITIES} if is_4d else {"images": pairs}
    rest = {key: value for key, value in subject.items() if key != "images"}
    analyze = {**rest, **files, "mask": pairs["mask"], "orientation": "LAS"}
    np.testing.assert_array_equal(array_of(analyze), array_of(subject))


def test_modalities_decide_number_and_order_of_channels(subject):
    full = array_of(subject)
    np.testing.assert_array_equal(array_of(subject, modalities=["t2f", "t1n"]), full[[3, 0]])
    np.testing.assert_array_equal(array_of(subject, modalities=["t1c"]), full[[1]])


def test_a_missing_modality_is_named(subject):
    images = {key: path for key, path in subject["images"].items() if key != "t1c"}
    with pytest.raises(ValueError, match=r"images must hold the modalities .* without \['t1c'\]"):
        patch_of({**subject, "images": images})


def test_a_modality_on_another_grid_is_refused(subject):
    write_volume(Path(subject["images"]["t2w"]), make_images()["t2w"], AFFINE @ np.diag([1, 1, 1.1, 1]))
    with pytest.raises(ValueError, match=r"t2w must lie on the voxel grid of t1n.*registration: true"):
        patch_of(subject)


def test_a_mask_on_another_grid_is_refused(subject):
    write_volume(Path(subject["mask"]), make_mask()[:-1])
    with pytest.raises(ValueError, match="mask must lie on the voxel grid of t1n, got shape"):
        patch_of(subject)


def test_a_head_is_refused_and_stripped_by_its_brain_mask(tmp_path, subject):
    images = make_images()
    heads = {name: np.where(array == 0, 40, array).astype(np.int16) for name, array in images.items()}
    head = write_subject(tmp_path / "head", heads)
    with pytest.raises(ValueError, match=r"head/t1n\.nii\.gz must be skull-stripped.*give a brain_mask"):
        patch_of(head)
    masks, affine = reoriented((images["t1n"] != 0).astype(np.uint8), AFFINE, "LPS")
    brain_mask = write_volume(tmp_path / "brain.nii.gz", masks, affine)
    np.testing.assert_array_equal(array_of({**head, "brain_mask": brain_mask}), array_of(subject))


def test_a_brain_mask_on_another_grid_is_refused(tmp_path, subject):
    brain_mask = write_volume(tmp_path / "brain.nii.gz", np.ones((4, 5, 6), np.uint8))
    with pytest.raises(ValueError, match="brain_mask must lie on the voxel grid of t1n"):
        patch_of({**subject, "brain_mask": brain_mask})


def test_one_image_for_two_modalities_is_refused(subject):
    images = {**subject["images"], "t1c": subject["images"]["t1n"]}
    with pytest.raises(ValueError, match="t1n and t1c must be different images"):
        patch_of({**subject, "images": images})
