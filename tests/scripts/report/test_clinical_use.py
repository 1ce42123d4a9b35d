"""The section on what the answers are good for, from predictions alone."""

from __future__ import annotations

from scripts.evaluation.clinical_use import OperatingRule
from scripts.provenance.study_files import StudyFiles
from scripts.report.clinical_use import clinical_numbers, clinical_sections
from scripts.running.files import read_json, write_csv, write_json
from tests.predictions import prediction_rows

RULE = OperatingRule("sensitivity", 0.8)


def numbers(folder, rows, inner, ensemble="mean_probability"):
    for setup in {row["setup"] for row in rows}:
        evaluation = folder / f"evaluation_{setup}"
        own = [row for row in inner if row["setup"] == setup]
        if own:
            write_csv(evaluation / "inner_predictions.csv", own, list(own[0]))
        write_json(evaluation / "metrics.json", {"direction": "a", "setup": setup, "ensemble": ensemble})
        write_json(evaluation / "stage.json", {"kind": "evaluation", "identity": {"settings": {}}})
    return clinical_numbers(rows, StudyFiles(str(folder)), RULE, ("real", "ddpm"))


def test_a_setup_is_judged_by_its_own_inner_parts_on_every_test(tmp_path):
    rows = prediction_rows(role="locked_test", seed=1) + prediction_rows()
    found = numbers(tmp_path, rows, prediction_rows(role="inner", seed=2))
    points = [(row["role"], row["setup"]) for row in found["operating_points"]]
    assert points[:3] == [("external", "real"), ("external", "ddpm"), ("external", "ddpm_mi")]
    assert {role for role, _ in points[3:]} == {"locked_test"}
    thresholds = {row["setup"]: row["thresholds"][0]["value"] for row in found["operating_points"]}
    assert len(set(thresholds.values())) == 3
    assert [row["role"] for row in found["decision_curves"]] == ["external"] * 3
    section = clinical_sections(found, rows, RULE)
    assert [test["role"] for test in section["tests"]] == ["external", "locked_test"]
    assert all(figure[kind].startswith("<svg") for figure in section["figures"] for kind in ("calibration", "curves"))
    assert (section["class"], section["other"]) == ("HGG", "LGG")


def test_a_vote_and_a_missing_file_are_said(tmp_path):
    found = numbers(tmp_path, prediction_rows(), prediction_rows({"real": 1.0}, role="inner"), "vote")
    reasons = {row["setup"]: row["reason"] for row in found["operating_points"]}
    assert "ensemble vote" in reasons["real"]
    assert "no inner_predictions.csv" in reasons["ddpm"]


def test_the_page_and_the_file_hold_the_same(report):
    html = (report / "report.html").read_text(encoding="utf-8")
    content = read_json(report / "clinical_use.json")
    row = next(row for row in content["operating_points"] if row["reason"] is None)
    value = f"{row['thresholds'][0]['value']:.3f}".removeprefix("0")
    section = html[html.index('id="use"') :]
    assert value in section
    assert "Useful, by point estimates</th>" in section
    assert "between them it may fail to, and the intervals stand in <code>clinical_use.json</code>" in section
    assert "what is reached on it is optimistic" in section
