"""What a classifier's settings can be, told before any work; of files, the pretrained weights alone are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from scripts.classifier.datasets import SAMPLINGS
from scripts.classifier.networks import create_backbone
from scripts.classifier.pretrained import pretrained_state
from scripts.running.files import file_state
from scripts.training.sizes import sizes_only


def check_network(
    backbone: str,
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    stem_stride: int,
    image_size: Sequence[int],
) -> None:
    """Refuse a network that cannot be built, or that cannot take the patches; see `create_backbone`.

    Args:
        backbone: `classifier_backbone`.
        spatial_dims: 2 or 3.
        in_channels: modalities.
        num_classes: K, at least 2.
        stem_stride: `classifier_stem_stride`.
        image_size: `patch_size`.

    Raises:
        ValueError: naming the config keys.
    """
    if num_classes < 2:
        raise ValueError(
            f"classes must be at least two where something is classified, got {num_classes}; name them, or set setups:"
            " {} for a study of generators alone"
        )
    if len(image_size) != spatial_dims:
        raise ValueError(
            f"patch_size must be {spatial_dims} numbers with spatial_dims {spatial_dims}, got {image_size!r}"
        )
    _try_network(json.dumps([backbone, spatial_dims, in_channels, num_classes, stem_stride, list(image_size)]))


@cache
def _try_network(settings: str) -> None:
    """Build the network of settings in JSON and take patches through it, once for those that all stages share."""
    backbone, spatial_dims, in_channels, num_classes, stem_stride, image_size = json.loads(settings)
    with sizes_only():
        network = create_backbone(backbone, spatial_dims, in_channels, num_classes, stem_stride, image_size)
        try:
            network.train()(torch.zeros(2, in_channels, *image_size))
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"patch_size must be one that classifier_backbone {backbone} can take, got {image_size}"
                f" ({str(error).splitlines()[0]}); choose larger patches or another backbone"
            ) from error


def check_weights(
    pretrained_path: str | None,
    backbone: str,
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    stem_stride: int,
    image_size: Sequence[int],
) -> None:
    """Refuse a file of pretrained weights that is not of its network; the other arguments are those of `check_network`.

    Args:
        pretrained_path: `classifier_pretrained_path`; None starts at random.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file and the first weights that differ; see `pretrained_state`.
    """
    if pretrained_path is not None:
        settings = json.dumps([backbone, spatial_dims, in_channels, num_classes, stem_stride, list(image_size)])
        state = file_state(pretrained_path) if Path(pretrained_path).is_file() else None
        _try_weights(pretrained_path, state, settings)


@cache
def _try_weights(path: str, state: tuple[int, int] | None, settings: str) -> None:
    """Read a file once for all setups of a study; `state` tells a changed file."""
    with sizes_only():
        network = create_backbone(*json.loads(settings))
    pretrained_state(network, path)


def check_training(
    max_epochs: int,
    patience: int,
    batch_size: int,
    epoch_images: int | None,
    sampling: str,
    learning_rate: float,
    ema_decay: float,
    checkpoint_interval: int = 1,
) -> None:
    """Refuse numbers and names by which no classifier can train.

    Args:
        max_epochs: `classifier_max_epochs`.
        patience: `classifier_patience`.
        batch_size: `classifier_batch_size`; a BatchNorm learns from two at least.
        epoch_images: `classifier_epoch_images`; None is the number of real images.
        sampling: `classifier_sampling`.
        learning_rate: `classifier_learning_rate`.
        ema_decay: `classifier_ema_decay`.
        checkpoint_interval: `classifier_checkpoint_interval`.

    Raises:
        ValueError: naming the config key.
    """
    least = {
        "classifier_max_epochs": (max_epochs, 1),
        "classifier_patience": (patience, 1),
        "classifier_batch_size": (batch_size, 2),
        "classifier_epoch_images": (epoch_images, 1),
        "classifier_checkpoint_interval": (checkpoint_interval, 1),
    }
    for name, (value, lowest) in least.items():
        if value is not None and value < lowest:
            raise ValueError(f"{name} must be >= {lowest}, got {value!r}")
    if sampling not in SAMPLINGS:
        raise ValueError(f"classifier_sampling must be one of {', '.join(SAMPLINGS)}, got {sampling!r}")
    if not learning_rate > 0:
        raise ValueError(f"classifier_learning_rate must be > 0, got {learning_rate!r}")
    if not 0 <= ema_decay < 1:
        raise ValueError(f"classifier_ema_decay must be in [0, 1), got {ema_decay!r}; 0 averages nothing")


def check_warmup(warmup_epochs: float, max_epochs: int) -> None:
    """Refuse a learning rate that would rise for longer than the training lasts.

    Args:
        warmup_epochs: `classifier_warmup_epochs`.
        max_epochs: `classifier_max_epochs`.

    Raises:
        ValueError: naming the config keys.
    """
    if not 0 <= warmup_epochs <= max_epochs:
        raise ValueError(
            f"classifier_warmup_epochs must be from 0 to classifier_max_epochs {max_epochs}, got {warmup_epochs!r}"
        )
