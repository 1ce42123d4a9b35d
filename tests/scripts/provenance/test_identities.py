"""One person under two names, planted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.classifier.datasets import ClassifierData
from scripts.provenance.identities import image_digest, refuse_shared_subjects, refuse_two_names
from scripts.provenance.leakage import LeakageError
from scripts.running.files import read_json, write_json
from tests.ring_or_blob import GRADES, write_patches, write_splits


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Any]:
    return {"patches_path": write_patches(tmp_path), "splits_path": write_splits(tmp_path)}


def edit_rows(path: str, **of_subject: dict[str, Any]) -> None:
    """Change rows of `patches.json` by subject."""
    content = read_json(path)
    rows = [{**row, **of_subject.get(row["subject_id"], {})} for row in content["training"]]
    write_json(path, {**content, "training": rows})


def image_of(path: str, subject: str) -> Path:
    return Path(path).parent / f"{subject}.nii.gz"


def under_another_header(source: Path, target: Path) -> None:
    """Write the same pixels with another grid, another description and another type."""
    image = nib.load(source)
    copy = nib.Nifti1Image(np.asarray(image.dataobj, dtype=np.float64), np.diag([2, 3, 4, 1]))
    copy.header["descrip"] = b"another scanner"
    nib.save(copy, target)


@pytest.mark.parametrize("copy", [shutil.copyfile, under_another_header])
@pytest.mark.parametrize("part", ["inner", "validation", "test"])
def test_one_image_under_two_ids_in_two_parts_is_refused_by_both_ids(paths: dict[str, Any], part: str, copy) -> None:
    splits = read_json(paths["splits_path"])
    trained = splits["folds"][0]["train"][1]
    other = splits["test"][0] if part == "test" else splits["folds"][0][part][0]
    copy(image_of(paths["patches_path"], trained), image_of(paths["patches_path"], other))
    with pytest.raises(LeakageError, match="the same image as ") as caught:
        ClassifierData(**paths, fold=0, classes=GRADES)
    assert {f"{trained} (train)", f"{other} ({part})"} <= set(re.findall(r"\S+ \(\w+\)", str(caught.value)))


def scaled(source: Path, target: Path) -> None:
    save_as(source, target, lambda image: image * 0.6)


def z_scored(source: Path, target: Path) -> None:
    save_as(source, target, lambda image: (image - image.mean()) / image.std())


def as_int16(source: Path, target: Path) -> None:
    save_as(source, target, lambda image: np.round(image * 500).astype(np.int16))


def as_float16(source: Path, target: Path) -> None:
    save_as(source, target, lambda image: image.astype(np.float16).astype(np.float32))


def shifted(source: Path, target: Path) -> None:
    save_as(source, target, lambda image: np.roll(image, 1, 0))


def mirrored(source: Path, target: Path) -> None:
    save_as(source, target, lambda image: image[::-1])


def save_as(source: Path, target: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    image = np.asarray(nib.load(source).dataobj)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(change(image)), np.eye(4)), target)


CHANGES = [scaled, z_scored, as_int16, as_float16, shifted, mirrored]


@pytest.mark.parametrize("copy", CHANGES)
def test_one_picture_in_two_parts_is_refused_by_both_ids_and_the_correlation(paths: dict[str, Any], copy) -> None:
    splits = read_json(paths["splits_path"])
    trained, other = splits["folds"][0]["train"][1], splits["folds"][0]["validation"][0]
    copy(image_of(paths["patches_path"], trained), image_of(paths["patches_path"], other))
    names = rf"({trained} \(train\) and {other} \(validation\)|{other} \(validation\) and {trained} \(train\))"
    with pytest.raises(
        LeakageError, match=rf"same picture as {names} of fold 0, .*correlation (0\.9|1\.0).*patient_id"
    ):
        refuse_two_names(**paths, fold=0)


def test_one_picture_under_two_names_of_one_part_is_named_in_the_log(paths: dict[str, Any], caplog) -> None:
    first, second = read_json(paths["splits_path"])["folds"][0]["train"][:2]
    mirrored(image_of(paths["patches_path"], first), image_of(paths["patches_path"], second))
    refuse_two_names(**paths, fold=0)
    assert f"the same picture as {first} (train) and {second} (train) of fold 0" in caplog.text
    caplog.clear()
    edit_rows(paths["patches_path"], **{name: {"patient_id": "P7"} for name in (first, second)})
    refuse_two_names(**paths, fold=0)
    assert "the same picture" not in caplog.text


def test_one_image_under_two_ids_of_one_part_is_no_leak(paths: dict[str, Any]) -> None:
    first, second = read_json(paths["splits_path"])["folds"][0]["train"][:2]
    shutil.copyfile(image_of(paths["patches_path"], first), image_of(paths["patches_path"], second))
    refuse_two_names(**paths, fold=0)
    splits = read_json(paths["splits_path"])
    splits["folds"][1] = {"train": [first], "inner": [], "validation": [second]}
    write_json(paths["splits_path"], splits)
    with pytest.raises(LeakageError, match=f"{first}.*{second}"):
        refuse_two_names(**paths, fold=1)


def test_two_scans_of_a_patient_in_two_parts_are_refused_by_both_ids(paths: dict[str, Any]) -> None:
    splits = read_json(paths["splits_path"])
    first, second = splits["folds"][0]["train"][0], splits["test"][-1]
    edit_rows(paths["patches_path"], **{first: {"patient_id": "P7"}, second: {"patient_id": "P7"}})
    with pytest.raises(LeakageError, match=rf"{first} \(train\) and {second} \(test\) of fold 0; split by patient"):
        ClassifierData(**paths, fold=0, classes=GRADES)


def test_splits_that_part_the_slices_of_a_subject_are_refused(paths: dict[str, Any]) -> None:
    splits = read_json(paths["splits_path"])
    fold = splits["folds"][0]
    renamed = {fold["train"][0]: "P1_slice030", fold["validation"][0]: "P1_slice031"}
    content = read_json(paths["patches_path"])
    rows = [{**row, "subject_id": renamed.get(row["subject_id"], row["subject_id"])} for row in content["training"]]
    write_json(paths["patches_path"], {**content, "training": rows})
    for part in (*splits["folds"], {"test": splits["test"]}):
        part.update({key: [renamed.get(name, name) for name in names] for key, names in part.items()})
    write_json(paths["splits_path"], splits)
    with pytest.raises(LeakageError, match=r"P1_slice031 \(validation\) and P1_slice030 \(train\)"):
        ClassifierData(**paths, fold=0, classes=GRADES)


def test_a_subject_whose_images_are_in_two_parts_is_refused_by_the_splits(paths: dict[str, Any]) -> None:
    splits = read_json(paths["splits_path"])
    leaked = splits["folds"][0]["train"][0]
    splits["folds"][0]["validation"].append(leaked)
    write_json(paths["splits_path"], splits)
    with pytest.raises(ValueError, match=f"must keep its parts and the test part apart, got {leaked}"):
        ClassifierData(**paths, fold=0, classes=GRADES)


def test_splits_of_images_instead_of_subjects_are_refused(paths: dict[str, Any]) -> None:
    splits = read_json(paths["splits_path"])
    fold = splits["folds"][0]
    fold["train"] = [f"{name}_slice{k:03d}" for name in fold["train"] for k in (30, 31)]
    write_json(paths["splits_path"], splits)
    with pytest.raises(ValueError, match="splits and patches must be of the same subjects, got .*_slice030"):
        ClassifierData(**paths, fold=0, classes=GRADES)


def test_several_images_of_a_subject_are_no_leak(paths: dict[str, Any]) -> None:
    content = read_json(paths["patches_path"])
    write_json(paths["patches_path"], {**content, "training": content["training"] * 2})
    assert len(ClassifierData(**paths, fold=0, classes=GRADES).real) == 2 * len(
        read_json(paths["splits_path"])["folds"][0]["train"]
    )


def test_a_part_that_selects_and_validates_is_one_part(paths: dict[str, Any]) -> None:
    splits = read_json(paths["splits_path"])
    splits["folds"][0]["inner"] = splits["folds"][0]["validation"]
    write_json(paths["splits_path"], {**splits, "selection": "validation"})
    refuse_two_names(**paths, fold=0)


def test_the_digest_is_of_the_pixels_and_notices_a_change(paths: dict[str, Any], tmp_path: Path) -> None:
    source = image_of(paths["patches_path"], "phantom_A_0_000")
    under_another_header(source, tmp_path / "copy.nii.gz")
    assert image_digest(source) == image_digest(tmp_path / "copy.nii.gz")
    before = image_digest(source)
    changed = np.asarray(nib.load(source).dataobj).copy()
    changed[3, 3] += 0.25
    nib.save(nib.Nifti1Image(changed, np.eye(4)), source)
    assert image_digest(source) != before
    nib.save(nib.Nifti1Image(changed.reshape(changed.shape[::-1]), np.eye(4)), tmp_path / "reshaped.nii.gz")
    assert image_digest(source) != image_digest(tmp_path / "reshaped.nii.gz")


@pytest.fixture
def other(tmp_path: Path) -> str:
    return write_patches(tmp_path / "other", "phantom_B", counts=(3, 4), seed=5)


def test_cohorts_of_other_people_are_accepted(paths: dict[str, Any], other: str) -> None:
    refuse_shared_subjects(paths["patches_path"], other)


@pytest.mark.parametrize("copy", [shutil.copyfile, under_another_header])
def test_cohorts_that_share_an_image_are_refused_by_both_names(paths: dict[str, Any], other: str, copy) -> None:
    copy(image_of(paths["patches_path"], "phantom_A_1_003"), image_of(other, "phantom_B_0_001"))
    with pytest.raises(LeakageError, match=r"got 1 of both: phantom_B_0_001 \(the image of phantom_A_1_003\)"):
        refuse_shared_subjects(paths["patches_path"], other)


@pytest.mark.parametrize("copy", CHANGES)
def test_cohorts_that_share_a_picture_are_refused_by_both_names(paths: dict[str, Any], other: str, copy) -> None:
    copy(image_of(paths["patches_path"], "phantom_A_1_003"), image_of(other, "phantom_B_0_001"))
    with pytest.raises(LeakageError, match=r"phantom_B_0_001 \(the picture of phantom_A_1_003, correlation "):
        refuse_shared_subjects(paths["patches_path"], other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subject_id": "phantom_A_0_002"}, r"phantom_A_0_002 \(the subject_id of phantom_A_0_002\)"),
        ({"patient_id": "phantom_A_0_002"}, r"phantom_B_0_001 \(the patient of phantom_A_0_002\)"),
    ],
)
def test_cohorts_that_share_a_name_are_refused(
    paths: dict[str, Any], other: str, change: dict[str, str], said: str
) -> None:
    edit_rows(other, phantom_B_0_001=change)
    with pytest.raises(LeakageError, match=said):
        refuse_shared_subjects(paths["patches_path"], other)
