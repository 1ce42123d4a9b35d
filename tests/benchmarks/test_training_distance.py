"""The benchmark of distances tells noise from images of the cohort."""

from __future__ import annotations

import sys

from benchmarks import training_distance
from scripts.classifier.training_distance import read_training_distance
from tests.ring_or_blob import write_patches, write_splits
from tests.scripts.evaluation.test_stage import evaluate, write_member


def test_a_row_for_each_kind_of_images_is_printed_and_the_distances_are_written(tmp_path, monkeypatch, capsys):
    splits = write_splits(tmp_path / "a")
    data = {
        "patches_path": write_patches(tmp_path / "a"),
        "splits_path": splits,
        "member_paths": [write_member(tmp_path / f"member{fold}", splits, fold) for fold in range(2)],
    }
    evaluate(data, tmp_path / "out")
    written = tmp_path / "again.json"
    monkeypatch.setattr(sys, "argv", ["training_distance", str(tmp_path / "out"), "--write", str(written)])
    training_distance.main()
    assert written.read_bytes() == (tmp_path / "out" / "training_distance.json").read_bytes()
    assert read_training_distance(written).number == 20
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "20 images held out of 2 members"
    assert lines[1].endswith(" s an image")
    rows = dict(line.strip("| ").split(" | ", maxsplit=1) for line in lines[4:])
    medians = {name: float(cells.split(" | ")[1]) for name, cells in rows.items()}
    assert medians["phantom_A, noise in the place of the brain"] == 1
    assert medians["locked_test, phantom_A"] < 1
    assert all(0 <= float(cells.split(" | ")[5]) <= 1 for cells in rows.values())
