"""Several trainings of one process that take turns, an optimizer step each, as if each were alone.

On a CPU each ends as if it had trained alone, byte for byte (a test), and nothing is gained. No GPU has measured what
it is made for: networks too small to fill one, on streams of their own. `folds_together` of a study above 1 is the one
switch that reaches this module.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor

from scripts.running.configs import Invocation, parser_of
from scripts.running.stages import AlreadyFinished, create_workflow, invoked

logger = logging.getLogger(__name__)

TRAINING = "$@train#trainer.run()"


class Stopped(BaseException):
    """A training was stopped between two steps by something outside it; no error of its own, as Ctrl-C is none."""


@dataclass(frozen=True)
class Surroundings:
    """What a training finds in its process and the others there would change: random states and log handlers.

    Config, overrides and locks of a stage are context variables, which need no copy; MONAI's transforms and samplers
    belong to one training.

    Args:
        device: device of the training; the state of its generator counts where it is a GPU.
        random_states: of torch on the CPU, torch on the GPU (or None), numpy and random.
        log_handlers: of the root logger.
    """

    device: torch.device
    random_states: tuple[Tensor, Tensor | None, Any, Any]
    log_handlers: list[logging.Handler]

    @classmethod
    def now(cls, device: torch.device) -> Surroundings:
        """Take note of them."""
        on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        states = (torch.get_rng_state(), on_gpu, np.random.get_state(), random.getstate())
        return cls(device, states, logging.root.handlers)

    def restore(self) -> None:
        """Put them back."""
        on_cpu, on_gpu, of_numpy, of_random = self.random_states
        torch.set_rng_state(on_cpu)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, self.device)
        np.random.set_state(of_numpy)
        random.setstate(of_random)
        logging.root.handlers = self.log_handlers


class Turn:
    """A training that is continued now and then, in its own surroundings and on a GPU on a CUDA stream of its own.

    Args:
        name: what is trained, for the log.
        steps: does a part of the training each time it is advanced; make all turns before the first one begins.
        device: where it trains.
    """

    def __init__(self, name: str, steps: Generator[None, None, None], device: torch.device) -> None:
        self.name = name
        self._steps = steps
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._context = contextvars.copy_context()
        self._surroundings = Surroundings.now(device)

    def advance(self) -> bool:
        """Do the next part; return whether there may be another."""
        try:
            self._inside(next, self._steps)
        except StopIteration:
            return False
        return True

    def stop(self, reason: str) -> None:
        """End the training where it is, so that its log says why and its locks are free."""
        # Whatever else goes wrong now, the user is to see the error that came first.
        with contextlib.suppress(Exception, Stopped):
            self._inside(self._steps.throw, Stopped(reason))

    def _inside(self, do: Callable[..., Any], *arguments: Any) -> None:
        self._surroundings.restore()
        stream = contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        try:
            with stream:
                self._context.run(do, *arguments)
        finally:
            self._surroundings = Surroundings.now(self._device)


def run_in_turns(
    trainings: Sequence[tuple[str, Invocation]],
    logged: Callable[[str, Invocation], contextlib.AbstractContextManager[None]],
) -> None:
    """Do trainings in turns; what `scripts.running.stages.run_invocation` does one after the other.

    Args:
        trainings: name and invocation of each.
        logged: sends the log of one of them to its place while it has its turn.
    """

    def steps(name: str, invocation: Invocation) -> Generator[None, None, None]:
        with logged(name, invocation), contextlib.suppress(AlreadyFinished):
            yield from training_steps(invocation)

    take_turns([Turn(name, steps(name, invocation), _device(invocation)) for name, invocation in trainings])


def take_turns(turns: Sequence[Turn]) -> None:
    """Advance the trainings one after the other, again and again, until all are over.

    They share one thread. On a GPU a step returns when its kernels are queued, and while those of one stream run, the
    next training queues its own: networks too small to fill a GPU fill it together.

    Raises:
        BaseException: the first error, which stops the other trainings too.
    """
    waiting = list(turns)
    while waiting:
        for turn in tuple(waiting):
            try:
                goes_on = turn.advance()
            except BaseException as error:
                waiting.remove(turn)
                _stop_beside(turn.name, waiting, error)
                raise
            if not goes_on:
                waiting.remove(turn)


def training_steps(invocation: Invocation) -> Generator[None, None, None]:
    """Do what `scripts.running.stages.run_invocation` does with a training, and pause before every batch.

    Args:
        invocation: its `run` is nothing but the `train#trainer`.

    Raises:
        ValueError: if `run` is something else.
    """
    with invoked(invocation):
        workflow = create_workflow(invocation)
        if workflow.parser["run"] != [TRAINING]:
            raise ValueError(
                f"run must be [{TRAINING}] for a training that takes turns, got {workflow.parser['run']};"
                " set folds_together to 1"
            )
        workflow.initialize()
        yield from paused(workflow.parser.get_parsed_content("train#trainer"))
        workflow.finalize()


def paused(trainer: Engine) -> Generator[None, None, None]:
    """Run a MONAI trainer, and pause before every batch.

    An exception that is thrown into a pause is raised by the trainer, so that its handlers see it.
    """
    pauses, quiet = _Pauses(trainer), _WithoutPauses()
    trainer.logger.addFilter(quiet)
    try:
        trainer.run()
        while pauses.is_paused:
            try:
                yield
            except BaseException as error:
                pauses.error = error
            pauses.is_paused = False
            # Not the trainer's own `run`, which would begin with a new scaler of gradients.
            Engine.run(trainer)
    finally:
        trainer.logger.removeFilter(quiet)


class _Pauses:
    """Trainer handler: interrupt before every batch, where nothing of a step is under way."""

    def __init__(self, trainer: Engine) -> None:
        self.is_paused = False
        self.error: BaseException | None = None
        trainer.add_event_handler(Events.GET_BATCH_STARTED, trainer.interrupt)
        trainer.add_event_handler(Events.INTERRUPT, self._pause)
        trainer.add_event_handler(Events.GET_BATCH_COMPLETED, self._fail)

    def _pause(self) -> None:
        self.is_paused = True

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class _WithoutPauses(logging.Filter):
    """Keep what ignite says at every pause out of a log, which would hold little else."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(("interrupt signaled", "Engine run resuming from iteration"))


def _device(invocation: Invocation) -> torch.device:
    return torch.device(parser_of(invocation.merged()).get_parsed_content("device"))


def _stop_beside(name: str, others: Sequence[Turn], error: BaseException) -> None:
    for other in others:
        other.stop(f"{name} was stopped, which trained beside it; the same command continues")
    # Ctrl-C needs no explanation.
    if others and isinstance(error, Exception):
        names = ", ".join(other.name for other in others)
        logger.error("stopped with it, to be continued from their last checkpoints by the same command: %s", names)
