"""A moving average of weights that forgets their untrained start."""

from __future__ import annotations

import logging

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

logger = logging.getLogger(__name__)


class WarmEMA:
    """Trainer handler: update a moving average at every step, with more of the new weights at the start.

    At step n the share of the new weights is max(1 - decay, 9 / (10 + n)). It follows from the trainer's iteration
    alone, so a resumed training averages as an uninterrupted one. All parameters are updated in one call: ignite's own
    update calls the kernels of each, which on a CPU takes a small network ten times as long.

    An average longer than the training is thus cut to its last tenth, and a warning says so when the training starts:
    a training on few images has few steps, and how many is known only when its files are read.

    Args:
        ema: the average, which is not attached to a trainer itself; its `momentum` is 1 - decay. Buffers of floats are
            averaged where it says `handle_buffers="update"`; all others are copied.
        num_parts: iterations of the trainer that make one step, where it adds up gradients.
    """

    def __init__(self, ema: EMAHandler, num_parts: int = 1) -> None:
        self.ema = ema
        self.num_parts = num_parts

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._say_if_longer_than_training)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)

    def _say_if_longer_than_training(self, engine: Engine) -> None:
        num_steps = engine.state.max_epochs * engine.state.epoch_length // self.num_parts
        if num_steps * self.ema.momentum < 1:
            logger.warning(
                "the moving average of the weights takes the last tenth of the %d steps of this training: a decay of"
                " %g would take %.0f; train longer, or set a smaller decay",
                num_steps,
                1 - self.ema.momentum,
                1 / self.ema.momentum,
            )

    @torch.no_grad()
    def _update(self, engine: Engine) -> None:
        step, rest = divmod(engine.state.iteration, self.num_parts)
        if rest:
            return
        average = get_ema_multi_avg_fn(1 - max(self.ema.momentum, 9 / (10 + step)))
        pairs = list(zip(self.ema.ema_model.buffers(), self.ema.model.buffers(), strict=True))
        averaged = [pair for pair in pairs if self.ema.handle_buffers == "update" and pair[0].is_floating_point()]
        averaged += zip(self.ema.ema_model.parameters(), self.ema.model.parameters(), strict=True)
        olds: list[Tensor] = [old for old, _ in averaged]
        average(olds, [new for _, new in averaged], torch.tensor(0))  # torch asks for a count that it does not read
        for old, new in pairs:
            if not (self.ema.handle_buffers == "update" and old.is_floating_point()):
                old.copy_(new)
