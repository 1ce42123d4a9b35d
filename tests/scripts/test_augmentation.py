"""Augmentation leaves the background what it is."""

from __future__ import annotations

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, RandGaussianNoised

from scripts.augmentation import OnForeground
from tests.helpers import config_files
from tests.ring_or_blob import draw


def augmentation(spatial_dims: int) -> Compose:
    parser = ConfigParser()
    parser.read_config(config_files("train_classifier", "setup_augmentation"))
    parser["spatial_dims"] = spatial_dims
    parser["bundle_root"] = str(config_files()[0]).rsplit("/", 2)[0]
    return parser.get_parsed_content("train#transform")


def test_noise_on_the_foreground_leaves_zeros_zero_and_the_rest_in_range() -> None:
    image = torch.rand(2, 16, 16)
    image[:, :5] = 0
    changed = OnForeground([RandGaussianNoised("image", prob=1.0, std=0.5)])({"image": image})["image"]
    assert (changed[:, :5] == 0).all()
    assert not torch.equal(changed, image)
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_the_augmentation_setup_keeps_range_shape_and_background_in_2d_and_3d() -> None:
    for size in ((24, 20), (12, 16, 14)):
        image = torch.as_tensor(draw(1, 3, size, np.random.RandomState(0)))
        transform = augmentation(len(size))
        transform.set_random_state(seed=1)
        for _ in range(20):
            changed = torch.as_tensor(transform({"image": image.clone()})["image"])
            assert changed.shape == image.shape
            assert changed.min() == -1
            assert changed.max() <= 1
            # Corners are outside the drawn head however it is turned.
            assert (changed[(slice(None), *[0] * len(size))] == -1).all()
            assert 0.5 < (changed != -1).float().mean() / (image != -1).float().mean() < 1.5
