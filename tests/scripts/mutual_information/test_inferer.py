"""The inferer that also returns the estimate of the clean image."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import DiffusionInferer
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler

from scripts.generator.parametrization import PARAMETRIZATIONS, noise_scheduler, training_target
from scripts.mutual_information.inferer import MIRegularizedDiffusionInferer


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


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@pytest.mark.parametrize("spatial_shape", [(8, 12), (8, 12, 4)], ids=["2d", "3d"])
def test_a_perfect_network_recovers_the_clean_images_and_the_noise(parametrization, spatial_shape):
    scheduler = noise_scheduler(parametrization)
    original, noise = torch.randn(2, 4, 2, *spatial_shape)
    timesteps = torch.tensor([10, 300, 700, 990])
    target = training_target(scheduler, original, noise, timesteps)
    pred = MIRegularizedDiffusionInferer(scheduler)(original, lambda **_: target, noise=noise, timesteps=timesteps)
    assert torch.equal(pred.model_output, target)
    torch.testing.assert_close(pred.original_samples_pred, original, rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(pred.noise_pred, noise, rtol=1e-3, atol=2e-3)


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
    assert pred.model_output.dtype == torch.bfloat16
    assert pred.original_samples_pred.dtype == torch.float32
