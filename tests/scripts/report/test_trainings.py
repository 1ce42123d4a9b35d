from __future__ import annotations

import re

from scripts.provenance.study_files import StudyFiles
from scripts.report.trainings import curve_figure, read_curves, training_lengths
from scripts.running.files import write_json


def test_the_report_tells_what_the_mutual_information_does_at_each_noise_level(report):
    text = (report / "report.html").read_text(encoding="utf-8")
    row = re.search(r"<tr><th>DDPM \+ MI</th><td class=.n.>\d+</td>(.*?)</tr>", text)
    assert row
    assert re.findall(r">([^<]+)</td>", row[1]) == [".400", "1.75", "–", "–"]


def test_scalars_become_curves_and_gaps_are_left_out(tmp_path):
    first = {"epoch": 1, "steps": 9, "loss": 1.0, "val": None, "levels": []}
    rows = [first, {"epoch": 2, "steps": 18, "loss": 0.5, "val": 0.7, "levels": [1]}]
    write_json(tmp_path / "metrics.json", rows)
    assert read_curves(tmp_path / "metrics.json") == {"loss": [(1, 1.0), (2, 0.5)], "val": [(2, 0.7)]}


def test_the_first_folds_are_drawn_and_the_others_counted(study):
    folder, stages = study
    curves = curve_figure(StudyFiles(str(folder), stages), num_curves=3)
    assert {kind: len(figures) for kind, figures in curves["figures"].items()} == {"generators": 3, "classifiers": 3}
    assert curves["left_out"] == 2 * 8 - 2 * 3


def test_the_report_counts_the_steps_of_every_method_and_setup(study, report):
    folder, stages = study
    lengths = {(row["kind"], row["name"]): row for row in training_lengths(StudyFiles(str(folder), stages))}
    assert lengths["generator", "ddpm_mi"]["steps"] == (400, 400)
    assert lengths["classifier", "real"] == {"kind": "classifier", "name": "real", "trainings": 2, "steps": (80, 80)}
    text = (report / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<td>generator</td><th>DDPM \+ MI</th><td class=.n.>4</td><td class=.n.>400</td>", text)
