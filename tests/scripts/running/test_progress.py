"""A bar says what is at work, and how much is left."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from scripts.running import progress as module
from scripts.running.progress import USUAL_SECONDS, Durations, StudyProgress, TrainingProgress, progress
from tests.helpers import ROOT

KINDS = {"a/patches": "patches", "a/generator": "train_generator", "a/classifier": "train_classifier"}


@pytest.fixture(autouse=True)
def _drawn(monkeypatch):
    """Bars are drawn as on a terminal, and at once."""
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(module, "_interval", lambda: 0.0)


def study_progress(finished=(), measured=(), num_workers=1):
    durations = Durations()
    for kind, seconds in measured:
        durations.add(kind, seconds)
    return StudyProgress(KINDS, finished, durations, num_workers)


def test_items_pass_through_unchanged(capsys):
    assert list(progress(iter("abc"), total=3, description="letters")) == ["a", "b", "c"]
    assert "letters" in capsys.readouterr().err


def test_the_bar_of_a_study_names_the_stage_at_work(capsys):
    with study_progress(finished=["a/patches"]) as bar:
        bar.begin(["a/generator"])
    assert "1/3 stages | a/generator" in capsys.readouterr().err


def test_a_study_is_as_far_as_its_time_and_not_its_count_of_stages():
    """Two of three stages are nothing where the third is a generator."""
    seconds = [("patches", USUAL_SECONDS["patches"]), ("train_classifier", USUAL_SECONDS["train_classifier"])]
    bar = study_progress(finished=["a/patches", "a/classifier"], measured=seconds)
    assert bar.text() == "study   3% | 2/3 stages | about 10 min 40 s left"


def test_the_time_left_follows_what_was_measured_and_is_shared_by_the_workers():
    bar = study_progress(finished=["a/patches"], measured=[("patches", 1.0)], num_workers=2)
    before = bar.text()
    assert "about 2 min 44 s left" in before, "half as long as usual, by two workers"
    bar.finish("a/classifier", 100.0)
    assert "left" in bar.text()
    assert bar.durations.expected("train_classifier") == 100.0
    bar.finish("a/generator", 5.0)
    assert bar.text() == "study 100% | 3/3 stages | about 0.0 s left"


def test_nothing_is_promised_before_a_stage_was_measured():
    assert study_progress().text() == "study   0% | 0/3 stages"


def test_a_stage_that_was_finished_before_is_not_measured_again():
    bar = study_progress(finished=["a/patches"], measured=[("patches", 1.0)])
    bar.finish("a/patches", 50.0)
    assert bar.durations.expected("patches") == 1.0


def test_many_stages_at_work_do_not_fill_the_line():
    bar = study_progress()
    bar.begin([f"a/fold{fold}/classifier" for fold in range(5)])
    assert bar.text().endswith("| a/fold0/classifier, a/fold1/classifier ...")


def test_stages_take_as_long_as_those_of_their_kind_or_in_proportion():
    durations = Durations()
    assert not durations.is_measured
    durations.add("train_classifier", 30.0)
    durations.add("train_classifier", 34.0)
    assert durations.expected("train_classifier") == 32.0
    ratio = 32.0 / USUAL_SECONDS["train_classifier"]
    assert durations.expected("train_generator") == pytest.approx(ratio * USUAL_SECONDS["train_generator"])
    durations.add("train_generator", 5.0)
    assert durations.expected("train_generator") == 5.0


def test_every_config_that_a_plan_can_name_has_a_usual_time():
    stems = {path.stem for path in (ROOT / "configs").glob("*.yaml") if "\nrun:" in path.read_text(encoding="utf-8")}
    assert stems - {"study", "inference", "audit_folders", "reader_study", "reader_results"} == set(USUAL_SECONDS)


@pytest.mark.parametrize(
    "output", [{"loss": torch.tensor(0.25)}, [{"loss": 1.0}, {"loss": 0.25}]], ids=["batch", "one per image"]
)
def test_the_bar_of_a_training_shows_the_last_loss(capsys, output):
    trainer = Engine(lambda engine, batch: output)
    TrainingProgress("generator LGG").attach(trainer)
    trainer.run([0, 1], max_epochs=3)
    drawn = capsys.readouterr().err
    assert "generator LGG" in drawn
    assert "3/3" in drawn
    assert "loss 0.25" in drawn


def test_a_training_that_is_continued_begins_its_bar_there(capsys):
    trainer = Engine(lambda engine, batch: {"loss": 0.5})
    TrainingProgress().attach(trainer)
    trainer.load_state_dict({"epoch": 2, "max_epochs": 4, "epoch_length": 1})
    trainer.run([0])
    assert "2/4" in capsys.readouterr().err.split("\r")[1]


def test_an_error_of_a_training_closes_its_bar_and_stays_as_it_is():
    def fail(engine, batch):
        raise ValueError("the loss is not finite")

    trainer, handler = Engine(fail), TrainingProgress()
    handler.attach(trainer)
    with pytest.raises(ValueError, match="the loss is not finite"):
        trainer.run([0], max_epochs=1)
    assert handler._bar is None
