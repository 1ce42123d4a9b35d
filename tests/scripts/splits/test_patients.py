from __future__ import annotations

import pytest

from scripts.splits.patients import is_subject_id, patient_by_name, patient_of, perhaps_one_patient


@pytest.mark.parametrize(
    ("scan", "patient"),
    [
        ("BraTS-GLI-00001-001", "BraTS-GLI-00001"),
        ("BraTS-MEN-RT-0012-1", "BraTS-MEN-RT-0012"),
        ("UPENN-GBM-00001_21", "UPENN-GBM-00001"),
        ("upenn-gbm-00001_11", "upenn-gbm-00001"),
        ("UCSF-PDGM-0431_FU001d", "UCSF-PDGM-0431"),
        ("UCSF-PDGM-0431_nifti", "UCSF-PDGM-0431"),
        ("sub-01_ses-02", "sub-01"),
        ("sub-C07_ses-pre_run-1", "sub-C07"),
        ("Patient-001_week-044", "Patient-001"),
        ("Patient-001_week-000-2", "Patient-001"),
        ("PatientID_0003_Timepoint_1", "PatientID_0003"),
        ("P7-visit2", "P7"),
        ("P7_preop", "P7"),
        ("sub-01_ses-02_slice030", "sub-01"),
    ],
)
def test_scans_of_public_sets_and_those_with_a_word_for_a_visit_name_their_patient(scan, patient):
    assert patient_by_name(scan) == patient
    assert patient_by_name(patient) == patient


@pytest.mark.parametrize(
    "name",
    [
        "BraTS2021_00001",
        "BraTS20_Training_001",
        "BraTS19_CBICA_AAB_1",
        "BRATS_001",
        "BraTS-GoAT-00012",
        "TCGA-DU-7294",
        "UPENN-GBM-00001",
        "P001_2",
        "case_session_1",  # nobody is called "case"
    ],
)
def test_names_without_a_scan_are_those_of_patients(name):
    assert patient_by_name(name) == name


def test_a_row_that_says_whose_it_is_is_believed():
    assert patient_of({"subject_id": "sub-01_ses-02", "patient_id": "X"}) == "X"
    assert patient_of({"subject_id": "sub-01_ses-02", "patient_id": ""}) == "sub-01"
    assert patient_of({"subject_id": "P1_slice030"}) == "P1"


def test_names_that_may_count_scans_are_grouped():
    assert perhaps_one_patient(["P002_1", "P001_2", "P001_1", "Q-3", "P003.1"]) == [["P001_1", "P001_2"]]


@pytest.mark.parametrize(
    "names",
    [
        [f"BraTS2021_{i:05d}" for i in range(30)],
        [f"BraTS19_CBICA_A{letter}_1" for letter in "ABC"],
        [f"s{i}" for i in range(30)],
        ["TCGA-06-1802", "TCGA-06-1803", "TCGA-08-0001", "TCGA-08-0002"],
        [f"site1_{i:02d}" for i in range(8)],  # all begin alike
        [f"site{site}_{i:02d}" for site in "12" for i in range(20)],  # too many to be scans of one
    ],
)
def test_names_that_count_patients_are_not(names):
    assert perhaps_one_patient(names) == []


def test_a_subject_is_named_as_a_file_may_be():
    assert all(map(is_subject_id, ["BraTS-GLI-00001-000", "Müller_1", "a.b", "1", "a+b"]))
    assert not any(map(is_subject_id, ["..", ".x", "a/b", "a b", "", "Mu\u0308ller 1", 7, None]))
