"""What no classifier can be is told without a file."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scripts.classifier import checks
from scripts.classifier.checks import check_network, check_training, check_warmup
from scripts.classifier.imagenet_networks import SOURCES
from scripts.classifier.networks import BACKBONES

NETWORK: dict[str, Any] = {
    "backbone": "resnet10",
    "spatial_dims": 2,
    "in_channels": 4,
    "num_classes": 2,
    "stem_stride": 2,
    "image_size": [96, 96],
}
TRAINING: dict[str, Any] = {
    "max_epochs": 200,
    "patience": 40,
    "batch_size": 32,
    "epoch_images": None,
    "sampling": "shuffled",
    "learning_rate": 1e-3,
    "ema_decay": 0,
}


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name not in SOURCES])
def test_every_backbone_takes_the_patches_of_the_defaults(backbone):
    check_network(**{**NETWORK, "backbone": backbone})


def test_equal_settings_are_tried_once_and_others_anew(monkeypatch):
    checks._try_network.cache_clear()
    tried = []
    monkeypatch.setattr(checks, "create_backbone", lambda *settings: tried.append(settings) or torch.nn.Flatten())
    for changes in ({}, {"image_size": (96, 96)}, {"backbone": "resnet18"}, {"image_size": [48, 48]}, {}):
        check_network(**{**NETWORK, **changes})
    checks._try_network.cache_clear()
    assert [(settings[0], settings[-1]) for settings in tried] == [
        ("resnet10", [96, 96]),
        ("resnet18", [96, 96]),
        ("resnet10", [48, 48]),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet51"}, "classifier_backbone must be one of .*got 'resnet51'; did you mean .*resnet50"),
        ({"backbone": "DenseNet_121"}, "did you mean densenet121 or torchvision_densenet121"),
        ({"backbone": "EfficientNetB0"}, "did you mean efficientnet-b0 or torchvision_efficientnet_b0"),
        ({"backbone": "inception_v4"}, "did you mean torchvision_inception_v3"),
        ({"backbone": "densenet121", "stem_stride": 1}, "classifier_stem_stride must be 2 for a DenseNet"),
        ({"backbone": "vit_tiny", "image_size": [40, 40]}, "patch_size must be 2 multiples of 16 for a ViT"),
        (
            {"backbone": "densenet121", "image_size": [8, 8]},
            r"patch_size must be one that .*densenet121 can take, got \[8",
        ),
        ({"image_size": [96]}, r"patch_size must be 2 numbers with spatial_dims 2, got \[96\]"),
    ],
)
def test_a_network_that_cannot_be_is_refused_by_its_keys(changes, message):
    with pytest.raises(ValueError, match=message):
        check_network(**{**NETWORK, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_epochs": 0}, "classifier_max_epochs must be >= 1, got 0"),
        ({"patience": 0}, "classifier_patience must be >= 1, got 0"),
        ({"batch_size": 1}, "classifier_batch_size must be >= 2, got 1"),
        ({"epoch_images": 0}, "classifier_epoch_images must be >= 1, got 0"),
        ({"sampling": "foo"}, "classifier_sampling must be one of shuffled, balanced, got 'foo'"),
        ({"learning_rate": 0}, "classifier_learning_rate must be > 0, got 0"),
        ({"ema_decay": 1.5}, r"classifier_ema_decay must be in \[0, 1\), got 1.5"),
    ],
)
def test_a_training_that_cannot_be_is_refused_by_its_keys(changes, message):
    check_training(**TRAINING)
    with pytest.raises(ValueError, match=message):
        check_training(**{**TRAINING, **changes})


@pytest.mark.parametrize("epochs", [-1, 201, float("nan")])
def test_a_warmup_longer_than_the_training_is_refused(epochs):
    for taken in (0, 5, 200):
        check_warmup(taken, max_epochs=200)
    with pytest.raises(ValueError, match="classifier_warmup_epochs must be from 0 to classifier_max_epochs 200, got"):
        check_warmup(epochs, max_epochs=200)
