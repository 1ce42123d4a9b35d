from __future__ import annotations

import json
import os
import unicodedata

import pytest

from scripts.cohorts.tables import find_table
from tests.cohort_files import table_row, write_table

MODALITIES = ["t1n", "t1c", "t2w", "t2f"]
CLASSES = ["LGG", "HGG"]


def write_json_rows(path, rows):
    path.write_text(json.dumps(rows))
    return path


def find(path, **options):
    return find_table(path, MODALITIES, CLASSES, **options)


def messages(source) -> str:
    return "\n".join(message for _, message in source.problems)


def test_columns_of_who_and_where_are_understood_in_any_spelling(tmp_path):
    row = table_row(tmp_path, "P1_a")
    names = {"subject_id": "Subject ID"}
    row = {names.get(key, key): value for key, value in row.items()}
    row |= {"Patient-ID": "P1", "SITE": "Bonn", "Grade": "II", "Mask Codes": "BraTS 2017"}
    subject = find(write_table(tmp_path / "a.csv", [row])).subjects[0]
    assert (subject.subject_id, subject.patient_id, subject.site) == ("P1_a", "P1", "Bonn")
    assert (subject.grade, subject.mask_codes) == ("LGG", "BraTS 2017")


def test_a_column_that_nearly_says_who_is_a_fault_with_the_file(tmp_path):
    source = find(write_table(tmp_path / "a.csv", [table_row(tmp_path, "P1", patient="X")]))
    assert f"{tmp_path / 'a.csv'}: column 'patient' must be renamed or removed; did you mean patient_id?" in messages(
        source
    )


def test_other_columns_are_listed(tmp_path):
    source = find(write_table(tmp_path / "a.csv", [table_row(tmp_path, "P1", Age=50, sex="f")]))
    assert source.notes["ignored_columns"] == ["Age", "sex"]
    assert not source.problems


def test_t2_star_is_no_t2(tmp_path):
    row = table_row(tmp_path, "P1")
    row["T2*"] = row.pop("t2")
    source = find(write_table(tmp_path / "a.csv", [row]))
    assert ["must have columns for t1n: ", " got 'T2*' (P1/t2.nii.gz)"][1] in messages(source)
    assert "t2w" not in source.subjects[0].images


def test_links_keep_their_names_and_the_table_may_be_one(tmp_path):
    row = table_row(tmp_path, "P1")
    (tmp_path / "store").mkdir()
    write_table(tmp_path / "a.csv", [row])
    for number, path in enumerate([*sorted((tmp_path / "P1").iterdir()), tmp_path / "a.csv"]):
        path.rename(tmp_path / "store" / f"{number:064x}")
        path.symlink_to(tmp_path / "store" / f"{number:064x}")
    source = find(tmp_path / "a.csv")
    assert not source.problems
    assert source.subjects[0].images["t2f"] == tmp_path / "P1" / "FLAIR.nii.gz"


@pytest.mark.parametrize(("in_table", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_umlaut_is_one_whatever_system_wrote_it(tmp_path, in_table, on_disk):
    row = table_row(tmp_path, unicodedata.normalize(on_disk, "Müller"))
    row = {key: unicodedata.normalize(in_table, value) for key, value in row.items()}
    subject = find(write_table(tmp_path / "a.csv", [row])).subjects[0]
    assert subject.subject_id == "Müller"
    assert all(os.path.isfile(path) for path in subject.paths().values())


def test_an_entry_of_json_may_hold_nothing_for_images(tmp_path):
    row = {**table_row(tmp_path, "P1"), "images": None, "mask_codes": None, "grade": 2.0}
    source = find(write_json_rows(tmp_path / "a.json", [row]))
    assert not source.problems
    assert sorted(source.subjects[0].images) == sorted(MODALITIES)
    assert source.subjects[0].grade == "LGG"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": ["a.nii"]}, "a.json entry 1: images must be a mapping from modality to path, got ['a.nii']"),
        ({"images": {"dwi": "a.nii"}}, "got 'dwi' (a.nii)"),
        ({"site": ["A"]}, "a.json entry 1: site must be text or a number, got ['A']"),
        ({"mask": {"a": 1}}, "a.json entry 1: mask must be text or a number"),
        ({"subject_id": {"a": 1}}, "a.json entry 1 must have a subject_id, got None"),
        ({"subject_id": None}, "a.json entry 1 must have a subject_id, got None"),
        (
            {"mask_codes": [1, 2]},
            "a.json entry 1, subject P1: mask_codes must be the name of a convention or a mapping",
        ),
        ({"mask_codes": "brats"}, "a.json entry 1, subject P1: mask_codes must be brats_2017"),
        ({"mask_codes": {"tumour": 1}}, "a.json entry 1, subject P1: mask_codes must give each of some of"),
    ],
)
def test_an_entry_of_another_type_is_a_fault_with_its_place(tmp_path, change, message):
    source = find(write_json_rows(tmp_path / "a.json", [{**table_row(tmp_path, "P1"), **change}]))
    assert message in messages(source)


