"""Trainings that can be killed at any moment and end with the same numbers as if they had not been."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from torch import Tensor

from scripts.provenance.state_dicts import save_tensors
from scripts.running.files import sha256_text

logger = logging.getLogger(__name__)


class EpochSeed:
    """Trainer handler: derive all randomness of an epoch from (seed, epoch).

    No random state is stored: epoch 7 draws the same numbers whether epochs 1 to 6 ran just before it or last week.

    Args:
        seed: seed of the run.
        randomizables: MONAI transforms or data sets with `set_random_state(seed=...)`.
    """

    def __init__(self, seed: int, randomizables: Iterable[Any] = ()) -> None:
        self.seed = seed
        self.randomizables = list(randomizables)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed torch, numpy, random and the transforms for `engine.state.epoch`."""
        epoch_seed = int(sha256_text(f"{self.seed}/{engine.state.epoch}")[:8], 16)
        torch.manual_seed(epoch_seed)
        np.random.seed(epoch_seed)
        random.seed(epoch_seed)
        for randomizable in self.randomizables:
            randomizable.set_random_state(seed=epoch_seed)


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
            save_tensors(self.path, {name: value.cpu() for name, value in self.network.state_dict().items()})
            self.best_metric = metric
            self.best_epoch = (self.trainer or engine).state.epoch

    def state_dict(self) -> dict[str, float | int]:
        """Return the best metric and the epoch that reached it."""
        return {"best_metric": self.best_metric, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict` left."""
        self.best_metric, self.best_epoch = float(state["best_metric"]), int(state["best_epoch"])


class Resumption:
    """Trainer handler: save the whole state of a training each epoch, and take it up again at the start.

    Attach it last, after validation, learning-rate schedule and EMA, so that the file holds the state after them.
    MONAI's `CheckpointSaver` removes the old file before it writes the new one, and restores neither early stopping
    nor the best metric; this handler keeps two whole files and restores all that it is given.

    Args:
        save_dir: folder for `epoch_N.pt`; `Stage.end` removes it when its name is "checkpoints".
        objects: name -> anything with `state_dict` and `load_state_dict` of tensors and plain values.
        interval: epochs between two files.
    """

    num_kept = 2

    def __init__(self, save_dir: str, objects: Mapping[str, Any], interval: int = 1) -> None:
        self.save_dir = Path(save_dir)
        self.objects = dict(objects)
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self.save)
        engine.add_event_handler(Events.TERMINATE, self.save)

    def save(self, engine: Engine) -> None:
        """Write `epoch_N.pt` and drop all but the last two."""
        state = {name: item.state_dict() for name, item in self.objects.items()}
        path = self.save_dir / f"epoch_{engine.state.epoch}.pt"
        save_tensors(path, {"epoch": engine.state.epoch, "objects": state})
        for old in self._files()[self.num_kept :]:
            old.unlink()

    def load(self, engine: Engine) -> None:
        """Restore the newest readable file; do nothing when there is none.

        Raises:
            ValueError: if a readable file holds other objects, or weights of another network.
        """
        for path in self._files():
            try:
                saved = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:
                logger.warning("%s cannot be read (%s); trying the one before it", path, error)
                continue
            self._restore(engine, path, saved)
            return

    def _restore(self, engine: Engine, path: Path, saved: Mapping[str, Any]) -> None:
        if set(saved["objects"]) != set(self.objects):
            raise ValueError(
                f"{path} must hold {sorted(self.objects)}, got {sorted(saved['objects'])};"
                " it belongs to another training: choose another output_dir"
            )
        for name, item in self.objects.items():
            try:
                item.load_state_dict(saved["objects"][name])
            except RuntimeError as error:
                raise ValueError(f"{path} must fit {name}, got {error}; choose another output_dir") from error
        engine.state.epoch = saved["epoch"]
        engine.state.iteration = saved["epoch"] * engine.state.epoch_length
        logger.info("resuming after epoch %d from %s", saved["epoch"], path)
        if any(isinstance(item, EarlyStopping) and item.counter >= item.patience for item in self.objects.values()):
            engine.terminate()

    def _files(self) -> list[Path]:
        return sorted(self.save_dir.glob("epoch_*.pt"), key=lambda path: int(path.stem.split("_")[1]), reverse=True)


class StopOnNonFinite:
    """Trainer handler: stop at the end of an epoch that leaves losses or weights not finite, before any is kept.

    Attach it before validation and `Resumption`. The losses are looked at on their device, once an epoch: to read one
    at every step would make the process wait for the GPU each time.

    Args:
        network: network that is trained.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network
        self._loss: Tensor | None = None  # the first of the epoch that is not finite, else the last

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._forget)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Check the losses of the epoch, and the weights: the last step may have spoilt them after a finite loss.

        Raises:
            RuntimeError: if one is NaN or infinite.
        """
        loss = 0.0 if self._loss is None else float(self._loss)
        if not math.isfinite(loss):
            raise RuntimeError(
                f"loss must be finite, got {loss} in epoch {engine.state.epoch};"
                " lower the learning rate or look at the images of this epoch"
            )
        weights = [weight.isfinite().all() for weight in self.network.parameters()]
        if not torch.stack(weights).all():
            raise RuntimeError(
                f"weights must be finite, got others at the end of epoch {engine.state.epoch}; lower the learning rate"
            )

    def _forget(self, engine: Engine) -> None:
        self._loss = None

    def _note(self, engine: Engine) -> None:
        output = engine.state.output[0] if isinstance(engine.state.output, list) else engine.state.output
        loss = torch.as_tensor(output["loss"]).detach()
        before = loss if self._loss is None else self._loss
        self._loss = torch.where(torch.isfinite(before), loss, before)
