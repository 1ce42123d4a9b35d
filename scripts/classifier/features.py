"""What a classifier reads in images: the features in which they are compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scripts.classifier.imagenet_networks import first_convolution, last_layer


class LastLayerInput:
    """A classifier as a function to what its last layer reads, and to its logits.

    Args:
        network: any backbone, alone or as the only member of a `FoldEnsemble`.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.layer = last_layer(network)[1]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, D) and logits (B, K) of images (B, C, *spatial); not for several threads at once."""
        read: list[Tensor] = []
        # Only while it is asked: nothing stays behind in a network that is explained or exported.
        with self.layer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0])):
            logits = self.network(images)
        return read[-1].flatten(1), logits


class FirstAndLast:
    """A classifier as a function to what it reads first and last.

    The last layer reads what tells the classes, which scanner and noise may leave as it is; the first convolution tells
    of these.

    Args:
        network: any backbone, alone or as the only member of a `FoldEnsemble`.
    """

    def __init__(self, network: nn.Module) -> None:
        self.last = LastLayerInput(network)
        self.layer = first_convolution(network)[1]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Look at images (B, C, *spatial); not for several threads at once.

        Returns:
            Mean and standard deviation over space of each channel of the first convolution (B, 2 F), and what the last
            layer reads (B, D).
        """
        first: list[Tensor] = []
        # Measured at once: the responses need not stay in memory, and a layer that works in place may change them.
        with self.layer.register_forward_hook(lambda _, inputs, responses: first.append(_mean_and_std(responses))):
            last, _ = self.last(images)
        return first[-1], last


def _mean_and_std(responses: Tensor) -> Tensor:
    """Mean and standard deviation over space of each channel, (B, F, *spatial) -> (B, 2 F)."""
    flat = responses.flatten(2)
    return torch.cat([flat.mean(dim=2), flat.std(dim=2, correction=0)], dim=1)
