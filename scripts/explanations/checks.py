"""What the settings of explanations can be, told before any work and without trained weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scripts.classifier.networks import create_backbone
from scripts.explanations.maps import METHODS, map_layer
from scripts.training.sizes import sizes_only

NO_EXPLANATION = "none"


def check_layers(
    methods: Sequence[str],
    layer: str | None,
    backbone: str,
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    stem_stride: int,
    image_size: Sequence[int],
) -> None:
    """Refuse GradCAM of a network that has no map for it.

    Args:
        methods: `explain_methods`, or the one of inference.
        layer: `explanation_layer`; None takes the deepest one whose map is fine enough.
        backbone: `classifier_backbone`.
        spatial_dims: 2 or 3.
        in_channels: modalities.
        num_classes: K.
        stem_stride: `classifier_stem_stride`.
        image_size: `patch_size`.

    Raises:
        ValueError: naming the config keys and the way out.
    """
    if "gradcam" not in methods:
        return
    with sizes_only():
        network = create_backbone(backbone, spatial_dims, in_channels, num_classes, stem_stride, image_size).eval()
        map_layer(network, torch.zeros(1, in_channels, *image_size), layer)


def check_answers(ensemble: str, temperature_scaling: bool) -> None:
    """Refuse to explain answers that the evaluation's `model.pt` does not give.

    Args:
        ensemble: how the networks of the folds answered together.
        temperature_scaling: whether their logits were divided by a temperature.

    Raises:
        ValueError: with the way out.
    """
    if ensemble != "mean_probability" or temperature_scaling:
        raise ValueError(
            "ensemble must be mean_probability and temperature_scaling false where answers are explained, got"
            f" {ensemble} and {temperature_scaling}: the explained model.pt answers with the mean probability,"
            " unscaled; set explained_setups of a study to [], or keep both"
        )


def check_method(method: str, occlusion_size: int) -> None:
    """Refuse an explanation of inference that there is not.

    Args:
        method: `explanation`, `NO_EXPLANATION` among them.
        occlusion_size: side of the part that is covered, pixels.

    Raises:
        ValueError: naming the config key.
    """
    if method not in (NO_EXPLANATION, *METHODS):
        raise ValueError(f"explanation must be one of {NO_EXPLANATION}, {', '.join(METHODS)}, got {method!r}")
    if occlusion_size < 1:
        raise ValueError(f"occlusion_size must be >= 1 pixel, got {occlusion_size!r}")
