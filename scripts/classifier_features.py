"""Features of images: what the last layer of a trained classifier reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from scripts.networks import FoldEnsemble


class PenultimateFeatures:
    """The input of the last linear layer of a classifier.

    Args:
        network: classifier with one member, in eval mode.
        block_size: images at once.
    """

    def __init__(self, network: nn.Module, block_size: int = 64) -> None:
        self.network = network
        self.block_size = block_size
        self._found: list[Tensor] = []
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        last.register_forward_pre_hook(lambda _, inputs: self._found.append(inputs[0].flatten(1)))

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of (N, C, *spatial), (N, D) float32."""
        self._found.clear()
        with torch.no_grad():
            for block in images.float().split(self.block_size):
                self.network(block)
        return torch.cat(self._found)


def classifier_features(
    weights_path: str | None,
    backbone: str,
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    stem_stride: int,
    device: torch.device | str = "cpu",
) -> Callable[[Tensor], Tensor] | None:
    """Load one fold's classifier as a feature network; None without weights.

    Args:
        weights_path: `model.pt` of `configs/train_classifier.yaml`; None asks for no features.
        backbone: see `scripts.networks.FoldEnsemble`, as the others.
        spatial_dims: 2 or 3.
        in_channels: modalities.
        num_classes: K.
        stem_stride: of the first convolution.
        device: where it runs.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the weights are of another network.
    """
    if weights_path is None:
        return None
    if not Path(weights_path).is_file():
        raise FileNotFoundError(f"{weights_path} does not exist; write it with configs/train_classifier.yaml")
    network = FoldEnsemble(backbone, 1, spatial_dims, in_channels, num_classes, stem_stride)
    network.load_state_dict(torch.load(weights_path, map_location="cpu", weights_only=True))
    return PenultimateFeatures(network.eval().to(device))
