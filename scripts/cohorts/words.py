"""Words of people who fill in tables and name folders: one spelling for many."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

UNKNOWN = ("", "na", "n a", "nan", "none", "null", "unknown", "not stated")
SEPARATORS = re.compile(r"[\s_./\u2010-\u2015-]+")  # \u2010 to \u2015 are hyphens and dashes


def plain(value: object) -> str:
    """Lower case, one blank for all separators between words, 2.0 as 2.

    A table with gaps in its column of integers holds floats.

    >>> plain(" Low-Grade  Glioma"), plain(2.0), plain(None)
    ('low grade glioma', '2', '')
    """
    text = "" if value is None else unicodedata.normalize("NFKC", str(value)).strip()
    return SEPARATORS.sub(" ", re.sub(r"\.0+$", "", text)).strip().lower()


def is_unknown(value: object) -> bool:
    """Tell whether a cell is empty, or says that its value is unknown."""
    return plain(value) in UNKNOWN


def composed(name: str) -> str:
    """Return a name with composed letters: macOS writes an umlaut as two characters, which look like one."""
    return unicodedata.normalize("NFC", name)


def name_of(value: object) -> str:
    """Return a name as it stands in a cell or in the name of a file, with composed letters; empty if it is unknown."""
    return "" if is_unknown(value) or plain(value) == "?" else composed(str(value)).strip()


def spelled_differently(names: Iterable[str]) -> list[list[str]]:
    """Group names that differ only in case, separators or the zeros of a number: Bonn and bonn, 1 and 01 and 1.0.

    Returns:
        Groups of at least two names, each sorted.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        word = plain(name)
        groups[word.lstrip("0") or "0" if word.isdigit() else word].append(name)
    return [group for group in groups.values() if len(group) > 1]
