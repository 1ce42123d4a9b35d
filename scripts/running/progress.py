"""Progress bars with the time left, on standard error."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ignite.engine import Engine, Events
from torch import Tensor
from tqdm import tqdm

Item = TypeVar("Item")
UNITS = (("h", 3600), ("min", 60), ("s", 1))
# Seconds of a stage of `make study` (docs/results), by its config: how the kinds compare where none was measured yet.
USUAL_SECONDS = {
    "phantom": 16.0,
    "cohort": 10.0,
    "segment": 60.0,
    "patches": 2.0,
    "splits": 0.2,
    "train_autoencoder": 300.0,
    "train_generator": 640.0,
    "generate": 6.4,
    "import_synthetic": 4.0,
    "generate_control": 1.5,
    "train_classifier": 16.0,
    "audit": 4.3,
    "measure_images": 1.1,
    "evaluate": 2.0,
    "explain": 155.0,
    "report": 10.0,
}


def progress(iterable: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
    """Iterate with a progress bar that shows rate and time left.

    Args:
        iterable: what to walk through.
        total: number of items, if `iterable` has no length.
        description: what is being done, at most a few words.

    Yields:
        The items, unchanged.
    """
    yield from tqdm(iterable, total=total, desc=description, mininterval=_interval(), dynamic_ncols=True, leave=False)


@dataclass
class Durations:
    """How long stages take, by kind: as measured, or else as usual, in the proportion that measured kinds have."""

    measured: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, seconds: float) -> None:
        """Take note of a stage."""
        self.measured[kind].append(seconds)

    @property
    def is_measured(self) -> bool:
        """Whether any stage was measured."""
        return any(self.measured.values())

    def expected(self, kind: str) -> float:
        """Return the seconds that a stage of a kind should take, > 0."""
        if self.measured.get(kind):
            return max(sum(self.measured[kind]) / len(self.measured[kind]), 1e-3)
        usual = sum(USUAL_SECONDS.get(name, 1.0) * len(seconds) for name, seconds in self.measured.items())
        scale = sum(map(sum, self.measured.values())) / usual if usual else 1.0
        return max(USUAL_SECONDS.get(kind, 1.0) * scale, 1e-3)


class StudyProgress:
    """One bar over a study: the stages at work, how many are finished, and about how long the others take.

    Stages differ a hundredfold, so they count by the time that those of their kind take, and not alike.

    Args:
        kinds: name of each stage -> its kind, in the order of the plan.
        finished: names of the stages that are finished already.
        durations: what is known of them; stages that finish are added.
        num_workers: stages at work at a time.
    """

    def __init__(
        self, kinds: Mapping[str, str], finished: Iterable[str], durations: Durations, num_workers: int = 1
    ) -> None:
        self.kinds = dict(kinds)
        self.finished = set(finished)
        self.durations = durations
        self.num_workers = num_workers
        self._at_work: list[str] = []
        self._drawn = float("-inf")
        self._bar = tqdm(total=1.0, desc="study", bar_format="{desc}", dynamic_ncols=True, leave=False)

    def __enter__(self) -> StudyProgress:
        self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def begin(self, names: Sequence[str]) -> None:
        """Show which stages are at work."""
        self._at_work = list(names)
        self._draw()

    def finish(self, name: str, seconds: float | None = None) -> None:
        """Count a stage as finished.

        Args:
            name: of the stage.
            seconds: that it took; None if it was finished before.
        """
        if name not in self.finished and seconds is not None:
            self.durations.add(self.kinds[name], seconds)
        self.finished.add(name)
        self._draw()

    def text(self) -> str:
        """Return what the bar says."""
        unfinished = [name for name in self.kinds if name not in self.finished]
        left, done = (
            sum(self.durations.expected(self.kinds[name]) for name in names) for names in (unfinished, self.finished)
        )
        share = done / (done + left) if done + left else 1.0
        number = f"study {share:4.0%} | {len(self.finished)}/{len(self.kinds)} stages"
        time_left = f"about {format_seconds(left / self.num_workers)} left" if self.durations.is_measured else ""
        at_work = ", ".join(self._at_work[:2]) + (" ..." if len(self._at_work) > 2 else "")
        return " | ".join(part for part in (number, time_left, at_work) if part)

    def _draw(self) -> None:
        if time.monotonic() - self._drawn >= _interval():
            self._drawn = time.monotonic()
            self._bar.set_description_str(self.text())


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
        self._bar = tqdm(
            total=engine.state.max_epochs,
            initial=engine.state.epoch,
            desc=self.description,
            unit="epoch",
            mininterval=_interval(),
            dynamic_ncols=True,
            leave=False,
        )

    def _advance(self, engine: Engine) -> None:
        if self._bar is None:
            return
        # Reading a loss waits for the GPU, once an epoch at most, and not at all where nobody looks.
        loss = None if self._bar.disable else _last_loss(engine.state.output)
        if loss is not None:
            self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
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


def _interval() -> float:
    # In a log file a bar that redraws ten times a second is noise: one line every ten seconds is enough.
    return 0.1 if sys.stderr.isatty() else 10.0


def _last_loss(output: Any) -> float | None:
    """Return the loss of the last batch, of what a MONAI trainer puts out: a dictionary, or one per image."""
    if isinstance(output, (list, tuple)) and output:
        output = output[-1]
    loss = output.get("loss") if isinstance(output, Mapping) else None
    return None if loss is None else float(loss.detach() if isinstance(loss, Tensor) else loss)
