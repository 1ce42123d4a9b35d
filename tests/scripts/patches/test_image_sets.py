from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.patches.image_sets import ALL, ImageSet, input_files, read_parts, read_rows, read_set, require_made_alike
from scripts.running.files import read_json, write_json
from scripts.splits.parts import load_splits
from tests.helpers import image_form
from tests.patches import write_tiny_patches

ZSCORED = {"intensity_mode": "zscore", "intensity_percentiles": None, "zscore_limit": 4.0}


@pytest.fixture
def patches(tmp_path) -> dict[str, str]:
    return write_tiny_patches(tmp_path / "patches")


def change(path: str, **values) -> str:
    write_json(path, {**read_json(path), **values})
    return path


def test_a_list_and_the_folder_of_its_images_are_one_set(patches):
    path = patches["patches_path"]
    listed = read_set(path, image_form())
    found = read_set(str(Path(path).parent), image_form())
    assert sorted(listed.images.sum((1, 2, 3)).tolist()) == sorted(found.images.sum((1, 2, 3)).tolist())
    assert set(listed.class_names) == {"LGG", "HGG"}
    assert (set(found.class_names), set(found.patients), found.facts) == ({ALL}, {None}, None)
    assert listed.facts["intensity_mode"] == "percentile"


def test_a_folder_is_read_from_wherever_one_stands(patches, monkeypatch):
    monkeypatch.chdir(Path(patches["patches_path"]).parents[1])
    assert len(read_set("patches", image_form())) == 12


def test_the_files_of_a_list_are_the_list_and_those_of_a_folder_its_images(patches):
    path = Path(patches["patches_path"])
    assert input_files(str(path)) == [str(path)]
    assert len(input_files(str(path.parent))) == 12
    first = path.parent / sorted(image.name for image in path.parent.glob("*.nii.gz"))[0]
    first.rename(first.with_name("CAPITALS.NII.GZ"))
    (path.parent / f"._{first.name}").write_bytes(b"what macOS leaves")
    assert len(input_files(str(path.parent))) == 12
    assert input_files(None) == [None]


def test_the_patient_of_a_part_is_that_of_the_table_and_not_only_of_the_name(patches):
    path = patches["patches_path"]
    rows = read_json(path)["training"]
    for index, row in enumerate(rows):
        row["patient_id"] = f"P{index // 3}"
    change(path, training=rows)
    named = {row["subject_id"]: row["patient_id"] for row in rows}
    training = read_parts(path, patches["splits_path"], 0, ["train"], image_form())
    assert sorted(training.subject_ids) == load_splits(patches["splits_path"])["folds"][0]["train"]
    assert list(training.patients) == [named[name] for name in training.subject_ids]


def test_scans_of_one_patient_are_of_one_patient(patches):
    path = patches["patches_path"]
    listing = read_json(path)
    rows = [{**row, "patient_id": name} for row, name in zip(listing["training"], "AAB", strict=False)]
    images = read_rows(path, listing, rows)
    assert (images.patients, images.different_patients) == (["A", "A", "B"], ["A", "B"])
    assert images.take([2, 0]).names == [rows[2]["image"], rows[0]["image"]]
    assert len(images.of_class("HGG")) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"intensity_mode": "zscore", "intensity_percentiles": None, "zscore_limit": 4.0},
            "intensity_mode 'percentile'",
        ),
        ({"spacing_mm": 3.0}, "spacing_mm 1.0"),
        ({"labels": {"0": "HGG", "1": "LGG"}}, "labels"),
    ],
)
def test_sets_that_are_made_otherwise_are_refused(patches, tmp_path, changes, message):
    real = read_set(patches["patches_path"], image_form())
    shutil.copytree(tmp_path / "patches", tmp_path / "other")
    other = read_set(change(str(tmp_path / "other/patches.json"), **changes), image_form())
    with pytest.raises(ValueError, match=f"other/patches.json must have {message}"):
        require_made_alike(other, real)


def test_sets_of_a_folder_are_compared_by_shape_alone_and_that_is_told(patches):
    real = read_set(patches["patches_path"], image_form())
    assert require_made_alike(real, real)
    folder = read_set(str(Path(patches["patches_path"]).parent), image_form())
    assert not require_made_alike(folder, real)
    with pytest.raises(ValueError, match="must have images of the shape of"):
        require_made_alike(ImageSet(folder.images[..., :4], folder.patients), real)


def test_a_list_of_no_image_is_refused(patches):
    with pytest.raises(ValueError, match="must list at least one image, got none"):
        read_set(change(patches["patches_path"], training=[]), image_form())


def test_a_set_in_0_to_1_is_refused_where_minus_1_to_1_is_meant(tmp_path):
    for index in range(2):
        image = np.random.default_rng(index).random((8, 12, 1, 4)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / f"{index}.nii.gz")
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\] with background -1, got nothing below .* import them"):
        read_set(str(tmp_path), image_form(size=(8, 12)))


def test_pictures_without_background_may_be_bright_throughout(tmp_path):
    image = np.random.default_rng(0).random((8, 12, 1, 4)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "bright.nii.gz")
    form = image_form(size=(8, 12))
    listing = {**form.names(), "spatial_dims": 2, "labels": {"0": "LGG"}, "training": [{"image": "bright.nii.gz"}]}
    path = tmp_path / "images.json"
    write_json(path, {**listing, "preprocessing": {"MeasureIntensitiesd.background": False}})
    assert read_set(str(path), form).images.min() > 0
    write_json(path, listing)
    with pytest.raises(ValueError, match="nothing below"):
        read_set(str(path), form)
