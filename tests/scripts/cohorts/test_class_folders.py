"""Folders of pictures, whose subfolders are classes, become a cohort."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from scripts.cohorts.class_folders import safe_id, split_of_folder
from scripts.cohorts.scan import CohortError, scan_cohort
from scripts.running.files import read_json
from scripts.splits.patients import is_subject_id
from scripts.volumes.brain_images import BrainLimits
from tests.cohort_files import SHAPE, image, save, write_brats, write_table
from tests.helpers import run_stage
from tests.picture_folders import (
    BRAIN_CLASSES,
    COLORS,
    CT_CLASSES,
    LEUKEMIA_CLASSES,
    pixels,
    save_picture,
    subjects_by_class,
    write_brain_tumors,
    write_ct,
    write_leukemia,
)

GREY = {"modalities": ["grey"], "require_masks": False}


def scan(source, folder, **options) -> dict:
    return read_json(scan_cohort(source, folder / "out", **{**GREY, **options}))


def faults(source, folder, **options) -> list[str]:
    with pytest.raises(CohortError) as error:
        scan(source, folder, **options)
    assert not (folder / "out" / "cohort.json").exists()
    return str(error.value).splitlines()[1:]


def test_training_and_testing_become_hints_and_folders_classes(tmp_path):
    cohort = scan(write_brain_tumors(tmp_path / "Brain Tumor MRI"), tmp_path, classes=BRAIN_CLASSES)
    assert (cohort["layout"], cohort["name"], cohort["patients"]) == ("class_folders", "Brain Tumor MRI", "unknown")
    assert subjects_by_class(cohort) == dict.fromkeys(BRAIN_CLASSES, 6)
    first = cohort["subjects"][0]
    assert first["subject_id"] == first["patient_id"] == "Testing_glioma_Te-gl_0000"
    assert first["image"].endswith("/Testing/glioma/Te-gl_0000.jpg")
    assert (first["channel_order"], first["mask"], first["split_hint"]) == (["grey"], None, "test")
    assert first["picture"] == {"size": [24, 24], "mode": "L", "content": "grey"}
    modes = {(s["picture"]["mode"], s["picture"]["content"]) for s in cohort["subjects"]}
    assert modes == {("L", "grey"), ("RGB", "grey")}
    assert {s["split_hint"] for s in cohort["subjects"]} == {"training", "test"}
    assert cohort["not_read"] == ["Testing/glioma/Thumbs.db", "Training/glioma/Thumbs.db"]


def test_one_of_two_copies_of_a_set_is_read_in_colors(tmp_path):
    source = write_leukemia(tmp_path / "leukemia")
    cohort = scan(source, tmp_path, classes=LEUKEMIA_CLASSES, modalities=COLORS, subtree="Original")
    assert (cohort["name"], len(cohort["subjects"])) == ("leukemia", 16)
    assert {s["picture"]["content"] for s in cohort["subjects"]} == {"colors"}
    assert all("/Original/" in s["image"] for s in cohort["subjects"])
    assert cohort["subjects"][0]["subject_id"] == "Benign_WBC-Benign-000"
    told = faults(source, tmp_path / "both", classes=LEUKEMIA_CLASSES, modalities=COLORS)
    assert [line.rpartition("pass ")[2].split(" if")[0] for line in told] == [
        '--subtree "Original"',
        '--subtree "Segmented"',
    ]
    with pytest.raises(ValueError, match="subtree must be a folder below .*, got 'original'; there are Original, Seg"):
        scan(source, tmp_path, subtree="original")


def test_blanks_and_brackets_give_safe_ids_and_the_path_is_kept(tmp_path):
    cohort = scan(write_ct(tmp_path / "ct"), tmp_path, classes=CT_CLASSES)
    assert [s["subject_id"] for s in cohort["subjects"]][:2] == ["COVID_Covid_1", "COVID_Covid_2"]
    assert cohort["subjects"][0]["image"].endswith("/COVID/Covid (1).png")
    assert all(is_subject_id(s["subject_id"]) for s in cohort["subjects"])
    assert {s["picture"]["mode"] for s in cohort["subjects"]} == {"L", "RGB", "RGBA"}


def test_names_that_would_be_alike_are_told_apart_by_their_paths_in_any_order(tmp_path):
    for name in ("a (1).png", "a_1.png", "A-1.png", "b.png"):
        save_picture(tmp_path / "set" / "x" / name, pixels(name))
    ids = [s["subject_id"] for s in scan(tmp_path / "set", tmp_path, classes=["x"])["subjects"]]
    assert len({name.lower() for name in ids}) == 4
    assert "x_b" in ids
    assert sum(len(name) == len("x_a_1-12345678") for name in ids) == 3


def test_a_class_may_have_another_name_or_be_left_out(tmp_path):
    source = write_brain_tumors(tmp_path / "set")
    for split in ("Training", "Testing"):
        (source / split / "notumor").rename(source / split / "No Tumour")
    cohort = scan(source, tmp_path, classes=BRAIN_CLASSES, grade_map={"no_tumour": "notumor", "pituitary": None})
    assert subjects_by_class(cohort) == {"glioma": 6, "meningioma": 6, "notumor": 6}
    assert "Training/pituitary" in cohort["not_read"]


def test_folders_may_be_links_and_deeper_folders_belong_to_their_class(tmp_path):
    save_picture(tmp_path / "store" / "patient 1" / "slice 1.png", pixels("a"))
    save_picture(tmp_path / "set" / "b" / "1.png", pixels("b"))
    (tmp_path / "set" / "a").symlink_to(tmp_path / "store")
    cohort = scan(tmp_path / "set", tmp_path, classes=["a", "b"])
    assert [s["subject_id"] for s in cohort["subjects"]] == ["a_patient_1_slice_1", "b_1"]


def test_all_faults_of_a_folder_are_in_one_message(tmp_path):
    source = write_brain_tumors(tmp_path / "set")
    broken = source / "Training" / "glioma" / "Tr-gl_0000.jpg"
    broken.write_bytes(broken.read_bytes()[:400])
    shutil.copy(source / "Training" / "glioma" / "Tr-gl_0001.jpg", source / "Testing" / "pituitary" / "copy.jpg")
    shutil.rmtree(source / "Testing" / "meningioma")
    for path in (source / "Testing" / "notumor").iterdir():
        path.unlink()
    (source / "Training" / "notumor" / "labels.csv").write_text("a,b\n")
    save_picture(source / "Training" / "loose.png", pixels("loose"))
    save_picture(source / "Training" / "glioma" / "red.png", pixels("red", colors=True))
    save_picture(source / "Training" / "stroke" / "1.png", pixels("stroke"))
    for name in ("Tr-gl_0001_mask.png", "Tr-gl_0001_mask_1.png"):
        save_picture(source / "Training" / "glioma" / name, pixels(name))
    told = faults(source, tmp_path, classes=BRAIN_CLASSES)
    expected = {
        "must hold pictures alone, got 2 that are named as masks of others (Tr-gl_": "move them to a folder",
        "Tr-gl_0000.jpg must be a whole picture that can be read": "copy or export it again",
        "Tr-gl_0001.jpg must be in one class, got the same pixels as glioma and pituitary": "remove the wrong ones",
        "class meningioma must be in each part of a data set, got it in training but not in test": "add its folder",
        "Testing/notumor must hold pictures, got none": "fill it",
        "labels.csv must be a picture": "convert it, or move it away",
        "Training must hold its pictures in folders of their classes, got 1 beside them (loose.png)": "move them",
        "red.png must be grey": "set modalities to [red, green, blue]",
        "stroke must be named as one of the classes glioma": "--class_map \"{'stroke': ...}\"",
    }
    for fault, way_out in expected.items():
        assert [line for line in told if fault in line and way_out in line], (fault, told)
    assert len(told) == len(expected)


def test_folders_of_a_split_stand_alone(tmp_path):
    source = write_brain_tumors(tmp_path / "set")
    save_picture(source / "more" / "1.png", pixels("more"))
    assert (
        "must not lie beside the folders of a split, Testing, Training; move it away"
        in faults(source, tmp_path, classes=BRAIN_CLASSES)[0]
    )


def test_modalities_of_no_picture_are_told_once(tmp_path):
    told = faults(write_ct(tmp_path / "ct"), tmp_path, classes=CT_CLASSES, modalities=["t1n", "t1c"])
    assert "modalities must be one, such as [grey], or the three [red, green, blue] for pictures" in told[0]


@pytest.mark.parametrize("names", [["T1"], ["T1", "T2"]], ids=" ".join)
def test_a_plain_t1_is_not_taken_for_brats(names, tmp_path):
    for index in range(3):
        for name in names:
            subject = f"IXI00{index}-Guys-080{index}-{name}"
            save(tmp_path / "IXI" / f"{subject}.nii.gz", image(subject))
    with pytest.raises(ValueError, match=r"got files such as IXI000-Guys-0800-T1.nii.gz, .*declare cohort_layout"):
        scan(tmp_path / "IXI", tmp_path, modalities=["t1n"])


def test_brats_beside_pictures_of_it_stays_brats(tmp_path):
    source = write_brats(tmp_path / "set", "brats_2018", ["HGG/Brats18_CBICA_AAB_1"])
    save_picture(source / "HGG" / "overview.png", pixels("overview"))
    assert scan(source, tmp_path, modalities=["t1n", "t1c", "t2w", "t2f"])["layout"] == "brats_2018"


def test_a_table_lists_pictures_too(tmp_path):
    save_picture(tmp_path / "a.png", pixels("a", colors=True))
    save_picture(tmp_path / "b.tif", pixels("b", colors=True))
    rows = [{"subject_id": name, "image": path, "grade": "x"} for name, path in (("a", "a.png"), ("b", "b.tif"))]
    cohort = scan(write_table(tmp_path / "t.csv", rows), tmp_path, classes=["x"], modalities=COLORS)
    assert [s["channel_order"] for s in cohort["subjects"]] == [COLORS, COLORS]
    assert "patients" not in cohort


def test_a_table_may_name_a_grey_picture_for_each_modality(tmp_path):
    row = {"subject_id": "a"}
    for modality in ("t1n", "t2w"):
        row[modality] = save_picture(tmp_path / f"{modality}.png", pixels(modality)).name
    source, options = write_table(tmp_path / "t.csv", [row]), {"modalities": ["t1n", "t2w"]}
    assert "t1n.png must be skull-stripped" in faults(source, tmp_path, **options)[0]
    cohort = scan(source, tmp_path, brain_limits=BrainLimits(max_brain_ml=None), **options)
    assert list(cohort["subjects"][0]["images"]) == ["t1n", "t2w"]


def test_without_reading_pixels_size_and_mode_are_known(tmp_path):
    cohort = scan(write_ct(tmp_path / "ct"), tmp_path, classes=CT_CLASSES, check_voxels=False)
    assert cohort["subjects"][0]["picture"] == {"size": [30, 25], "mode": "RGBA"}
    assert "file_stamp" in cohort["subjects"][0]


def test_the_stage_reads_a_folder_of_pictures_and_notices_a_new_one(tmp_path):
    source = write_ct(tmp_path / "ct")
    options = {"modalities": ["grey"], "classes": CT_CLASSES, "require_masks": False, "source_path": str(source)}
    run_stage("cohort", output_dir=str(tmp_path / "out"), **options)
    before = (tmp_path / "out" / ".source_files.tsv").read_text()
    save_picture(source / "COVID" / "Covid (99).png", pixels("99"))
    run_stage("cohort", output_dir=str(tmp_path / "out"), overwrite=True, **options)
    assert len((tmp_path / "out" / ".source_files.tsv").read_text().splitlines()) == len(before.splitlines()) + 1


@pytest.mark.parametrize("name", ["Covid (1)", "ü ö", "..", "a/b", "...x", "é" * 3])
def test_any_name_becomes_a_safe_one(name):
    assert is_subject_id(safe_id(name))


def test_the_words_for_parts_of_a_set():
    words = {
        "Train": "training",
        "testing": "test",
        "TEST-SET": "test",
        "validation data": "validation",
        "trained": None,
    }
    assert {word: split_of_folder(word) for word in words} == words


def test_a_volume_of_two_grey_levels_is_no_picture(tmp_path):
    save(tmp_path / "x" / "a.nii.gz", np.ones(SHAPE, np.int16))
    with pytest.raises(ValueError, match="declare cohort_layout"):
        scan(tmp_path, tmp_path, classes=["x"])
