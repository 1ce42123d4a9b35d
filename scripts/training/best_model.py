"""The weights of the best epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from scripts.provenance.state_dicts import save_tensors
from scripts.training.processes import is_main_process


class BestModel:
    """Evaluator handler: keep the weights with the best metric as a bare state dict.

    Args:
        path: file to write, whole or not at all.
        network: network whose `state_dict()` is kept (for EMA, the averaged network).
        metric_name: key of `engine.state.metrics`.
        larger_is_better: direction of that metric.
        trainer: engine whose epoch is remembered as `best_epoch`; None takes the evaluator's own epoch.
    """

    def __init__(
        self,
        path: str,
        network: torch.nn.Module,
        metric_name: str,
        larger_is_better: bool = True,
        trainer: Engine | None = None,
    ) -> None:
        self.path = Path(path)
        self.network = network
        self.metric_name = metric_name
        self.larger_is_better = larger_is_better
        self.trainer = trainer
        self.best_metric = -math.inf if larger_is_better else math.inf
        self.best_epoch = 0

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the weights if the metric improved; the first finite one always counts."""
        metric = float(engine.state.metrics[self.metric_name])
        if math.isfinite(metric) and (metric - self.best_metric) * (1 if self.larger_is_better else -1) > 0:
            if is_main_process():
                save_tensors(self.path, {name: value.cpu() for name, value in self.network.state_dict().items()})
            self.best_metric = metric
            self.best_epoch = (self.trainer or engine).state.epoch

    def state_dict(self) -> dict[str, float | int]:
        """Return the best metric and the epoch that reached it."""
        return {"best_metric": self.best_metric, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict` left."""
        self.best_metric, self.best_epoch = float(state["best_metric"]), int(state["best_epoch"])
