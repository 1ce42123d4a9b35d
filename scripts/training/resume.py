"""Trainings that can be killed at any moment and end with the same numbers as if they had not been."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping

from scripts.provenance.state_dicts import save_tensors
from scripts.running.files import sha256_text
from scripts.running.process import seed_random_states
from scripts.training.processes import is_main_process

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
        seed_random_states(epoch_seed)
        for randomizable in self.randomizables:
            randomizable.set_random_state(seed=epoch_seed)


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
        """Write `epoch_N.pt` and drop all but the last two; of several processes, one does."""
        if not is_main_process():
            return
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
