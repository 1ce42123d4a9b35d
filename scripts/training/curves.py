"""Training curves: one row per epoch, kept through interruptions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim import Optimizer

from scripts.running.files import write_json
from scripts.training.processes import is_main_process, mean_over_processes


def loss_of(output: Mapping[str, Any]) -> float:
    """Return the loss in a trainer's output of a whole batch."""
    return float(output["loss"])


class EpochCurves(ABC):
    """Trainer handler: what `_row` makes of the mean loss terms of each epoch, as a JSON list.

    Attach it after validation and before `Resumption`, and give it to that, so that a resumed training goes on in the
    same list.

    Args:
        path: JSON file; a list of rows, each with its "epoch" and "steps", optimizer steps since the first epoch.
        num_parts: iterations of the trainer that make one step, where it adds up gradients.
    """

    def __init__(self, path: str, num_parts: int = 1) -> None:
        self.path = Path(path)
        self.num_parts = num_parts
        self.rows: list[dict[str, Any]] = []
        self._sums: dict[str, Tensor] = {}
        self._count = 0

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
        self._sums, self._count = {}, 0

    def _add(self, engine: Engine) -> None:
        # Summed on the device: a GPU is not made to wait at every step.
        self._sums = {name: self._sums.get(name, 0) + value for name, value in self._terms(engine).items()}
        self._count += 1

    def _write(self, engine: Engine) -> None:
        means = mean_over_processes({name: float(total) / self._count for name, total in self._sums.items()})
        steps = engine.state.iteration // self.num_parts
        self.rows.append({"epoch": engine.state.epoch, "steps": steps, **self._row(means)})
        if is_main_process():
            write_json(self.path, self.rows)

    def _terms(self, engine: Engine) -> dict[str, Tensor]:
        return {"loss": engine.state.output["loss"].detach()}

    @abstractmethod
    def _row(self, means: dict[str, float]) -> dict[str, Any]:
        """What a row holds beside the epoch."""


class ClassifierCurves(EpochCurves):
    """Mean training loss, learning rate and the evaluator's metrics of each epoch.

    Args:
        path: JSON file; a list of {"epoch", "steps", "loss", "learning_rate", and each metric of the evaluator}.
        evaluator: engine that validates.
        optimizer: its first group's learning rate is recorded, as it was during the epoch.
    """

    def __init__(self, path: str, evaluator: Engine, optimizer: Optimizer) -> None:
        super().__init__(path)
        self.evaluator = evaluator
        self.optimizer = optimizer
        self._learning_rate = 0.0

    def _start(self, engine: Engine) -> None:
        super()._start(engine)
        self._learning_rate = float(self.optimizer.param_groups[0]["lr"])

    def _row(self, means: dict[str, float]) -> dict[str, Any]:
        metrics = {name: float(value) for name, value in self.evaluator.state.metrics.items()}
        return {**means, "learning_rate": self._learning_rate, **metrics}


class GeneratorCurves(EpochCurves):
    """Mean loss terms, what the mutual-information term does at each noise level, and validation loss of each epoch.

    Args:
        path: JSON file; a list of {"epoch", "steps", "loss", "noise_loss", "mutual_information", "noise_levels",
            "val_noise_loss"}. The noise loss is the whole loss of a plain DDPM, which has no mutual information (null)
            and no noise levels ([]); `val_noise_loss` is null in epochs without validation.
        loss_function: loss of the training; its `terms` and `noise_levels` are read if it has any.
        evaluator: engine that validates.
        metric_name: key of the validation loss in the evaluator's metrics.
        num_parts: as for `EpochCurves`.
    """

    def __init__(
        self, path: str, loss_function: nn.Module, evaluator: Engine, metric_name: str, num_parts: int = 1
    ) -> None:
        super().__init__(path, num_parts)
        self.loss_function = loss_function
        self.metric_name = metric_name
        self._validation: float | None = None
        evaluator.add_event_handler(Events.COMPLETED, self._validated)

    def _validated(self, evaluator: Engine) -> None:
        self._validation = float(evaluator.state.metrics[self.metric_name])

    def _terms(self, engine: Engine) -> dict[str, Tensor]:
        loss = engine.state.output["loss"].detach()
        return {"noise_loss": loss, **getattr(self.loss_function, "terms", {}), "loss": loss}

    def _row(self, means: dict[str, float]) -> dict[str, Any]:
        noise_levels = getattr(self.loss_function, "noise_levels", None)
        row: dict[str, Any] = {"loss": None, "noise_loss": None, "mutual_information": None, **means}
        row["noise_levels"] = [] if noise_levels is None else noise_levels.take()
        row["val_noise_loss"], self._validation = self._validation, None
        return row


class ReconstructionCurves(EpochCurves):
    """Mean loss terms of an autoencoder, and the reconstruction loss of the validation, of each epoch.

    Args:
        path: JSON file; a list of {"epoch", "steps", "loss", "l1", "kl", "perceptual" and "adversarial" where the loss
            has them, and each metric of the evaluator}.
        loss_function: loss of the training; its `terms` are read.
        evaluator: engine that validates once an epoch.
    """

    def __init__(self, path: str, loss_function: nn.Module, evaluator: Engine) -> None:
        super().__init__(path)
        self.loss_function = loss_function
        self.evaluator = evaluator

    def _terms(self, engine: Engine) -> dict[str, Tensor]:
        return {**super()._terms(engine), **self.loss_function.terms}

    def _row(self, means: dict[str, float]) -> dict[str, Any]:
        return {**means, **{name: float(value) for name, value in self.evaluator.state.metrics.items()}}
