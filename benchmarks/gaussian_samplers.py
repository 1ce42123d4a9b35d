"""Standard deviation of samples, relative to the truth, where the network is the exact one of a Gaussian.

python -m benchmarks.gaussian_samplers

The table of samplers in docs/explanation/method.md. A deterministic sampler multiplies the noise that it starts from by
a number: that is what is printed, over the standard deviation of the Gaussian. Seconds on a CPU; needs diffusers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks.schedulers import DDPMScheduler, Scheduler
from torch import Tensor

from scripts.generator.noise import ImageNoise
from scripts.generator.samplers import EvenDDIMScheduler, sample_images, sampling_scheduler
from scripts.generator.solvers import DiffusersScheduler, multistep_scheduler

STDS = (0.5, 0.1)
STEPS = (10, 20, 50)


class GaussianDenoiser(torch.nn.Module):
    """The exact noise prediction for images whose pixels are normal with mean 0.

    Args:
        alphas_cumprod: abar of the noise scheduler, shape (T,).
        std: standard deviation of a pixel.
    """

    def __init__(self, alphas_cumprod: Tensor, std: float) -> None:
        super().__init__()
        self.alphas_cumprod = alphas_cumprod
        self.std = std

    def forward(self, images: Tensor, timesteps: Tensor) -> Tensor:
        """Predict the noise in x_t, shape (B, C, *spatial)."""
        signal = self.alphas_cumprod[timesteps].reshape(-1, *[1] * (images.ndim - 1))
        return images * (1 - signal).sqrt() / (signal * self.std**2 + 1 - signal)


def schedulers(noise_scheduler: DDPMScheduler) -> dict[str, Callable[[int], Scheduler]]:
    """Name the samplers: name -> function of the number of steps."""

    def with_spacing_of_diffusers(steps: int) -> Scheduler:
        solver = multistep_scheduler(noise_scheduler, "dpm_solver", steps).solver
        return DiffusersScheduler(noise_scheduler, solver, steps, even_log_snr=False)

    return {
        "`ddim`, timesteps even in t": lambda steps: EvenDDIMScheduler(noise_scheduler, steps, even_log_snr=False),
        "`ddim`": lambda steps: sampling_scheduler(noise_scheduler, "ddim", steps),
        "`dpm_solver`, spacing of `diffusers`": with_spacing_of_diffusers,
        "`dpm_solver`": lambda steps: sampling_scheduler(noise_scheduler, "dpm_solver", steps),
        "`unipc`": lambda steps: sampling_scheduler(noise_scheduler, "unipc", steps),
    }


def relative_std(scheduler: Scheduler, alphas_cumprod: Tensor, std: float) -> float:
    """Return the standard deviation of samples over the true one; 1 is right, below it images vary too little."""
    start = ImageNoise(0, [0], (1, 8, 8)).draw()
    images = sample_images(GaussianDenoiser(alphas_cumprod, std), scheduler, ImageNoise(0, [0], (1, 8, 8)))
    return float((images / start).mean()) / std


def main() -> None:
    """Print the table."""
    noise_scheduler = DDPMScheduler(num_train_timesteps=1000, clip_sample=False)
    print("| |" + "".join(f" std {std}: {steps} steps |" for std in STDS for steps in STEPS))
    print("|---" * (1 + len(STDS) * len(STEPS)) + "|")
    for name, scheduler_of in schedulers(noise_scheduler).items():
        ratios = [
            relative_std(scheduler_of(steps), noise_scheduler.alphas_cumprod, std) for std in STDS for steps in STEPS
        ]
        print(f"| {name} |" + "".join(f" {ratio:.2f} |" for ratio in ratios))


if __name__ == "__main__":
    main()
