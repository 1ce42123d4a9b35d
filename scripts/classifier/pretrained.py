"""Where a classifier starts from: a local file of pretrained weights, of which the last layer alone may be trained."""

from __future__ import annotations

import re

import torch
from monai.networks import nets
from torch import Tensor, nn

from scripts.classifier.imagenet_networks import ImageNetNetwork, first_convolution, last_layer
from scripts.provenance.state_dicts import load_state, refuse_other_state, refuse_prefix

AUXILIARY = "AuxLogits."  # second classifier of Inception, which no network here has
COUNTER = ".num_batches_tracked"  # of BatchNorm; files from before 2018 have none
# As torchvision's files name the layers of a DenseNet, which its own loader renames, too.
DENSE_LAYER = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.(\d)\.")


def load_pretrained(network: nn.Module, path: str) -> None:
    """Start a network from a state dict of the layout of torchvision or timm, such as ImageNet weights in a local file.

    Args:
        network: see `pretrained_state`.
        path: `.pt` or `.pth` file of tensors.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file does not fit the network.
    """
    inner = network.network if isinstance(network, ImageNetNetwork) else network
    inner.load_state_dict(pretrained_state(network, path))


def pretrained_state(network: nn.Module, path: str) -> dict[str, Tensor]:
    """Read a file of pretrained weights as the state dict of a network.

    The first convolution is inflated from its RGB channels to those of the network, keeping its response to a grey
    image; the last layer is dropped, because its classes are others, and so is the auxiliary classifier of Inception.

    Args:
        network: `ImageNetNetwork`, or 2D MONAI ResNet, whose layout is torchvision's.
        path: `.pt` or `.pth` file of tensors.

    Returns:
        Name -> tensor, of the network inside an `ImageNetNetwork`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the network has another layout, the file is no state dict of finite weights, or another key is
            missing, unexpected or misshaped.
    """
    if isinstance(network, ImageNetNetwork):
        layout, network = network.layout, network.network
    elif isinstance(network, nets.ResNet):
        layout = "torchvision"
    else:
        raise ValueError(
            f"classifier_pretrained_path must be null for a {type(network).__name__}, got {path}; ResNets and the"
            " backbones torchvision_* and timm_* have the layout of torchvision or timm, whose file this must be"
        )
    own = network.state_dict()
    state = load_state(
        path,
        f"save {layout}'s state dict there, such as resnet152-394f9c45.pth, or set classifier_pretrained_path to null",
    )
    demand = f"{path} must be a {layout} state dict of this backbone"
    refuse_prefix(own, state, demand)
    state = {DENSE_LAYER.sub(r"\1\2.", key): value for key, value in state.items() if not key.startswith(AUXILIARY)}
    stem, head = first_convolution(network)[0] + ".weight", last_layer(network)[0] + "."
    state |= {key: own[key] for key in own if key.startswith(head)}
    state |= {key: own[key] for key in own if key.endswith(COUNTER) and key not in state}
    if stem in state:
        state[stem] = inflate_channels(state[stem], own[stem].shape[1])
    refuse_other_state(own, state, demand, "choose the classifier_backbone that the file is of")
    return state


def inflate_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Spread the mean kernel over `in_channels`, so that a grey image keeps its response.

    Args:
        weight: shape (out, in, *kernel).
        in_channels: new number of input channels.

    Returns:
        Shape (out, in_channels, *kernel); unchanged if it has that many channels already.
    """
    if weight.shape[1] == in_channels:
        return weight
    grey = weight.sum(dim=1, keepdim=True) / in_channels
    return grey.expand(-1, in_channels, *[-1] * (weight.ndim - 2)).clone()


def freeze_body(network: nn.Module) -> None:
    """Leave the last layer of a network alone to be trained."""
    network.requires_grad_(False)
    last_layer(network)[1].requires_grad_(True)


@torch.no_grad()
def rotate_logits(network: nn.Module, rotation: int) -> None:
    """Give the weights behind each logit to the one `rotation` places on, the last ones to the first."""
    if rotation:
        for parameter in last_layer(network)[1].parameters():
            parameter.copy_(parameter.roll(rotation, 0))


def check_frozen(frozen_body: bool, pretrained_path: str | None) -> None:
    """Refuse a body that would stay at random.

    Args:
        frozen_body: `classifier_frozen_body`.
        pretrained_path: `classifier_pretrained_path`.

    Raises:
        ValueError: naming the config keys.
    """
    if frozen_body and pretrained_path is None:
        raise ValueError(
            "classifier_frozen_body must be false without classifier_pretrained_path: a body at random would stay so;"
            " give a file of weights"
        )
