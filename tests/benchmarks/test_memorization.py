"""The experiment on memorization at a size of seconds, and the arithmetic of its table."""

from __future__ import annotations

import math

import pytest

from benchmarks.memorization import ARMS, FIGURES, Experiment, draw, interval, table
from scripts.running.files import read_json
from tests.helpers import TINY


def test_the_interval_is_that_of_students_t():
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert half == pytest.approx(4.302653 / math.sqrt(3))


def test_the_table_holds_means_and_paired_differences(tmp_path):
    results = {
        seed: {arm: dict.fromkeys(FIGURES, seed + 10.0 * number) for number, arm in enumerate(ARMS)} for seed in (0, 1)
    }
    draw(results, str(tmp_path / "figure.png"))
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    rows = table(results).splitlines()
    assert len(rows) == 2 + len(FIGURES)
    assert rows[2].split(" | ")[1:3] == ["0.500", "10.500 (+10.000 ± 0.000)"]


@pytest.mark.slow
def test_arms_train_draw_and_are_judged_on_subjects_they_never_saw(tmp_path, monkeypatch):
    chosen = ("ddpm_mi_bounded", "ddpm_early")  # the one with both overlays, and the one with another selection
    for name in set(ARMS) - set(chosen):
        monkeypatch.delitem(ARMS, name)
    experiment = Experiment(str(tmp_path), num_subjects=60, num_epochs=1, num_images=8, recipe=str(TINY))
    found = experiment.run(seed=3)
    assert tuple(found) == chosen
    assert all(set(figures) == set(FIGURES) and all(map(math.isfinite, figures.values())) for figures in found.values())
    splits, patches = (read_json(tmp_path / "seed3" / name / f"{name}.json") for name in ("splits", "patches"))
    labels = {entry["subject_id"]: entry["label"] for entry in patches["training"]}
    audit = read_json(tmp_path / "seed3" / "ddpm_early" / "audit" / "audit.json")
    assert audit["held_out_part"] == "test"
    assert list(audit["classes"]) == ["HGG"]
    assert audit["num_training"] == sum(labels[name] == 1 for name in splits["folds"][0]["train"])
    records = [read_json(tmp_path / "seed3" / arm / "generator" / "provenance.json") for arm in chosen]
    assert len({tuple(record["subjects"]) for record in records}) == 1
    assert [record["method"] for record in records] == ["ddpm_mi", "ddpm"]
