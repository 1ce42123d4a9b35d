"""The flat configs that other programs look for, generated from the YAML that people write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from bundle.looked_up import begin_in_run, name_training, write_out_network
from scripts.running.configs import reachable
from scripts.running.files import atomic_path

ROOT = Path(__file__).resolve().parents[1]
FLAT = {
    "train.json": ("common", "train_classifier"),
    "inference.json": ("common", "patches", "inference"),
}
# Ids that MONAI's workflows, MonaiAlgo and MONAI Label look up, and the entry points of a run.
LOOKED_UP = (
    "bundle_root",
    "dataset_dir",
    "output_dir",
    "device",
    "dataset",
    "dataloader",
    "network_def",
    "network",
    "preprocessing",
    "postprocessing",
    "inferer",
    "handlers",
    "displayable_configs",
    "evaluator",
    "train",
    "validate",
    "val_interval",
    "initialize",
    "run",
    "finalize",
)


def flatten(name: str, root: Path = ROOT) -> dict[str, Any]:
    """Merge the YAML files behind a flat config and drop what nothing in it reads.

    Args:
        name: key of `FLAT`.
        root: root of the bundle.

    Returns:
        One config that stands alone.
    """
    return merge_flat(FLAT[name], root)


def merge_flat(stems: Sequence[str], root: Path = ROOT) -> dict[str, Any]:
    """Merge YAML files into one config with its parts under the names that other programs look up.

    Args:
        stems: files in `configs`, without folder and ending, later ones win.
        root: root of the bundle.

    Returns:
        One config that stands alone, without what nothing in it reads.
    """
    files = [str(root / "configs" / f"{stem}.yaml") for stem in stems]
    config = write_out_network(reachable(ConfigParser.load_config_files(files), LOOKED_UP))
    return name_training(begin_in_run(config)) if "validate" in config else begin_in_run(config)


def write_flat(root: Path = ROOT) -> list[Path]:
    """Write every flat config of `FLAT` and return their paths."""
    written = []
    for name in FLAT:
        path = root / "configs" / name
        with atomic_path(path) as temporary:
            ConfigParser.export_config_file(flatten(name, root), str(temporary), indent=2)
        written.append(path)
    return written


def stale(root: Path = ROOT) -> list[str]:
    """List the flat configs that are missing or differ from what the YAML says today."""
    return [name for name in FLAT if _stored(root / "configs" / name) != json.loads(json.dumps(flatten(name, root)))]


def _stored(path: Path) -> Mapping[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
