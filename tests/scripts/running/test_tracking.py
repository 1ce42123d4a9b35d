"""`--tracking mlflow` of MONAI on a training: its numbers arrive, and its files are strangers to no stage."""

from __future__ import annotations

import importlib.util
import sqlite3

import pytest
from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS
from monai.bundle.workflows import ConfigWorkflow

from scripts.running.configs import LOSS_OF_BATCH, fit_tracking
from scripts.running.files import read_json
from scripts.training.curves import loss_of
from tests.helpers import config_files
from tests.ring_or_blob import write_patches, write_splits

needs_mlflow = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs mlflow, the extra tracking")


def test_the_handler_of_a_trainer_reads_the_loss_of_a_whole_batch():
    parser = ConfigParser()
    parser.read_config(config_files("train_classifier"))
    ConfigWorkflow.patch_bundle_tracking(parser, DEFAULT_MLFLOW_SETTINGS)
    number = len(parser["train#handlers"]) - 1
    parser.parse()
    fit_tracking(parser)
    assert parser[f"train#handlers#{number}#output_transform"] == LOSS_OF_BATCH
    assert parser["train#handlers"][number]["_target_"] == "MLFlowHandler"
    assert parser["save_execute_config"] is None
    assert loss_of({"loss": 0.5, "pred": "kept"}) == 0.5


@needs_mlflow
def test_the_numbers_of_a_training_arrive_in_a_local_store(tmp_path, monkeypatch):
    from monai.bundle import run

    out = tmp_path / "classifier"
    settings = {
        "patches_path": write_patches(tmp_path),
        "splits_path": write_splits(tmp_path),
        "classifier_backbone": "resnet10_thin",
        "classifier_max_epochs": 2,
        "modalities": ["t1c", "t2f"],
        "patch_size": [32, 32],
        "device": "cpu",
        "output_dir": str(out),
    }
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run(config_file=config_files("train_classifier"), tracking="mlflow", logging_file=False, **settings)
    curve = read_json(out / "metrics.json")
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        losses = store.execute("select value from metrics where key = 'train_loss' order by step").fetchall()
        briers = store.execute("select value from metrics where key = 'selection_brier' order by step").fetchall()
        names = store.execute("select name from runs").fetchall()
    assert len(losses) == curve[-1]["steps"]
    assert [value for (value,) in briers] == pytest.approx([row["selection_brier"] for row in curve])
    assert {name for (name,) in names} == {"classifier real, fold 0"}
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        "config.yaml",
        "events",
        "metrics.json",
        "model.pt",
        "provenance.json",
        "stage.json",
    ]
