"""Where timesteps lie: those of a sampler with few steps, and those of a validation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def even_log_snr_timesteps(alphas_cumprod: Tensor, num_inference_steps: int) -> Tensor:
    """Place timesteps evenly in log(sqrt(abar) / sqrt(1 - abar)), from the last one to 0, each an integer of its own.

    Source: Lu et al. 2022, "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10
    Steps", section 3.4 (uniform logSNR). Where two would fall on one integer, near 0, the higher moves up.

    Args:
        alphas_cumprod: shape (T,), decreasing, in (0, 1).
        num_inference_steps: N, 1 to T.

    Returns:
        Integers, shape (N,), strictly decreasing from T - 1 to 0; of one step, T - 1.
    """
    log_snr = (-noise_to_signal(alphas_cumprod).log()).double().numpy()[::-1]  # rising, from T - 1 to 0
    last, count = len(log_snr) - 1, num_inference_steps
    even = np.linspace(log_snr[0], log_snr[-1], count)[::-1]  # falling: timesteps rise
    timesteps = np.interp(even, log_snr, np.arange(last, -1, -1)).round().astype(np.int64)
    ranks = np.arange(count)
    timesteps = np.maximum.accumulate(timesteps - ranks) + ranks
    timesteps = np.minimum(timesteps, last - count + 1 + ranks)
    return torch.from_numpy(timesteps[::-1].copy())


def noise_to_signal(alphas_cumprod: Tensor) -> Tensor:
    """Return sigma = sqrt((1 - abar) / abar), shape (T,), on the CPU."""
    signal = alphas_cumprod.cpu()
    return ((1 - signal) / signal).sqrt()


def stratified_timesteps(num_images: int, num_draws: int, num_train_timesteps: int) -> Tensor:
    """Spread the timesteps of a validation evenly over all steps, and those of each image too.

    Image i gets one timestep in each of `num_draws` equal parts of the range, at a place inside the part that is its
    own; together the `num_images * num_draws` timesteps are evenly spaced.

    Args:
        num_images: number of images, >= 1.
        num_draws: timesteps an image, >= 1.
        num_train_timesteps: T.

    Returns:
        Integers, shape (num_images, num_draws), 0 <= t < T.
    """
    place = (torch.arange(num_images, dtype=torch.float64) + 0.5) / num_images
    part = torch.arange(num_draws, dtype=torch.float64)
    return ((part + place[:, None]) / num_draws * num_train_timesteps).floor().long()
