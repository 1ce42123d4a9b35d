"""A moving average of a classifier's weights, or none."""

from __future__ import annotations

from ignite.engine import Engine
from torch import nn

from scripts.generator.weights import WarmEMA


class OptionalEMA:
    """Trainer handler: average weights and BatchNorm statistics over the steps; with decay 0, do nothing.

    The statistics are averaged too: those of the network as it is belong to other weights than the averaged ones.

    Args:
        network: network that is trained.
        decay: share of the old average once warm, in [0, 1); see `scripts.generator.weights.WarmEMA`.
    """

    def __init__(self, network: nn.Module, decay: float = 0.0) -> None:
        self.average = WarmEMA(network, decay) if decay else None
        if self.average is not None:
            self.average.handle_buffers = "update"
        self.selected: nn.Module = network if self.average is None else self.average.ema_model  # what is validated

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if self.average is not None:
            self.average.attach(engine)
