"""The cause of an error as the last line a user reads."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType


def root_cause(error: BaseException) -> BaseException:
    """Follow an error to the one that was raised first."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
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
