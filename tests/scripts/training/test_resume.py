"""A stopped training ends as if it had not been stopped."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping

from scripts.training.best_model import BestModel
from scripts.training.resume import EpochSeed, Resumption


class Training:
    """A tiny noisy training with validation, momentum, early stopping and a learning-rate schedule."""

    def __init__(self, folder, stop_at=None, patience=100, metric=None):
        torch.manual_seed(0)
        self.network = torch.nn.Linear(3, 1)
        optimizer = torch.optim.AdamW(self.network.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        self.losses = []

        def step(engine, batch):
            optimizer.zero_grad()
            loss = (self.network(batch + torch.randn(4, 3)) - 1).pow(2).mean()
            loss.backward()
            optimizer.step()
            self.losses.append(loss.item())
            return {"loss": loss.item()}

        self.trainer = Engine(step)
        self.evaluator = Engine(lambda engine, batch: None)
        metric = metric or (lambda epoch: -abs(epoch - 3.0))
        self.evaluator.add_event_handler(
            Events.COMPLETED, lambda engine: engine.state.metrics.update(score=metric(self.trainer.state.epoch))
        )
        self.best = BestModel(str(folder / "model.pt"), self.network, "score", trainer=self.trainer)
        self.stopping = EarlyStopping(patience, lambda engine: engine.state.metrics["score"], self.trainer)
        self.best.attach(self.evaluator)
        self.evaluator.add_event_handler(Events.COMPLETED, self.stopping)
        EpochSeed(0).attach(self.trainer)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: self.evaluator.run([0]))
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: schedule.step())
        objects = {
            "network": self.network,
            "optimizer": optimizer,
            "schedule": schedule,
            "best": self.best,
            "stopping": self.stopping,
        }
        Resumption(str(folder / "checkpoints"), objects).attach(self.trainer)
        if stop_at is not None:
            self.trainer.add_event_handler(Events.EPOCH_STARTED(once=stop_at), self.stop)

    def stop(self, engine):
        raise KeyboardInterrupt

    def run(self, epochs=6):
        self.trainer.run([torch.ones(4, 3)] * 2, max_epochs=epochs)
        return self.network.state_dict()


@pytest.mark.parametrize("stop_at", [1, 2, 4, 6])
def test_a_resumed_training_equals_the_uninterrupted_one_bit_for_bit(tmp_path, stop_at):
    whole = Training(tmp_path / "whole")
    expected = whole.run()
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path / "part", stop_at=stop_at).run()
    resumed = Training(tmp_path / "part")
    actual = resumed.run()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert resumed.losses == whole.losses[2 * (stop_at - 1) :]
    assert (resumed.best.best_metric, resumed.best.best_epoch) == (0.0, 3)
    kept = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "part")]
    assert torch.equal(kept[0]["weight"], kept[1]["weight"])


def test_a_finished_training_is_not_trained_on(tmp_path):
    expected = Training(tmp_path).run()
    again = Training(tmp_path)
    assert torch.equal(again.run()["weight"], expected["weight"])
    assert again.losses == []


def test_an_early_stopped_training_stays_stopped(tmp_path):
    Training(tmp_path, patience=2).run(20)
    again = Training(tmp_path, patience=2)
    again.run(20)
    assert again.losses == []
    assert again.trainer.state.epoch == 5


def test_an_unreadable_checkpoint_falls_back_to_the_one_before(tmp_path):
    expected = Training(tmp_path / "whole").run()
    Training(tmp_path / "part").run(4)
    newest = tmp_path / "part" / "checkpoints" / "epoch_4.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    resumed = Training(tmp_path / "part")
    assert torch.equal(resumed.run()["weight"], expected["weight"])
    assert len(resumed.losses) == 2 * 3


def test_two_checkpoints_are_kept(tmp_path):
    Training(tmp_path).run()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"epoch_5.pt", "epoch_6.pt"}


def test_a_checkpoint_of_another_network_is_refused_by_name(tmp_path):
    Training(tmp_path).run(1)
    other = Resumption(str(tmp_path / "checkpoints"), {"network": torch.nn.Linear(2, 1)})
    with pytest.raises(ValueError, match=r"epoch_1\.pt must hold \['network'\]"):
        other.load(Engine(lambda engine, batch: None))
