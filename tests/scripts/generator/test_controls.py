"""Generators without a network: what they draw from, and what they copy."""

from __future__ import annotations

import pytest
import torch
from monai.networks.layers import GaussianFilter

from scripts.generator.controls import CONTROLS, check_control, mixed, noisy, pca_gaussian, smoothed_deviation


def images(count=6, spatial_shape=(12, 16)):
    generator = torch.Generator().manual_seed(1)
    drawn = torch.rand(count, 2, *spatial_shape, generator=generator) * 1.6 - 0.8
    drawn[..., :2] = -1
    return drawn


def draw(name, training, count=50, seed=0):
    return CONTROLS[name](training)(count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spatial_shape", [(12, 16), (8, 12, 16)], ids=["2d", "3d"])
@pytest.mark.parametrize("name", CONTROLS)
def test_images_have_the_form_and_range_of_the_training_images_and_follow_the_seed(name, spatial_shape):
    training = images(4, spatial_shape)
    first, again, other = (draw(name, training, 3, seed) for seed in (0, 0, 1))
    assert first.shape == (3, 2, *spatial_shape)
    assert type(first) is torch.Tensor
    assert first.abs().max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_gaussian_has_the_mean_and_the_covariance_of_the_training_images():
    training = images() * 0.2  # far from the clamp
    drawn = pca_gaussian(training)(20000, torch.Generator().manual_seed(0)).flatten(1)
    torch.testing.assert_close(drawn.mean(0), training.flatten(1).mean(0), atol=0.01, rtol=0)
    torch.testing.assert_close(drawn[:, :40].T.cov(), training.flatten(1)[:, :40].T.cov(), atol=0.002, rtol=0)


def test_a_mix_lies_between_two_training_images():
    training = images(2)
    drawn = mixed(training)(40, torch.Generator().manual_seed(0)).flatten(1)
    low, high = training.flatten(1).amin(0), training.flatten(1).amax(0)
    assert ((drawn >= low - 1e-6) & (drawn <= high + 1e-6)).all()


def test_noise_is_of_the_stated_size_and_spares_the_background():
    training = images(1)
    drawn = noisy(training, std=0.05)(200, torch.Generator().manual_seed(0))
    assert (drawn[..., :2] == -1).all()
    assert float((drawn - training)[..., 2:].std()) == pytest.approx(0.05, abs=0.002)


def test_a_volume_is_bent_by_up_to_a_24th_of_its_side_whatever_its_size():
    for side in (16, 32):
        noise = torch.rand(3, 64, 64, 64, generator=torch.Generator().manual_seed(side)) * 2 - 1
        smooth = GaussianFilter(3, side / 8, truncated=3.0)(noise[None])[..., 16:48, 16:48, 16:48]
        assert float(smooth.std()) == pytest.approx(smoothed_deviation(side / 8), rel=0.15)


def test_volumes_are_turned_around_every_axis():
    grid = torch.meshgrid(*[torch.linspace(-1, 1, 24)] * 3, indexing="ij")
    volume = torch.stack([axis * 0.6 for axis in grid])[None]
    drawn = CONTROLS["deformed"](volume)(8, torch.Generator().manual_seed(0))
    middle = drawn[..., 6:18, 6:18, 6:18]
    for channel in range(3):
        for axis in {0, 1, 2} - {channel}:
            slopes = middle[:, channel].diff(dim=axis + 1).flatten(1).mean(1)
            assert slopes.abs().max() > 0.1 * 1.2 / 23


@pytest.mark.parametrize("name", ["pca_gaussian", "mixed"])
def test_one_training_image_is_refused(name):
    with pytest.raises(ValueError, match=f"control {name} must have at least 2 training images of the class, got 1"):
        CONTROLS[name](images(1))


def test_a_name_that_is_no_control_generator_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="control must be one of pca_gaussian, mixed, deformed, noisy, got 'gan'"):
        check_control("gan")
