"""The options that a client sends as JSON: read strictly, and none passed over without a word."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from bundle.request_errors import RequestError

MOST_DIGITS = 18  # of a whole number: each fits into 64 bits
SHOWN = 80


def read_params(text: str) -> dict[str, Any]:
    """Read a JSON object of numbers that a computer has, and of texts that can be sent back.

    Args:
        text: JSON; empty for no options.

    Raises:
        RequestError: for anything else.
    """
    try:
        parsed = json.loads(text or "{}", parse_int=_whole, parse_float=_finite, parse_constant=_finite)
        json.dumps(parsed, ensure_ascii=False).encode()  # half a character cannot be written
    except (ValueError, RecursionError) as error:
        raise RequestError(f"params must be a JSON object, got {text[:SHOWN]!r} ({error})") from error
    if not isinstance(parsed, dict):
        raise RequestError(f"params must be a JSON object, got {text[:SHOWN]!r}")
    return parsed


def require_known(params: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that nobody reads: a misspelt one would leave its default in force.

    Raises:
        RequestError: naming them and those that there are.
    """
    if unknown := sorted(set(params) - set(known)):
        raise RequestError(f"params must be of {', '.join(sorted(known))}, got {', '.join(unknown)[:SHOWN]}")


def ignored(params: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """List the options of a client that nobody reads; viewers send many."""
    return sorted(set(params) - set(known))


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:SHOWN]} is no finite number")
    return number
