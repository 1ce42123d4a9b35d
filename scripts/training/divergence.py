"""A training that diverges stops, before anything of it is kept."""

from __future__ import annotations

import math

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from scripts.provenance.state_dicts import all_finite


class StopOnNonFinite:
    """Trainer handler: stop at the end of an epoch that leaves losses, weights or a validation not finite.

    Attach it before validation and `Resumption`, so that none of them is kept. The losses are looked at on their
    device, once an epoch: to read one at every step would make the process wait for the GPU each time. Weights can be
    finite and so large that the loss of a validation is not.

    Args:
        network: network that is trained.
        evaluator: engine that validates; None looks at the training alone.
    """

    def __init__(self, network: torch.nn.Module, evaluator: Engine | None = None) -> None:
        self.network = network
        self.evaluator = evaluator
        self._loss: Tensor | None = None  # the first of the epoch that is not finite, else the last

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._forget)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._check_metrics, engine)

    def __call__(self, engine: Engine) -> None:
        """Check the losses of the epoch, and the weights: the last step may have spoilt them after a finite loss.

        Raises:
            RuntimeError: if one is NaN or infinite.
        """
        _refuse_non_finite(0.0 if self._loss is None else float(self._loss), f"epoch {engine.state.epoch}")
        if not all_finite(self.network.parameters()):
            raise RuntimeError(
                f"weights must be finite, got others at the end of epoch {engine.state.epoch}; lower the learning rate"
            )

    def _check_metrics(self, evaluator: Engine, trainer: Engine) -> None:
        for name, value in evaluator.state.metrics.items():
            _refuse_non_finite(float(value), f"the validation of epoch {trainer.state.epoch} ({name})")

    def _forget(self, engine: Engine) -> None:
        self._loss = None

    def _note(self, engine: Engine) -> None:
        output = engine.state.output[0] if isinstance(engine.state.output, list) else engine.state.output
        loss = torch.as_tensor(output["loss"]).detach()
        before = loss if self._loss is None else self._loss
        self._loss = torch.where(torch.isfinite(before), loss, before)


def _refuse_non_finite(loss: float, where: str) -> None:
    if not math.isfinite(loss):
        raise RuntimeError(
            f"loss must be finite, got {loss} in {where}; lower the learning rate or look at the images of this epoch"
        )
