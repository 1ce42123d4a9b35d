"""Samplers against stock MONAI and against the exact answer for a Gaussian."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

from scripts.generator.noise import ImageNoise
from scripts.generator.parametrization import (
    PARAMETRIZATIONS,
    noise_scheduler,
    signal_and_noise_scales,
    training_target,
)
from scripts.generator.samplers import (
    EvenDDIMScheduler,
    ancestral_step,
    posterior_mean,
    posterior_variance,
    sample_images,
    sampling_scheduler,
)

STD = 0.5


class GaussianOracle(torch.nn.Module):
    """The exact noise prediction for data distributed as a Gaussian of mean 0."""

    def __init__(self, scheduler: DDPMScheduler, std: float = STD) -> None:
        super().__init__()
        self.alphas_cumprod = scheduler.alphas_cumprod
        self.std = std

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        signal = self.alphas_cumprod[timesteps].reshape(-1, *[1] * (x.ndim - 1))
        return x * (1 - signal).sqrt() / (signal * self.std**2 + 1 - signal)


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


class Oracle(torch.nn.Module):
    """The exact prediction, of any parametrization, for data distributed as a Gaussian of mean 0."""

    def __init__(self, scheduler, std: float = STD) -> None:
        super().__init__()
        self.scheduler, self.std = scheduler, std

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        shape = (-1, *[1] * (x.ndim - 1))
        alpha, sigma = (scale.reshape(shape) for scale in signal_and_noise_scales(self.scheduler, timesteps))
        share = x / (alpha**2 * self.std**2 + sigma**2)
        return training_target(self.scheduler, alpha * self.std**2 * share, sigma * share, timesteps)


@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver", "unipc"])
@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_every_solver_samples_every_parametrization(parametrization, sampler):
    scheduler = noise_scheduler(parametrization)
    scheduler.clip_sample = False
    noise = ImageNoise(0, range(4), (1, 64, 64))
    images = sample_images(Oracle(scheduler), sampling_scheduler(scheduler, sampler, 30), noise)
    assert images.mean().item() == pytest.approx(0, abs=0.02)
    assert images.std().item() == pytest.approx(STD, abs=0.07 if sampler == "ddim" else 0.015)


@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver"])
def test_a_flow_keeps_its_estimates_inside_the_range_of_the_images(sampler):
    scheduler = noise_scheduler("flow")
    images = sample_images(
        Oracle(scheduler, std=2.0), sampling_scheduler(scheduler, sampler, 20), ImageNoise(0, [0], (1, 32, 32))
    )
    assert images.abs().max() <= 1 + 1e-6


def test_a_flow_has_no_steps_of_ddpm():
    with pytest.raises(ValueError, match="sampler must be one of ddim, dpm_solver, unipc for generator_param"):
        sampling_scheduler(noise_scheduler("flow"), "ddpm")


@pytest.mark.parametrize(("steps", "even_in_t", "even_in_log_snr"), [(20, 0.054, 0.088), (50, 0.078, 0.095)])
def test_ddim_keeps_more_of_a_narrow_distribution_by_its_timesteps_alone(steps, even_in_t, even_in_log_snr):
    # Closed form: a deterministic step multiplies x_t, for this denoiser by a number of t and the timestep after it.
    scheduler, std = linear_scheduler(clip_sample=False), 0.1
    signal = scheduler.alphas_cumprod.double()
    stds = []
    plain = EvenDDIMScheduler(scheduler, steps, even_log_snr=False)
    for sampler in (plain, sampling_scheduler(scheduler, "ddim", steps)):
        images = sample_images(GaussianOracle(scheduler, std), sampler, ImageNoise(0, range(4), (1, 64, 64)))
        now = signal[sampler.timesteps]
        after = torch.cat([now[1:], torch.ones(1)])
        variance = now * std**2 + 1 - now
        factors = (after.sqrt() * now.sqrt() * std**2 + (1 - after).sqrt() * (1 - now).sqrt()) / variance
        assert images.std().item() == pytest.approx(factors.prod().item(), rel=0.02)
        stds.append(factors.prod().item())
    assert stds == pytest.approx([even_in_t, even_in_log_snr], abs=0.0006)


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


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_the_posterior_is_that_of_monai(variance_type):
    scheduler = linear_scheduler(50, variance_type=variance_type)
    original, noisy = torch.rand(2, 2, 1, 4, 5)
    for timestep in (49, 20, 1, 0):
        # Of noise that leads from this x_t to this x_0.
        signal = scheduler.alphas_cumprod[timestep]
        model_output = (noisy - signal.sqrt() * original) / (1 - signal).sqrt()
        generator = torch.Generator().manual_seed(timestep)
        expected, _ = scheduler.step(model_output, timestep, noisy, generator)
        noise = torch.randn(noisy.shape, generator=torch.Generator().manual_seed(timestep)) if timestep else None
        stepped = ancestral_step(scheduler, model_output, timestep, noisy, noise)
        torch.testing.assert_close(stepped, expected)
        mean = posterior_mean(original, noisy, timestep, scheduler.betas, scheduler.alphas_cumprod)
        if timestep == 0:
            torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)


def test_the_posterior_is_that_of_bayes():
    # q(x_{t-1} given x_t, x_0) from the two Gaussians q(x_{t-1} given x_0) and q(x_t given x_{t-1}), one number each.
    scheduler, timestep = linear_scheduler(50), 20
    betas, signals = scheduler.betas.double(), scheduler.alphas_cumprod.double()
    original, noisy = torch.tensor(0.4, dtype=torch.float64), torch.tensor(-0.7, dtype=torch.float64)
    before, beta = signals[timestep - 1], betas[timestep]
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (before.sqrt() * original / (1 - before) + (1 - beta).sqrt() * noisy / beta) / precision
    torch.testing.assert_close(posterior_variance(timestep, betas, signals), 1 / precision)
    torch.testing.assert_close(posterior_mean(original, noisy, timestep, betas, signals), mean)
    assert posterior_variance(0, betas, signals) == 0


def test_a_scheduler_whose_network_would_predict_the_variance_is_refused():
    sample = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="variance_type of the scheduler must be 'fixed_small' or 'fixed_large'"):
        ancestral_step(linear_scheduler(10, variance_type="learned"), sample, 5, sample, sample)


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
