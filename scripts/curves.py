"""The training curve of a classifier: one row an epoch, kept through interruptions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor
from torch.optim import Optimizer

from scripts.files import write_json


class ClassifierCurves:
    """Trainer handler: mean training loss, learning rate and the evaluator's metrics of each epoch, as JSON.

    Attach it after validation and before `Resumption`, and give it to that, so that a resumed training goes on in the
    same list.

    Args:
        path: JSON file; a list of {"epoch", "loss", "learning_rate", and each metric of the evaluator}.
        evaluator: engine that validates.
        optimizer: its first group's learning rate is recorded, as it was during the epoch.
    """

    def __init__(self, path: str, evaluator: Engine, optimizer: Optimizer) -> None:
        self.path = Path(path)
        self.evaluator = evaluator
        self.optimizer = optimizer
        self.rows: list[dict[str, float | int]] = []
        self._loss_sum: Tensor | float = 0.0
        self._count = 0
        self._learning_rate = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict` left."""
        self.rows = list(state["rows"])

    def _start(self, engine: Engine) -> None:
        self._loss_sum, self._count = 0.0, 0
        self._learning_rate = float(self.optimizer.param_groups[0]["lr"])

    def _add(self, engine: Engine) -> None:
        # Summed on the device: a GPU is not made to wait at every step.
        self._loss_sum = self._loss_sum + engine.state.output["loss"].detach()
        self._count += 1

    def _write(self, engine: Engine) -> None:
        metrics = {name: float(value) for name, value in self.evaluator.state.metrics.items()}
        row = {"epoch": engine.state.epoch, "loss": float(self._loss_sum) / self._count}
        self.rows.append({**row, "learning_rate": self._learning_rate, **metrics})
        write_json(self.path, self.rows)
