"""What a user reads of an error: its cause as the last line, and names listed in order."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import Any

# What MONAI raises from the error of a config item, of a transform and of a component's constructor.
WRAPPERS = ("Failed to evaluate", "applying transform", "Failed to instantiate")
MAX_NAMES = 10


def root_cause(error: BaseException) -> BaseException:
    """Take off the errors that MONAI wraps around one.

    What lies deeper is left alone: our errors name the file and the way out, the library's error below them does not.
    """
    while error.__cause__ is not None and isinstance(error, RuntimeError) and str(error).startswith(WRAPPERS):
        error = error.__cause__
    return error


def explain_last(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback as usual, then what went wrong in one line.

    MONAI raises "Failed to evaluate ..." from whatever a config item raised; the name of the file and the way out stand
    in the cause, which would otherwise be lost above the last traceback.
    """
    traceback.print_exception(kind, error, trace)
    cause = root_cause(error)
    if cause is not error:
        print(f"\n{type(cause).__name__}: {cause}", file=sys.stderr)


def explain_errors() -> None:
    """Let an error that ends a command line end in its cause.

    Called by the first item of every `initialize`, as most items are built before a stage begins. It does so only where
    `monai.bundle` is the program: whoever calls it as a library has an excepthook of their own.
    """
    program = getattr(sys.modules["__main__"], "__spec__", None)
    if program is not None and program.name.startswith("monai.bundle"):
        sys.excepthook = explain_last


def some_names(names: Iterable[Any], limit: int = MAX_NAMES, separator: str = ", ") -> str:
    """List the first names in order, and count the others.

    >>> some_names(["b", "a", "c"], limit=2)
    'a, b and 1 more'

    Args:
        names: what to list.
        limit: how many are spelled out, >= 1.
        separator: between two names.

    Returns:
        The list in words.
    """
    listed = sorted(map(str, names))
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return separator.join(listed[:limit]) + more
