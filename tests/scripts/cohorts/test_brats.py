from __future__ import annotations

import unicodedata

import pytest

from scripts.cohorts.brats import find_brats, is_name_mapping, layouts_of, site_of
from scripts.cohorts.layouts import files_below
from tests.cohort_files import write_brats

MODALITIES = ["t1n", "t1c", "t2w", "t2f"]
CLASSES = ["LGG", "HGG"]


def find(folder, layout="brats_2018", **options):
    return find_brats(folder, files_below(folder), layout, MODALITIES, CLASSES, **options)


def grades(source) -> dict[str, str | None]:
    return {subject.subject_id: subject.grade for subject in source.subjects}


@pytest.mark.parametrize(
    ("low", "high"), [("LGG", "HGG"), ("lgg", "hgg"), ("Low Grade", "high-grade"), ("WHO_II", "glioblastoma")]
)
def test_folders_give_grades_in_any_spelling(tmp_path, low, high):
    source = find(write_brats(tmp_path / "src", "brats_2018", [f"{low}/A", f"{high}/B"]))
    assert grades(source) == {"A": "LGG", "B": "HGG"}


def test_the_folder_given_may_be_that_of_a_grade(tmp_path):
    assert grades(find(write_brats(tmp_path / "HGG", "brats_2018", ["A"]))) == {"A": "HGG"}


def test_numbers_and_other_names_of_folders_are_no_grades(tmp_path):
    names = ["2/A", "III/B", "G4/C", "train/D"]
    assert set(grades(find(write_brats(tmp_path / "src", "brats_2018", names))).values()) == {None}
    source = find(write_brats(tmp_path / "src", "brats_2018", names), grade_map={"2": "LGG", "train": "HGG"})
    assert grades(source) == {"A": "LGG", "B": None, "C": None, "D": "HGG"}


MAPPING = "Grade{0}BraTS_2019_subject_ID{0}BraTS_2020_subject_ID\n{1}{0}BraTS19_CBICA_1_1{0}BraTS20_Training_001\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_name_mapping_is_read_as_any_program_saves_it(tmp_path, delimiter, encoding):
    folder = write_brats(tmp_path / "src", "brats_2018", ["BraTS20_Training_001"])
    text = MAPPING.format(delimiter, "HGG").replace("subject_ID", "Subject-id")
    (folder / "Name_Mapping.CSV").write_bytes(text.encode(encoding))
    subject = find(folder).subjects[0]
    assert (subject.grade, subject.site) == ("HGG", "CBICA")


@pytest.mark.parametrize("header", ["WHO grade", "Grade (2021)", "grades"])
def test_a_name_mapping_whose_grades_would_be_lost_is_a_fault(tmp_path, header):
    folder = write_brats(tmp_path / "src", "brats_2018", ["BraTS20_Training_001"])
    (folder / "name_mapping.csv").write_text(MAPPING.format(",", "HGG").replace("Grade", header, 1))
    assert f"a column Grade if it gives grades, got {header}, BraTS_2019_subject_ID" in find(folder).problems[0][1]
    (folder / "name_mapping.csv").write_text("Grade|BraTS_2020_subject_ID\nHGG|BraTS20_Training_001\n")
    assert "name_mapping.csv must have columns that end in subject_ID" in find(folder).problems[0][1]


def test_a_name_mapping_without_grades_gives_sites(tmp_path):
    """As that of the validation data of 2020."""
    folder = write_brats(tmp_path / "src", "brats_2018", ["BraTS20_Validation_001"])
    rows = "BraTS_2019_subject_ID,BraTS_2020_subject_ID\nBraTS19_CBICA_1_1,BraTS20_Validation_001\n"
    (folder / "name_mapping_validation_data.csv").write_text(rows)
    source = find(folder)
    assert not source.problems
    assert (source.subjects[0].grade, source.subjects[0].site) == (None, "CBICA")
    assert is_name_mapping(folder / "name_mapping_validation_data.csv")


def test_files_whose_ending_is_in_capitals_are_read(tmp_path):
    folder = write_brats(tmp_path / "src", "brats_2018", ["A"])
    for path in (folder / "A").iterdir():
        path.rename(folder / "A" / path.name.replace(".nii.gz", ".NII.GZ"))
    source = find(folder)
    assert layouts_of(files_below(folder)) == {"brats_2018"}
    assert sorted(source.subjects[0].images) == sorted(MODALITIES)
    assert source.subjects[0].mask is not None


@pytest.mark.parametrize("named", ["{name}", "{stem}"])
@pytest.mark.parametrize("below", ["A", ""])
def test_a_folder_that_an_unpacker_made_of_each_file_is_no_folder_of_a_subject(tmp_path, named, below):
    folder = write_brats(tmp_path / "src", "brats_2018", ["A", "B"], suffix=".nii")
    for path in files_below(folder):
        own = folder / (below and path.parent.name) / named.format(name=f"{path.name}.gz", stem=path.stem)
        own.mkdir(parents=True)
        path.rename(own / path.name)
    source = find(folder)
    assert not source.problems
    assert [(subject.subject_id, len(subject.images)) for subject in source.subjects] == [("A", 4), ("B", 4)]


def test_a_subject_in_two_folders_is_a_fault_that_costs_nobody_a_file(tmp_path):
    folder = write_brats(tmp_path / "src", "brats_2018", ["x/A", "y/A"])
    assert "must be in one folder, got" in find(folder).problems[0][1]
    assert "move its files into one" in find(folder).problems[0][1]


def test_an_umlaut_of_macos_is_one_letter(tmp_path):
    folder = write_brats(tmp_path / "src", "brats_2018", [unicodedata.normalize("NFD", "Müller_1")])
    source = find(folder)
    assert not source.problems
    assert source.subjects[0].subject_id == "Müller_1"


def test_t2_star_is_a_file_of_an_unknown_kind(tmp_path):
    folder = write_brats(tmp_path / "src", "brats_2018", ["A"])
    (folder / "A" / "A_t2.nii.gz").rename(folder / "A" / "A_t2*.nii.gz")
    source = find(folder)
    assert "A_t2*.nii.gz must be named A_KIND" in source.problems[0][1]
    assert "t2w" not in source.subjects[0].images


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("BraTS19_CBICA_AAB_1", "CBICA"),
        ("Brats18_TCIA09_141_1", "TCIA09"),
        ("brats17_TMC_1_1", "TMC"),
        ("BraTS19_2013_10_1", None),  # BraTS 2013 is a collection of several hospitals
        ("BraTS20_Training_001", None),
        ("BraTS-GLI-00001-000", None),
    ],
)
def test_a_name_of_2017_to_2019_holds_the_hospital(name, site):
    assert site_of(name) == site
