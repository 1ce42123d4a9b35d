"""What a run is made of: config files and overrides, merged as MONAI merges them, and checked before it does."""

from __future__ import annotations

import copy
import functools
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ComponentLocator, ConfigParser

from scripts.running.files import file_state, require_utf8

# Arguments of `monai.bundle run` itself, not of the config.
RUN_ARGUMENTS = {
    "run_id",
    "init_id",
    "final_id",
    "meta_file",
    "config_file",
    "logging_file",
    "tracking",
    "args_file",
    "workflow_type",
    "properties_path",
}
TRAINER_HANDLERS = "train#handlers"  # where MONAI adds those of `--tracking`
LOSS_OF_BATCH = {"_target_": "scripts.training.curves.loss_of", "_mode_": "callable"}
REFERENCE = re.compile(r"[@%](\w+)")


@dataclass(frozen=True)
class Invocation:
    """The config files of a run, in order of merging, and the overrides of its command line.

    Args:
        config_files: YAML or JSON files; later ones win.
        overrides: id ("lr", "train#trainer#max_epochs") -> value.
        may_overwrite: a study asked before it began; its stages may delete what is out of date without `overwrite` on
            their command lines, which are logged to be copied.
    """

    config_files: tuple[str, ...]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    may_overwrite: bool = False

    @classmethod
    def from_command_line(cls, arguments: list[str] | None = None) -> Invocation | None:
        """Read `python -m monai.bundle run ...` from `sys.argv`; None when the process was started otherwise."""
        arguments = sys.argv if arguments is None else arguments
        if len(arguments) < 2 or not re.search(r"monai.bundle(.__main__\.py)?$", arguments[0]) or arguments[1] != "run":
            return None
        flags = _parse_flags(arguments[2:])
        if flags.get("args_file"):
            flags = {**load_files(flags["args_file"]), **flags}
        for key in (key for key, value in flags.items() if value is None):
            raise ValueError(f"--{key} must not be None, which MONAI ignores; write --{key} '$None'")
        files = flags.get("config_file") or ()
        return cls(
            config_files=(files,) if isinstance(files, str) else tuple(files),
            overrides={key: value for key, value in flags.items() if key not in RUN_ARGUMENTS},
        )

    def files_merged(self) -> ConfigParser:
        """Merge the files alone, without the overrides."""
        parser = ConfigParser()
        states = tuple((path, *file_state(path)) for path in self.config_files)
        parser.set({parser.meta_key: {}, **copy.deepcopy(_load_merged(states))})
        return parser

    def merged(self) -> dict[str, Any]:
        """Merge files and overrides into one unresolved config, as `monai.bundle run` does."""
        parser = self.files_merged()
        parser.update(dict(self.overrides))
        return parser.get()

    def command(self) -> str:
        """Return the shell command that runs the same from the bundle root."""
        files = "[" + ",".join(f"'{path}'" for path in self.config_files) + "]"
        flags = [f"--{key} {shlex.quote(_as_argument(value))}" for key, value in self.overrides.items()]
        return " ".join([f'python -m monai.bundle run --config_file "{files}"', *flags])


def fit_tracking(parser: ConfigParser) -> None:
    """Let the handlers that MONAI's `--tracking mlflow` adds to a trainer read the loss of a batch as it is.

    Their default takes the first image of a decollated batch, of which it gives a number, and of a whole batch a tuple,
    which MLflow refuses. These trainers leave batches whole, which is faster.

    Args:
        parser: of the run, before its items are built.
    """
    handlers = parser.get(TRAINER_HANDLERS)
    for number, handler in enumerate(handlers if isinstance(handlers, list) else []):
        if isinstance(handler, dict) and handler.get("_target_") == "MLFlowHandler":
            parser[f"{TRAINER_HANDLERS}#{number}"] = {**handler, "output_transform": LOSS_OF_BATCH}


def load_files(paths: str | Sequence[str]) -> dict[str, Any]:
    """Merge config files as MONAI does, and refuse one in another encoding than UTF-8 by its name."""
    if isinstance(paths, str):
        paths = [paths] if Path(paths).is_file() else paths.split(",")
    for path in paths:
        require_utf8(path)
    merged: dict[str, Any] = ConfigParser.load_config_files(paths)
    return merged


@functools.lru_cache(maxsize=256)
def _load_merged(states: tuple[tuple[str, int, int], ...]) -> dict[str, Any]:
    """Merge config files, once while they stay the same; a study asks for those of a stage a dozen times."""
    return load_files([path for path, *_ in states])


def parser_of(config: Mapping[str, Any]) -> ConfigParser:
    """Return a parser of a merged config that knows MONAI's components, which each new one would collect anew."""
    parser = ConfigParser(dict(config))
    parser.locator = components()
    return parser


@functools.cache
def components() -> ComponentLocator:
    """Return the table of MONAI's components, which each parser would collect anew."""
    return ComponentLocator()


def reachable(config: Mapping[str, Any], roots: Iterable[str]) -> dict[str, Any]:
    """Return the top-level items that the roots refer to, directly or through others.

    Args:
        config: merged, unresolved config.
        roots: top-level ids to start from; those that are not there are passed over.

    Returns:
        The sub-config that decides what the roots do; a key that nothing reads is not in it.
    """
    reached: dict[str, Any] = {}
    waiting = [key for key in roots if key in config]
    while waiting:
        key = waiting.pop()
        if key not in reached:
            reached[key] = config[key]
            waiting += [name for name in references(config[key]) if name in config]
    return {key: config[key] for key in config if key in reached}


def references(value: Any) -> set[str]:
    """Collect the top-level ids that a config value refers to by `@` or `%`."""
    return {name for text in texts(value) for name in REFERENCE.findall(text)}


def is_plain(value: Any) -> bool:
    """Tell whether a config value says what it is: a number, a name, a list or table of them, and no component."""
    if isinstance(value, str):
        return not value.startswith(("$", "@", "%"))
    if isinstance(value, Mapping):
        return "_target_" not in value and all(is_plain(item) for item in value.values())
    return all(is_plain(item) for item in value) if isinstance(value, (list, tuple)) else True


def texts(value: Any) -> Iterator[str]:
    """List the strings of a config value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts(key)
            yield from texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)


def _parse_flags(arguments: list[str]) -> dict[str, Any]:
    flags: dict[str, Any] = {}
    position = 0
    while position < len(arguments):
        name, equals, value = arguments[position].partition("=")
        position += 1
        if not name.startswith("-"):
            flags.setdefault("run_id", name)
            continue
        follows = position < len(arguments) and not re.match(r"--?[A-Za-z_]", arguments[position])
        if not equals and follows:
            value = arguments[position]
            position += 1
        flags[name.lstrip("-").replace("-", "_")] = DefaultParseValue(value) if equals or follows else True
    return flags


def _as_argument(value: Any) -> str:
    return value if isinstance(value, str) else "$None" if value is None else repr(value)
