"""Early stopping whose count survives an interruption."""

from __future__ import annotations

from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping


class StopWithoutImprovement(EarlyStopping):
    """Trainer handler: ignite's early stopping on a metric of the evaluator, lower is better.

    MONAI's `EarlyStopHandler` keeps no state, and ignite's own wants the trainer that its config is part of.
    Attach it after validation and before `Resumption`, and give it to that.

    Args:
        patience: epochs without a lower value before the training ends, >= 1.
        evaluator: engine that validates once an epoch.
        metric_name: key of its metrics.
    """

    def __init__(self, patience: int, evaluator: Engine, metric_name: str) -> None:
        def score(_: Engine) -> float:
            return float(evaluator.state.metrics[metric_name])

        super().__init__(patience=patience, score_function=score, trainer=evaluator, mode="min")

    def attach(self, engine: Engine) -> None:
        """Register with the trainer that is to be stopped."""
        self.trainer = engine
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
