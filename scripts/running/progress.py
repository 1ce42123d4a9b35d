"""Progress bars with the time left, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from ignite.engine import Engine, Events
from tqdm import tqdm

Item = TypeVar("Item")
UNITS = (("h", 3600), ("min", 60), ("s", 1))


def progress(iterable: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
    """Iterate with a progress bar that shows rate and time left.

    Args:
        iterable: what to walk through.
        total: number of items, if `iterable` has no length.
        description: what is being done, at most a few words.

    Yields:
        The items, unchanged.
    """
    # In a log file a bar that redraws ten times a second is noise: one line every ten seconds is enough.
    interval = 0.1 if sys.stderr.isatty() else 10.0
    yield from tqdm(iterable, total=total, desc=description, mininterval=interval, dynamic_ncols=True, leave=False)


class TrainingProgress:
    """Trainer handler: one bar over the epochs of a training, with the last loss and the time left.

    Args:
        description: what is being trained, at most a few words.
    """

    def __init__(self, description: str = "training") -> None:
        self.description = description
        self._bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, after the handler that restores a checkpoint, so that the bar starts there."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _open(self, engine: Engine) -> None:
        interval = 0.1 if sys.stderr.isatty() else 10.0
        self._bar = tqdm(
            total=engine.state.max_epochs,
            initial=engine.state.epoch,
            desc=self.description,
            unit="epoch",
            mininterval=interval,
            dynamic_ncols=True,
            leave=False,
        )

    def _advance(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.update(engine.state.epoch - self._bar.n)

    def _close(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._close(engine)
        raise error


def format_seconds(seconds: float) -> str:
    """Say a time in the two largest units that it fills.

    >>> format_seconds(3725), format_seconds(75.2), format_seconds(0.31)
    ('1 h 2 min', '1 min 15 s', '0.3 s')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    left, words = round(seconds), []
    for unit, size in UNITS:
        if left >= size:
            words.append(f"{left // size} {unit}")
            left %= size
    return " ".join(words[:2])
