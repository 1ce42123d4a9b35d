from __future__ import annotations

import pytest

from scripts.provenance.declared import (
    check_declaration,
    declared_subjects,
    describe_declaration,
    holds_out_nobody,
    names_nobody,
    unknown_methods,
)
from scripts.running.files import read_json
from tests.patches import write_tiny_patches


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return write_tiny_patches(tmp_path_factory.mktemp("patches"))


def subjects_of(lists, trained_on, fold=1):
    return declared_subjects(trained_on, lists["patches_path"], lists["splits_path"], fold)


def test_a_part_all_a_list_and_a_file_name_their_subjects(lists, tmp_path):
    fold = read_json(lists["splits_path"])["folds"][1]
    everybody = {row["subject_id"] for row in read_json(lists["patches_path"])["training"]}
    assert subjects_of(lists, "train") == sorted(fold["train"])
    assert subjects_of(lists, "all") == sorted(everybody)
    assert subjects_of(lists, ["LGG_subject_0"]) == ["LGG_subject_0"]
    (tmp_path / "list.txt").write_text("HGG_subject_1\n\nLGG_subject_0\n", encoding="utf-8")
    assert subjects_of(lists, str(tmp_path / "list.txt")) == ["HGG_subject_1", "LGG_subject_0"]
    assert subjects_of(lists, "others") == subjects_of(lists, "unknown") == []


def test_subjects_of_another_cohort_are_refused_by_name(lists, tmp_path):
    with pytest.raises(ValueError, match=r"trained_on must name subjects of .*patches.json, got stranger"):
        subjects_of(lists, ["LGG_subject_0", "stranger"])
    (tmp_path / "list.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"got no line in .*list.txt"):
        subjects_of(lists, str(tmp_path / "list.txt"))


@pytest.mark.parametrize(
    ("trained_on", "splits_path", "message"),
    [
        ("trian", "s", "trained_on must be .* which is no file; did you mean train"),
        (None, "s", "write unknown where nobody can tell"),
        ([], "s", "others is nobody of this cohort"),
        ("train", None, "splits_path and fold must be given where trained_on is 'train'"),
    ],
)
def test_a_declaration_that_says_nothing_is_refused(trained_on, splits_path, message):
    with pytest.raises(ValueError, match=message):
        check_declaration(trained_on, splits_path, 0)


def test_what_is_declared_stays_told_from_what_is_recorded():
    assert describe_declaration("train", 9) == "train"
    assert describe_declaration(["a", "b"], 2) == "a list of 2 subjects"
    records = [{"method": name, "trained_on": name} for name in ("all", "train", "others", "unknown")]
    records.append({"method": "ddpm"})
    assert [names_nobody(record) for record in records] == [False, False, True, True, False]
    assert [holds_out_nobody(record) for record in records] == [True, False, True, True, False]
    assert unknown_methods(records) == ["unknown"]
