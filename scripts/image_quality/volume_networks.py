"""Networks that see volumes: a 2D network in the middle slices of three planes, and a 3D ResNet from a local file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from monai.networks.nets import resnet
from torch import Tensor, nn

from scripts.patches.intensities import foreground
from scripts.provenance.state_dicts import load_state, refuse_other_state

PLANES = ("sagittal", "coronal", "axial")  # slices across the first, the second and the third axis
DEPTHS = (10, 18, 34, 50, 101, 152, 200)
WITHOUT_CONVOLUTION = (18, 34)  # whose shortcuts MedicalNet made of pooling and zeros
PREFIX = "module."  # before every name in MedicalNet's files
DILATIONS = {"layer3": 2, "layer4": 4}  # of Med3D, whose last two layers halve no sides
HEADS = ("fc.", "conv_seg.")  # behind the features
MIN_DEVIATION = 1e-3  # of a channel in [-1, 1]


def load_volume_network(path: str | Path, depth: int) -> tuple[resnet.ResNet, str]:
    """Load a 3D ResNet of one channel, which returns what its last layer would read, (B, 1, X, Y, Z) to (B, D).

    Med3D's network and MONAI's ResNet have weights of the same names and shapes, and are two networks: the first layer
    of Med3D halves the sides, and its last two layers are dilated instead of halving them. Files whose names begin with
    "module.", as all of MedicalNet do, are of Med3D, and all others of MONAI's ResNet.

    Source: Chen, Ma, Zheng 2019, "Med3D: Transfer learning for 3D medical image analysis", section 3.2, and
    `models/resnet.py` of MedicalNet, its code.

    Args:
        path: state dict of MONAI's ResNet or of MedicalNet, bare or below `state_dict`.
        depth: number of layers, one of `DEPTHS`.

    Returns:
        The network, and the name of its form: "Med3D ResNet" or "MONAI ResNet".

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the weights are of another network.
    """
    check_depth(depth)
    way_out = f"give a ResNet of {depth} layers and one channel, or set measure_volume_network_depth to its own"
    loaded = load_state(path, way_out, wrapped_as="state_dict")
    is_med3d = bool(loaded) and all(name.startswith(PREFIX) for name in loaded)
    network = _network(depth, is_med3d)
    bare = {name.removeprefix(PREFIX): value for name, value in loaded.items()}
    state = {name: value for name, value in bare.items() if not name.startswith(HEADS)}
    demand = f"{path} must hold weights of a 3D ResNet{depth} with one channel"
    refuse_other_state(network.state_dict(), state, demand, way_out)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False), "Med3D ResNet" if is_med3d else "MONAI ResNet"


def _network(depth: int, is_med3d: bool) -> resnet.ResNet:
    build: Callable[..., resnet.ResNet] = getattr(resnet, f"resnet{depth}")
    network = build(
        spatial_dims=3,
        n_input_channels=1,
        conv1_t_stride=2 if is_med3d else 1,
        feed_forward=False,
        shortcut_type="A" if depth in WITHOUT_CONVOLUTION else "B",
        bias_downsample=False,
    )
    for layer, dilation in DILATIONS.items() if is_med3d else ():
        _dilate(getattr(network, layer), dilation)
    return network


def _dilate(layer: nn.Module, dilation: int) -> None:
    """Let a layer of a ResNet look further instead of halving the sides."""
    for module in layer.modules():
        if isinstance(module, nn.Conv3d):
            module.stride = (1, 1, 1)
            if module.kernel_size == (3, 3, 3):
                module.dilation = module.padding = (dilation,) * 3
        elif isinstance(getattr(module, "downsample", None), partial):
            module.downsample = partial(module.downsample, stride=1)


def check_depth(depth: int) -> None:
    """Refuse a number of layers that no ResNet has.

    Raises:
        ValueError: naming the config key.
    """
    if depth not in DEPTHS:
        raise ValueError(f"measure_volume_network_depth must be one of {', '.join(map(str, DEPTHS))}, got {depth!r}")


class MiddleSlice:
    """The middle slices of volumes (B, C, X, Y, Z) across one axis, as a view of a 2D network.

    Source: Sun et al. 2022, "Hierarchical amortized GAN for 3D high resolution medical image synthesis", who compare
    middle slices of three planes.

    Args:
        axis: number of the plane in `PLANES`.
        view: of the slices (B, C, H, W).
    """

    def __init__(self, axis: int, view: Callable[[Tensor], Tensor]) -> None:
        self.axis, self.view = axis, view

    def __call__(self, images: Tensor) -> Tensor:
        """Show (B, C, X, Y, Z)."""
        axis = 2 + self.axis
        return self.view(images.select(axis, images.shape[axis] // 2))


class StandardizedChannel:
    """One channel of volumes, of mean 0 and standard deviation 1 in the foreground, 0 in the background, as Med3D's."""

    def __init__(self, channel: int) -> None:
        self.channel = channel

    def __call__(self, images: Tensor) -> Tensor:
        """Show (B, C, X, Y, Z) in [-1, 1] as (B, 1, X, Y, Z)."""
        channel = images[:, self.channel : self.channel + 1]
        inside = foreground(images, channel_axis=1)[:, None].to(channel)
        axes = tuple(range(1, images.ndim))
        count = inside.sum(axes, keepdim=True).clamp_min(1)
        centered = (channel - (channel * inside).sum(axes, keepdim=True) / count) * inside
        deviation = (centered.square().sum(axes, keepdim=True) / count).sqrt()
        return centered / deviation.clamp_min(MIN_DEVIATION)
