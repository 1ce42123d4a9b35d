"""From noise to images: DDPM, DDIM and solvers of higher order, with noise of each image's own."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from monai.networks.schedulers import DDPMScheduler, Scheduler
from monai.networks.schedulers.ddpm import DDPMVarianceType
from torch import Tensor

from scripts.generator.guidance import predict_noise
from scripts.generator.noise import ImageNoise
from scripts.generator.parametrization import clipped_prediction, parametrization_of, signal_and_noise_scales
from scripts.generator.solvers import SOLVERS, DiffusersScheduler, even_log_snr_timesteps, multistep_scheduler

SAMPLERS = ("ddpm", "ddim", *SOLVERS)


class EvenDDIMScheduler(Scheduler):
    """DDIM with timesteps even in log signal-to-noise, for every parametrization; for a flow it is Euler's method.

    MONAI's own assumes that the next timestep is T // num_inference_steps lower, but spaces them (T - 1) /
    (num_inference_steps - 1) apart: of T = 1000, 20 steps leave the noise of 2 to 3 steps behind each time, and 600
    steps remove little more than half of it. Only deterministic steps (eta 0) are offered.

    Args:
        scheduler: noise scheduler of the training, whose noise levels and clipping are taken over.
        num_inference_steps: number of steps, from 1 to T.
        even_log_snr: place the timesteps by `even_log_snr_timesteps`, not as MONAI does, evenly in t. At 20 steps the
            standard deviation of a narrow Gaussian (.1) is then .88 of the truth instead of .53.

    Raises:
        ValueError: if there are more steps than T, or less than one.
    """

    def __init__(self, scheduler: Scheduler, num_inference_steps: int, even_log_snr: bool = True) -> None:
        _check_steps(num_inference_steps, scheduler.num_train_timesteps)
        super().__init__(scheduler.num_train_timesteps)
        self.noise_scheduler = scheduler
        self.even_log_snr = even_log_snr
        self.set_timesteps(num_inference_steps)

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Place the timesteps, from high to low.

        Args:
            num_inference_steps: number of steps, from 1 to T.
            device: where `self.timesteps` lie.
        """
        self.num_inference_steps = num_inference_steps
        evenly = torch.linspace(self.num_train_timesteps - 1, 0, num_inference_steps).round().long()
        by_noise = even_log_snr_timesteps(self.noise_scheduler, num_inference_steps) if self.even_log_snr else evenly
        self.timesteps = by_noise.to(device)

    def step(
        self, model_output: Tensor, timestep: int, sample: Tensor, eta: float = 0.0, generator: None = None
    ) -> tuple[Tensor, Tensor]:
        """Step from `timestep` to the next one of `self.timesteps`: alpha_s x_0 + sigma_s epsilon.

        Source: Song et al. 2021, "Denoising Diffusion Implicit Models", eq. 12.

        Args:
            model_output: network output at `timestep`, shape (B, C, *spatial).
            timestep: one of `self.timesteps`.
            sample: x_t, same shape.
            eta: 0.
            generator: None; there is no noise to draw.

        Returns:
            x at the next timestep, and the estimate of x_0, clipped if the scheduler clips.

        Raises:
            ValueError: if `eta` is not 0.
        """
        if eta:
            raise ValueError(f"eta must be 0, got {eta!r}; use sampler ddpm for steps with noise")
        original, noise = clipped_prediction(self.noise_scheduler, model_output, timestep, sample)
        following = self.timesteps[self.timesteps < timestep]
        if not len(following):
            return original, original
        alpha, sigma = signal_and_noise_scales(self.noise_scheduler, following[0])
        return alpha * original + sigma * noise, original


def sampling_scheduler(
    scheduler: Scheduler, sampler: str = "ddpm", num_inference_steps: int | None = None
) -> DDPMScheduler | EvenDDIMScheduler | DiffusersScheduler:
    """Turn the noise scheduler of a training into one that samples.

    Args:
        scheduler: noise scheduler that the network was trained with.
        sampler: one of `SAMPLERS`.
        num_inference_steps: number of network calls per image, from 1 to T; None means all T.

    Returns:
        Scheduler with its timesteps set.

    Raises:
        ValueError: if the sampler is unknown, the number of steps is out of range, or "ddpm" is given fewer than T, or
            a flow, which has no such steps.
    """
    all_steps = scheduler.num_train_timesteps
    steps = all_steps if num_inference_steps is None else num_inference_steps
    _check_steps(steps, all_steps)
    if sampler in SOLVERS:
        return multistep_scheduler(scheduler, sampler, steps)
    if sampler == "ddim":
        return EvenDDIMScheduler(scheduler, steps)
    if sampler != "ddpm":
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}")
    if not isinstance(scheduler, DDPMScheduler):
        raise ValueError(
            f"sampler must be one of {', '.join(SAMPLERS[1:])} for generator_parametrization"
            f" {parametrization_of(scheduler)}, got 'ddpm': its path from noise to image is a straight line"
        )
    if steps != all_steps:
        raise ValueError(
            f"num_inference_steps must be {all_steps} for sampler 'ddpm', got {steps}: a DDPM step goes from t to"
            " t - 1, and skipping steps leaves noise in the images (standard deviation .93 instead of .50 at 50 steps);"
            " use sampler 'ddim' for fewer steps"
        )
    scheduler.set_timesteps(all_steps)
    return scheduler


