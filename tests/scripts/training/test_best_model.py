"""The weights of the best epoch are kept."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events

from scripts.training.best_model import BestModel


def validate(folder, metrics, larger_is_better):
    """Keep the best of networks whose only weight is the number of the epoch; return it."""
    network = torch.nn.Linear(1, 1, bias=False)
    evaluator = Engine(lambda engine, batch: None)
    trainer = Engine(lambda engine, batch: None)
    values = iter(metrics)
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: engine.state.metrics.update(score=next(values)))
    best = BestModel(str(folder / "model.pt"), network, "score", larger_is_better, trainer)
    best.attach(evaluator)

    @trainer.on(Events.EPOCH_COMPLETED)
    def run(engine):
        torch.nn.init.constant_(network.weight, engine.state.epoch)
        evaluator.run([0])

    trainer.run([0], max_epochs=len(metrics))
    return best


@pytest.mark.parametrize(("larger_is_better", "expected"), [(True, 2), (False, 3)])
def test_the_first_best_finite_metric_decides(tmp_path, larger_is_better, expected):
    best = validate(tmp_path, [float("nan"), 0.7, 0.1, 0.7, float("inf"), 0.1], larger_is_better)
    assert torch.load(tmp_path / "model.pt", weights_only=True)["weight"].item() == expected
    assert best.state_dict() == {"best_metric": {2: 0.7, 3: 0.1}[expected], "best_epoch": expected}


def test_a_metric_that_is_never_a_number_keeps_nothing(tmp_path):
    validate(tmp_path, [float("nan")] * 2, True)
    assert not (tmp_path / "model.pt").exists()
