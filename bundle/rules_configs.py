"""Rules about the configs of both networks. Each yields one message per violation, with the way out."""

from __future__ import annotations

from collections.abc import Iterator

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.properties import InferProperties, TrainProperties
from monai.bundle.utils import ID_SEP_KEY

from bundle.package import WORKFLOWS, Package
from scripts.running.configs import references

PROPERTIES = {"train": TrainProperties, "inference": InferProperties}
# What the zoo looks up in every bundle, whatever its workflow class.
ZOO_IDS = {
    "train": (
        "bundle_root",
        "device",
        "dataset_dir",
        "val_interval",
        "train#trainer",
        "train#trainer#max_epochs",
        "train#dataset",
        "train#dataset#data",
        "train#handlers",
        "validate#evaluator",
        "validate#handlers",
        "validate#dataset",
        "validate#dataset#data",
    ),
    "inference": ("bundle_root", "device", "network_def", "inferer", "output_dir"),
}


def standalone(package: Package) -> Iterator[str]:
    """Every reference of a config leads to a part of the same config."""
    for name, config in {**package.configs, **package.data_stages}.items():
        missing = sorted(references(config) - set(config))
        if missing:
            yield f"configs/{name} must define {', '.join(missing)}, to which it refers, got no such key; pack again"


def required_ids(package: Package) -> Iterator[str]:
    """Both networks have the ids that MONAI requires of a training and of an inference workflow."""
    for name, kind in WORKFLOWS.items():
        parser = ConfigParser(package.configs.get(name, {}))
        wanted = [item["id"] for item in PROPERTIES[kind].values() if item["required"]]
        for key in wanted:
            if key not in parser:
                yield f"configs/{name} must define {key}, which MONAI requires of a {kind} workflow, got no such key"


def optional_ids(package: Package) -> Iterator[str]:
    """Where an argument has an optional id of MONAI's, it refers to that id."""
    for name, kind in WORKFLOWS.items():
        path = package.config_path(name)
        workflow = ConfigWorkflow(config_file=str(path), logging_file=False, workflow_type=kind)
        workflow.parser.parse()
        for item, described in PROPERTIES[kind].items():
            reference = described.get("refer_id")
            # MONAI's own check, which stumbles over a value that is no text.
            try:
                correct = workflow._check_optional_id(name=item, property=described)
            except (AttributeError, TypeError):
                correct = False
            if not described["required"] and not correct:
                yield (
                    f"configs/{name} must give {reference} as '@{described['id']}', got something else; write its"
                    " definition under that id (see bundle/looked_up.py)"
                )


def zoo_ids(package: Package) -> Iterator[str]:
    """The ids that the zoo's own checks look up are there."""
    for name, kind in WORKFLOWS.items():
        parser = ConfigParser(package.configs.get(name, {}))
        for key in ZOO_IDS[kind]:
            if key not in parser:
                yield f"configs/{name} must define {key}, which the zoo looks up, got no such key; pack again"


def data_keys(package: Package) -> Iterator[str]:
    """The classifier takes `image` and gives `pred`, in metadata and transforms."""
    described = package.metadata["network_data_format"]
    for side, key in (("inputs", "image"), ("outputs", "pred")):
        if list(described[side]) != [key]:
            yield f"network_data_format {side} must be [{key!r}], got {list(described[side])}; pack again"
    key = ConfigParser(package.configs["inference.json"]).get(f"postprocessing{ID_SEP_KEY}transforms")[0].get("keys")
    if key != "pred":
        yield f"postprocessing must take the key 'pred', got {key!r}; pack again"
