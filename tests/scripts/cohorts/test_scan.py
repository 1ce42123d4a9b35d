from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.cohorts.scan import CohortError, list_source, scan_cohort
from scripts.splits.draw import make_splits
from scripts.splits.patients import patient_of
from tests.cohort_files import SHAPE, image, mask, save, table_row, write_brats, write_decathlon, write_table
from tests.helpers import run_stage

BRATS_2018 = ["HGG/Brats18_CBICA_AAB_1", "HGG/Brats18_2013_10_1", "LGG/Brats18_TCIA09_141_1"]
BRATS_2023 = ["BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000"]


def scan(source, folder, **options) -> dict:
    return json.loads(scan_cohort(source, folder / "out", **options).read_text())


def by_id(cohort: dict) -> dict[str, dict]:
    return {subject["subject_id"]: subject for subject in cohort["subjects"]}


def faults(source, folder, **options) -> str:
    with pytest.raises(CohortError) as error:
        scan_cohort(source, folder / "out", **options)
    assert not (folder / "out" / "cohort.json").exists()
    return str(error.value)


@pytest.fixture
def brats_2018(tmp_path):
    return write_brats(tmp_path / "MICCAI_BraTS_2018", "brats_2018", BRATS_2018)


@pytest.fixture
def brats_2023(tmp_path):
    return write_brats(tmp_path / "BraTS2023", "brats_2023", BRATS_2023, codes=[1, 2, 3])


# What comes in


def test_grade_folders_and_names_of_2018_give_grade_and_site(brats_2018, tmp_path):
    cohort = scan(brats_2018, tmp_path)
    assert cohort["layout"] == "brats_2018"
    assert cohort["name"] == "MICCAI_BraTS_2018"
    assert {s["subject_id"]: (s["grade"], s["site"]) for s in cohort["subjects"]} == {
        "Brats18_2013_10_1": ("HGG", None),  # of several hospitals
        "Brats18_CBICA_AAB_1": ("HGG", "CBICA"),
        "Brats18_TCIA09_141_1": ("LGG", "TCIA09"),
    }
    subject = cohort["subjects"][0]
    assert list(subject["images"]) == ["t1n", "t1c", "t2w", "t2f"]
    assert subject["images"]["t1c"].endswith("_t1ce.nii.gz")
    assert subject["mask"].endswith("_seg.nii.gz")
    assert subject["mask_source"] == "expert"
    assert cohort["mask_codes"] == {"necrotic": 1, "edema": 2, "enhancing": 4}
    assert cohort["left_out"] == []


def test_name_mapping_of_2020_gives_grade_and_by_the_older_name_the_site(tmp_path):
    names = ["BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Training_003"]
    folder = write_brats(tmp_path / "data" / "MICCAI_BraTS2020_TrainingData", "brats_2018", names, suffix=".nii")
    columns = ["Grade", "BraTS_2017_subject_ID", "BraTS_2018_subject_ID", "TCGA_TCIA_subject_ID"]
    columns += ["BraTS_2019_subject_ID", "BraTS_2020_subject_ID"]
    rows = [
        ["HGG", "Brats17_CBICA_AAB_1", "Brats18_CBICA_AAB_1", "NA", "BraTS19_CBICA_AAB_1", names[0]],
        ["LGG", "NA", "NA", "NA", "NA", names[1]],
    ]
    write_table(folder / "name_mapping.csv", [dict(zip(columns, row, strict=True)) for row in rows])
    subjects = by_id(scan(tmp_path / "data", tmp_path))
    assert [(subjects[name]["grade"], subjects[name]["site"]) for name in names] == [
        ("HGG", "CBICA"),
        ("LGG", None),
        (None, None),
    ]


def test_scans_of_a_patient_of_2023_share_its_patient_id(brats_2023, tmp_path):
    cohort = scan(brats_2023, tmp_path)
    assert cohort["layout"] == "brats_2023"
    assert [s["patient_id"] for s in cohort["subjects"]] == ["BraTS-GLI-00001", "BraTS-GLI-00001", "BraTS-GLI-00002"]
    assert {s["grade"] for s in cohort["subjects"]} == {None}
    assert cohort["mask_codes"]["enhancing"] == 3


