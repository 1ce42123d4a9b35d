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
# Of a stage that stands on more than common.yaml.
OTHER_BASES = {
    "inference": ("common", "patches"),
    "audit_folders": ("common", "audit"),
}
PARTS = {"imports", "stage_inputs", "stage_kind", "network", "initialize", "run", "finalize", "handlers"}
LONGEST_VALUE = 70  # characters of a default on the page
INTRODUCTION = """# Every key of the configs

Any key can be set on the command line (`--KEY VALUE`) or in a file of your own that comes last. A table is a file of
`configs/`; *recipes* are the values of `configs/recipes/`, and *read by* names the stages that a value decides.
*Parts* are put together from these keys.

Written by `python -m bundle flatten` from the files; change their comments, not this page.
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
    def is_part(self) -> bool:
        """Whether the value is a component, what a stage does, or another key under a second name, and no setting."""
        target = isinstance(self.value, Mapping) and "_target_" in self.value
        renamed = isinstance(self.value, str) and self.value.startswith("@") and not self.comment
        return self.name in PARTS or "#" in self.name or target or renamed


def config_keys(root: Path = ROOT) -> list[Key]:
    """Read the top-level keys of every YAML file of `configs`, in the order of the files' names."""
    folder = root / "configs"
    paths = sorted(folder.rglob("*.yaml"), key=lambda path: (path.stem != "common", path.as_posix()))
    return [key for path in paths if path.parent.name != "runs" for key in _keys_of(path, folder)]


def undescribed(root: Path = ROOT) -> list[str]:
    """List the settings, as "file: key", that neither their file nor `common.yaml` describes at the end of their line.

    A recipe describes nothing: it holds other values of settings that have a description.
    """
    keys = config_keys(root)
    shared = {key.name for key in keys if key.file == "common" and key.comment}
    recipes_aside = (key for key in keys if not key.file.startswith("recipes/"))
    return [
        f"{key.file}: {key.name}" for key in recipes_aside if not (key.is_part or key.comment or key.name in shared)
    ]


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
    return "\n\n".join([INTRODUCTION.strip(), *(_section(file, keys, root) for file in files)]) + "\n"


def readers(key: Key, root: Path = ROOT) -> list[str]:
    """List the stages in which the value that a file gives a key decides something."""
    return sorted({run.stage for run in _runs(root) if key.file in run.files and _top(key.name) in run.read})


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


def _section(file: str, keys: Sequence[Key], root: Path) -> str:
    own = [key for key in keys if key.file == file]
    rows = [_row(key, keys, root) for key in own if not key.is_part]
    parts = [_part(key) for key in own if key.is_part and key.name not in PARTS]
    table = ["| key | default | what it is | recipes | read by |", "|---|---|---|---|---|", *rows]
    lines = [f"## {file}.yaml", "", _head(root / "configs" / f"{file}.yaml"), *(["", *table] if rows else [])]
    return "\n".join([*lines, *(["", f"Parts: {', '.join(parts)}."] if parts else [])])


def _row(key: Key, keys: Sequence[Key], root: Path) -> str:
    recipes = [other for other in keys if other.name == key.name and other.file.startswith("recipes/")]
    others = [f"{other.file.removeprefix('recipes/')} {_code(other.value)}" for other in recipes]
    shared = next((other.comment for other in keys if other.name == key.name and other.file == "common"), None)
    description = key.comment or shared or ""
    cells = [f"`{key.name}`", _code(key.value), description, ", ".join(others), _readers(key, root)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _part(key: Key) -> str:
    target = key.value.get("_target_") if isinstance(key.value, Mapping) else key.value
    return f"`{key.name}`" + (f" (`{target}`)" if isinstance(target, str) else "")


def _readers(key: Key, root: Path) -> str:
    stages = readers(key, root)
    others = sorted({run.stage for run in _runs(root)} - set(stages))
    if not others:
        return "every stage"
    return f"all but {', '.join(others)}" if len(others) < len(stages) else ", ".join(stages)


def _code(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST_VALUE else "in the file"


def _head(path: Path) -> str:
    """Return what the comment at the head of a file says after the file's name."""
    head = re.match(r"(?:#.*\n)*", path.read_text(encoding="utf-8"))
    lines = [line.lstrip("# ") for line in (head[0] if head else "").splitlines()]
    sentence = " ".join(lines).partition(" — ")[2]
    return sentence[:1].upper() + sentence[1:]


def _top(name: str) -> str:
    return re.split("#|::", name)[0]


@dataclass(frozen=True)
class _Run:
    """Files that are merged for a stage, and the top-level keys that decide what it then does."""

    stage: str
    files: tuple[str, ...]
    read: frozenset[str]


@cache
def _runs(root: Path) -> tuple[_Run, ...]:
    """Every stage alone, and with each option that runs after it."""
    from scripts.running.configs import Invocation, reachable
    from scripts.running.stages import ENTRY_POINTS

    folder = root / "configs"
    runs = []
    for path in [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("options/*.yaml"))]:
        if path.parent == folder and "run" not in yaml.safe_load(path.read_text(encoding="utf-8")):
            continue
        stack = _stack(path)
        stage = next(file.stem for file in reversed(stack) if file.parent == folder)
        files = tuple(file.relative_to(folder).with_suffix("").as_posix() for file in stack)
        read = reachable(Invocation(tuple(str(file) for file in stack)).merged(), ENTRY_POINTS)
        runs.append(_Run(stage, files, frozenset(read)))
    return tuple(runs)


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
