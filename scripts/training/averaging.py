"""A moving average of weights that forgets their untrained start."""

from __future__ import annotations

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler

MOMENTUM = "ema_momentum"  # of the trainer's state, where ignite's handler reads the share of the new weights


class WarmEMA:
    """Trainer handler: update ignite's moving average at every step, with more of the new weights at the start.

    At step n the share of the new weights is max(1 - decay, 9 / (10 + n)). It follows from the trainer's iteration
    alone, so a resumed training averages as an uninterrupted one.

    Args:
        ema: the average; its `momentum` is 1 - decay.
    """

    def __init__(self, ema: EMAHandler) -> None:
        self.ema = ema

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        # First, so that the average of a step is taken with the share of that step.
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._set_share)
        self.ema.attach(engine, name=MOMENTUM, warn_if_exists=False)

    def _set_share(self, engine: Engine) -> None:
        setattr(engine.state, MOMENTUM, max(self.ema.momentum, 9 / (10 + engine.state.iteration)))