def test_files_of_all_subjects_in_one_folder_come_in_too(brats_2018, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in brats_2018.rglob("*.nii.gz"):
        path.rename(flat / path.name)
    assert len(scan(flat, tmp_path)["subjects"]) == 3


def test_what_macos_leaves_in_archives_is_no_image(brats_2018, tmp_path):
    (brats_2018 / "HGG" / "Brats18_CBICA_AAB_1" / "._Brats18_CBICA_AAB_1_t1.nii.gz").write_bytes(b"junk")
    assert len(scan(brats_2018, tmp_path)["subjects"]) == 3


def test_a_folder_of_links_comes_in_like_the_files(brats_2018, tmp_path):
    (tmp_path / "links").mkdir()
    for folder in ("HGG", "LGG"):
        (tmp_path / "links" / folder).symlink_to(brats_2018 / folder)
    cohort = scan(tmp_path / "links", tmp_path)
    assert [s["grade"] for s in cohort["subjects"]] == ["HGG", "HGG", "LGG"]


def test_the_decathlon_gives_its_channel_order_and_its_own_codes(tmp_path):
    cohort = scan(write_decathlon(tmp_path / "Task01", ["BRATS_001", "BRATS_002"]), tmp_path)
    subject = cohort["subjects"][0]
    assert cohort["layout"] == "decathlon"
    assert subject["channel_order"] == ["t2f", "t1n", "t1c", "t2w"]
    assert subject["image"].endswith("imagesTr/BRATS_001.nii.gz")
    assert "images" not in subject
    assert cohort["mask_codes"] == {"edema": 1, "necrotic": 2, "enhancing": 3}
    assert "dataset.json" in cohort["mask_codes_reason"]


def test_other_labels_of_a_decathlon_task_are_read_from_its_words(tmp_path):
    labels = ["background", "necrotic core", "oedema", "enhancing"]
    cohort = scan(write_decathlon(tmp_path / "Task01", ["A"], labels=labels), tmp_path)
    assert cohort["mask_codes"] == {"necrotic": 1, "edema": 2, "enhancing": 3}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_gives_everything_it_says(tmp_path, delimiter):
    rows = [
        table_row(tmp_path, "P1", grade="II", site="A", mask_source="expert", age=40),
        table_row(tmp_path, "P2", grade="", site="", mask_source="model", age=50),
    ]
    cohort = scan(write_table(tmp_path / "mine.csv", rows, delimiter), tmp_path)
    first, second = cohort["subjects"]
    assert (first["grade"], first["site"], first["mask_source"]) == ("LGG", "A", "expert")
    assert (second["grade"], second["site"], second["mask_source"]) == (None, None, "model")
    assert first["images"]["t2f"] == str(tmp_path / "P1" / "FLAIR.nii.gz")
    assert cohort["ignored_columns"] == ["age"]
    assert cohort["name"] == "mine"


def test_a_table_in_json_may_hold_the_subjects_of_a_cohort_file(brats_2018, tmp_path):
    first = scan_cohort(brats_2018, tmp_path / "out")
    again = scan_cohort(first, tmp_path / "again", mask_codes="brats_2017")
    assert json.loads(again.read_text())["subjects"] == json.loads(first.read_text())["subjects"]


def test_a_table_may_name_4d_files_with_their_channel_order(tmp_path):
    save(tmp_path / "P1.nii.gz", image("P1", (*SHAPE, 4)))
    save(tmp_path / "m.nii.gz", mask([1, 2, 4]))
    row = {"subject_id": "P1", "image": "P1.nii.gz", "channel_order": "flair t1 t1ce t2", "mask": "m.nii.gz"}
    cohort = scan(write_table(tmp_path / "mine.csv", [row]), tmp_path)
    assert cohort["subjects"][0]["channel_order"] == ["t2f", "t1n", "t1c", "t2w"]


def test_rows_of_a_table_may_declare_codes_of_their_own(tmp_path):
    rows = [table_row(tmp_path, f"P{i}", [1, 2, 3], mask_codes="brats_2023") for i in range(2)]
    rows.append(table_row(tmp_path, "P2", [1, 2, 4], mask_codes="brats_2017"))
    cohort = scan(write_table(tmp_path / "mine.csv", rows), tmp_path)
    assert cohort["mask_codes"]["enhancing"] == 3
    assert [s.get("mask_codes", {}).get("enhancing") for s in cohort["subjects"]] == [None, None, 4]


def test_files_below_the_cohort_file_are_named_relative_to_it(brats_2018):
    cohort = json.loads(scan_cohort(brats_2018, brats_2018).read_text())
    assert cohort["subjects"][0]["mask"] == "HGG/Brats18_2013_10_1/Brats18_2013_10_1_seg.nii.gz"


def test_subjects_are_left_out_on_request_only_and_it_is_written_down(brats_2018, tmp_path):
    (brats_2018 / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_t2.nii.gz").unlink()
    cohort = scan(brats_2018, tmp_path, leave_out={"Brats18_2013_10_1": "no T2"})
    assert cohort["left_out"] == [{"subject_id": "Brats18_2013_10_1", "reason": "no T2"}]
    assert len(cohort["subjects"]) == 2
    with pytest.raises(ValueError, match="leave_out must name subjects of the cohort, got Brats18_X"):
        scan(brats_2018, tmp_path, leave_out=["Brats18_X"])


def test_a_cohort_without_masks_comes_in_if_asked_for(tmp_path):
    folder = write_brats(tmp_path / "validation", "brats_2023", BRATS_2023, codes=[])
    assert "must have a mask, got none" in faults(folder, tmp_path)
    cohort = scan(folder, tmp_path, require_masks=False)
    assert cohort["mask_codes"] is None
    assert {s["mask"] for s in cohort["subjects"]} == {None}


def test_modalities_not_asked_for_are_no_fault(brats_2023, tmp_path):
    cohort = scan(brats_2023, tmp_path, modalities=["t1n"])
    assert cohort["modalities"] == ["t1n"]


# What is refused


def test_a_missing_modality_is_named(brats_2018, tmp_path):
    (brats_2018 / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_t1ce.nii.gz").unlink()
    assert "subject Brats18_2013_10_1 must have t1n, t1c, t2w, t2f, got no t1c;" in faults(brats_2018, tmp_path)


def test_a_fifth_modality_is_named(brats_2018, tmp_path):
    save(brats_2018 / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_dwi.nii.gz", image("dwi"))
    assert "Brats18_2013_10_1_dwi.nii.gz must be named Brats18_2013_10_1_KIND" in faults(brats_2018, tmp_path)
    row = table_row(tmp_path, "P1", dwi="P1/t2.nii.gz")
    assert "got 'dwi' (P1/t2.nii.gz)" in faults(write_table(tmp_path / "mine.csv", [row]), tmp_path)


def test_a_file_with_the_name_of_another_subject_is_refused(brats_2018, tmp_path):
    """As W39_1998.09.19_Segm.nii in BraTS20_Training_355."""
    folder = brats_2018 / "HGG/Brats18_2013_10_1"
    (folder / "Brats18_2013_10_1_seg.nii.gz").rename(folder / "W39_1998.09.19_Segm.nii.gz")
    message = faults(brats_2018, tmp_path)
    assert "W39_1998.09.19_Segm.nii.gz must be named Brats18_2013_10_1_KIND" in message


def test_two_files_for_one_modality_are_named(brats_2018, tmp_path):
    save(brats_2018 / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_t1gd.nii.gz", image("t1gd"))
    message = faults(brats_2018, tmp_path)
    assert "must have one file for t1c, got" in message
    row = table_row(tmp_path, "P1")
    row["t1n"] = row["t1"]
    assert "must have one file for t1n, got" in faults(write_table(tmp_path / "mine.csv", [row]), tmp_path)


@pytest.mark.parametrize(
    ("array", "affine", "message"),
    [
        (image("a", (6, 5, 3)), np.eye(4), "got shape (6, 5, 3) instead of (6, 5, 4)"),
        (image("a"), np.diag([1.1, 1, 1, 1]), "got affines that differ by"),
    ],
)
def test_unequal_grids_are_refused_unless_they_are_to_be_registered(brats_2018, tmp_path, array, affine, message):
    save(brats_2018 / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_t2.nii.gz", array, affine)
    assert message in faults(brats_2018, tmp_path)
    assert len(scan(brats_2018, tmp_path, require_one_grid=False)["subjects"]) == 3


def test_a_truncated_file_is_named(brats_2018, tmp_path):
    path = brats_2018 / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_t2.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    assert "Brats18_2013_10_1_t2.nii.gz must" in faults(brats_2018, tmp_path)


def test_an_unreadable_file_is_one_fault_not_three(brats_2018, tmp_path):
    path = brats_2018 / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_seg.nii.gz"
    path.write_bytes(b"nothing")
    assert "must be without faults, got 1:" in faults(brats_2018, tmp_path)


def test_nan_constant_and_empty_volumes_are_told_together(brats_2018, tmp_path):
    stem = "HGG/Brats18_2013_10_1/Brats18_2013_10_1"
    save(brats_2018 / f"{stem}_t1.nii.gz", np.full(SHAPE, np.nan, np.float32))
    save(brats_2018 / f"{stem}_t2.nii.gz", np.zeros(SHAPE, np.int16))
    save(brats_2018 / f"{stem}_seg.nii.gz", mask([]))
    message = faults(brats_2018, tmp_path)
    assert "got 3:" in message
    assert "_t1.nii.gz must hold finite values" in message
    assert "_t2.nii.gz must not be constant" in message
    assert "_seg.nii.gz must hold a tumor, got an empty mask" in message


def test_voxels_of_images_are_not_read_if_not_asked_for(brats_2018, tmp_path):
    save(brats_2018 / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_t2.nii.gz", np.zeros(SHAPE, np.int16))
    assert scan(brats_2018, tmp_path, check_voxels=False)["checked_voxels"] is False


@pytest.mark.parametrize("check_voxels", [True, False])
@pytest.mark.parametrize("kind", ["t2", "seg"])
def test_a_corrected_file_changes_the_entry_of_its_subject_alone(brats_2018, tmp_path, kind, check_voxels):
    before = by_id(scan(brats_2018, tmp_path, check_voxels=check_voxels))
    changed = mask([1, 2, 2, 4]) if kind == "seg" else image("corrected")
    save(brats_2018 / f"HGG/Brats18_2013_10_1/Brats18_2013_10_1_{kind}.nii.gz", changed)
    after = by_id(scan(brats_2018, tmp_path, check_voxels=check_voxels))
    assert {name for name in before if before[name] != after[name]} == {"Brats18_2013_10_1"}


def test_a_corrected_header_alone_changes_the_entry_too(brats_2018, tmp_path):
    before = by_id(scan(brats_2018, tmp_path))["Brats18_2013_10_1"]
    for path in (brats_2018 / "HGG/Brats18_2013_10_1").iterdir():
        nib.save(nib.Nifti1Image(np.asanyarray(nib.load(path).dataobj), np.diag([2, 1, 1, 1])), path)
    after = by_id(scan(brats_2018, tmp_path))["Brats18_2013_10_1"]
    assert set(before["sha256"]) == {"t1n", "t1c", "t2w", "t2f", "mask"}
    assert all(before["sha256"][kind] != after["sha256"][kind] for kind in before["sha256"])


def test_a_subject_twice_is_refused(brats_2018, tmp_path):
    write_brats(brats_2018, "brats_2018", ["LGG/Brats18_2013_10_1"])
    assert "subject Brats18_2013_10_1 must be in one folder, got" in faults(brats_2018, tmp_path)
    row = table_row(tmp_path, "P1")
    table = write_table(tmp_path / "mine.csv", [row, {**row, "subject_id": "p1"}])
    message = faults(table, tmp_path)
    assert "subject_id must be there once in" in message
    assert "P1/t2.nii.gz must be one file of one subject, got it as t2w of P1, t2w of p1" in message


def test_a_copy_under_another_name_is_refused(brats_2018, tmp_path):
    folder = brats_2018 / "HGG/Brats18_2013_10_1"
    copy = (folder / "Brats18_2013_10_1_t1.nii.gz").read_bytes()
    (brats_2018 / "HGG/Brats18_CBICA_AAB_1/Brats18_CBICA_AAB_1_t1.nii.gz").write_bytes(copy)
    assert "must be different images, got the same voxels" in faults(brats_2018, tmp_path)


def test_a_grade_that_is_not_understood_names_file_row_and_words(tmp_path):
    rows = [table_row(tmp_path, "P1", grade="LGG"), table_row(tmp_path, "P2", grade="astro II")]
    table = write_table(tmp_path / "mine.csv", rows)
    message = faults(table, tmp_path)
    assert "mine.csv row 3, subject P2: grade must be LGG (lgg, low grade" in message
    assert "got 'astro II'" in message
    assert by_id(scan(table, tmp_path, grade_map={"astro II": "LGG"}))["P2"]["grade"] == "LGG"


def test_a_grade_of_name_mapping_that_is_not_understood_or_contradicts_its_folder_is_refused(brats_2018, tmp_path):
    rows = [
        {"Grade": "LGG", "BraTS_2018_subject_ID": "Brats18_2013_10_1"},
        {"Grade": "benign", "BraTS_2018_subject_ID": "Brats18_CBICA_AAB_1"},
    ]
    write_table(brats_2018 / "name_mapping.csv", rows)
    message = faults(brats_2018, tmp_path)
    assert "must have one grade, got HGG from its folder and LGG from name_mapping.csv" in message
    assert "name_mapping.csv row 3: grade must be" in message


def test_codes_that_fit_no_convention_or_two_are_refused(brats_2018, tmp_path):
    save(brats_2018 / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_seg.nii.gz", mask([1, 2, 3]))
    with pytest.raises(ValueError, match=r"got others in .*Brats18_2013_10_1_seg.nii.gz \(3\)"):
        scan(brats_2018, tmp_path)
    table = write_table(tmp_path / "mine.csv", [table_row(tmp_path, "P1", [1, 2, 3])])
    with pytest.raises(ValueError, match="brats_2023 and decathlon read differently; set mask_codes to one of"):
        scan(table, tmp_path)
    assert scan(table, tmp_path, mask_codes="decathlon")["mask_codes"]["edema"] == 1


@pytest.mark.parametrize("order", ["", "t1 t1ce t2", "t1 t1 t1ce t2 flair"])
def test_a_4d_file_without_a_full_channel_order_is_refused(tmp_path, order):
    save(tmp_path / "P1.nii.gz", image("P1", (*SHAPE, 4)))
    save(tmp_path / "m.nii.gz", mask([1, 2, 4]))
    row = {"subject_id": "P1", "image": "P1.nii.gz", "channel_order": order, "mask": "m.nii.gz"}
    message = faults(write_table(tmp_path / "mine.csv", [row]), tmp_path)
    assert "must have a channel_order that names each of t1n, t1c, t2w, t2f once" in message


def test_a_decathlon_channel_that_is_not_understood_is_refused(tmp_path):
    folder = write_decathlon(tmp_path / "Task01", ["A"], modality=["FLAIR", "T1w", "t1gd", "DWI"])
    assert "dataset.json must name channels of" in faults(folder, tmp_path)


def test_a_mask_source_and_a_name_that_are_not_understood_are_refused(tmp_path):
    row = table_row(tmp_path, "P1", mask_source="student")
    message = faults(write_table(tmp_path / "mine.csv", [row, {**row, "subject_id": "a/b"}]), tmp_path)
    assert "mask_source must be one of expert, model, simulated or empty, got 'student'" in message
    assert (
        "subject_id must be usable as a file name (letters, digits, _ - + . and no . at its beginning), got 'a/b'"
        in message
    )


def test_a_table_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("id,t1\nP1,x.nii\n")
    with pytest.raises(ValueError, match="a.csv must have a column subject_id"):
        scan(tmp_path / "a.csv", tmp_path)
    (tmp_path / "b.csv").write_text("subject_id,t1,t2\nP1,x.nii\n")
    with pytest.raises(ValueError, match="b.csv row 2 must have 3 fields"):
        scan(tmp_path / "b.csv", tmp_path)
    (tmp_path / "c.json").write_text('{"people": []}')
    with pytest.raises(ValueError, match="c.json must be a list of subjects"):
        scan(tmp_path / "c.json", tmp_path)
    with pytest.raises(ValueError, match="must be a folder, a .csv or a .json"):
        scan(save(tmp_path / "d.nii", image("d")), tmp_path)


def test_a_folder_without_or_with_two_layouts_is_refused(brats_2018, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty must hold subjects with .* BraTS 2018 .* got no such file"):
        scan(tmp_path / "empty", tmp_path)
    write_brats(brats_2018, "brats_2023", BRATS_2023[:1])
    with pytest.raises(ValueError, match="got files of both styles; list the files in a table"):
        scan(brats_2018, tmp_path)
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        scan(tmp_path / "nowhere", tmp_path)
    with pytest.raises(ValueError, match="cohort_layout must be auto or one of"):
        scan(brats_2018, tmp_path, layout="nifti")


def test_many_faults_are_counted_and_the_first_are_shown(tmp_path):
    rows = [table_row(tmp_path, f"P{i:02d}", grade="?") for i in range(25)]
    message = faults(write_table(tmp_path / "mine.csv", rows), tmp_path)
    assert "must be without faults, got 25:" in message
    assert message.count("\n- ") == 21
    assert message.endswith("and 5 more")


@pytest.mark.parametrize("name", [".x", "..a", "a/b", "a b", "../a"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, name):
    table = write_table(tmp_path / "mine.csv", [{**table_row(tmp_path, "P1"), "subject_id": name}])
    assert f"and no . at its beginning), got {name!r}" in faults(table, tmp_path)
    table = write_table(tmp_path / "mine.csv", [{**table_row(tmp_path, "P1"), "subject_id": ".."}])
    assert "mine.csv row 2 must have a subject_id, got '..'" in faults(table, tmp_path)


@pytest.mark.parametrize("column", ["site", "patient_id"])
def test_one_name_in_two_spellings_is_refused(tmp_path, column):
    names = ("Bonn", "bonn", "1", "01", "1.0", "Köln")
    rows = [table_row(tmp_path, f"P{i}", **{column: name}) for i, name in enumerate(names)]
    message = faults(write_table(tmp_path / "mine.csv", rows), tmp_path)
    assert f"{column} must be spelled one way in" in message
    assert "got 'Bonn' (subject P0), 'bonn' (subject P1);" in message
    assert "got '01' (subject P3), '1' (subject P2), '1.0' (subject P4);" in message
    assert "Köln" not in message


def test_one_file_by_two_links_is_refused(tmp_path):
    rows = [table_row(tmp_path, name) for name in ("P1", "P2")]
    (tmp_path / "P2" / "t2.nii.gz").unlink()
    (tmp_path / "P2" / "t2.nii.gz").symlink_to("../P1/t2.nii.gz")
    message = faults(write_table(tmp_path / "mine.csv", rows), tmp_path)
    assert "P1/t2.nii.gz must be one file of one subject, got it as t2w of P1, t2w of P2" in message


def test_a_link_that_leads_nowhere_is_named_and_can_be_left_out(brats_2018, tmp_path):
    path = brats_2018 / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_t2.nii.gz"
    path.unlink()
    path.symlink_to("../.git/annex/objects/x.nii.gz")
    before = Path(list_source(brats_2018, tmp_path)).read_text()
    written = Path(list_source(brats_2018, tmp_path)).stat().st_mtime_ns
    assert Path(list_source(brats_2018, tmp_path)).stat().st_mtime_ns == written, "nothing new, nothing written"
    assert f"{path}\tnot there\n" in before
    assert "_t2.nii.gz" in faults(brats_2018, tmp_path)
    assert len(scan(brats_2018, tmp_path, leave_out="Brats18_2013_10_1")["subjects"]) == 2
    (brats_2018 / "HGG/.git/annex/objects").mkdir(parents=True)
    save(brats_2018 / "HGG/.git/annex/objects/x.nii.gz", image("fetched"))
    assert Path(list_source(brats_2018, tmp_path)).read_text() != before


def test_a_source_that_is_neither_folder_nor_file_is_refused_as_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="got /dev/null, which is a device, a pipe or a socket"):
        scan("/dev/null", tmp_path)


def test_masks_of_the_pediatric_task_have_its_codes_and_others_beside_them_theirs(tmp_path):
    folder = write_brats(tmp_path / "src", "brats_2023", ["BraTS-PED-00001-000"], codes=[1, 2, 3, 4])
    write_brats(folder, "brats_2023", BRATS_2023, codes=[1, 2, 3])
    cohort = scan(folder, tmp_path)
    assert cohort["mask_codes"]["enhancing"] == 3
    assert by_id(cohort)["BraTS-PED-00001-000"]["mask_codes"]["enhancing"] == 1
    assert "brats_2024_pediatric (1 masks)" in cohort["mask_codes_reason"]


def test_masks_whose_labels_are_not_understood_must_be_declared(tmp_path):
    folder = write_decathlon(tmp_path / "Task01", ["A"], labels=["background", "a", "b", "c"])
    with pytest.raises(ValueError, match="must be declared where nothing says .* labels of dataset.json are not under"):
        scan(folder, tmp_path)
    assert scan(folder, tmp_path, mask_codes="decathlon")["mask_codes"]["edema"] == 1


@pytest.mark.parametrize(
    ("leave_out", "left"), [("P1", ["P1"]), (7, ["7"]), ([7, "P1"], ["7", "P1"]), ({7: "moved"}, ["7"]), (None, [])]
)
def test_one_name_may_be_left_out_without_a_list_and_numbers_are_names(tmp_path, leave_out, left):
    rows = [table_row(tmp_path, name) for name in ("P1", "7", "P2")]
    cohort = scan(write_table(tmp_path / "mine.csv", rows), tmp_path, leave_out=leave_out)
    assert [entry["subject_id"] for entry in cohort["left_out"]] == left
    assert "P2" in by_id(cohort)


def test_a_name_to_leave_out_that_is_nearly_right_is_asked_about(brats_2018, tmp_path):
    with pytest.raises(ValueError, match="got brats18_2013_10_1; did you mean Brats18_2013_10_1"):
        scan(brats_2018, tmp_path, leave_out="brats18_2013_10_1")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mask_codes", [1, 2, 4], "mask_codes must be the name of a convention or a mapping"),
        ("grade_map", "LGG", "grade_map must be a mapping from a word to a class"),
    ],
)
def test_a_setting_of_another_type_is_refused_with_its_key(brats_2018, tmp_path, key, value, message):
    with pytest.raises(TypeError, match=message):
        scan(brats_2018, tmp_path, **{key: value})


def test_what_is_passed_over_is_said_aloud(tmp_path, caplog):
    rows = [
        table_row(tmp_path, "P1_1", grade="2", site="A", age=40),
        table_row(tmp_path, "P1_2", grade="", site="", age=41),
        table_row(tmp_path, "P2_1", grade="4", site="A", age=42),
    ]
    scan(write_table(tmp_path / "mine.csv", rows), tmp_path)
    said = [record.getMessage().removeprefix(f"{tmp_path / 'mine.csv'}: ") for record in caplog.records]
    assert said == [
        "columns that are not read: age",
        "not every subject has a grade; without: P1_2",
        "not every subject has a site; without: P1_2",
        "P1_1, P1_2 are taken for as many patients; if they are scans of one, give a patient_id in a table",
    ]


def test_nothing_is_said_of_a_cohort_of_which_all_is_known(tmp_path, caplog):
    rows = [table_row(tmp_path, f"P1_{i}", grade="2", patient_id="P1") for i in range(2)]
    scan(write_table(tmp_path / "mine.csv", rows), tmp_path)
    assert not caplog.records


@pytest.mark.parametrize(
    "names", [("UPENN-GBM-{:05d}_11", "UPENN-GBM-{:05d}_21"), ("sub-{:02d}_ses-1", "sub-{:02d}_ses-2")]
)
def test_scans_of_one_patient_in_public_names_are_in_one_part(tmp_path, names):
    rows = [table_row(tmp_path, name.format(i), grade="24"[i % 2]) for i in range(12) for name in names]
    cohort = scan(write_table(tmp_path / "mine.csv", rows), tmp_path)
    splits = make_splits(cohort, num_folds=2)
    parts = [part for fold in splits["folds"] for part in fold.values()] + [splits["test"]]
    for part in parts:
        assert len(part) == 2 * len({patient_of({"subject_id": name}) for name in part})


# The stage


def test_the_cohort_and_splits_stages_run_from_their_configs(tmp_path):
    rows = [table_row(tmp_path, f"P{i:02d}", grade=("2", "4")[i % 2]) for i in range(16)]
    table = write_table(tmp_path / "mine.csv", rows)
    run_stage("cohort", source_path=str(table), output_dir=str(tmp_path / "cohort"), cohort_name="clinic")
    cohort_path = tmp_path / "cohort" / "cohort.json"
    assert json.loads(cohort_path.read_text())["name"] == "clinic"
    options = {"cohort_path": str(cohort_path), "output_dir": str(tmp_path / "splits"), "num_folds": 3}
    run_stage("splits", **options)
    splits = json.loads((tmp_path / "splits" / "splits.json").read_text())
    assert splits["cohort"] == "clinic"
    assert len(splits["folds"]) == 3
    assert splits["classes"] == ["LGG", "HGG"]


def test_a_source_that_changes_changes_its_listing(brats_2018, tmp_path):
    listing = list_source(brats_2018, tmp_path)
    with open(listing, encoding="utf-8") as stream:
        before = stream.read()
    assert len(before.splitlines()) == 15
    save(brats_2018 / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_t2.nii.gz", image("new"))
    with open(list_source(brats_2018, tmp_path), encoding="utf-8") as stream:
        assert stream.read() != before
    with pytest.raises(ValueError, match="source_path must be a folder or a table, got None; pass --source_path"):
        list_source(None, tmp_path)
