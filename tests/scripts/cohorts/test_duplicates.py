"""Copies of pictures are found, exact, saved again or resized, and no split separates them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from scripts.cohorts.scan import CohortError, check_scan, scan_cohort
from scripts.running.files import read_json
from scripts.splits.draw import make_splits
from scripts.splits.patients import patient_of
from tests.picture_folders import CT_CLASSES, pixels, save_picture, write_ct

SIZE = 64
OPTIONS = {"modalities": ["grey"], "require_masks": False, "classes": ["a", "b"]}


def scan(source: Path, folder: Path, **options) -> dict:
    return read_json(scan_cohort(source, folder / "out", **{**OPTIONS, **options}))


def faults(source: Path, folder: Path, **options) -> list[str]:
    with pytest.raises(CohortError) as error:
        scan(source, folder, **options)
    return str(error.value).splitlines()[1:]


def scans(count: int, seed: int = 0) -> np.ndarray:
    """Return pictures of one outline and a texture of their own, every second much like the one before."""
    random = np.random.default_rng(seed)
    texture = gaussian_filter(random.standard_normal((count, SIZE, SIZE)), (0, 2, 2))
    texture[1::2] = 0.9 * texture[::2][: len(texture[1::2])] + 0.44 * texture[1::2]
    rows, columns = np.ogrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    shown = (110 + 45 * texture / texture.std()) * (rows**2 / 0.8 + columns**2 / 0.6 < 1)
    return shown.clip(0, 255).astype(np.uint8)


def test_planted_copies_are_found_and_hardly_anything_else(tmp_path):
    originals = scans(940)
    for index, shown in enumerate(originals):
        save_picture(tmp_path / "set" / "a" / f"original {index:03d}.png", shown)
    for index in range(20):
        image = Image.fromarray(originals[7 * index])
        image.save(tmp_path / "set" / "a" / f"exact {index}.bmp")
        Image.fromarray(originals[7 * index + 200]).save(tmp_path / "set" / "a" / f"jpeg {index}.jpg", quality=60)
        side = 40 + 5 * index
        resized = Image.fromarray(originals[7 * index + 400]).resize((side, side), Image.Resampling.BICUBIC)
        resized.save(tmp_path / "set" / "a" / f"resized {index}.png")
    cohort = scan(tmp_path / "set", tmp_path, classes=["a"], duplicates="group")
    groups: dict[str, list[str]] = {}
    for subject in cohort["subjects"]:
        groups.setdefault(patient_of(subject), []).append(subject["subject_id"])
    pairs = {frozenset(names) for names in groups.values() if len(names) > 1}
    planted = {
        frozenset({f"a_{kind}_{index}", f"a_original_{7 * index + offset:03d}"})
        for kind, offset in (("exact", 0), ("jpeg", 200), ("resized", 400))
        for index in range(20)
    }
    assert len(pairs & planted) >= 58
    assert len(pairs - planted) <= 1
    splits = make_splits(cohort, num_folds=2, classes=["a"], stratify_by=["grade"])
    for part in (splits["test"], *(fold[name] for fold in splits["folds"] for name in ("inner", "validation"))):
        assert all(len(pair & set(part)) in (0, 2) for pair in pairs)


@pytest.fixture
def copies(tmp_path):
    """Four pictures, one of which is there as PNG, as JPEG and half as large."""
    for index, shown in enumerate(scans(4)):
        save_picture(tmp_path / "set" / "ab"[index % 2] / f"{index}.png", shown)
    again = Image.fromarray(scans(4)[0])
    again.save(tmp_path / "set" / "a" / "1 copy.jpg", quality=80)
    again.resize((40, 40)).save(tmp_path / "set" / "a" / "2 small.png")
    return tmp_path / "set"


def test_copies_are_refused_together_unless_said_otherwise(copies, tmp_path):
    (told,) = faults(copies, tmp_path)
    assert all(name in told for name in ("0.png", "1 copy.jpg", "2 small.png"))
    assert "got one picture saved anew or resized (correlation 0.99" in told
    assert "pass --duplicates keep_first to leave them out, or group" in told


def test_the_first_of_each_may_be_kept(copies, tmp_path):
    cohort = scan(copies, tmp_path, duplicates="keep_first")
    assert [s["subject_id"] for s in cohort["subjects"]] == ["a_0", "a_2", "b_1", "b_3"]
    assert [row["subject_id"] for row in cohort["left_out"]] == ["a_1_copy", "a_2_small"]
    assert {row["reason"] for row in cohort["left_out"]} == {"a copy of a_0 (duplicates: keep_first)"}


def test_patients_who_share_a_picture_become_one_with_all_of_their_images(tmp_path):
    for name, picture in zip(("P1_a", "P1_b", "P2_c", "P2_d", "P3_e"), (0, 1, 1, 2, 3), strict=True):
        save_picture(tmp_path / "set" / "a" / f"{name}.png", scans(4)[picture])
    options = {"classes": ["a"], "patient_pattern": r"(P\d)_", "duplicates": "group"}
    subjects = scan(tmp_path / "set", tmp_path, **options)["subjects"]
    assert [subject["patient_id"] for subject in subjects] == ["P1", "P1", "P1", "P1", "P3"]


def test_copies_are_not_looked_for_without_the_pixels(tmp_path):
    with pytest.raises(ValueError, match="duplicates must be refuse where check_voxels is false"):
        check_scan(tmp_path, duplicates="group", check_voxels=False)


@pytest.mark.parametrize("way", ["refuse", "keep_first", "group"])
def test_one_picture_in_two_classes_is_refused_in_any_case(copies, way, tmp_path):
    (copies / "a" / "1 copy.jpg").rename(copies / "b" / "1 copy.jpg")
    told = faults(copies, tmp_path, duplicates=way)
    assert any("must be in one class, got one picture" in line and "as a and b; remove" in line for line in told)


def test_small_pictures_are_copies_only_if_they_are_equal(tmp_path):
    flat = np.full((16, 16), 200, np.uint8)
    flat[4:12, 4:12] = 50
    near = flat.copy()
    near[0, 0] = 190
    for name, shown in (("1", flat), ("2", near), ("3", flat)):
        save_picture(tmp_path / "set" / "a" / f"{name}.png", shown)
    (told,) = faults(tmp_path / "set", tmp_path, classes=["a"])
    assert "1.png" in told
    assert "2.png" not in told
    assert "got the same pixels" in told


def test_a_pattern_names_the_patients(tmp_path):
    for patient in (1, 2):
        for number in (1, 2):
            name = f"Patient ({patient})/{number}.png"
            save_picture(tmp_path / "set" / "ab"[patient - 1] / name, pixels(name))
    cohort = scan(tmp_path / "set", tmp_path, patient_pattern=r"Patient \((\d+)\)")
    assert cohort["patients"] == "by patient_pattern"
    assert [s["patient_id"] for s in cohort["subjects"]] == ["1", "1", "2", "2"]
    assert make_splits(cohort, 1, 0, 0, classes=["a", "b"], stratify_by=["grade"])["patients"] == "by patient_pattern"
    told = faults(tmp_path / "set", tmp_path, patient_pattern=r"P\d")
    assert "patient_pattern 'P\\\\d' must find the patient in every name, got none in a/Patient (1)/1" in told[0]
    told = faults(tmp_path / "set", tmp_path, patient_pattern="Patient")
    assert "patient Patient must be in one class, got a and b; correct patient_pattern" in told[0]


def test_names_of_patients_that_are_nearly_alike_are_refused(tmp_path):
    for name in ("p1-a", "P1-b"):
        save_picture(tmp_path / "set" / "a" / f"{name}.png", pixels(name))
    (told,) = faults(tmp_path / "set", tmp_path, classes=["a"], patient_pattern="(.*)-")
    assert "patient_id must be spelled one way" in told


def test_settings_that_there_are_not_are_refused_before_any_file_is_read(tmp_path):
    with pytest.raises(ValueError, match="duplicates must be one of refuse, keep_first, group, got 'drop'"):
        check_scan(tmp_path, duplicates="drop")
    with pytest.raises(ValueError, match=r"patient_pattern must be a regular expression or null, got '\(' "):
        check_scan(tmp_path, patient_pattern="(")


def test_pictures_without_patients_say_so_in_the_splits(tmp_path):
    cohort = scan(write_ct(tmp_path / "ct", 6), tmp_path, classes=CT_CLASSES)
    assert make_splits(cohort, 2, classes=CT_CLASSES, stratify_by=["grade"])["patients"] == "unknown"
