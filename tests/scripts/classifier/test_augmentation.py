"""Augmentation leaves the background what it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, RandGaussianNoised

from scripts.classifier.augmentation import OnForeground, RandGhostingd, add_ghosts
from tests.helpers import config_files
from tests.ring_or_blob import draw


def augmentation(spatial_dims: int) -> Compose:
    parser = ConfigParser()
    parser.read_config(config_files("train_classifier", "options/augmentation"))
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


def test_every_kind_of_change_that_mri_needs_is_there_and_changes_the_foreground_only() -> None:
    for size in ((24, 20), (12, 16, 14)):
        image = (torch.as_tensor(draw(1, 3, size, np.random.RandomState(0))) + 1) / 2
        steps = next(step for step in augmentation(len(size)).transforms if isinstance(step, OnForeground)).transforms
        kinds = {type(step).__name__ for step in steps}
        assert {
            "RandAdjustContrastd",
            "RandScaleIntensityFixedMeand",
            "RandBiasFieldd",
            "RandGhostingd",
            "RandRicianNoised",
        } <= kinds
        for step in steps:
            step.prob = 1.0
            for inner in ("rand_bias_field", "rand_rician_noise", "adjust_contrast"):
                if hasattr(step, inner):
                    getattr(step, inner).prob = 1.0
            alone = OnForeground([step])
            alone.set_random_state(seed=2)
            changed = alone({"image": image.clone()})["image"]
            assert not torch.allclose(changed, image, atol=1e-4), type(step).__name__
            assert (changed[image == 0] == 0).all()
            assert changed.min() >= 0
            assert changed.max() <= 1


@pytest.mark.parametrize("axis", [0, 1])
def test_a_ghost_of_a_line_lies_half_the_field_of_view_away(axis: int) -> None:
    image = torch.zeros(1, 64, 64)
    image.select(axis + 1, 10)[:] = 1
    ghost = add_ghosts(image, num_ghosts=2, strength=0.5, axis=axis).select(2 - axis, 0)[0]
    assert ghost.abs().topk(2).indices.sort().values.tolist() == [10, 42]
    # Half of every second line is gone: the image keeps 3/4 and its ghost has 1/4, but for the lines of the center.
    assert ghost[10] == pytest.approx(0.75, abs=0.02)
    assert ghost.sum() == pytest.approx(1, abs=1e-5)


def test_ghosts_follow_the_seed_and_weak_ones_change_nothing() -> None:
    image = torch.rand(2, 16, 20)
    assert torch.allclose(add_ghosts(image, 3, 0.0, 1), image, atol=1e-6)
    ghosting = RandGhostingd("image", prob=1.0)
    first, again = (ghosting.set_random_state(seed=4)({"image": image.clone()})["image"] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, image, atol=1e-3)
    assert torch.equal(RandGhostingd("image", prob=0.0)({"image": image})["image"], image)


@pytest.mark.parametrize("values", [{"num_ghosts": 1, "strength": 0.1}, {"num_ghosts": 2, "strength": 1.5}])
def test_ghosts_out_of_range_are_refused(values: dict) -> None:
    with pytest.raises(ValueError, match="num_ghosts must be >= 2 and strength"):
        add_ghosts(torch.zeros(1, 8, 8), axis=0, **values)
