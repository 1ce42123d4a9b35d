"""Where MONAI's workflows, the model zoo and MONAI Label look things up in a config."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

OVERLAY = Path(__file__).with_name("train_label.yaml")
CLASSIFIER_DATA = "scripts.classifier.datasets.ClassifierData"
NAMED_DATASET = "scripts.patches.tensors.NamedDataset"


def name_training(config: dict[str, Any]) -> dict[str, Any]:
    """Write a training config so that its parts stand where others look for them; what it does is unchanged.

    MONAI checks that handlers are written out in `train#handlers`, that arguments refer to `validate#inferer`,
    `validate#key_metric` and `val_interval` by these ids, and the zoo needs `data` below every dataset. The YAML
    defines a thing once, where it is read best; definition and reference change places here.

    A config of the classifier is also made ready for MONAI Label, which trains with it, by `train_label.yaml`.

    Args:
        config: merged, unresolved config with `train` and `validate`.

    Returns:
        A changed copy.
    """
    renamed = copy.deepcopy(config)
    _name_datasets(renamed)
    _write_out_handlers(renamed)
    _name_interval(renamed)
    evaluator = renamed["validate"]["evaluator"]
    for argument, name in (("inferer", "inferer"), ("key_val_metric", "key_metric")):
        reference = f"@validate#{name}"
        if argument in evaluator and evaluator[argument] != reference:
            renamed["validate"][name] = evaluator[argument]
            evaluator[argument] = reference
    if renamed.get("data", {}).get("_target_") == CLASSIFIER_DATA:
        _lay_over(renamed, yaml.safe_load(OVERLAY.read_text(encoding="utf-8")))
    return renamed


def begin_in_run(config: dict[str, Any]) -> dict[str, Any]:
    """Let `run` begin the stage, and nothing be done by `initialize`.

    MONAI runs `initialize` whenever it opens a bundle, to look at its network too: a stage that begins there asks for
    its inputs, and writes. MONAI also makes the bundle's `scripts` importable in `run` only.

    Args:
        config: merged, unresolved config of a stage.

    Returns:
        A changed copy; what `monai.bundle run` does is unchanged.
    """
    return {**config, "initialize": [], "run": [*config["initialize"], *config["run"]]}


def write_out_network(config: dict[str, Any]) -> dict[str, Any]:
    """Write the definition of the network under `network_def`, where others change its arguments.

    The YAML defines a network once for all stages, under a name of its own (`classifier_def`, `generator_def`).

    Args:
        config: merged, unresolved config.

    Returns:
        A changed copy.
    """
    renamed = copy.deepcopy(config)
    reference = renamed.get("network_def")
    if isinstance(reference, str) and reference.startswith("@"):
        renamed["network_def"] = renamed.pop(reference.removeprefix("@"))
        _replace(renamed, reference, "@network_def")
    return renamed


def _lay_over(config: dict[str, Any], overlay: dict[str, Any]) -> None:
    for key, value in overlay.items():
        parent, name = _parent(config, key.removeprefix("+"))
        parent[name] = [*parent[name], *value] if key.startswith("+") else value


def _write_out_handlers(config: dict[str, Any]) -> None:
    # Components, where MONAI expects them; not by number, as MONAI Label puts a handler of its own before the others.
    # typing.cast returns its value.
    handlers = config["train"]["handlers"]
    handlers[:] = [
        {"_target_": "typing.cast", "typ": None, "val": item} if isinstance(item, str) else item for item in handlers
    ]


def _parent(config: dict[str, Any], reference: str) -> tuple[dict[str, Any], str]:
    *folders, name = reference.removeprefix("@").split("#")
    parent = config
    for folder in folders:
        parent = parent[folder]
    return parent, name


def _name_interval(config: dict[str, Any]) -> None:
    for handler in config["train"]["handlers"]:
        if handler["_target_"] == "ValidationHandler":
            config["val_interval"] = handler["interval"]
            handler["interval"] = "@val_interval"


def _name_datasets(config: dict[str, Any]) -> None:
    for part in ("train", "validate"):
        whole = f"@{part}#dataset"
        definition = config[part].pop("dataset")
        loaded = config[part].get("dataloader", {}).get("dataset")
        _replace(config, whole, f"{whole}#data")
        if loaded == whole:
            config[part]["dataloader"]["dataset"] = whole
        config[part]["dataset"] = {"_target_": NAMED_DATASET, "data": definition}


def _replace(value: Any, old: str, new: str) -> Any:
    # In place, and of whole strings that lead to the part or into it; an expression that reads one is another case.
    if isinstance(value, dict):
        value.update({key: _replace(item, old, new) for key, item in value.items()})
    elif isinstance(value, list):
        value[:] = [_replace(item, old, new) for item in value]
    if isinstance(value, str) and (value == old or value.startswith(f"{old}#")):
        return new + value.removeprefix(old)
    return value
