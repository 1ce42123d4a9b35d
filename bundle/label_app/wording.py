"""What an answer says to a client: fields in place of the command line's words, and names in place of paths."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

# What the messages of one patient's files call what a client sends in a field of its own.
FIELDS = {
    "--mask FILE": "a mask in the field label",
    '--click "[i,j,k]"': 'params {"click": [i, j, k]}',
    "--images": "params.images",
    "--image": "the field file",
}
FLAG = re.compile(r"--([a-z][a-z_]+)")


def as_fields(message: str) -> str:
    """Name the fields of a request where a message names options of the command line.

    >>> as_fields('give --channel_order "[...]"')
    'give params.channel_order "[...]"'
    """
    for words, field in FIELDS.items():
        message = message.replace(words, field)
    return FLAG.sub(r"params.\1", message)


class Folders:
    """Folders of the server, which are taken off every path that a client is told.

    Args:
        kept: folders in which files lie that clients know by their names.
        passing: folders of folders that are made for one request or session and have random names.
    """

    def __init__(self, kept: Iterable[Path], passing: Iterable[Path] = ()) -> None:
        patterns = {f"{_spelled(folder)}/[^/\"' ]+/(?:(?:files|image|mask)/)?" for folder in passing}
        patterns |= {f"{_spelled(folder)}/" for folder in (*kept, *passing)}
        # The deepest first: one may lie in another.
        self._paths = re.compile("|".join(sorted(patterns, key=len, reverse=True)))

    def hide(self, text: str) -> str:
        """Return a text without the folders; JSON stays JSON."""
        return self._paths.sub("", text)


def _spelled(folder: Path) -> str:
    return re.escape(json.dumps(str(folder), ensure_ascii=False)[1:-1])


def problems_in_words(problems: Iterable[Mapping[str, object]]) -> str:
    """Say in one line what is wrong with the fields of a request, without repeating what was sent.

    Args:
        problems: of pydantic, each with `loc` and `msg`.
    """
    return "; ".join(f"{'.'.join(map(str, _location(problem)))}: {problem['msg']}" for problem in problems)


def _location(problem: Mapping[str, object]) -> tuple[object, ...]:
    location = problem["loc"]
    assert isinstance(location, tuple)
    return location
