"""A training that diverges stops before a checkpoint or the best model sees it."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events

from scripts.training.best_model import BestModel
from scripts.training.divergence import StopOnNonFinite
from scripts.training.resume import Resumption


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_before_a_checkpoint_or_a_validation_sees_it(tmp_path, value):
    validated = []

    def step(engine, batch):
        # In the middle of the second epoch; the losses after it are finite again.
        return {"loss": torch.tensor(value if engine.state.iteration == 5 else 1.0)}

    engine = Engine(step)
    StopOnNonFinite(torch.nn.Linear(1, 1)).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: validated.append(engine.state.epoch))
    Resumption(str(tmp_path), {"network": torch.nn.Linear(1, 1)}).attach(engine)
    with pytest.raises(RuntimeError, match=f"loss must be finite, got {value} in epoch 2"):
        engine.run([0, 1, 2], max_epochs=4)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1.pt"]
    assert validated == [1]


def test_no_loss_is_read_before_the_end_of_an_epoch():
    # A tensor of the meta device has no value: reading it, as `if` and `float` do, raises.
    engine = Engine(lambda engine, batch: {"loss": torch.ones((), device="meta")})
    stop = StopOnNonFinite(torch.nn.Linear(1, 1))
    stop.attach(engine)
    with pytest.raises(RuntimeError, match="meta"):
        engine.run([0, 1])
    assert engine.state.iteration == 2


def test_weights_that_the_last_step_of_an_epoch_has_spoilt_reach_no_checkpoint(tmp_path):
    network = torch.nn.Linear(2, 1)

    def step(engine, batch):
        if engine.state.iteration == 4:
            network.weight.data[0, 1] = float("nan")
        return {"loss": torch.tensor(1.0)}

    engine = Engine(step)
    StopOnNonFinite(network).attach(engine)
    Resumption(str(tmp_path), {"network": network}).attach(engine)
    with pytest.raises(RuntimeError, match="weights must be finite, got others at the end of epoch 2"):
        engine.run([0, 1], max_epochs=4)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1.pt"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_validation_that_is_not_finite_stops_the_run_in_the_same_words(tmp_path, value):
    # Weights of 1e30 are finite; the loss of a validation is not.
    network = torch.nn.Linear(1, 1)
    trainer, evaluator = (Engine(lambda engine, batch: {"loss": torch.tensor(1.0)}) for _ in range(2))
    evaluator.add_event_handler(
        Events.COMPLETED,
        lambda engine: engine.state.metrics.update(accuracy=1.0, loss=value if trainer.state.epoch == 2 else 1.0),
    )
    BestModel(str(tmp_path / "model.pt"), network, "loss", larger_is_better=False).attach(evaluator)
    StopOnNonFinite(network, evaluator).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: evaluator.run([0]))
    Resumption(str(tmp_path / "checkpoints"), {"network": network}).attach(trainer)
    with pytest.raises(
        RuntimeError, match=rf"loss must be finite, got {value} in the validation of epoch 2 \(loss\); lower"
    ):
        trainer.run([0], max_epochs=4)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["epoch_1.pt"]
