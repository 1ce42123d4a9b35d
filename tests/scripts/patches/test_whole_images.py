"""Whole images as patches: resized as stock MONAI does it, colors kept, and nothing told that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Resize

from scripts.patches.background import snap_background
from scripts.patches.centers import NOT_TOLD
from scripts.patches.checks import check_patches
from scripts.patches.crop import CropPatchd
from scripts.patches.intensities import DARKEST, foreground
from scripts.running.errors import root_cause
from scripts.running.files import read_json, write_json
from tests.helpers import run_stage
from tests.picture_folders import COLORS, pixels, save_picture
from tests.tiny_subjects import AFFINE, patch_of, write_volume

PICTURE = {
    "modalities": COLORS,
    "patch_spacing_mm": None,
    "image_background": False,
    "max_brain_ml": None,
    "cut": "whole",
    "crop": "stretch",
    "intensity_mode": "fixed",
}
VOLUME = {**PICTURE, "modalities": ["t1n"], "spatial_dims": 3, "intensity_range": [0, 1000]}


def picture(folder: Path, shown: np.ndarray) -> dict[str, Any]:
    channels = COLORS if shown.ndim == 3 else ["grey"]
    return {"subject_id": "a", "image": str(save_picture(folder / "a.png", shown)), "channel_order": channels}


def run(**options: Any) -> None:
    try:
        run_stage("patches", **options)
    except RuntimeError as error:
        raise root_cause(error) from error


def as_shown(patch: Any) -> np.ndarray:
    """Channels, rows from the top, columns from the left, from 0 to 255."""
    return (np.asarray(patch["image"]).swapaxes(1, 2)[:, ::-1] + 1) * 127.5


def test_colors_come_back_as_they_were(tmp_path):
    shown = pixels("a", size=(14, 16), colors=True)
    patch = patch_of(picture(tmp_path, shown), patch_size=[16, 14], **{**PICTURE, "crop": "fit"})
    np.testing.assert_allclose(as_shown(patch), np.moveaxis(shown, -1, 0), atol=0.01)
    assert {name: patch[name] for name in (*NOT_TOLD, "spacing_mm")} == dict.fromkeys((*NOT_TOLD, "spacing_mm"))


@pytest.mark.parametrize(("size", "mode"), [((8, 6), "area"), ((37, 50), "bilinear")], ids=["smaller", "larger"])
def test_a_picture_is_resized_as_monai_does_it(size, mode, tmp_path):
    shown = pixels("a", size=(24, 24), colors=True)
    resize = Resize(size, mode=mode, **({"align_corners": False} if mode == "bilinear" else {}))
    expected = resize(torch.from_numpy(np.moveaxis(shown, -1, 0)).float()).numpy()
    patch = patch_of(picture(tmp_path, shown), patch_size=list(size[::-1]), **PICTURE)
    np.testing.assert_allclose(as_shown(patch), expected, atol=0.13)  # a thousandth of the range


def test_a_volume_is_resized_as_monai_does_it(tmp_path):
    array = np.random.default_rng(0).integers(1, 1000, (10, 12, 8)).astype(np.int16)
    subject = {"subject_id": "a", "images": {"t1n": write_volume(tmp_path / "a.nii.gz", array, AFFINE)}}
    for size, mode in (((5, 6, 4), "area"), ((15, 20, 9), "trilinear")):
        resize = Resize(size, mode=mode, **({"align_corners": False} if mode == "trilinear" else {}))
        expected = resize(torch.from_numpy(array[None].astype(np.float32))).numpy()
        patch = patch_of(subject, **{**VOLUME, "patch_size": list(size)})
        np.testing.assert_allclose((np.asarray(patch["image"]) + 1) * 500, expected, atol=1)


def test_padding_keeps_proportions_and_fills_up_with_background(tmp_path):
    shown = np.full((12, 24), 200, np.uint8)
    shown[0, 0] = 10
    subject = {**picture(tmp_path, shown)}
    options = {**PICTURE, "modalities": ["grey"], "crop": "pad", "patch_size": [16, 16]}
    image = as_shown(patch_of(subject, **{**options, "image_background": True}))[0]
    assert (np.concatenate([image[:4], image[-4:]]) == 0).all()
    assert image[4:-4].min() > 100
    without = np.asarray(patch_of(subject, **options)["image"])
    assert without.min() == np.float32(DARKEST) > -1


def test_one_scale_for_all_colors_keeps_them_and_percentiles_would_not(tmp_path):
    shown = np.stack([pixels("a") // 4, pixels("b"), pixels("c") // 2], axis=-1)
    subject = picture(tmp_path, shown)
    fixed = as_shown(patch_of(subject, patch_size=[24, 24], **PICTURE))
    np.testing.assert_allclose(fixed.mean(axis=(1, 2)), shown.mean(axis=(0, 1)), atol=0.1)
    stretched = as_shown(patch_of(subject, patch_size=[24, 24], **{**PICTURE, "intensity_mode": "percentile"}))
    assert abs(stretched.mean(axis=(1, 2)) - shown.mean(axis=(0, 1))).max() > 30


def test_black_is_no_background_where_images_have_none(tmp_path):
    shown = pixels("a", colors=True)
    shown[3:9] = 0
    patch = np.asarray(patch_of(picture(tmp_path, shown), patch_size=[24, 24], **PICTURE)["image"])
    assert foreground(patch).all()
    with_background = {**PICTURE, "image_background": True}
    patch = np.asarray(patch_of(picture(tmp_path, shown), patch_size=[24, 24], **with_background)["image"])
    assert (~foreground(patch)).sum() == 6 * 24


def test_nothing_is_snapped_where_images_have_no_background():
    images = torch.tensor([-1.3, -1.0, -0.95, 0.0, 1.2]).reshape(1, 1, 5, 1)
    assert snap_background(images, 0.1).flatten().tolist() == [-1, -1, -1, 0, 1]
    kept = snap_background(images, None).flatten()
    assert kept[2:].tolist() == pytest.approx([-0.95, 0, 1])
    assert (kept > -1).all()


def test_the_box_of_the_foreground_is_shown(tmp_path):
    shown = np.zeros((24, 24), np.uint8)
    shown[4:12, 6:22] = pixels("a", size=(8, 16))
    options = {**PICTURE, "modalities": ["grey"], "crop_to_foreground": True, "crop": "fit", "image_background": True}
    patch = patch_of(picture(tmp_path, shown), patch_size=[16, 8], **options)
    np.testing.assert_allclose(as_shown(patch)[0], shown[4:12, 6:22], atol=0.01)


def test_volumes_in_mm_may_be_cut_whole_too(tmp_path):
    array = np.random.default_rng(0).integers(1, 1000, (10, 12, 8)).astype(np.int16)
    subject = {"subject_id": "a", "images": {"t1n": write_volume(tmp_path / "a.nii.gz", array, AFFINE)}}
    options = {**VOLUME, "patch_spacing_mm": 1.0, "crop": "field_of_view", "patch_size": [10, 12, 8]}
    patch = patch_of(subject, **options)
    np.testing.assert_allclose((np.asarray(patch["image"])[0] + 1) * 500, array, atol=0.1)
    assert patch["spacing_mm"] == 1.0
    with pytest.raises(ValueError, match="must have one slice where spatial_dims is 2 and cut is whole, got 8; set"):
        patch_of(subject, **{**options, "spatial_dims": 2, "patch_size": [8, 8]})


def test_mixed_fields_of_view_are_named_and_may_be_cut_or_shrunk(tmp_path):
    images = {name: np.full(size, 500, np.int16) for name, size in (("a", (10, 12, 8)), ("b", (10, 18, 8)))}
    subjects = [
        {"subject_id": name, "images": {"t1n": write_volume(tmp_path / f"{name}.nii.gz", array, np.eye(4))}}
        for name, array in images.items()
    ]
    images["b"][:, 0] = images["b"][:, -5:] = 0
    write_volume(tmp_path / "b.nii.gz", images["b"], np.eye(4))
    options = {**VOLUME, "patch_spacing_mm": 1.0, "crop": "field_of_view", "patch_size": [12, 14, 8]}
    padded = np.asarray(patch_of(subjects[0], **{**options, "image_background": True})["image"])[0]
    assert (padded == -1).sum() == 12 * 14 * 8 - 10 * 12 * 8
    with pytest.raises(
        ValueError, match=r"b.nii.gz must lie within the field of view of 12 x 14 x 8 mm, got 10 x 18 x 8 mm; raise"
    ):
        patch_of(subjects[1], **options)
    assert patch_of(subjects[1], **{**options, "crop": "center"})["spacing_mm"] == 1.0
    assert patch_of(subjects[1], **{**options, "crop_to_foreground": True})["image"].shape == (1, 12, 14, 8)
    assert np.asarray(patch_of(subjects[1], **{**options, "crop": "pad"})["image"]).shape == (1, 12, 14, 8)


def test_what_has_no_depth_is_refused_by_a_3d_recipe_before_any_work(tmp_path):
    picture_facts = {"picture": {"size": [24, 24], "mode": "L", "content": "grey"}}
    path = str(save_picture(tmp_path / "a.png", pixels("a")))
    slice_path = write_volume(tmp_path / "b.nii.gz", np.ones((8, 8, 1), np.int16), np.eye(4))
    grid = {"size": [8, 8, 1], "spacing_mm": [1, 1, 1]}
    subjects = [
        {"subject_id": "a", "image": path, "channel_order": ["t1n"], **picture_facts},
        {"subject_id": "b", "images": {"t1n": slice_path}, "grid": grid},
    ]
    write_json(tmp_path / "cohort.json", {"name": "x", "simulated": False, "subjects": subjects})
    options = {**VOLUME, "cohort_path": str(tmp_path / "cohort.json"), "patch_size": [8, 8, 8]}
    with pytest.raises(ValueError, match=r"(?s)- a: a picture has no depth; .*- b: a volume of 8 x 8 x 1 has no depth"):
        run(output_dir=str(tmp_path / "out"), **options)
    with pytest.raises(
        ValueError, match="b.nii.gz must have depth where spatial_dims is 3, got 8 x 8 x 1; leave it out"
    ):
        patch_of(subjects[1], **{**options, "output_dir": None})


def test_pictures_that_do_not_fit_are_told_together_before_any_work(tmp_path):
    sizes = {"a": (24, 24), "b": (24, 30), "c": (30, 24), "d": (48, 48)}
    subjects = []
    for name, size in sizes.items():
        path = save_picture(tmp_path / f"{name}.png", pixels(name, size=size))
        facts = {"size": list(size[::-1]), "mode": "L", "content": "grey"}
        subjects.append({"subject_id": name, "image": str(path), "channel_order": ["grey"], "picture": facts})
    write_json(tmp_path / "cohort.json", {"name": "x", "simulated": False, "subjects": subjects})
    options = {**PICTURE, "modalities": ["grey"], "crop": "fit", "cohort_path": str(tmp_path / "cohort.json")}
    options |= {"patch_size": [16, 16], "output_dir": str(tmp_path / "out")}
    with pytest.raises(
        ValueError, match=r"(?s)- b: sides of 30 x 24.* set crop: pad, .*- c: sides of 24 x 30"
    ) as error:
        run(**options)
    assert str(error.value).count("\n- ") == 2
    with pytest.raises(ValueError, match=r"(?s)- a: a picture has no mm; set patch_spacing_mm: null"):
        run(**{**options, "patch_spacing_mm": 1.0, "crop": "stretch", "output_dir": str(tmp_path / "mm")})
    run(**{**options, "crop": "stretch", "output_dir": str(tmp_path / "stretched")})
    rows = read_json(tmp_path / "stretched" / "patches.json")["training"]
    assert {row["region"] for row in rows} == {row["lesion_volume_ml"] for row in rows} == {None}


BAD = {
    "mm": ({"patch_spacing_mm": None}, "crop must be fit, pad or stretch .* where patch_spacing_mm is null"),
    "name": (
        {"crop": "squeeze"},
        "crop must be one of lesion_box, field_of_view, center, fit, pad, stretch, got 'squeeze'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_of_no_patch_are_refused(name):
    options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        CropPatchd([8, 8], **options)


@pytest.mark.parametrize(("cut", "crop"), [("whole", "lesion_box"), ("lesion", "pad"), ("half", "field_of_view")])
def test_a_cut_and_its_crop_belong_together(cut, crop):
    with pytest.raises(ValueError, match="cut must be lesion, with crop field_of_view or lesion_box, or whole, with"):
        check_patches(["t1n"], False, "t1n", cut=cut, crop=crop)
