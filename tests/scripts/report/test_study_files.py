from __future__ import annotations

import pytest

from scripts.report.study_files import SeedStudies, StudyFiles
from scripts.running.files import write_json


def test_stages_are_found_by_their_records_and_the_report_is_none_of_them(tmp_path):
    for name in ("site_a/fold0/generator_LGG_ddpm", "site_a/patches", "report"):
        write_json(tmp_path / name / "stage.json", {"identity": {"settings": {"fold": 0}, "seed": 0}})
    files = StudyFiles(str(tmp_path))
    assert [(record.name, record.kind, record.cohort) for record in files.records.values()] == [
        ("site_a/fold0/generator_LGG_ddpm", "generator", "site_a"),
        ("site_a/patches", "patches", "site_a"),
    ]


def test_files_are_listed_in_the_order_of_the_stages(tmp_path):
    for name in ("b", "a"):
        write_json(tmp_path / name / "cohort.json", {})
    files = StudyFiles(str(tmp_path), ["b", "a", "nothing"])
    assert [path.parent.name for path in files.named("cohort.json")] == ["b", "a"]
    assert files.inputs() == [str(tmp_path / name / "cohort.json") for name in ("b", "a")]


def test_a_folder_without_predictions_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold studies with predictions.csv, got none in"):
        SeedStudies([str(tmp_path)]).inputs()
