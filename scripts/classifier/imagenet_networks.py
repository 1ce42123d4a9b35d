"""The CNNs of torchvision and timm whose ImageNet weights many papers start from, for patches of any channels.

torchvision and timm are the extra `vision`; without it every other backbone works.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# Mean and standard deviation of the colors of ImageNet, of images in [0, 1] (torchvision.models, "transforms").
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Networks that were ported from TensorFlow read [-1, 1]; torchvision does so by its `transform_input`.
MINUS_ONE_TO_ONE = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Source(NamedTuple):
    """Where a network comes from, and what it can take.

    Args:
        package: "torchvision" or "timm", whose layout its file of weights has.
        name: of the network there.
        smallest: pixels of each side of an image at least, as in Keras; below, most maps have no pixel left.
        colors: mean and standard deviation, of images in [0, 1], by which its training images were normalized.
        settings: further arguments.
    """

    package: str
    name: str
    smallest: int = 32
    colors: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    settings: tuple[tuple[str, Any], ...] = ()


# A further network is a line here; the order is that of their publication.
SOURCES = {
    "torchvision_vgg16": Source("torchvision", "vgg16"),
    "torchvision_vgg19": Source("torchvision", "vgg19"),
    "torchvision_resnet50": Source("torchvision", "resnet50"),
    # Its auxiliary classifier is for trainings from nothing, and our losses take one answer an image.
    "torchvision_inception_v3": Source(
        "torchvision", "inception_v3", 75, MINUS_ONE_TO_ONE, (("aux_logits", False), ("transform_input", False))
    ),
    "torchvision_densenet121": Source("torchvision", "densenet121"),
    "timm_xception": Source("timm", "legacy_xception", 71, MINUS_ONE_TO_ONE),
    "torchvision_mobilenet_v2": Source("torchvision", "mobilenet_v2"),
    "torchvision_efficientnet_b0": Source("torchvision", "efficientnet_b0"),
}


class ImageNetNetwork(nn.Module):
    """A network of torchvision or timm that normalizes patches as its training images were.

    x in [-1, 1] becomes ((x + 1) / 2 - mean) / std, in RGB with the mean and the std of each color, in other numbers of
    channels with their means over the colors: so patches are the same for every backbone.

    Args:
        network: from normalized images (B, C, H, W) to logits (B, K).
        source: where it comes from.
        in_channels: C.
    """

    def __init__(self, network: nn.Module, source: Source, in_channels: int) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in source.colors)
        if in_channels != 3:
            mean, std = (values.mean(dim=1, keepdim=True).repeat(1, in_channels, 1, 1) for values in (mean, std))
        self.layout = source.package
        self.register_buffer("center", 2 * mean - 1)
        self.register_buffer("scale", 2 * std)
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, C, H, W), [-1, 1]."""
        return self.network((image - self.center) / self.scale)


class InceptionNetwork(ImageNetNetwork):
    """Inception, which in TorchScript returns its auxiliary logits, too, as if it had such; see `ImageNetNetwork`."""

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, C, H, W), [-1, 1]."""
        answer = self.network((image - self.center) / self.scale)
        if torch.jit.is_scripting():
            return answer.logits
        return answer


def imagenet_network(
    backbone: str, spatial_dims: int, in_channels: int, num_classes: int, image_size: Sequence[int] | None
) -> ImageNetNetwork:
    """Build a network with random weights.

    Args:
        backbone: key of `SOURCES`.
        spatial_dims: 2.
        in_channels: channels of the image; of other numbers than three the first convolution is made anew.
        num_classes: length of the logits, K.
        image_size: pixels of each side; None where nobody knows them.

    Raises:
        ValueError: if the images are no pictures of at least the smallest size.
        ImportError: without the package that it comes from.
    """
    source = SOURCES[backbone]
    if spatial_dims != 2:
        raise ValueError(f"spatial_dims must be 2 for {backbone}, got {spatial_dims!r}; choose another backbone")
    if image_size is not None and min(image_size) < source.smallest:
        raise ValueError(
            f"patch_size must be at least {source.smallest} a side for {backbone}, got {list(image_size)!r}; choose"
            " larger patches or another classifier_backbone"
        )
    if source.package == "timm":
        network = _package("timm").create_model(source.name, num_classes=num_classes, **dict(source.settings))
    else:
        make = getattr(_package("torchvision.models"), source.name)
        network = make(weights=None, num_classes=num_classes, **dict(source.settings))
    if in_channels != 3:
        name, stem = first_convolution(network)
        network.set_submodule(name, _of_channels(stem, in_channels))
    return (InceptionNetwork if "inception" in source.name else ImageNetNetwork)(network, source, in_channels)


def first_convolution(network: nn.Module) -> tuple[str, nn.Module]:
    """Name and module of the convolution that reads the image."""
    return next((name, one) for name, one in network.named_modules() if isinstance(one, (nn.Conv2d, nn.Conv3d)))


def last_layer(network: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the linear layer that gives the logits."""
    return [(name, one) for name, one in network.named_modules() if isinstance(one, nn.Linear)][-1]


def _of_channels(stem: nn.Module, in_channels: int) -> nn.Conv2d:
    assert isinstance(stem, nn.Conv2d)
    return nn.Conv2d(
        in_channels,
        stem.out_channels,
        stem.kernel_size,  # type: ignore[arg-type]
        stem.stride,  # type: ignore[arg-type]
        stem.padding,  # type: ignore[arg-type]
        bias=stem.bias is not None,
    )


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another build of torch, CPU or CUDA
        raise ImportError(
            f"{name.split('.')[0]} must be installed for this classifier_backbone, of the build of torch"
            f" {torch.__version__}, got {str(error).splitlines()[0]!r}; pip install -c constraints.txt '.[vision]'"
        ) from error
