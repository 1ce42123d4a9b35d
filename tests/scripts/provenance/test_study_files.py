from __future__ import annotations

import pytest

from scripts.provenance.study_files import SeedStudies, StageRecord, StudyFiles
from scripts.running.files import read_json, write_json
from tests.fake_study import write_empty_set


def write_record(folder, kind, finished=True, settings=None, **belongs_to):
    record = {"finished": finished, "kind": kind, "belongs_to": belongs_to}
    write_json(folder / "stage.json", {**record, "identity": {"settings": settings or {}, "seed": 0}})


def test_stages_are_known_by_their_records_and_not_by_their_folders(tmp_path):
    write_record(tmp_path / "one", "generator", cohort="site_a", fold=0, class_name="LGG", method="my_own")
    write_record(tmp_path / "site_b" / "patches", "patches", cohort="site_a")
    write_record(tmp_path / "summary", "report")
    files = StudyFiles(str(tmp_path))
    assert [(record.name, record.kind, record.cohort, record.fold) for record in files.records.values()] == [
        ("one", "generator", "site_a", 0),
        ("site_b/patches", "patches", "site_a", None),
    ]
    assert files.title(tmp_path / "one" / "metrics.json") == "site_a, fold 0, generator LGG my_own"
    assert files.folders_of("generator", fold=0, method="my_own") == [tmp_path / "one"]
    assert files.folders_of("generator", fold=1) == files.folders_of("classifier") == []


def test_only_finished_stages_are_finished(tmp_path):
    write_record(tmp_path / "a", "evaluation", setup="real")
    write_record(tmp_path / "b", "evaluation", finished=False, setup="real")
    write_record(tmp_path / "c", "evaluation", setup="ddpm")
    assert [record.name for record in StudyFiles(str(tmp_path)).finished("evaluation", setup="real")] == ["a"]


def test_of_a_stage_that_was_run_alone_the_settings_say_what_it_belongs_to(tmp_path):
    settings = {"fold": 2, "generator_class": None, "method": "ddpm", "patch_size": [96, 96]}
    write_record(tmp_path / "mine", "generator", settings=settings)
    (record,) = StudyFiles(str(tmp_path)).records.values()
    assert record.place == {"fold": 2, "method": "ddpm"}
    assert record.title == "fold 2, generator ddpm"


def test_a_record_that_does_not_say_its_kind_is_refused_by_name():
    with pytest.raises(ValueError, match=r"got None in a/b/stage\.json; an earlier version made"):
        _ = StageRecord("a/b", {"kind": None}).kind


def test_files_are_listed_in_the_order_of_the_stages(tmp_path):
    for name in ("b", "a"):
        write_json(tmp_path / name / "cohort.json", {})
    files = StudyFiles(str(tmp_path), ["b", "a", "nothing"])
    assert [path.parent.name for path in files.named("cohort.json")] == ["b", "a"]
    assert files.inputs() == [str(tmp_path / name / "cohort.json") for name in ("b", "a")]


def test_files_of_one_kind_of_stage_are_told_from_those_of_another(tmp_path):
    for name, kind in (("x", "generator"), ("y", "evaluation")):
        write_record(tmp_path / name, kind)
        write_json(tmp_path / name / "metrics.json", [])
    files = StudyFiles(str(tmp_path))
    assert files.trainings("generator") == [tmp_path / "x" / "metrics.json"]
    assert files.named("metrics.json", "evaluation") == [tmp_path / "y" / "metrics.json"]


def test_a_folder_without_predictions_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold studies with predictions.csv, got none in"):
        SeedStudies([str(tmp_path)]).inputs()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provenance": None}, "synthetic.json must carry the provenance of its network"),
        ({"modality": None}, "synthetic.json: modality must be names by numbers"),
        ({"provenance": {"cohort": "site_a"}}, "synthetic.json: provenance.method must be a text"),
    ],
)
def test_a_synthetic_set_that_does_not_tell_what_it_is_is_refused_by_name(tmp_path, change, message):
    write_empty_set(tmp_path / "x", "mixed", control="mixed")
    assert StudyFiles(str(tmp_path), ["x"]).control_methods == {"mixed"}
    write_json(tmp_path / "x" / "synthetic.json", {**read_json(tmp_path / "x" / "synthetic.json"), **change})
    with pytest.raises(ValueError, match=message):
        StudyFiles(str(tmp_path), ["x"]).lists("synthetic")
