"""The page that lists every key of the configs: what it is, its default, and the stages that read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = "docs/reference/config-keys.md"
OTHER_BASES = {"inference": ("common", "patches")}  # of a stage that stands on more than common.yaml
# MONAI's own words, which no file needs to explain.
ENTRY_POINTS = {
    "imports": "modules that `$` expressions may use",
    "initialize": "what begins the run",
    "run": "what the run does",
    "finalize": "what ends the run",
}
LONGEST_VALUE = 70  # characters of a default on the page
INTRODUCTION = """# Every key of the configs

Any key can be set on the command line (`--KEY VALUE`) or in a file of your own that comes last. A table is a file of
`configs/`; *recipes* are the values of `configs/recipes/`, and *read by* names the stages. A default in parentheses is
put together from other keys: change those.
Written by `python -m bundle reference` from the files; change their comments, not this page.
"""


@dataclass(frozen=True)
class Key:
    """A top-level key of a config file.

    Args:
        name: as it is overridden, without the `+` of an extended list.
        file: stem below `configs`, such as "common" or "recipes/quick".
        value: as written, unresolved.
        comment: what the file says at the end of the key's line; None where it says nothing.
    """

    name: str
    file: str
    value: Any
    comment: str | None

    @property
    def is_assembled(self) -> bool:
        """Whether the value is a component, or another key under a second name."""
        target = isinstance(self.value, Mapping) and "_target_" in self.value
        return target or (isinstance(self.value, str) and self.value.startswith("@"))


def config_keys(root: Path = ROOT) -> list[Key]:
    """Read the top-level keys of every YAML file of `configs`, in the order of the files' names."""
    folder = root / "configs"
    paths = sorted(folder.rglob("*.yaml"), key=lambda path: (path.stem != "common", path.as_posix()))
    return [key for path in paths if path.parent.name != "runs" for key in _keys_of(path, folder)]


def undescribed(root: Path = ROOT) -> list[str]:
    """List the keys, as "file: key", that no file describes in a comment at the end of their line."""
    keys = config_keys(root)
    described = {key.name for key in keys if key.comment} | set(ENTRY_POINTS)
    return [f"{key.file}: {key.name}" for key in keys if key.name not in described and not key.is_assembled]


def write_page(root: Path = ROOT) -> Path:
    """Write the page and return its path."""
    path = root / PAGE
    path.write_text(page(root), encoding="utf-8")
    return path


def is_stale(root: Path = ROOT) -> bool:
    """Whether the page is missing or differs from what the files say today."""
    path = root / PAGE
    return not path.is_file() or path.read_text(encoding="utf-8") != page(root)


def page(root: Path = ROOT) -> str:
    """Return the page as Markdown: a table for each file, with a row for each key.

    Raises:
        ValueError: if a key has no description in any file.
    """
    if missing := undescribed(root):
        raise ValueError(
            f"every key of configs must be described at the end of its line, got none for {', '.join(missing)};"
            " add a comment with its meaning and unit"
        )
    keys = config_keys(root)
    files = [file for file in dict.fromkeys(key.file for key in keys) if not file.startswith("recipes/")]
    parts = [INTRODUCTION]
    for file in files:
        rows = [_row(key, keys, root) for key in keys if key.file == file]
        table = ["| key | default | what it is | recipes | read by |", "|---|---|---|---|---|", *rows]
        parts.append("\n".join([f"## {file}.yaml", "", _first_sentence(root / "configs" / f"{file}.yaml"), "", *table]))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def readers(name: str, root: Path = ROOT) -> list[str]:
    """List the stages in which a key decides something, alone or with an option that fits the stage."""
    return [stage for stage, read in _read_by_stage(root).items() if name in read]


def _keys_of(path: Path, folder: Path) -> Iterator[Key]:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    values = yaml.safe_load(text)
    mapping = yaml.compose(text, Loader=yaml.SafeLoader)
    for name, value in mapping.value if mapping else []:
        is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        mark = name.end_mark if is_block else value.end_mark
        comment = re.search(r"#\s+(.+)$", lines[mark.line][mark.column :]) if mark.line < len(lines) else None
        file = path.relative_to(folder).with_suffix("").as_posix()
        yield Key(name.value.lstrip("+"), file, values[name.value], comment[1].strip() if comment else None)


def _row(key: Key, keys: Sequence[Key], root: Path) -> str:
    others = [f"{other.file.removeprefix('recipes/')} {_code(other.value)}" for other in keys if _is_recipe(other, key)]
    cells = [f"`{key.name}`", _default(key), _description(key, keys), ", ".join(others), _readers_of(key, root)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _is_recipe(other: Key, key: Key) -> bool:
    return other.name == key.name and other.file.startswith("recipes/")


def _default(key: Key) -> str:
    if key.name in ENTRY_POINTS or key.is_assembled:
        target = key.value["_target_"] if isinstance(key.value, Mapping) else None
        return f"(`{target or key.value}`)" if key.is_assembled else ""
    return _code(key.value)


def _code(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST_VALUE else "in the file"


def _description(key: Key, keys: Sequence[Key]) -> str:
    described = key.comment or next((other.comment for other in keys if other.name == key.name and other.comment), None)
    return described or ENTRY_POINTS.get(key.name, "")


def _readers_of(key: Key, root: Path) -> str:
    name = re.split("#|::", key.name)[0]
    stages = readers(name, root)
    return "every stage" if len(stages) == len(_read_by_stage(root)) else ", ".join(stages)


def _first_sentence(path: Path) -> str:
    """Return what the first line of a file says after its name."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    sentence = first.partition(" — ")[2]
    return sentence[:1].upper() + sentence[1:]


@cache
def _read_by_stage(root: Path) -> dict[str, frozenset[str]]:
    """Top-level keys that decide what each stage does, alone and with each option that runs after it."""
    from scripts.running.configs import Invocation, reachable
    from scripts.running.stages import ENTRY_POINTS as ROOTS

    folder = root / "configs"
    read: dict[str, frozenset[str]] = {}
    for path in [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("options/*.yaml"))]:
        if path.parent == folder and "run" not in yaml.safe_load(path.read_text(encoding="utf-8")):
            continue
        stack = _stack(path)
        stage = next(file.stem for file in reversed(stack) if file.parent == folder)
        keys = reachable(Invocation(tuple(str(file) for file in stack)).merged(), ROOTS)
        read[stage] = read.get(stage, frozenset()) | frozenset(keys)
    return read


def _stack(path: Path) -> list[Path]:
    """Return the files that are merged before a stage or an option, and itself."""
    folder = path.parent
    if folder.name != "options":
        return [*(folder / f"{stem}.yaml" for stem in OTHER_BASES.get(path.stem, ("common",))), path]
    head = re.match(r"(?:#.*\n)+", path.read_text(encoding="utf-8"))
    after = re.search(r"Run after (\w+)\.yaml", head[0] if head else "")
    if not after:
        raise ValueError(
            f"{path} must say in its first lines after which file it runs, got none; add: Run after X.yaml"
        )
    name = f"{after[1]}.yaml"
    return [*_stack(next(file for file in (folder / name, folder.parent / name) if file.is_file())), path]
