"""Requests for the grade of a tiny patient, by untrained weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from scripts.classifier.networks import FoldEnsemble
from scripts.provenance.record import write_provenance
from scripts.running.configs import parser_of
from scripts.running.errors import root_cause
from scripts.running.files import read_json
from tests.helpers import config_files, run_stage

TINY = {
    "classifier_backbone": "resnet10_thin",
    "num_members": 2,
    "patch_size": [32, 32],
    "min_et_ml": 0.01,
    "device": "cpu",
    "num_threads": 1,
}


def images_of(**overrides: Any) -> dict[str, Any]:
    """What configs/patches.yaml makes images of at the size of these requests."""
    parser = parser_of(ConfigParser.load_config_files(config_files("patches")))
    parser.update({**TINY, **overrides})
    return parser.get_parsed_content("image_facts")


def make_weights(folder: Path, simulated: bool = True, images: Mapping[str, Any] | None = None, **changes: Any) -> str:
    """Write an untrained ensemble with the record of its training, and return the path of its weights."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "backbone": "resnet10_thin",
        "num_members": 2,
        "spatial_dims": 2,
        "in_channels": 4,
        "num_classes": 2,
        **changes,
    }
    folder.mkdir(parents=True)
    torch.save(FoldEnsemble(**settings).state_dict(), folder / "model.pt")
    subjects = [f"S{index}" for index in range(7)]
    trained = {"cohorts": ["site_a"], "subjects": subjects, "simulated": simulated, "fold": None, "setup": "ddpm_mi"}
    write_provenance(folder / "model.pt", **trained, images=images_of(**(images or {})))
    return str(folder / "model.pt")


def ask(folder: Path, weights: str, **request: Any) -> Any:
    """Return the answer of configs/inference.yaml; an error is the one that was raised, not MONAI's around it."""
    settings = {**TINY, "weights_path": weights, "output_dir": str(folder), **request}
    try:
        run_stage("patches", "inference", **settings)
    except RuntimeError as error:
        raise root_cause(error) from None
    return read_json(Path(folder) / "answer.json")
