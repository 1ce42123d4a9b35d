"""The weights that answer, and what they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scripts.provenance.image_form import recorded_images, require_same_images
from scripts.provenance.record import read_provenance, record_path
from scripts.provenance.state_dicts import load_state
from scripts.running.files import sha256_file

HOW_TO_GET_WEIGHTS = (
    "make them with `python -m monai.bundle run --config_file \"['configs/common.yaml','configs/study.yaml']\"` and"
    " give the model.pt of one of its evaluation folders as --weights_path, or copy that and the provenance.json"
    " beside it to models/"
)
NOTICE = "Simulated weights: trained on simulated images only. Not for patients."
RESEARCH = "For research only. Not a medical device."


def require_weights(weights_path: str | Path) -> None:
    """Check that weights and the record of what they were trained on are there.

    Raises:
        FileNotFoundError: naming the path and the command that makes them.
    """
    for path in (Path(weights_path), record_path(weights_path)):
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: {HOW_TO_GET_WEIGHTS}")


def load_classifier(
    network_def: nn.Module,
    weights_path: str,
    images: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Put trained weights into the classifier, ready to answer.

    Args:
        network_def: `FoldEnsemble` as it was trained; other weights are refused by it.
        weights_path: `model.pt`, a bare state dict.
        images: what patches it is given, from `scripts.provenance.image_form.describe_images`; it must be trained on
            such. None where the caller compares them, as it can with patches that lie in files and say of what they
            are made.
        device: where to compute.

    Returns:
        The network on the device, in evaluation mode.

    Raises:
        FileNotFoundError: if there are no weights.
        ValueError: if they are of another network or of other images, or their record is about other weights or does
            not tell the images.
    """
    require_weights(weights_path)
    if images is not None:
        trained_on = recorded_images(read_provenance(weights_path), weights_path)
        require_same_images(trained_on, images, "the patch to grade", weights_path)
    network_def.load_state_dict(load_state(weights_path))
    return network_def.to(device).eval()


def describe_weights(weights_path: str) -> dict[str, Any]:
    """Say what weights were trained on, as every answer carries it.

    Returns:
        `simulated`, `cohorts`, `num_subjects`, `setup`, `fold` (None for an ensemble), `num_synthetic_sets`, `sha256`
        and `notice`, a sentence for people.
    """
    record = read_provenance(weights_path)
    return {
        "simulated": bool(record["simulated"]),
        "cohorts": record["cohorts"],
        "num_subjects": len(record["subjects"]),
        "setup": record.get("setup"),
        "fold": record["fold"],
        "num_synthetic_sets": len(record["synthetic"]),
        "sha256": sha256_file(weights_path),
        "notice": NOTICE if record["simulated"] else RESEARCH,
    }
