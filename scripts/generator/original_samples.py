"""The clean image as a sampler sees it from the noise that the network predicts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scripts.mutual_information.inferer import predict_original_samples


def estimate_original(scheduler: Any, model_output: Tensor, timestep: int, sample: Tensor) -> Tensor:
    """Estimate x_0 from x_t and the predicted noise, clipped if the scheduler clips.

    Args:
        scheduler: MONAI scheduler with `prediction_type`, `alphas_cumprod`, `clip_sample` and `clip_sample_values`.
        model_output: predicted noise, shape (B, C, *spatial).
        timestep: t, the same for all images.
        sample: x_t, same shape.

    Returns:
        Estimate of x_0, same shape.

    Raises:
        ValueError: if the network predicts something else than noise.
    """
    if scheduler.prediction_type != "epsilon":
        raise ValueError(
            f"prediction_type must be 'epsilon', got {str(scheduler.prediction_type)!r}; samplers need the noise"
        )
    timesteps = torch.full((len(sample),), int(timestep), device=sample.device)
    original = predict_original_samples(sample, model_output, timesteps, scheduler.alphas_cumprod.to(sample.device))
    return original.clamp(*scheduler.clip_sample_values) if scheduler.clip_sample else original
