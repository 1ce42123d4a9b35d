"""The noise and the timesteps of a validation are the same every time."""

from __future__ import annotations

import pytest
import torch

from scripts.generator.parametrization import PARAMETRIZATIONS, noise_scheduler, training_target
from scripts.generator.validation import StoredNoisePrepareBatch, ValidationNoiseDataset, stratified_timesteps


def test_validation_items_are_the_same_every_time():
    images = [{"image": torch.full((2, 4, 6), float(value))} for value in range(3)]
    first, second = (ValidationNoiseDataset(images, 4, 1000, seed=1) for _ in range(2))
    assert len(first) == 12
    for index in range(12):
        assert first[index]["image"][0, 0, 0] == index // 4
        assert torch.equal(first[index]["noise"], second[index]["noise"])
        assert first[index]["timesteps"] == second[index]["timesteps"]
    assert not torch.equal(first[0]["noise"], first[1]["noise"])


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_the_target_is_that_of_the_stored_noise(parametrization):
    scheduler = noise_scheduler(parametrization)
    batch = {"image": torch.zeros(2, 1, 4), "noise": torch.ones(2, 1, 4), "timesteps": torch.tensor([1, 2])}
    images, target, arguments, keywords = StoredNoisePrepareBatch(scheduler)(batch, "cpu")
    assert torch.equal(images, batch["image"])
    assert torch.equal(target, training_target(scheduler, batch["image"], batch["noise"], batch["timesteps"]))
    assert arguments == ()
    assert set(keywords) == {"noise", "timesteps"}


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="num_draws must be >= 1"):
        ValidationNoiseDataset([], 0, 1000)


@pytest.mark.parametrize(("num_images", "num_draws"), [(1, 1), (1, 8), (3, 4), (50, 16), (7, 150)])
def test_timesteps_are_spread_evenly_over_all_and_over_each_image(num_images, num_draws):
    timesteps = stratified_timesteps(num_images, num_draws, 1000)
    assert timesteps.shape == (num_images, num_draws)
    assert timesteps.min() >= 0
    assert timesteps.max() < 1000
    gaps = timesteps.flatten().sort().values.diff()
    assert gaps.numel() == 0 or gaps.max() - gaps.min() <= 1
    parts = (timesteps * num_draws).div(1000, rounding_mode="floor")
    assert (parts - torch.arange(num_draws)).abs().max() <= 1
