"""A package on disk, as the rules of `bundle verify` look at it."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import Tensor, nn

from scripts.running.configs import parser_of
from scripts.running.files import read_json

# Config -> kind of workflow, as MONAI names them.
WORKFLOWS = {
    "train.json": "train",
    "inference.json": "inference",
    "train_generator.json": "train",
    "generate.json": "inference",
}
DATA_STAGES = ("cohort", "patches", "splits")  # their configs make the data of a training
RANDOM = ("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "trunc_normal_", "normal_", "uniform_")
TEXT = {".py", ".json", ".md", ".txt", ".yml", ".yaml", ".conf", ".j2", ".cfg", ".toml", ".css", ""}


@dataclass(frozen=True)
class Package:
    """A folder in zoo format.

    Args:
        root: the folder.
        allow_placeholder: accept addresses in `large_files.yml` that cannot exist.
    """

    root: Path
    allow_placeholder: bool = False

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Content of `configs/metadata.json`."""
        return read_json(self.config_path("metadata.json"))

    @cached_property
    def configs(self) -> Mapping[str, dict[str, Any]]:
        """Config that is there, by file name."""
        return {name: read_json(self.config_path(name)) for name in WORKFLOWS if self.config_path(name).is_file()}

    @cached_property
    def data_stages(self) -> Mapping[str, dict[str, Any]]:
        """Config of a stage that makes the data of a training, by file name."""
        return {f"{stage}.json": read_json(self.config_path(f"{stage}.json")) for stage in DATA_STAGES}

    @cached_property
    def weights(self) -> list[Path]:
        """State dicts of the package, the ensemble's first."""
        return sorted(self.root.glob("models/**/*.pt"), key=lambda path: (len(path.parts), path))

    @property
    def weights_path(self) -> Path:
        """State dict of the ensemble."""
        return self.root / "models" / "model.pt"

    @cached_property
    def files(self) -> list[Path]:
        """Every file, without what Python leaves behind."""
        return sorted(path for path in self.root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)

    @property
    def texts(self) -> list[Path]:
        """Files that people read."""
        return [path for path in self.files if path.suffix in TEXT]

    def config_path(self, name: str) -> Path:
        """Path of a file in `configs`."""
        return self.root / "configs" / name

    def parser(self, name: str) -> ConfigParser:
        """Parser of a config, with this folder as its root and the CPU as its device."""
        config = ConfigParser.load_config_file(str(self.config_path(name)))
        return parser_of({**config, "bundle_root": str(self.root), "device": "cpu"})


@contextlib.contextmanager
def packaged_scripts(root: Path) -> Iterator[None]:
    """Import `scripts` from a package instead of from this repository, inside the block only."""
    own = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_scripts(name)}
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    path = list(sys.path)
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        sys.dont_write_bytecode = written
        for name in [name for name in sys.modules if _is_scripts(name)]:
            del sys.modules[name]
        sys.modules.update(own)


def _is_scripts(name: str) -> bool:
    return name.startswith("scripts") and name.partition(".")[0] == "scripts"


@contextlib.contextmanager
def random_weights_left_out() -> Iterator[None]:
    """Let new networks be of zeros inside the block: drawing weights takes longer than all that is asked of them.

    For networks that are looked at for their shapes, or get the weights of a file.
    """
    drawn = {name: getattr(nn.init, name) for name in RANDOM}
    for name in RANDOM:
        setattr(nn.init, name, _set_to_zero)
    try:
        yield
    finally:
        for name, function in drawn.items():
            setattr(nn.init, name, function)


def _set_to_zero(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return nn.init.zeros_(tensor)
