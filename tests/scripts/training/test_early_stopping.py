"""A generator's training ends when the loss of unseen subjects has turned, and not before."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ignite.engine import Engine, Events

from scripts.running.configs import Invocation
from scripts.running.files import read_json
from scripts.running.stages import run_invocation
from scripts.training.early_stopping import StopWhenMemorizing
from tests.helpers import TINY, config_files
from tests.patches import write_tiny_patches


def train(losses, patience, rows=()):
    """Train for as many epochs as there are losses, after the rows of an earlier run; return the last epoch."""
    curves = SimpleNamespace(rows=list(rows))
    trainer = Engine(lambda engine, batch: None)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda engine: curves.rows.append(
            {"epoch": engine.state.epoch + len(rows), "val_noise_loss": losses[engine.state.epoch - 1]}
        ),
    )
    StopWhenMemorizing(curves, patience).attach(trainer)
    trainer.run([0], max_epochs=len(losses))
    return trainer.state.epoch


@pytest.mark.parametrize(
    ("losses", "patience", "last"),
    [
        ([5, 4, 3, 2, 1], 1, 5),
        ([5, 4, 6, 7, 8], 2, 4),
        ([5, 4, 6, 3, 8, 9, 9], 2, 6),
        ([5, None, None, None, 6], 2, 5),
        ([None, None, None], 1, 3),
    ],
    ids=["falls", "turns", "falls_again", "seldom_validated", "never_validated"],
)
def test_it_ends_after_the_turn(losses, patience, last):
    assert train(losses, patience) == last


def test_a_training_stopped_after_its_last_checkpoint_does_not_go_on_when_resumed():
    rows = [{"epoch": 1, "val_noise_loss": 1.0}, {"epoch": 2, "val_noise_loss": 2.0}]
    assert train([3.0, 4.0], patience=1, rows=rows) == 0


def test_no_patience_is_refused():
    with pytest.raises(ValueError, match="generator_patience must be at least 1, got 0"):
        StopWhenMemorizing(SimpleNamespace(rows=[]), 0)


def test_the_overlay_ends_the_training_of_a_stage_and_keeps_the_best_weights(tmp_path):
    paths = write_tiny_patches(tmp_path / "patches")
    # So high a rate that the loss rises at once, after the average has taken the weights over.
    settings = {"generator_max_epochs": 40, "generator_learning_rate": 3.0, "generator_patience": 2}
    paths |= {"patch_size": [8, 12]}
    files = (*config_files("train_generator", "options/stop_memorization"), str(TINY))
    run_invocation(Invocation(files, {"num_threads": 1, **paths, **settings, "output_dir": str(tmp_path / "out")}))
    rows = read_json(tmp_path / "out" / "metrics.json")
    losses = [row["val_noise_loss"] for row in rows]
    assert len(rows) < 40
    assert [row["steps"] for row in rows] == [row["epoch"] * rows[0]["steps"] for row in rows]
    assert len(rows) - 1 - losses.index(min(losses)) == 2
    assert (tmp_path / "out" / "model.pt").is_file()
