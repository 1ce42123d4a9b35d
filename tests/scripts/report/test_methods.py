"""Where the time of a study went, by kind of stage."""

from __future__ import annotations

import pytest

from scripts.report.methods import format_seconds, timeline_section
from scripts.report.study_files import StudyFiles
from scripts.running.files import write_json


def test_seconds_are_added_by_kind_in_the_order_of_the_stages(tmp_path):
    stages = {
        "a/patches": 4.0,
        "a/fold0/classifier_real": 30.0,
        "a/fold0/classifier_ddpm_mi": 60.0,
        "a/fold0/synthetic_LGG_ddpm": 6.0,
    }
    for name, seconds in stages.items():
        write_json(tmp_path / name / "stage.json", {"finished": True, "seconds": seconds})
    write_json(tmp_path / "a/fold1/classifier_real/stage.json", {"finished": False, "seconds": 9.0})
    found = timeline_section(StudyFiles(str(tmp_path), [*stages, "a/fold1/classifier_real"]))
    assert [(row["kind"], row["stages"], row["total"], row["longest"]) for row in found["rows"]] == [
        ("patches", 1, "4.0 s", "4.0 s"),
        ("classifier", 2, "1 min 30 s", "1 min"),
        ("synthetic", 1, "6.0 s", "6.0 s"),
    ]
    assert [row["share"] for row in found["rows"]] == pytest.approx([0.04, 0.9, 0.06])
    assert found["total"] == "1 min 40 s"


def test_a_study_without_records_has_no_table(tmp_path):
    assert timeline_section(StudyFiles(str(tmp_path), []))["rows"] == []


@pytest.mark.parametrize(("seconds", "words"), [(0, "0.0 s"), (9.94, "9.9 s"), (60, "1 min"), (3600, "1 h")])
def test_times_are_said_in_the_units_they_fill(seconds, words):
    assert format_seconds(seconds) == words
