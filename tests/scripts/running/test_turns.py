"""Classifiers that train in turns end as if each had trained alone, byte for byte."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.running.configs import Invocation
from scripts.running.files import read_json
from scripts.running.plan import Plan, PlannedStage
from scripts.running.stages import invoked
from scripts.running.study import Study
from scripts.running.turns import Turn, take_turns
from scripts.training.curves import ClassifierCurves
from tests.helpers import ROOT, config_files
from tests.ring_or_blob import write_patches, write_splits

CPU = torch.device("cpu")
NUM_FOLDS = 3
SETTINGS = {
    "classifier_backbone": "resnet10_thin",
    "classifier_learning_rate": 0.01,  # at which one fold stops early
    "classifier_max_epochs": 4,
    "classifier_patience": 1,
    "classifier_batch_size": 4,
    "modalities": ["t1c", "t2f"],
    "patch_size": [16, 16],
    "num_folds": NUM_FOLDS,
    "num_threads": 1,
    "device": "cpu",
}


def write_data(folder: Path) -> None:
    """Write patches and splits of three folds where the stages of a study look for them."""
    write_patches(folder / "a" / "patches", size=(16, 16))
    folds = read_json(Path(write_splits(folder / "a" / "splits")))["folds"]
    # Other steps per epoch than the folds beside it.
    shorter = {**folds[0], "train": folds[0]["train"][1:5]}
    write_splits(folder / "a" / "splits", num_folds=NUM_FOLDS, folds=[*folds, shorter])


@pytest.fixture
def settings() -> Iterator[None]:
    with invoked(Invocation(tuple(config_files("study")), SETTINGS)):
        yield


def make_study(folder: Path, together: int, *overlays: str) -> tuple[Study, tuple[PlannedStage, ...]]:
    """Return a study whose data are there, and the classifiers of its one setup, which augments."""
    write_data(folder)
    setups = {"augmentation": {"overlays": ["options/augmentation", *overlays]}}
    plan = Plan(str(folder), {"a": {"config": "phantom"}}, setups, {}, ["LGG", "HGG"], NUM_FOLDS)
    study = Study(plan, config_dir=str(ROOT / "configs"), folds_together=together)
    tasks = [task for task in study.tasks() if task[0].config == "train_classifier"]
    return study, tuple(planned for task in tasks for planned in task)


def results(study: Study) -> dict[str, bytes]:
    """Evaluate the classifiers and return everything that a study keeps of them."""
    (evaluation,) = (planned for planned in study.plan.stages() if planned.config == "evaluate")
    study.run_stage(evaluation)
    names = [f"a/fold{fold}/classifier_augmentation/{name}" for fold in range(NUM_FOLDS) for name in FILES]
    return {name: (study.study_dir / name).read_bytes() for name in [*names, f"{evaluation.name}/predictions.csv"]}


FILES = ("model.pt", "metrics.json", "provenance.json")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the folds come to one after the other."""
    with invoked(Invocation(tuple(config_files("study")), SETTINGS)):
        study, folds = make_study(tmp_path_factory.mktemp("alone"), together=1)
        for planned in folds:
            study.run_task([planned])
        return results(study)


def test_folds_in_turns_equal_folds_alone_byte_for_byte(alone, tmp_path, settings):
    study, folds = make_study(tmp_path, together=5)
    study.run_task(folds)
    assert results(study) == alone
    epochs = [len(read_json(tmp_path / f"a/fold{fold}/classifier_augmentation/metrics.json")) for fold in range(3)]
    assert len(set(epochs)) > 1, "no fold stopped before the others"
    for planned in folds:
        folder = tmp_path / planned.name
        record = read_json(folder / "stage.json")
        assert record["finished"]
        assert record["identity"]["seed"] == 0
        assert "folds_together" not in record["identity"]["settings"]
        assert not (folder / "checkpoints").exists()
        log = (folder / "log.txt").read_text()
        assert log.count("python -m monai.bundle run") == 1
        assert f"/{planned.name}" in log.splitlines()[0]
        assert log.count("SupervisedEvaluator: Engine run finished") == epochs[planned.overrides["fold"]]
        assert "interrupt" not in log


