"""The cause of an error as the last line a user reads."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType

# What MONAI raises from the error of a config item, of a transform and of a component's constructor.
WRAPPERS = ("Failed to evaluate", "applying transform", "Failed to instantiate")


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
