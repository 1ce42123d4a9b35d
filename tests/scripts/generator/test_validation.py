"""The noise and the timesteps of a validation are the same every time."""

from __future__ import annotations

import pytest
import torch

from scripts.generator.validation import StoredNoisePrepareBatch, ValidationNoiseDataset


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
