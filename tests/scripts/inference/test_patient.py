"""Patients whose files are refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.inference_requests import ask
from tests.tiny_subjects import AFFINE, SHAPE, make_images, make_mask, reoriented, write_subject, write_volume


def test_a_4d_file_without_channel_order_is_refused(patient, weights, tmp_path):
    path = write_volume(tmp_path / "a" / "all.nii.gz", np.stack(list(make_images().values()), axis=-1))
    with pytest.raises(ValueError, match="channel_order must be declared"):
        ask(tmp_path / "out", weights, image=path, mask=patient["mask"])


def test_neither_mask_nor_click_is_refused(patient, weights, tmp_path):
    with pytest.raises(ValueError, match="got neither; give --mask"):
        ask(tmp_path, weights, images=patient["images"])


def test_files_and_a_4d_file_together_are_refused(patient, weights, tmp_path):
    with pytest.raises(ValueError, match="got both"):
        ask(tmp_path, weights, images=patient["images"], image=patient["mask"], mask=patient["mask"])


def test_mask_codes_that_conventions_read_differently_must_be_declared(patient, weights, tmp_path):
    mask = make_mask()
    mask[mask == 4] = 3
    path = write_volume(tmp_path / "seg.nii.gz", mask, AFFINE)
    with pytest.raises(ValueError, match="mask_codes must be declared"):
        ask(tmp_path / "out", weights, images=patient["images"], mask=path)
    answer = ask(tmp_path / "again", weights, images=patient["images"], mask=path, mask_codes="brats_2023")
    assert answer["mask_codes"].startswith("declared as brats_2023")


def test_a_mask_named_as_of_the_pediatric_task_has_its_codes(patient, weights, tmp_path):
    path = write_volume(tmp_path / "BraTS-PED-00001-000-seg.nii.gz", make_mask(), AFFINE)
    answer = ask(tmp_path / "out", weights, images=patient["images"], mask=path)
    assert "brats_2024_pediatric" in answer["mask_codes"]


def test_a_mask_of_fractions_is_refused_and_not_rounded(patient, weights, tmp_path):
    mask = make_mask().astype(np.float32)
    mask[tuple(np.argwhere(mask)[0])] = 0.5
    path = write_volume(tmp_path / "seg.nii.gz", mask, AFFINE)
    with pytest.raises(ValueError, match=r"seg.nii.gz must hold whole codes of at least 0, got 0\.5"):
        ask(tmp_path / "out", weights, images=patient["images"], mask=path)


def test_a_head_is_not_graded_without_its_brain_mask(patient, weights, tmp_path):
    images = make_images()
    heads = {name: np.where(array == 0, 40, array).astype(np.int16) for name, array in images.items()}
    head = write_subject(tmp_path / "head", heads)
    request = {"images": head["images"], "mask": head["mask"]}
    with pytest.raises(ValueError, match=r"t1n\.nii\.gz must be skull-stripped"):
        ask(tmp_path / "out", weights, **request)
    brain_mask = write_volume(tmp_path / "brain.nii.gz", (images["t1n"] != 0).astype(np.uint8))
    stripped = ask(tmp_path / "again", weights, **request, brain_mask=brain_mask)
    expected = ask(tmp_path / "expected", weights, images=patient["images"], mask=patient["mask"])
    assert stripped["probabilities"] == expected["probabilities"]


def test_a_click_is_a_voxel_of_t1c_however_the_files_store_their_voxels(patient, weights, tmp_path):
    mixed = {}
    for (name, array), codes in zip(make_images().items(), ("RAS", "LPS", "SAR", "ASR"), strict=True):
        mixed[name] = write_volume(tmp_path / f"{name}.nii.gz", *reoriented(array, AFFINE, codes))
    expected = ask(tmp_path / "expected", weights, images=patient["images"], click=[24, 14, 11])
    in_t1c = [SHAPE[0] - 1 - 24, SHAPE[1] - 1 - 14, 11]
    answer = ask(tmp_path / "out", weights, images=mixed, click=in_t1c)
    assert answer["crop"]["center_voxel"] == in_t1c
    assert answer["crop"]["center_mm"] == expected["crop"]["center_mm"]
    assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
    outside = {**mixed, "t1c": write_volume(tmp_path / "t1.nii.gz", *reoriented(make_images()["t1c"], AFFINE, "SAR"))}
    with pytest.raises(ValueError, match=r"must lie inside .*t1\.nii\.gz of shape \(22, 33, 40\)"):
        ask(tmp_path / "again", weights, images=outside, click=[30, 14, 11])


def test_a_click_outside_the_brain_is_not_graded(patient, weights, tmp_path):
    with pytest.raises(ValueError, match=r"click \[0, 0, 0\] must lie in the brain"):
        ask(tmp_path, weights, images=patient["images"], click=[0, 0, 0])
