"""What people call the four modalities; understood here, when data come in, and nowhere else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

ALIASES = {
    "t1n": ("t1n", "t1", "t1w", "t1native", "t1pre"),
    "t1c": ("t1c", "t1ce", "t1gd", "t1cew", "t1wce", "t1post", "t1contrast", "t1km", "t1+c"),
    "t2w": ("t2w", "t2"),
    "t2f": ("t2f", "flair", "t2flair", "t2wflair", "fla"),
}


SEPARATORS = re.compile(r"[\s\u2010-\u2015_.,:/()\[\]-]")  # \u2010 to \u2015 are hyphens and dashes


def parse_modality(name: str, modalities: Sequence[str]) -> str | None:
    """Find the modality that a word stands for, whatever its case, hyphens, underscores, blanks and brackets.

    Any other sign counts: T2* is another contrast than T2.

    Args:
        name: the word, such as `T1Gd` or `t2_flair`.
        modalities: the project's own names; one of them that has no alias is understood as it is.

    Returns:
        The name as in `modalities` or `ALIASES`; None if the word is not understood.
    """
    word = _plain(name)
    own = {_plain(modality): modality for modality in modalities}
    known = {alias: modality for modality, aliases in ALIASES.items() for alias in aliases}
    return own.get(word) or known.get(word)


def describe_aliases(modalities: Sequence[str]) -> str:
    """List the words that are understood, for an error message."""
    return "; ".join(f"{modality}: {', '.join(ALIASES.get(modality, (modality,)))}" for modality in modalities)


def _plain(name: str) -> str:
    return SEPARATORS.sub("", unicodedata.normalize("NFKC", name)).lower()
