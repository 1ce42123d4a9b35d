"""Samplers against stock MONAI and against the exact answer for a Gaussian."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

from scripts.generator.noise import ImageNoise
from scripts.generator.samplers import ancestral_step, sample_images, sampling_scheduler, snap_background

STD = 0.5


class GaussianOracle(torch.nn.Module):
    """The exact noise prediction for data distributed as a Gaussian of mean 0 and standard deviation STD."""

    def __init__(self, scheduler: DDPMScheduler) -> None:
        super().__init__()
        self.alphas_cumprod = scheduler.alphas_cumprod

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        signal = self.alphas_cumprod[timesteps].reshape(-1, *[1] * (x.ndim - 1))
        return x * (1 - signal).sqrt() / (signal * STD**2 + 1 - signal)


def linear_scheduler(num_train_timesteps: int = 1000, **options) -> DDPMScheduler:
    # A short schedule needs larger steps to end in noise.
    beta_end = 0.02 * 1000 / num_train_timesteps
    return DDPMScheduler(num_train_timesteps=num_train_timesteps, beta_end=min(beta_end, 0.5), **options)


@pytest.mark.parametrize(
    ("sampler", "steps", "tolerance"),
    [("ddpm", 1000, 0.01)] + [("ddim", 1000, 0.01), ("ddim", 600, 0.01), ("ddim", 50, 0.04), ("ddim", 20, 0.08)],
)
def test_a_gaussian_is_sampled_with_its_mean_and_spread(sampler, steps, tolerance):
    scheduler = linear_scheduler(clip_sample=False)
    noise = ImageNoise(0, range(4), (1, 64, 64))
    images = sample_images(GaussianOracle(scheduler), sampling_scheduler(scheduler, sampler, steps), noise)
    assert images.mean().item() == pytest.approx(0, abs=0.02)
    assert images.std().item() == pytest.approx(STD, abs=tolerance)


def test_monai_ddim_is_off_where_ours_is_not():
    # Should this fail after an update of MONAI, its own scheduler can be used again.
    scheduler, stock = linear_scheduler(clip_sample=False), DDIMScheduler(clip_sample=False)
    stock.set_timesteps(600)
    noise = ImageNoise(0, range(4), (1, 32, 32))
    assert sample_images(GaussianOracle(scheduler), stock, noise).std() > STD + 0.1


@pytest.mark.parametrize("clip_sample", [True, False])
def test_ddim_with_all_steps_is_stock_ddim(clip_sample):
    scheduler = linear_scheduler(50, clip_sample=clip_sample)
    stock = DDIMScheduler(num_train_timesteps=50, beta_end=0.4, clip_sample=clip_sample)
    ours = sampling_scheduler(scheduler, "ddim", 50)
    sample = torch.randn(2, 1, 4, 4)
    for timestep in (49, 20, 1, 0):
        model_output = torch.randn(2, 1, 4, 4)
        expected, expected_original = stock.step(model_output, timestep, sample)
        stepped, original = ours.step(model_output, timestep, sample)
        torch.testing.assert_close(stepped, expected)
        torch.testing.assert_close(original, expected_original)


def test_the_ddpm_step_is_stock_ddpm_with_the_same_noise():
    scheduler = linear_scheduler(50)
    sample, model_output = torch.randn(2, 3, 1, 4, 4)
    for timestep in (49, 20, 1, 0):
        expected, _ = scheduler.step(model_output, timestep, sample, torch.Generator().manual_seed(timestep))
        noise = torch.randn(sample.shape, generator=torch.Generator().manual_seed(timestep)) if timestep else None
        torch.testing.assert_close(ancestral_step(scheduler, model_output, timestep, sample, noise), expected)


def test_sampling_sets_the_network_to_eval_mode():
    scheduler = linear_scheduler(10)
    network = GaussianOracle(scheduler).train()
    sample_images(network, sampling_scheduler(scheduler, "ddim", 2), ImageNoise(0, [0], (1, 4, 4)))
    assert not network.training


@pytest.mark.parametrize(
    ("sampler", "steps", "message"),
    [
        ("ddpm", 50, "must be 1000 for sampler 'ddpm', got 50.*use sampler 'ddim'"),
        ("ddim", 0, "from 1 to 1000"),
        ("ddim", 1001, "from 1 to 1000"),
        ("euler", 50, "sampler must be one of ddpm, ddim"),
    ],
)
def test_what_a_sampler_cannot_do_is_refused(sampler, steps, message):
    with pytest.raises(ValueError, match=message):
        sampling_scheduler(linear_scheduler(), sampler, steps)


def test_ddim_with_noise_is_refused():
    with pytest.raises(ValueError, match="eta must be 0"):
        sampling_scheduler(linear_scheduler(10), "ddim", 5).step(torch.zeros(1, 1), 9, torch.zeros(1, 1), eta=0.5)


def test_background_is_where_every_channel_is_dark():
    images = torch.tensor([[-1.2, -0.95, -0.95, 0.3, 1.4], [-0.97, -0.91, 0.2, -0.99, 0.5]])[None, :, None]
    snapped = snap_background(images, 0.1)[0, :, 0]
    expected = torch.tensor([[-1.0, -1.0, -0.95, 0.3, 1.0], [-1.0, -1.0, 0.2, -0.99, 0.5]])
    torch.testing.assert_close(snapped, expected, rtol=0, atol=0)


def test_snapping_leaves_real_patches_alone_but_for_near_background():
    images = torch.rand(2, 3, 5, 6) * 1.8 - 0.8
    images[..., :2] = -1
    assert torch.equal(snap_background(images), images)


@pytest.mark.parametrize("tolerance", [-0.1, 1.0])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(ValueError, match=r"tolerance must be in \[0, 1\)"):
        snap_background(torch.zeros(1, 1, 2, 2), tolerance)
