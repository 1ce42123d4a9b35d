"""Early stopping whose count survives an interruption."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping

from scripts.training.curves import GeneratorCurves

logger = logging.getLogger(__name__)


class StopWithoutImprovement(EarlyStopping):
    """Trainer handler: ignite's early stopping on a metric of the evaluator, lower is better.

    MONAI's `EarlyStopHandler` keeps no state, and ignite's own needs the trainer that its config is part of.
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


def check_generator_patience(patience: int) -> None:
    """Refuse a `generator_patience` below 1 epoch, at which a training would end before it begins.

    Raises:
        ValueError: naming the config key.
    """
    if patience < 1:
        raise ValueError(f"generator_patience must be at least 1, got {patience!r}")


class StopWhenMemorizing:
    """Trainer handler: stop when the noise loss of subjects that a generator is not trained on has turned.

    From there on it learns its training images by heart: on few of them the loss goes on falling, on everybody else's
    it rises. It keeps no state but reads the training curves, in which a resumed training goes on; so it may be
    attached after `Resumption`.

    Args:
        curves: curves of the training.
        patience: epochs since the lowest validation loss after which the training ends, >= 1.

    Raises:
        ValueError: if `patience` is below 1.
    """

    def __init__(self, curves: GeneratorCurves, patience: int) -> None:
        check_generator_patience(patience)
        self.curves = curves
        self.patience = patience

    def attach(self, engine: Engine) -> None:
        """Register with the trainer that is to be stopped, also where it takes up an interrupted training."""
        engine.add_event_handler(Events.STARTED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Look at the curves."""
        losses = {row["epoch"]: row["val_noise_loss"] for row in self.curves.rows if row["val_noise_loss"] is not None}
        if not losses:
            return
        best = min(losses, key=lambda epoch: losses[epoch])
        if max(losses) - best >= self.patience:
            logger.info(
                "stopped: the noise loss of unseen subjects was lowest, %.4f, in epoch %d; these weights are kept",
                losses[best],
                best,
            )
            engine.terminate()
