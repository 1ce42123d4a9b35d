"""The zoo's `brats_mri_segmentation`, run as a bundle: its own network, transforms and inferer, from a local folder."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data.utils import decollate_batch, list_data_collate
from monai.inferers import Inferer
from monai.transforms import Compose, SaveImage, SaveImaged
from torch import nn

from scripts.provenance.image_form import names_by_number
from scripts.provenance.state_dicts import load_state, refuse_other_state
from scripts.running.files import read_json, sha256_file
from scripts.volumes.mask_codes import MaskCodes, parse_mask_codes
from scripts.volumes.modality_names import describe_aliases, parse_modality

FILES = ("configs/inference.json", "configs/metadata.json", "models/model.pt")
PARTS = ("network_def", "preprocessing", "inferer", "postprocessing")  # what MONAI Label takes from a bundle too
HOW_TO_GET_IT = (
    "get the bundle and its weights with `python -m monai.bundle download --name brats_mri_segmentation --bundle_dir"
    " models`, or give the folder that holds them as --segmentation_bundle_dir"
)


@dataclass(frozen=True)
class SegmentationBundle:
    """A bundle that was loaded: from the files of a patient to mask codes.

    Args:
        facts: name, version and hash of the weights, as `cohort.json` tells them.
        modalities: of the network's channels, in its order.
        mask_codes: tissue -> code of the masks that it makes.
        network: on the device, in evaluation mode.
        preprocessing: dictionary transforms that begin with the files, key `image`.
        inferer: from image and network to logits.
        postprocessing: dictionary transforms of `pred`, without those that save it.
        device: where to compute.
    """

    facts: Mapping[str, str]
    modalities: Sequence[str]
    mask_codes: MaskCodes
    network: nn.Module
    preprocessing: Compose
    inferer: Inferer
    postprocessing: Compose
    device: torch.device

    def __call__(self, paths: Sequence[str]) -> np.ndarray:
        """Segment one patient.

        Args:
            paths: a file for each of `modalities`, in that order, on one grid.

        Returns:
            Codes of `mask_codes` and 0, of the files' shape, uint8.

        Raises:
            ValueError: if the result is no such mask.
        """
        item: Mapping[Hashable, Any] = self.preprocessing({"image": list(paths)})
        batch = list_data_collate([item])
        with torch.no_grad():
            batch["pred"] = self.inferer(batch["image"].to(self.device), self.network)
        result = self.postprocessing(decollate_batch(batch)[0])["pred"]
        return read_result(np.asarray(result.cpu()), self.mask_codes)


def bundle_files(bundle_dir: str) -> list[str]:
    """List the files of a bundle that a segmentation depends on.

    Args:
        bundle_dir: folder of the bundle.

    Raises:
        FileNotFoundError: if one is missing, with the command that gets it.
    """
    paths = [Path(bundle_dir) / name for name in FILES]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; {HOW_TO_GET_IT}")
    return [str(path) for path in paths]


def load_segmentation_bundle(
    bundle_dir: str,
    modalities: Sequence[str],
    mask_codes: str | Mapping[str, int] = "brats_2017",
    roi_size: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> SegmentationBundle:
    """Load the parts of a bundle by its own `configs/inference.json`, and its weights, which are never unpickled.

    A config is code: what it says after a `$` is run. Give a folder that you trust.

    Args:
        bundle_dir: folder of the bundle, as the zoo lays it out.
        modalities: the project's names.
        mask_codes: what the codes of its masks mean, by name or as tissue -> code.
        roi_size: window of its inferer in voxels, multiples of 8; None for the bundle's own.
        device: where to compute.

    Returns:
        The bundle, ready to segment.

    Raises:
        FileNotFoundError: if a file is missing, with the command that gets it.
        ValueError: if a part or the names of its channels are missing or not understood, or the weights do not fit.
    """
    config_path, metadata_path, weights_path = bundle_files(bundle_dir)
    parser = ConfigParser()
    parser.read_meta(metadata_path)
    parser.read_config(config_path)
    parser["bundle_root"] = str(bundle_dir)
    missing = [name for name in PARTS if name not in parser]
    if missing:
        raise ValueError(f"{config_path} must define {', '.join(PARTS)}, got no {', '.join(missing)}; {HOW_TO_GET_IT}")
    if roi_size is not None:
        parser["inferer#roi_size"] = list(roi_size)
    metadata = read_json(metadata_path)
    order = _input_modalities(metadata, metadata_path, modalities)
    num_channels = parser.get("network_def#in_channels", len(order))
    if num_channels != len(order):
        raise ValueError(
            f"network_def of {config_path} must have in_channels {len(order)}, one for each of {', '.join(order)} in"
            f" {metadata_path}, got {num_channels!r}; {HOW_TO_GET_IT}"
        )
    network = parser.get_parsed_content("network_def")
    state = load_state(weights_path, HOW_TO_GET_IT, wrapped_as="model")
    demand = f"{weights_path} must be weights of the network_def beside it"
    refuse_other_state(network.state_dict(), state, demand, HOW_TO_GET_IT)
    network.load_state_dict(state)
    return SegmentationBundle(
        facts={
            "bundle": metadata.get("name", Path(bundle_dir).resolve().name),
            "version": metadata.get("version", "unknown"),
            "weights_sha256": sha256_file(weights_path),
        },
        modalities=order,
        mask_codes=parse_mask_codes(mask_codes),
        network=network.to(device).eval(),
        preprocessing=parser.get_parsed_content("preprocessing"),
        inferer=parser.get_parsed_content("inferer"),
        postprocessing=_without_saving(parser.get_parsed_content("postprocessing")),
        device=torch.device(device),
    )


def read_result(pred: np.ndarray, mask_codes: MaskCodes) -> np.ndarray:
    """Check what a segmentation bundle returns.

    Args:
        pred: codes, (1, *spatial), as the zoo's bundle merges its channels.
        mask_codes: tissue -> code.

    Returns:
        Codes, (*spatial), uint8.

    Raises:
        ValueError: if there are several channels, or other codes.
    """
    known, codes = {0, *mask_codes.values()}, np.unique(pred).tolist()
    if len(pred) != 1 or not set(codes) <= known:
        raise ValueError(
            f"the segmentation must be one channel of the codes {sorted(known)}, got {len(pred)} with {codes[:8]}; set"
            f" segmentation_mask_codes, or {HOW_TO_GET_IT}"
        )
    return pred[0].astype(np.uint8)


def _input_modalities(metadata: Mapping[str, Any], path: str, modalities: Sequence[str]) -> list[str]:
    """The modality of each channel, from the metadata: never guessed, exchanged channels give a plausible mask."""
    names = _channels(metadata)
    parsed = [parse_modality(str(name), modalities) for name in names]
    order = [modality for modality in parsed if modality is not None]
    if not names or len(order) < len(names) or len(set(order)) < len(order):
        raise ValueError(
            f"network_data_format of {path} must name the modality of each input channel once, as in"
            f" {describe_aliases(modalities)}; got {names}; {HOW_TO_GET_IT}"
        )
    return order


def _channels(metadata: Mapping[str, Any]) -> list[str]:
    image = metadata.get("network_data_format", {}).get("inputs", {}).get("image", {})
    return names_by_number(image.get("channel_def", {}))


def _without_saving(postprocessing: Compose) -> Compose:
    """Leave out what would write files of its own: the stage writes them, on the patient's grid and whole."""
    transforms = postprocessing.flatten().transforms
    return Compose([transform for transform in transforms if not isinstance(transform, (SaveImage, SaveImaged))])
