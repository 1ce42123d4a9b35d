"""How an error message lists names: the first few, in order, and how many more there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MAX_NAMES = 10


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