def test_simulated_patients_stay_simulated_when_their_cohort_is_scanned_again(tmp_path):
    rows = [table_row(tmp_path, "P1")]
    assert find(write_json_rows(tmp_path / "a.json", {"simulated": True, "subjects": rows})).notes["simulated"] is True
    assert "simulated" not in find(write_json_rows(tmp_path / "a.json", {"simulated": False, "subjects": rows})).notes


def test_a_header_alone_holds_nobody(tmp_path):
    (tmp_path / "a.csv").write_text("subject_id,t1\n")
    assert find(tmp_path / "a.csv").subjects == []


def test_molecular_markers_and_field_strength_are_read_in_any_spelling(tmp_path):
    rows = [
        {"IDH status": "Mutant", "1p/19q": "co-deleted", "Field Strength": "3.0"},
        {"IDH status": "wild-type", "1p/19q": "NA", "Field Strength": "1.5 T"},
        {"IDH status": "", "1p/19q": "", "Field Strength": ""},
    ]
    path = write_table(tmp_path / "a.csv", [table_row(tmp_path, f"P{i}", **row) for i, row in enumerate(rows)])
    first, second, third = find(path).subjects
    assert first.facts == {"idh": "mutant", "codeletion_1p19q": "co deleted", "field_strength_t": "3 T"}
    assert second.facts == {"idh": "wild type", "field_strength_t": "1.5 T"}
    assert third.facts == {}


def test_a_molecular_marker_may_be_the_class(tmp_path):
    rows = [table_row(tmp_path, name, idh=word) for name, word in (("P1", "mutant"), ("P2", "wildtype"))]
    path = write_table(tmp_path / "a.csv", rows)
    source = find_table(path, MODALITIES, ("wildtype", "mutant"), class_column="idh")
    assert [subject.grade for subject in source.subjects] == ["mutant", "wildtype"]
    with pytest.raises(ValueError, match="must have a column codeletion_1p19q, which class_column takes for the class"):
        find(path, class_column="codeletion_1p19q")


@pytest.mark.parametrize(
    ("cell", "strength"), [("1,5 T", "1.5 T"), ("0.55T", "0.55 T"), ("3 Tesla", "3 T"), ("7.0tesla", "7 T")]
)
def test_a_field_strength_may_have_a_decimal_comma_and_its_unit(tmp_path, cell, strength):
    source = find(write_json_rows(tmp_path / "a.json", [{"subject_id": "P1", "Field strength": cell}]))
    assert source.subjects[0].facts == {"field_strength_t": strength}
    assert "unread_facts" not in source.notes


@pytest.mark.parametrize("cell", ["high", "3T Siemens", "1.5/3", "1/5", "3 esla", "0", "30000", True])
def test_a_field_strength_that_is_none_is_told_and_not_stated_and_refuses_nobody(tmp_path, cell):
    row = {"subject_id": "P1", "idh": "mutant", "grade": "II", "Field strength": cell}
    source = find(write_json_rows(tmp_path / "a.json", [row]))
    assert (source.subjects[0].facts, source.subjects[0].grade) == ({"idh": "mutant"}, "LGG")
    assert source.notes["unread_facts"] == [f"P1: field_strength_t {cell!r}"]
    assert source.problems == []
