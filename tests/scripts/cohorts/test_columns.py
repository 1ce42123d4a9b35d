from __future__ import annotations

import pytest

from scripts.cohorts.columns import COLUMNS, read_columns, require_subject_id

MODALITIES = ["t1n", "t1c", "t2w", "t2f"]


def spellings(column: str) -> list[str]:
    words = column.split("_")
    return [column, column.upper(), " ".join(words), "".join(words), "-".join(map(str.title, words)), f" {column} "]


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_is_understood_in_any_spelling(column):
    for name in spellings(column):
        columns = read_columns([name], MODALITIES)
        assert columns.known == {name: column}
        assert not columns.ignored


def test_modalities_are_understood_by_their_aliases_and_the_rest_is_ignored():
    columns = read_columns(["T1 Gd", "FLAIR", "age", "T2*", "sha256"], MODALITIES)
    assert columns.modalities == {"T1 Gd": "t1c", "FLAIR": "t2f"}
    assert columns.ignored == ["age", "T2*"]
    assert not columns.faults


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("patient", "patient_id"),
        ("patients", "patient_id"),
        ("Patient No", "patient_id"),
        ("patient_idX", "patient_id"),
        ("participant_id", "patient_id"),
        ("PID", "patient_id"),
        ("WHO grade", "grade"),
        ("Tumor grade (2021)", "grade"),
        ("gradeX", "grade"),
        ("label", "grade"),
        ("siteX", "site"),
        ("Site ID", "site"),
        ("hospital", "site"),
        ("Centre", "site"),
        ("mask_codesX", "mask_codes"),
        ("mask code", "mask_codes"),
        ("masks", "mask"),
        ("brain mask 1", "brain_mask"),
    ],
)
def test_a_name_that_is_nearly_that_of_a_lacking_column_is_asked_about(name, column):
    columns = read_columns(["subject_id", name], MODALITIES)
    assert columns.faults == [f"column {name!r} must be renamed or removed; did you mean {column}?"]


def test_such_a_name_is_ignored_where_the_column_is_there():
    columns = read_columns(["subject_id", "patient_id", "patient", "grade", "WHO grade"], MODALITIES)
    assert columns.ignored == ["patient", "WHO grade"]
    assert not columns.faults


@pytest.mark.parametrize(
    "name", ["age", "sex", "side", "size", "date", "gender", "survival_days", "patient_age", "scanner", "notes"]
)
def test_other_names_are_ignored_without_a_question(name):
    columns = read_columns(["subject_id", name], MODALITIES)
    assert columns.ignored == [name]
    assert not columns.faults


def test_one_column_in_two_spellings_is_a_fault():
    columns = read_columns(["subject_id", "patient_id", "Patient ID"], MODALITIES)
    assert columns.faults == ["column patient_id must be there once, got it again as 'Patient ID'; remove one"]


def test_a_table_without_subjects_is_refused_and_asked_which_column_they_are():
    with pytest.raises(ValueError, match="a.csv must have a column subject_id, got age, scan; .* did you mean subject"):
        require_subject_id(read_columns(["scan", "age"], MODALITIES), "a.csv")
    with pytest.raises(ValueError, match="got no columns; see docs"):
        require_subject_id(read_columns([], MODALITIES), "a.csv")