@pytest.mark.slow
def test_a_fold_that_was_finished_before_is_left_alone(alone, tmp_path, settings):
    study, folds = make_study(tmp_path, together=5)
    study.run_stage(folds[1])
    before = (tmp_path / folds[1].name / "stage.json").read_bytes()
    study.run_task(folds)
    assert (tmp_path / folds[1].name / "stage.json").read_bytes() == before
    assert results(study) == alone


WRITE = ClassifierCurves._write


def stopping(how):
    """Do something after the validation of the second epoch of fold 0; fold 1 has one behind it, fold 2 all."""

    def write(self, engine):
        if engine.state.epoch == 2 and "fold0/" in str(self.path):
            how()
        WRITE(self, engine)

    return write


def fail() -> None:
    raise OSError("the disk is gone")


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(("how", "error"), [(fail, OSError), (press_ctrl_c, KeyboardInterrupt)])
def test_stopped_folds_end_as_if_they_had_not_been(alone, tmp_path, settings, monkeypatch, caplog, how, error):
    study, folds = make_study(tmp_path, together=5)
    with monkeypatch.context() as patch:
        patch.setattr(ClassifierCurves, "_write", stopping(how))
        with pytest.raises(error):
            study.run_task(folds)
    failed, stopped, over = (tmp_path / planned.name for planned in folds)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    if error is OSError:
        assert any(f"stage {folds[0].name} failed; its log" in line for line in said)
        assert any(line.endswith(f"by the same command: {folds[1].name}") for line in said)
    assert [(folder / "checkpoints").is_dir() for folder in (failed, stopped, over)] == [True, True, False]
    assert f"{folds[0].name} was stopped, which trained beside it" in (stopped / "log.txt").read_text()
    study.run_task(folds)
    assert results(study) == alone


def run_until_killed(folder: Path) -> None:
    study, folds = make_study(folder, together=5)
    ClassifierCurves._write = stopping(lambda: os.kill(os.getpid(), signal.SIGKILL))
    study.run_task(folds)


@pytest.mark.slow
def test_killed_folds_end_as_if_they_had_not_been(alone, tmp_path, settings):
    process = multiprocessing.get_context("fork").Process(target=run_until_killed, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    study, folds = make_study(tmp_path, together=5)
    study.run_task(folds)
    found = results(study)
    assert found == alone


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")
def test_folds_with_graphs_on_streams_of_their_own_learn_what_folds_alone_learn(tmp_path):
    losses = []
    on_gpu = {**SETTINGS, "device": "cuda", "classifier_patience": 9}
    with invoked(Invocation(tuple(config_files("study")), on_gpu)):
        for together in (1, 5):
            study, folds = make_study(tmp_path / str(together), together, "options/cuda_graph")
            for task in [folds] if together > 1 else [[planned] for planned in folds]:
                study.run_task(task)
            curves = [read_json(study.study_dir / planned.name / "metrics.json") for planned in folds]
            losses.append([row["loss"] for curve in curves for row in curve])
    # Kernels of cuDNN may add up in another order from run to run.
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_run_that_does_more_than_to_train_is_refused(tmp_path, settings):
    study, folds = make_study(tmp_path, together=5)
    overlay = tmp_path / "more.yaml"
    overlay.write_text("run: ['$@train#trainer.run()', '$print(1)']\n")
    with (
        invoked(Invocation((*config_files("study"), str(overlay)), SETTINGS)),
        pytest.raises(ValueError, match=r"run must be \[\$@train#trainer\.run\(\)\] .* set folds_together to 1"),
    ):
        study.run_task(folds)


def test_every_source_of_randomness_belongs_to_one_training():
    def draw(count: int, seed: int, found: list[float]) -> Generator[None, None, None]:
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        for _ in range(count):
            yield
            found += [torch.rand(()).item(), np.random.random(), random.random()]

    together: list[list[float]] = [[], [], []]
    take_turns([Turn(str(seed), draw(4 - seed, seed, together[seed]), CPU) for seed in range(3)])
    for seed in range(3):
        alone: list[float] = []
        list(draw(4 - seed, seed, alone))
        assert together[seed] == alone


def test_trainings_take_turns():
    order = []

    def steps(name: str, count: int) -> Generator[None, None, None]:
        for _ in range(count):
            order.append(name)
            yield

    take_turns([Turn(name, steps(name, count), CPU) for name, count in (("a", 3), ("b", 1), ("c", 2))])
    assert order == ["a", "b", "c", "a", "c", "a"]
