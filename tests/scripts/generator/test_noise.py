"""Noise of (seed, number)."""

from __future__ import annotations

import pytest
import torch

from scripts.generator.noise import ImageNoise, image_seed


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
