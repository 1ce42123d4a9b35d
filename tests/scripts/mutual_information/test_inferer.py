"""The inferer that also returns the estimate of the clean image."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import DiffusionInferer
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler

from scripts.mutual_information.inferer import MIRegularizedDiffusionInferer, predict_original_samples


def tiny_network(spatial_dims: int) -> DiffusionModelUNet:
    torch.manual_seed(0)
    return DiffusionModelUNet(
        spatial_dims=spatial_dims,
        in_channels=2,
        out_channels=2,
        channels=(8, 8),
        attention_levels=(False, False),
        num_res_blocks=1,
        norm_num_groups=4,
    )


@pytest.mark.parametrize("spatial_shape", [(8, 12), (8, 12, 4)], ids=["2d", "3d"])
def test_true_noise_recovers_original_samples(spatial_shape):
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    original, noise = torch.randn(2, 5, 3, *spatial_shape, dtype=torch.float64)
    timesteps = torch.tensor([0, 10, 300, 700, 999])
    noisy = scheduler.add_noise(original, noise, timesteps)
    estimate = predict_original_samples(noisy, noise, timesteps, scheduler.alphas_cumprod)
    torch.testing.assert_close(estimate, original)


@pytest.mark.parametrize("spatial_shape", [(8, 12), (8, 12, 4)], ids=["2d", "3d"])
def test_the_network_sees_what_stock_monai_shows_it(spatial_shape):
    scheduler, network = DDPMScheduler(num_train_timesteps=100), tiny_network(len(spatial_shape))
    images, noise = torch.randn(2, 3, 2, *spatial_shape)
    timesteps = torch.tensor([0, 50, 99])
    expected = DiffusionInferer(scheduler)(images, network, noise=noise, timesteps=timesteps)
    pred = MIRegularizedDiffusionInferer(scheduler)(images, network, noise=noise, timesteps=timesteps)
    assert torch.equal(pred.noise_pred, expected)
    assert torch.equal(pred.original_samples, images)
    assert torch.equal(pred.noisy_samples, scheduler.add_noise(images, noise, timesteps))
    signal = scheduler.alphas_cumprod[timesteps]
    torch.testing.assert_close(pred.signal_to_noise, signal / (1 - signal))


def test_the_estimate_is_float32_under_autocast():
    scheduler, network = DDPMScheduler(num_train_timesteps=100), tiny_network(2)
    images, noise = torch.randn(2, 3, 2, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pred = MIRegularizedDiffusionInferer(scheduler)(
            images, network, noise=noise, timesteps=torch.tensor([5, 50, 99])
        )
    assert pred.noise_pred.dtype == torch.bfloat16
    assert pred.original_samples_pred.dtype == torch.float32


def test_two_shapes_are_refused():
    with pytest.raises(ValueError, match="model_output must have the shape of noisy_samples"):
        predict_original_samples(torch.zeros(1, 1, 4), torch.zeros(1, 1, 5), torch.tensor([0]), torch.ones(1))


def test_a_network_that_does_not_predict_noise_is_refused():
    with pytest.raises(ValueError, match="prediction_type of the scheduler must be 'epsilon'"):
        MIRegularizedDiffusionInferer(DDPMScheduler(num_train_timesteps=10, prediction_type="v_prediction"))
