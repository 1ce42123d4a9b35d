"""The flat configs that other programs look for, generated from the YAML that people write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from bundle.looked_up import begin_in_run, name_training, write_out_network
from bundle.pins import metadata_versions
from scripts.running.configs import reachable
from scripts.running.files import atomic_path, read_json, write_text

ROOT = Path(__file__).resolve().parents[1]
METADATA = "metadata.json"  # written by hand but for the versions of packages
FLAT = {
    "train.json": ("common", "train_classifier"),
    "inference.json": ("common", "patches", "inference"),
}
# Overlays of a flat config, for torchrun; `multi_gpu_train.json` is the zoo's name.
MULTI_GPU = {"multi_gpu_train.json": ("common", "train_classifier", "options/multi_gpu_classifier")}
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
    *("tracking_uri", "experiment_name", "save_execute_config"),  # by --tracking
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


def flatten_overlay(stems: Sequence[str], root: Path = ROOT) -> dict[str, Any]:
    """Return what the last of some YAML files changes in the flat config of the others, as an overlay of it.

    Args:
        stems: files in `configs`; the last is an option of `scripts.training.processes`.
        root: root of the bundle.

    Returns:
        Id, such as "train#trainer#network" -> value.
    """
    changed = merge_flat(stems, root)
    # Where a stage writes the record of its weights itself, one process alone ends it.
    end = {"$@stage.end()": "$@processes.end(@stage)"}
    changed["finalize"] = [end.get(item, item) for item in changed["finalize"]]
    return dict(_differences(merge_flat(stems[:-1], root), changed))


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in after.items():
        if key not in before:
            yield f"{above}{key}", value
        elif isinstance(value, dict) and isinstance(before[key], dict) and _can_be_given(before[key], value):
            yield from _differences(before[key], value, f"{above}{key}{ID_SEP_KEY}")
        elif value != before[key]:
            yield f"{above}{key}", value


def _can_be_given(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Tell whether an overlay can give what differs part by part: new parts of a component alone, as its arguments."""
    return "_target_" in before or set(after) <= set(before)


def complete_metadata(root: Path = ROOT) -> dict[str, Any]:
    """Read `configs/metadata.json` and put in the versions of every package that the bundle needs."""
    return {**read_json(root / "configs" / METADATA), **metadata_versions()}


def write_flat(root: Path = ROOT) -> list[Path]:
    """Write every flat config of `FLAT`, complete `metadata.json`, and return their paths."""
    metadata = root / "configs" / METADATA
    write_text(metadata, json.dumps(complete_metadata(root), indent=4, ensure_ascii=False) + "\n")
    written = [metadata]
    for name, content in _flat_configs(root).items():
        path = root / "configs" / name
        with atomic_path(path) as temporary:
            ConfigParser.export_config_file(content, str(temporary), indent=2)
        written.append(path)
    return written


def _flat_configs(root: Path) -> dict[str, dict[str, Any]]:
    overlays = {name: flatten_overlay(stems, root) for name, stems in MULTI_GPU.items()}
    return {**{name: flatten(name, root) for name in FLAT}, **overlays}


def stale(root: Path = ROOT) -> list[str]:
    """List the generated files that differ from what the YAML and `constraints.txt` say today, or are missing."""
    today = {METADATA: complete_metadata(root), **json.loads(json.dumps(_flat_configs(root)))}
    return [name for name, content in today.items() if _stored(root / "configs" / name) != content]


def _stored(path: Path) -> Mapping[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