def scheduler_name(scheduler: Scheduler) -> str:
    """Return the class of a scheduler, of the solver inside where there is one, as provenance records it."""
    return type(scheduler.solver if isinstance(scheduler, DiffusersScheduler) else scheduler).__name__


@torch.no_grad()
def sample_images(
    network: torch.nn.Module,
    scheduler: Scheduler,
    noise: ImageNoise,
    labels: Tensor | None = None,
    guidance_scale: float = 1.0,
) -> Tensor:
    """Draw images, each from its own start and step noise, with the network in eval mode.

    `DiffusionInferer.sample` draws the noise of a whole batch from one generator and leaves the network in the mode it
    finds it in.

    Args:
        network: predicts noise from (x_t, timesteps).
        scheduler: from `sampling_scheduler`.
        noise: source of noise of each image.
        labels: class of each image for a network conditioned on it, shape (B,).
        guidance_scale: as in `scripts.generator.guidance.predict_noise`.

    Returns:
        Images, shape (B, C, *spatial), clipped as the scheduler clips its estimates; background not snapped.
    """
    network.eval()
    images = noise.draw()
    for timestep in _timesteps(scheduler):
        timesteps = torch.full((len(images),), timestep, device=images.device, dtype=torch.long)
        model_output = predict_noise(network, images, timesteps, labels, guidance_scale)
        if isinstance(scheduler, DDPMScheduler):
            images = ancestral_step(scheduler, model_output, timestep, images, noise.draw() if timestep else None)
        else:
            images, _ = scheduler.step(model_output, timestep, images)
    return images


def ancestral_step(
    scheduler: DDPMScheduler, model_output: Tensor, timestep: int, sample: Tensor, noise: Tensor | None
) -> Tensor:
    """Do what `DDPMScheduler.step` does, with the noise given instead of drawn for the whole batch.

    Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models", eq. 7 and algorithm 2.

    Args:
        scheduler: noise scheduler with all its steps.
        model_output: network output, shape (B, C, *spatial).
        timestep: t.
        sample: x_t, same shape.
        noise: standard normal, same shape; None at t = 0.

    Returns:
        x_{t-1}, same shape.
    """
    original = clipped_prediction(scheduler, model_output, timestep, sample).original_samples
    mean = posterior_mean(original, sample, timestep, scheduler.betas, scheduler.alphas_cumprod)
    if noise is None:
        return mean
    return mean + _step_variance(scheduler, timestep).sqrt() * noise


def posterior_mean(
    original_samples: Tensor, noisy_samples: Tensor, timestep: int, betas: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    """Mean of q(x_{t-1} given x_t, x_0).

    Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models", eq. 7; abar_{-1} is 1.

    Args:
        original_samples: x_0 or its estimate, shape (B, C, *spatial).
        noisy_samples: x_t, same shape.
        timestep: t, 0 <= t < T.
        betas: beta, shape (T,).
        alphas_cumprod: abar, the cumulative product of 1 - beta, shape (T,).

    Returns:
        mu_t, same shape.
    """
    signal, signal_before = alphas_cumprod[timestep], _signal_before(alphas_cumprod, timestep)
    of_original = signal_before.sqrt() * betas[timestep] / (1 - signal)
    of_noisy = (1 - betas[timestep]).sqrt() * (1 - signal_before) / (1 - signal)
    return of_original * original_samples + of_noisy * noisy_samples


def posterior_variance(timestep: int, betas: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Variance of q(x_{t-1} given x_t, x_0); source and arguments as for `posterior_mean`.

    Returns:
        The second beta of eq. 7, a scalar >= 0; 0 at t = 0.
    """
    return (1 - _signal_before(alphas_cumprod, timestep)) / (1 - alphas_cumprod[timestep]) * betas[timestep]


def _signal_before(alphas_cumprod: Tensor, timestep: int) -> Tensor:
    return alphas_cumprod[timestep - 1] if timestep > 0 else torch.ones_like(alphas_cumprod[0])


def _step_variance(scheduler: DDPMScheduler, timestep: int) -> Tensor:
    # Both choices are those of Ho et al. 2020, section 3.2.
    if scheduler.variance_type == DDPMVarianceType.FIXED_LARGE:
        return scheduler.betas[timestep]
    if scheduler.variance_type != DDPMVarianceType.FIXED_SMALL:
        raise ValueError(
            f"variance_type of the scheduler must be 'fixed_small' or 'fixed_large', got"
            f" {str(scheduler.variance_type)!r}; the generators predict no variance"
        )
    return posterior_variance(timestep, scheduler.betas, scheduler.alphas_cumprod)


def _timesteps(scheduler: Scheduler) -> Iterable[int]:
    return scheduler.timesteps.tolist()


def _check_steps(num_inference_steps: int, num_train_timesteps: int) -> None:
    if not 1 <= num_inference_steps <= num_train_timesteps:
        raise ValueError(
            f"num_inference_steps must be from 1 to {num_train_timesteps}, the steps of the training,"
            f" got {num_inference_steps!r}"
        )
