"""Where timesteps lie: those of a sampler with few steps, and those of a validation."""

from __future__ import annotations

import numpy as np
import torch
from monai.networks.schedulers import Scheduler
from torch import Tensor

from scripts.generator.parametrization import signal_and_noise_scales


def even_log_snr_timesteps(scheduler: Scheduler, num_inference_steps: int) -> Tensor:
    """Place timesteps evenly in log(alpha_t / sigma_t), from the last one to the first, each an integer of its own.

    Source: Lu et al. 2022, "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10
    Steps", section 3.4 (uniform logSNR). Where two would fall on one integer, near the first, the higher moves up.

    Args:
        scheduler: noise scheduler.
        num_inference_steps: N, 1 to the number of timesteps with noise: T, or T - 1 for a flow, which has none at 0.

    Returns:
        Integers, shape (N,), strictly decreasing from T - 1 to the first with noise; of one step, T - 1.

    Raises:
        ValueError: if there are fewer timesteps with noise.
    """
    noise_to_signal = noise_to_signal_ratio(scheduler)
    first = int((noise_to_signal == 0).sum())
    log_snr = (-noise_to_signal[first:].log()).double().numpy()[::-1]  # rising, from T - 1 to the first
    last, count = len(log_snr) - 1, num_inference_steps
    if count > len(log_snr):
        raise ValueError(
            f"num_inference_steps must be at most {len(log_snr)}, the timesteps with noise, got {num_inference_steps!r}"
        )
    even = np.linspace(log_snr[0], log_snr[-1], count)[::-1]  # falling: timesteps rise
    timesteps = np.interp(even, log_snr, np.arange(last, -1, -1)).round().astype(np.int64)
    ranks = np.arange(count)
    timesteps = np.maximum.accumulate(timesteps - ranks) + ranks
    timesteps = np.minimum(timesteps, last - count + 1 + ranks)
    return torch.from_numpy(timesteps[::-1] + first)


def noise_to_signal_ratio(scheduler: Scheduler) -> Tensor:
    """Return sigma_t / alpha_t of every timestep, shape (T,), on the CPU."""
    alpha, sigma = signal_and_noise_scales(scheduler, torch.arange(scheduler.num_train_timesteps))
    return sigma / alpha


def stratified_timesteps(num_images: int, num_draws: int, num_train_timesteps: int) -> Tensor:
    """Spread the timesteps of a validation evenly over all steps, and those of each image too.

    Image i gets one timestep in each of `num_draws` equal parts of the range, at a place inside the part that is its
    own; together the `num_images * num_draws` timesteps are evenly spaced.

    Args:
        num_images: number of images, >= 1.
        num_draws: timesteps per image, >= 1.
        num_train_timesteps: T.

    Returns:
        Integers, shape (num_images, num_draws), 0 <= t < T.
    """
    place = (torch.arange(num_images, dtype=torch.float64) + 0.5) / num_images
    part = torch.arange(num_draws, dtype=torch.float64)
    return ((part + place[:, None]) / num_draws * num_train_timesteps).floor().long()
