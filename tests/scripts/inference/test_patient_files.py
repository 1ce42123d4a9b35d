from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.inference.patient_files import files_of, find_patients, num_channels, split_name
from tests.tiny_subjects import MODALITIES, write_volume

NAMES = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}
VOXELS = np.zeros((3, 4, 5), np.uint8)


def write_patient(folder, patient, names=NAMES):
    return {key: write_volume(folder / f"{patient}_{name}.nii.gz", VOXELS) for key, name in names.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BraTS19_CBICA_AAB_1_t1ce.nii.gz", ("BraTS19_CBICA_AAB_1", "t1c")),
        ("BraTS-GLI-00001-000-t2f.nii.gz", ("BraTS-GLI-00001-000", "t2f")),
        ("somebody_T2_FLAIR.NII", ("somebody", "t2f")),
        ("T1.nii", ("", "t1n")),
        ("BraTS19_CBICA_AAB_1_seg.nii.gz", ("BraTS19_CBICA_AAB_1_seg", None)),
        ("BRATS_001.nii.gz", ("BRATS_001", None)),
    ],
)
def test_a_name_is_split_at_the_words_of_the_modality(name, expected):
    assert split_name(name, MODALITIES) == expected


def test_a_modality_that_is_not_asked_for_is_part_of_the_name():
    assert split_name("a_flair.nii", ["t1n"]) == ("a_flair", None)


def test_patients_of_a_folder_are_told_apart_and_masks_belong_to_nobody(tmp_path):
    expected = {patient: write_patient(tmp_path, patient) for patient in ("a_1", "a_2")}
    write_volume(tmp_path / "a_1_seg.nii.gz", VOXELS)
    (tmp_path / "a_1_t1.txt").write_text("no image")
    found = find_patients(tmp_path, MODALITIES)
    assert found == {patient: {key: [path] for key, path in files.items()} for patient, files in expected.items()}


def test_a_folder_and_each_of_its_files_and_a_link_to_one_stand_for_the_same_patient(tmp_path):
    expected = write_patient(tmp_path / "p", "a")
    (tmp_path / "link.nii.gz").symlink_to(expected["t1c"])
    for path in (tmp_path / "p", tmp_path / "link.nii.gz", *expected.values()):
        assert files_of(str(path), MODALITIES) == expected


def test_a_file_of_several_channels_stands_for_itself_whatever_its_name(tmp_path):
    path = write_volume(tmp_path / "a_t1.nii.gz", np.zeros((3, 4, 5, 4), np.uint8))
    assert files_of(path, MODALITIES) is None
    assert files_of(write_volume(tmp_path / "case.nii.gz", VOXELS), MODALITIES) is None


def test_a_folder_of_two_patients_or_of_none_is_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="files of one patient.* got none"):
        files_of(str(tmp_path / "empty"), MODALITIES)
    for patient in ("a", "b"):
        write_patient(tmp_path / "two", patient)
    with pytest.raises(ValueError, match="got a, b; give each patient a folder"):
        files_of(str(tmp_path / "two"), MODALITIES)


def test_two_files_of_one_modality_are_refused(tmp_path):
    write_patient(tmp_path, "a")
    write_volume(tmp_path / "a_t2.nii", VOXELS)
    with pytest.raises(ValueError, match=r"one file for t2w, got .*a_t2\.nii and .*a_t2\.nii\.gz"):
        files_of(str(tmp_path), MODALITIES)


def test_channels_are_read_from_the_header_and_none_from_what_is_no_image(tmp_path):
    assert num_channels(write_volume(tmp_path / "a.nii", VOXELS)) == 1
    assert num_channels(write_volume(tmp_path / "b.nii", np.zeros((2, 2, 2, 3), np.uint8))) == 3
    (tmp_path / "c.nii.gz").write_bytes(b"\x1f\x8bnothing")
    (tmp_path / "d.nii").write_bytes(b"")
    assert num_channels(tmp_path / "c.nii.gz") == num_channels(tmp_path / "d.nii") == 0


def test_what_macos_leaves_beside_the_files_is_nobody(tmp_path):
    expected = write_patient(tmp_path, "a")
    for path in list(tmp_path.iterdir()):
        (tmp_path / f"._{path.name}").write_bytes(b"\0\5\x16\7")
    assert files_of(str(tmp_path), MODALITIES) == expected


def test_links_to_a_store_of_files_without_names_stand_for_a_patient_by_their_own_names(tmp_path):
    (tmp_path / "store").mkdir()
    expected = write_patient(tmp_path / "p", "a")
    for number, path in enumerate(map(Path, expected.values())):
        path.rename(tmp_path / "store" / f"{number:064x}")
        path.symlink_to(tmp_path / "store" / f"{number:064x}")
    (tmp_path / "shown.nii.gz").symlink_to(expected["t1c"])
    (tmp_path / "shown_t2.nii.gz").symlink_to(expected["t1c"])  # an alias that happens to end like a modality
    for path in (tmp_path / "p", expected["t2f"], tmp_path / "shown.nii.gz", tmp_path / "shown_t2.nii.gz"):
        assert files_of(str(path), MODALITIES) == expected
