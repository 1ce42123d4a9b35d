"""A segmentation bundle as the zoo lays out `brats_mri_segmentation`, with weights of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from scripts.running.configs import parser_of

CHANNELS = {"0": "T1c", "1": "T1", "2": "T2", "3": "FLAIR"}
REGIONS = {"0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"}
MODALITIES = ["t1c", "t1n", "t2w", "t2f"]  # what CHANNELS are in the project's words
SEGRESNET = {
    "_target_": "SegResNet",
    "blocks_down": [1, 2, 2, 4],
    "blocks_up": [1, 1, 1],
    "init_filters": 16,
    "in_channels": 4,
    "out_channels": 3,
    "dropout_prob": 0.2,
}
POINTWISE = {"_target_": "torch.nn.Conv3d", "in_channels": 4, "out_channels": 3, "kernel_size": 1}


def write_bundle(folder: Path, network_def: dict[str, Any] = SEGRESNET, state: Any = None, **config: Any) -> str:
    """Write the three files of a bundle; weights are random unless given, and `config` replaces items of its own."""
    torch.manual_seed(0)
    if state is None:
        state = parser_of({"net": network_def}).get_parsed_content("net").state_dict()
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "models" / "model.pt")
    (folder / "configs" / "inference.json").write_text(json.dumps({**_inference(network_def), **config}))
    write_metadata(folder)
    return str(folder)


def write_metadata(folder: Path, channels: dict[str, str] = CHANNELS) -> None:
    """Write the names of the channels."""
    data_format = {"inputs": {"image": {"channel_def": channels}}, "outputs": {"pred": {"channel_def": REGIONS}}}
    metadata = {"version": "0.4.2", "name": "BraTS MRI segmentation", "network_data_format": data_format}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))


def answering(channel: int) -> dict[str, torch.Tensor]:
    """Weights of `POINTWISE` that call enhancing what is brighter than the mean in one channel, by a deviation."""
    weight = torch.zeros(3, 4, 1, 1, 1)
    weight[:, channel] = 1
    return {"weight": weight, "bias": -torch.ones(3)}


def _inference(network_def: dict[str, Any]) -> dict[str, Any]:
    pred = {"keys": "pred"}
    invert = {"transform": "@preprocessing", "orig_keys": "image", "nearest_interp": False, "to_tensor": True}
    merge = "$lambda x: 4 * x[[2]] + (1 - x[[2]]) * (x[[0]] + 2 * (1 - x[[0]]) * x[[1]])"
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": network_def,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image", "image_only": False},
                {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True},
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [40, 40, 24], "sw_batch_size": 1, "overlap": 0.5},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", **pred, "sigmoid": True},
                {"_target_": "Invertd", **pred, **invert, "meta_keys": "pred_meta_dict"},
                {"_target_": "AsDiscreted", **pred, "threshold": 0.5},
                {"_target_": "Lambdad", **pred, "func": merge},
                {"_target_": "SaveImaged", **pred, "output_dir": "@output_dir", "output_postfix": "seg"},
            ],
        },
    }
