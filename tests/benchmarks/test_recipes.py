"""The comparison of recipes at a size of seconds: what is trained, and on whom it is judged."""

from __future__ import annotations

import pytest
import yaml

from benchmarks.recipes import Experiment, main, run
from scripts.running.files import read_json

CHOSEN = ("start", "paper", "augmentation")  # overrides, an overlay of keys, and one of single nodes
SIZES = ["--backbone", "resnet10", "--patch-size", "16", "--epochs", "1", "--folds", "2", "--subjects", "0.1"]


@pytest.mark.slow
def test_arms_differ_in_their_recipe_alone_and_are_judged_on_validation_folds(tmp_path, capsys):
    main(["--output", str(tmp_path), "--cohorts", "A", *SIZES, "--arms", *CHOSEN[1:]])
    table = capsys.readouterr().out
    rows = [line for line in table.splitlines() if line.startswith("| phantom_A")]
    assert [line.split(" | ")[1] for line in rows] == list(CHOSEN)
    assert all("(n = 27)" in line for line in rows)

    # The same trainings again are not made again; their answers are those of the folds' validation parts.
    sizes = {"num_epochs": 1, "patience": 20, "num_folds": 2, "subject_share": 0.1}
    experiment = Experiment(str(tmp_path), "resnet10", 16, arm_names=["paper"], **sizes)
    answers = run(experiment, ["A"], workers=1)
    splits = read_json(tmp_path / "A" / "splits" / "splits.json")
    validated = [subject for fold in splits["folds"] for subject in fold["validation"]]
    assert sorted(row["subject_id"] for row in answers if row["setup"] == "paper") == sorted(validated)
    assert not {row["subject_id"] for row in answers} & set(splits["test"])

    configs = {
        arm: yaml.safe_load((tmp_path / "A" / arm / "fold0" / "config.yaml").read_text(encoding="utf-8"))
        for arm in CHOSEN
    }
    schedules = [configs[arm]["classifier_schedule"]["_target_"].split(".")[-1] for arm in CHOSEN]
    assert schedules == ["CosineAnnealingLR", "OneCycleLR", "CosineAnnealingLR"]
    assert [len(configs[arm]["train"]["random_transforms"]) > 0 for arm in CHOSEN] == [False, False, True]
    assert len({str((item["patch_size"], item["classifier_backbone"])) for item in configs.values()}) == 1
    gains = read_json(tmp_path / "recipes.json")
    assert {row["setup"] for row in gains} == {"paper", "augmentation"}
    assert {row["reference"] for row in gains} == {"start"}
