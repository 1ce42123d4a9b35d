"""The log file of a stage."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def consoles_silenced() -> Iterator[None]:
    """Let every logger speak through the root's handlers alone.

    MONAI and ignite hang a console on each of their loggers; it would tear the progress bars apart.
    """
    known = [item for item in logging.root.manager.loggerDict.values() if isinstance(item, logging.Logger)]
    before = [(item, item.handlers, item.propagate, item.level) for item in [logging.root, *known]]
    for item, handlers, *_ in before[1:]:
        if handlers:
            item.handlers, item.propagate = [], True
    logging.root.setLevel(logging.INFO)
    try:
        yield
    finally:
        for item, handlers, propagate, level in before:
            item.handlers, item.propagate = handlers, propagate
            item.setLevel(level)


@contextlib.contextmanager
def logged_to(path: Path, command: str) -> Iterator[None]:
    """Send the log of a stage to a file, which begins with the command that runs the stage alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    before = logging.root.handlers
    logging.root.handlers = [handler]
    try:
        logger.info("%s", command)
        yield
    finally:
        logging.root.handlers = before
        handler.close()
