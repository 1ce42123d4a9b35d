"""Patients graded by one line, on a package of tiny networks."""

from __future__ import annotations

import shutil

import pytest

from bundle import __main__ as command
from bundle import grade
from bundle.grader import Grader
from scripts.running.files import read_csv, read_json
from tests.tiny_subjects import write_subject

CLICK = [20, 15, 10]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Two patients with a mask beside the files."""
    folder = tmp_path_factory.mktemp("cases")
    for name in ("P01", "P02"):
        write_subject(folder / name)
    return folder


@pytest.fixture(scope="module")
def answered(cases, packed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    paths = [str(cases / name) for name in ("P01", "P02")]
    return folder, grade(paths, str(folder), str(packed), mask_codes="brats_2017")


def test_each_patient_gets_the_answer_of_a_request_to_the_server(answered, cases, packed):
    folder, rows = answered
    asked = {"image": str(cases / "P01"), "mask": str(cases / "P01/seg.nii.gz"), "mask_codes": "brats_2017"}
    expected = Grader(packed).grade({"subject_id": "P01", **asked}).answer
    assert [row["subject_id"] for row in rows] == ["P01", "P02"]
    assert rows[0]["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
    assert rows[0]["crop"] == expected["crop"]
    assert read_json(folder / "P01" / "answer.json") == rows[0]
    assert sorted(path.name for path in (folder / "P02").iterdir()) == [
        "answer.json",
        "explanation.png",
        "patch.nii.gz",
        "place.png",
    ]


def test_a_table_holds_all_answers(answered):
    folder, rows = answered
    table = read_csv(folder / "answers.csv")
    assert [row["subject_id"] for row in table] == ["P01", "P02"]
    assert float(table[0]["p_HGG"]) == pytest.approx(rows[0]["probabilities"]["HGG"])
    assert float(table[0]["share_nearer"]) == rows[0]["training_distance"]["share_nearer"]
    assert rows[0]["training_distance"]["number"] == 8
    assert (table[0]["class"], table[0]["error"]) == (rows[0]["class"], "")


def test_answers_that_are_there_are_not_made_again_and_others_are_kept(answered, cases, packed, monkeypatch):
    folder, rows = answered
    monkeypatch.setattr(Grader, "grade", lambda *_: pytest.fail("asked the network again"))
    again = grade([str(cases / "P01")], str(folder), str(packed), mask_codes="brats_2017")
    assert again == rows[:1]
    (other,) = grade(str(cases / "P01"), str(folder), str(packed), click=CLICK)
    assert "replace it with --overwrite" in other["error"]
    assert read_json(folder / "P01" / "answer.json") == rows[0]


def test_one_patient_who_cannot_be_graded_does_not_stop_the_others(cases, packed, tmp_path, capsys):
    shutil.copytree(cases / "P01", tmp_path / "in" / "P03", ignore=shutil.ignore_patterns("t2f*"))
    shutil.copytree(cases / "P01", tmp_path / "in" / "P04")
    shutil.copytree(cases / "P01", tmp_path / "in" / "P05")
    shutil.copy(tmp_path / "in" / "P05" / "seg.nii.gz", tmp_path / "in" / "P05" / "mask.nii.gz")
    words = ["grade", *map(str, sorted((tmp_path / "in").iterdir())), "--out", str(tmp_path / "out")]
    status = command.main([*words, "--bundle", str(packed), "--mask_codes", "brats_2017", "--explanation", "none"])
    lines = capsys.readouterr().out.splitlines()
    assert status == 2
    assert lines[0].startswith("P03  not graded: images must hold a file for each of")
    assert lines[1].startswith("P04  LGG 0.")
    assert lines[2].startswith("P05  not graded: mask must be one file")
    assert "Not for patients" in lines[3]
    assert not (tmp_path / "out" / "P04" / "explanation.png").exists()
    assert "picture" not in read_json(tmp_path / "out" / "P04" / "answer.json")["files"]


def test_a_click_answers_for_one_file_of_a_patient(cases, packed, tmp_path):
    shutil.copytree(cases / "P01", tmp_path / "P05", ignore=shutil.ignore_patterns("seg*"))
    words = ["grade", str(tmp_path / "P05" / "t1c.nii.gz"), "--out", str(tmp_path / "out"), "--click", "[20,15,10]"]
    assert command.main([*words, "--bundle", str(packed), "--explanation", "none"]) == 0
    assert read_json(tmp_path / "out" / "P05" / "answer.json")["crop"]["source"] == "click"


def test_a_fault_that_nobody_foresaw_does_not_stop_the_others(cases, packed, tmp_path, monkeypatch, caplog):
    def graded(grader, request):
        if request["subject_id"] == "P01":
            raise AttributeError("no such element")
        return whole(grader, request)

    whole = Grader.grade
    monkeypatch.setattr(Grader, "grade", graded)
    paths = [str(cases / name) for name in ("P01", "P02")]
    rows = grade(paths, str(tmp_path), str(packed), mask_codes="brats_2017", explanation="none")
    assert rows[0] == {"subject_id": "P01", "error": "AttributeError: no such element"}
    assert "class" in rows[1]
    assert "P01 could not be graded\nTraceback" in caplog.text


@pytest.mark.parametrize(
    ("patients", "options", "message"),
    [
        ([], {}, "patients must hold at least one"),
        (["P01", "nobody"], {}, "nobody does not exist"),
        (["P01", "P02"], {"click": CLICK}, "click must be of one patient, got 2 patients"),
        (["P01", "P01"], {}, "got P01 twice"),
        (["P01"], {"explanation": "lime"}, "explanation must be one of none, gradcam, occlusion"),
        (["P01"], {"bundle_dir": "nowhere"}, "nowhere must be a package"),
    ],
)
def test_what_cannot_be_is_said_before_the_network_is_loaded(
    cases, packed, tmp_path, monkeypatch, patients, options, message
):
    monkeypatch.setattr(Grader, "load", lambda *_: pytest.fail("loaded"))
    options = {"bundle_dir": str(packed), **options}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        grade([str(cases / name) for name in patients], str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()


def test_a_click_that_is_no_voxel_is_refused(cases, tmp_path, capsys):
    assert command.main(["grade", str(cases / "P01"), "--out", str(tmp_path), "--click", "here"]) == 2
    assert "--click must be three whole numbers" in capsys.readouterr().err


def test_the_only_package_there_is_needs_no_name(cases, packed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"click": CLICK, "explanation": "none"}
    with pytest.raises(FileNotFoundError, match="dist must be a package with configs/inference.json, got none; `pyth"):
        grade(str(cases / "P01"), "out", **options)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "own").symlink_to(packed)
    (row,) = grade(str(cases / "P01"), "out", **options)
    assert "error" not in row
    (tmp_path / "dist" / "other").symlink_to(packed)
    with pytest.raises(
        ValueError, match="bundle must be one of the packages in dist, got none for dist/other, dist/ow"
    ):
        grade(str(cases / "P01"), "out", **options)
