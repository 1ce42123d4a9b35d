"""The classifier: one network per fold, all folds in one state dict."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Protocol

import torch
from monai.networks import nets
from torch import Tensor, nn

from scripts.classifier.imagenet_networks import SOURCES, imagenet_network
from scripts.classifier.pretrained import check_frozen, freeze_body, load_pretrained, rotate_logits
from scripts.provenance.state_dicts import describe_faults, refuse_prefix, shape_of, state_faults


class Builder(Protocol):
    """Builds a backbone; refuses a stem or an image size that it cannot have."""

    def __call__(
        self, spatial_dims: int, in_channels: int, num_classes: int, stem_stride: int, image_size: Sequence[int] | None
    ) -> nn.Module:
        """See `create_backbone`."""


class VisionTransformer(nn.Module):
    """MONAI's vision transformer that returns its logits alone; around it, since TorchScript knows no `super()`.

    Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", table 1; Touvron et al. 2021 (DeiT), table 1, for
    the tiny and the small width.

    Args:
        spatial_dims: 2 or 3.
        in_channels: modalities of the image.
        num_classes: length of the logits, K.
        image_size: cells of each axis, multiples of 16.
        hidden_size: width of a token; the perceptron of a block is four times as wide.
        num_heads: of attention.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        num_classes: int,
        image_size: Sequence[int],
        hidden_size: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.vit = nets.ViT(
            in_channels=in_channels,
            img_size=tuple(image_size),
            patch_size=(TOKEN_SIZE,) * spatial_dims,
            hidden_size=hidden_size,
            mlp_dim=4 * hidden_size,
            num_layers=12,
            num_heads=num_heads,
            classification=True,
            num_classes=num_classes,
            spatial_dims=spatial_dims,
            post_activation="none",  # MONAI's default, Tanh, bounds the logits
            qkv_bias=True,
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, C, *image_size)."""
        return self.vit(image)[0]


def _resnet(make: Callable[..., nn.Module]) -> Builder:
    def build(
        spatial_dims: int, in_channels: int, num_classes: int, stem_stride: int, image_size: Sequence[int] | None
    ) -> nn.Module:
        return make(
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            num_classes=num_classes,
            conv1_t_stride=stem_stride,
            bias_downsample=False,  # has a bias in MONAI, has none in torchvision
        )

    return build


def _of_fixed_stem(make: Callable[..., nn.Module], family: str, classes_key: str, **settings: Any) -> Builder:
    def build(
        spatial_dims: int, in_channels: int, num_classes: int, stem_stride: int, image_size: Sequence[int] | None
    ) -> nn.Module:
        _require_stem_of_two(stem_stride, family)
        return make(spatial_dims=spatial_dims, in_channels=in_channels, **{classes_key: num_classes}, **settings)

    return build


def _vit(hidden_size: int, num_heads: int) -> Builder:
    def build(
        spatial_dims: int, in_channels: int, num_classes: int, stem_stride: int, image_size: Sequence[int] | None
    ) -> nn.Module:
        _require_stem_of_two(stem_stride, "a ViT")
        if image_size is None or len(image_size) != spatial_dims or any(size % TOKEN_SIZE for size in image_size):
            raise ValueError(
                f"patch_size must be {spatial_dims} multiples of {TOKEN_SIZE} for a ViT, got {image_size!r};"
                " choose such patches or another classifier_backbone"
            )
        return VisionTransformer(spatial_dims, in_channels, num_classes, image_size, hidden_size, num_heads)

    return build


def _imagenet(backbone: str) -> Builder:
    def build(
        spatial_dims: int, in_channels: int, num_classes: int, stem_stride: int, image_size: Sequence[int] | None
    ) -> nn.Module:
        _require_stem_of_two(stem_stride, backbone)
        return imagenet_network(backbone, spatial_dims, in_channels, num_classes, image_size)

    return build


def _require_stem_of_two(stem_stride: int, family: str) -> None:
    if stem_stride != 2:
        raise ValueError(
            f"classifier_stem_stride must be 2 for {family}, got {stem_stride!r}; only MONAI's ResNets can change it"
        )


TOKEN_SIZE = 16  # pixels of each side of what a ViT sees as one word
# Name -> function of (spatial_dims, in_channels, num_classes, stem_stride, image_size). A new backbone is a line here.
BACKBONES: dict[str, Builder] = {
    **{f"resnet{depth}": _resnet(getattr(nets, f"resnet{depth}")) for depth in (10, 18, 34, 50, 101, 152)},
    # An eighth of the channels: 80 thousand weights instead of 5 million, for a first look on a CPU.
    "resnet10_thin": _resnet(functools.partial(nets.resnet10, widen_factor=0.125)),
    **{
        f"densenet{depth}": _of_fixed_stem(getattr(nets, f"DenseNet{depth}"), "a DenseNet", "out_channels")
        for depth in (121, 169, 201)
    },
    **{
        f"efficientnet-{size}": _of_fixed_stem(
            nets.EfficientNetBN, "an EfficientNet", "num_classes", model_name=f"efficientnet-{size}", pretrained=False
        )
        for size in ("b0", "b1", "b2", "b3", "b4")
    },
    **{
        f"seresnet{depth}": _of_fixed_stem(getattr(nets, f"SEResNet{depth}"), "an SEResNet", "num_classes")
        for depth in (50, 101, 152)
    },
    "vit_tiny": _vit(hidden_size=192, num_heads=3),
    "vit_small": _vit(hidden_size=384, num_heads=6),
    "vit_base": _vit(hidden_size=768, num_heads=12),
    **{backbone: _imagenet(backbone) for backbone in SOURCES},
}


def create_backbone(
    backbone: str,
    spatial_dims: int = 2,
    in_channels: int = 4,
    num_classes: int = 2,
    stem_stride: int = 2,
    image_size: Sequence[int] | None = None,
) -> nn.Module:
    """Build a classification network by name: MONAI's, or one of torchvision and timm.

    Args:
        backbone: key of `BACKBONES`.
        spatial_dims: 2 or 3.
        in_channels: modalities of the image.
        num_classes: length of the logits, K.
        stem_stride: of the first convolution. 2 is torchvision's; 1, MONAI's own, is four times slower and sees finer
            detail, which pays below about 64 pixels.
        image_size: cells of each axis; only a ViT, which learns a place for each token, must know it.

    Returns:
        Network from (B, C, *spatial) to logits (B, K).

    Raises:
        ValueError: if the name is unknown, or the stem or the size is none that the backbone can have.
        ImportError: if the backbone is of a package that is not installed.
    """
    if backbone not in BACKBONES:
        near = _nearest(str(backbone))
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"classifier_backbone must be one of {', '.join(BACKBONES)}, got {backbone!r}{hint}")
    return BACKBONES[backbone](spatial_dims, in_channels, num_classes, stem_stride, image_size)


def _nearest(backbone: str) -> list[str]:
    """Names of backbones that hold one as papers write it, such as EfficientNetB0, else those that look like it."""
    plain = {name: re.sub("[-_]", "", name) for name in BACKBONES}
    wanted = re.sub("[-_]", "", backbone.lower())
    holding = [name for name, word in plain.items() if wanted and wanted in word]
    bare = {re.sub("^(torchvision|timm)", "", word): name for name, word in plain.items()}
    return holding[:3] or [bare[word] for word in get_close_matches(wanted, bare, n=2)]


class FoldEnsemble(nn.Module):
    """The classifiers of the folds as one network; with one member, that network itself.

    Training, evaluation and inference build this class, so a fold's `model.pt` and the ensemble's have one layout:
    `members.0.`, `members.1.`, ... and `stem_stride`.

    Args:
        backbone: key of `BACKBONES`.
        num_members: number of networks, N >= 1.
        spatial_dims: 2 or 3.
        in_channels: modalities of the image.
        num_classes: length of the logits, K.
        stem_stride: stride of the first convolution; see `create_backbone`.
        pretrained_path: local state dict to start every member from, see `load_pretrained`; None starts at random.
        image_size: cells of each axis of the image; see `create_backbone`.
        frozen_body: train the last layer of each member alone; all others answer as in evaluation, with the means and
            variances of the file in BatchNorm and without dropout.
        label_rotation: r of logits that start with the weights of label l at label (l + r) mod K, as the labels of
            `scripts.classifier.datasets.shuffle_labels` are rotated.

    Raises:
        ValueError: if the backbone is unknown, `num_members` is not positive, the pretrained weights do not fit or a
            body is frozen without them.
    """

    def __init__(
        self,
        backbone: str = "resnet152",
        num_members: int = 1,
        spatial_dims: int = 2,
        in_channels: int = 4,
        num_classes: int = 2,
        stem_stride: int = 2,
        pretrained_path: str | None = None,
        image_size: Sequence[int] | None = None,
        frozen_body: bool = False,
        label_rotation: int = 0,
    ) -> None:
        super().__init__()
        check_frozen(frozen_body, pretrained_path)
        if num_members < 1:
            raise ValueError(f"num_members must be at least 1, got {num_members!r}; give one per fold")
        self.members = nn.ModuleList(
            create_backbone(backbone, spatial_dims, in_channels, num_classes, stem_stride, image_size)
            for _ in range(num_members)
        )
        # A stride leaves no trace in names and shapes: without this, weights would load into another network unnoticed.
        self.register_buffer("stem_stride", torch.tensor(stem_stride))
        self.description = (
            f"FoldEnsemble of {num_members} x {backbone}, spatial_dims {spatial_dims}, in_channels {in_channels},"
            f" num_classes {num_classes}, stem_stride {stem_stride}"
        )
        if pretrained_path is not None:
            for member in self.members:
                load_pretrained(member, pretrained_path)
        self.frozen_body = frozen_body
        for member in self.members:
            rotate_logits(member, label_rotation)
            if frozen_body:
                freeze_body(member)

    def train(self, mode: bool = True) -> FoldEnsemble:
        """Switch to training or evaluation; a frozen body stays in evaluation."""
        super().train(mode)
        if self.frozen_body:
            self.members.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            image: shape (B, C, *spatial), [-1, 1], background -1.

        Returns:
            Logits (B, K). With several members they are the log of the mean probability, so softmax gives the mean.
        """
        logits = [member(image) for member in self.members]
        if len(logits) == 1:
            return logits[0]
        return mean_log_probabilities(torch.stack(logits))

    def load_state_dict(  # type: ignore[override]
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights; a missing, unexpected or misshaped key raises, even with `strict=False`.

        MONAI's loaders pass `strict=False` and go on with random weights where names differ.

        Raises:
            ValueError: naming the first wrong keys, their shapes, the likely cause and the way out.
        """
        expected, demand = self.state_dict(), f"state_dict must be of a {self.description}"
        refuse_prefix(expected, state_dict, demand)
        faults = _faults(expected, state_dict)
        if faults:
            raise ValueError(
                f"{demand}, got {describe_faults(faults)}."
                f" Likely cause: {_likely_cause(expected, state_dict)}."
                " Build the network with the settings of the training (config.yaml beside the weights),"
                " or train again with configs/train_classifier.yaml"
            )
        return super().load_state_dict(state_dict, strict=True, assign=assign)


def mean_log_probabilities(logits: Tensor) -> Tensor:
    """Log of the mean softmax over the first dimension.

    Args:
        logits: shape (N, ..., K), unbounded.

    Returns:
        Shape (..., K), <= 0; its softmax is the mean probability.
    """
    probabilities = torch.log_softmax(logits, dim=-1)
    return torch.logsumexp(probabilities, dim=0) - math.log(logits.shape[0])


def assemble(member_state_dicts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Put the state dicts of single-member ensembles into the state dict of their ensemble.

    Args:
        member_state_dicts: one per fold, each of a `FoldEnsemble` with one member, all of one architecture.

    Returns:
        State dict with keys `members.i.*` and `stem_stride`, in the given order; the tensors are shared, not copied.

    Raises:
        ValueError: if there is none, or one is not of a single member, or two are of different architectures.
    """
    if not member_state_dicts:
        raise ValueError("member_state_dicts must hold at least one state dict, got none; train a fold first")
    ensemble = {}
    for index, state_dict in enumerate(member_state_dicts):
        if _num_members(state_dict) != 1:
            raise ValueError(
                f"member_state_dicts[{index}] must have one member, members.0.*, got {_num_members(state_dict)};"
                " give the model.pt of one fold, not of an ensemble"
            )
        faults = _faults(member_state_dicts[0], state_dict)
        if faults:
            raise ValueError(f"member_state_dicts[{index}] must be of the network of the first, got {faults[0]}")
        ensemble.update({key.replace("members.0.", f"members.{index}.", 1): state_dict[key] for key in state_dict})
    return ensemble


def _faults(expected: Mapping[str, Any], loaded: Mapping[str, Any]) -> list[str]:
    # Neither name nor shape tells the stride of the first convolution.
    stride, own_stride = (_stem_stride(weights) for weights in (loaded, expected))
    is_other = None not in (stride, own_stride) and stride != own_stride
    return [f"stem_stride is {stride} instead of {own_stride}"] * is_other + state_faults(expected, loaded)


def _stem_stride(weights: Mapping[str, Any]) -> int | None:
    value = weights.get("stem_stride")
    return int(value) if isinstance(value, Tensor) and value.numel() == 1 else None


def _likely_cause(expected: Mapping[str, Any], loaded: Mapping[str, Any]) -> str:
    members, own_members = _num_members(loaded), _num_members(expected)
    if members == 0:
        return "weights of something else than a FoldEnsemble (no key starts with members.0.)"
    stem, own_stem = (shape_of(_first(weights)) for weights in (loaded, expected))
    if _layer_names(expected) != _layer_names(loaded):
        return "weights of another backbone"
    places, own_places = (shape_of(_named(weights, "position_embeddings")) for weights in (loaded, expected))
    if places is not None and own_places is not None and places[1:2] != own_places[1:2]:
        return "weights of another patch_size, to which a ViT is bound"
    if members != own_members:
        return f"weights of num_members {members}, the network has {own_members}"
    if stem is not None and own_stem is not None and len(stem) != len(own_stem):
        return f"weights of spatial_dims {len(stem) - 2}, the network has {len(own_stem) - 2}"
    if stem is not None and own_stem is not None and stem[1] != own_stem[1]:
        return f"weights of in_channels {stem[1]}, the network has {own_stem[1]}"
    if _stem_stride(loaded) not in (None, _stem_stride(expected)):
        return f"weights of stem_stride {_stem_stride(loaded)}, the network has {_stem_stride(expected)}"
    return "weights of another num_classes or another width"


def _num_members(weights: Mapping[str, Any]) -> int:
    return len({match[1] for match in (re.match(r"members\.(\d+)\.", key) for key in weights) if match})


def _first(weights: Mapping[str, Any]) -> Any:
    return next((weights[key] for key in weights if key.startswith("members.")), None)


def _named(weights: Mapping[str, Any], ending: str) -> Any:
    return next((weights[key] for key in weights if key.endswith(ending)), None)


def _layer_names(weights: Mapping[str, Any]) -> set[str]:
    return {re.sub(r"^members\.\d+\.", "", key) for key in weights}
