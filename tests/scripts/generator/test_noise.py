"""Noise of (seed, number), and the timesteps of a validation."""

from __future__ import annotations

import pytest
import torch

from scripts.generator.noise import (
    ImageNoise,
    StoredNoisePrepareBatch,
    ValidationNoiseDataset,
    image_seed,
    stratified_timesteps,
)


def test_the_noise_of_an_image_does_not_depend_on_its_batch():
    together, alone = ImageNoise(3, [4, 5, 6], (2, 5, 7)), ImageNoise(3, [5], (2, 5, 7))
    for _ in range(3):
        assert torch.equal(together.draw()[1], alone.draw()[0])


def test_noise_is_standard_normal_and_not_shared():
    noise = ImageNoise(0, range(8), (4, 32, 32)).draw()
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    assert torch.corrcoef(noise.flatten(1)).fill_diagonal_(0).abs().max() < 0.1


def test_no_two_numbers_share_a_seed():
    assert len({image_seed(0, k) for k in range(10_000)}) == 10_000
    assert not {image_seed(0, k) for k in range(10_000)} & {image_seed(1, k) for k in range(10_000)}


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


def test_validation_items_are_the_same_every_time():
    images = [{"image": torch.full((2, 4, 6), float(value))} for value in range(3)]
    first, second = (ValidationNoiseDataset(images, 4, 1000, seed=1) for _ in range(2))
    assert len(first) == 12
    for index in range(12):
        assert first[index]["image"][0, 0, 0] == index // 4
        assert torch.equal(first[index]["noise"], second[index]["noise"])
        assert first[index]["timesteps"] == second[index]["timesteps"]
    assert not torch.equal(first[0]["noise"], first[1]["noise"])


def test_the_stored_noise_is_target_and_argument():
    batch = {"image": torch.zeros(2, 1, 4), "noise": torch.ones(2, 1, 4), "timesteps": torch.tensor([1, 2])}
    images, target, arguments, keywords = StoredNoisePrepareBatch()(batch, "cpu")
    assert torch.equal(images, batch["image"])
    assert torch.equal(target, batch["noise"])
    assert arguments == ()
    assert set(keywords) == {"noise", "timesteps"}


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="num_draws must be >= 1"):
        ValidationNoiseDataset([], 0, 1000)
