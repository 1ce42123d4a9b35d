"""The diffusion forward pass that also returns the estimate of the clean image."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor


class MIRegularizedPrediction(NamedTuple):
    """What the loss with a mutual-information term needs of a training step.

    Args:
        noise_pred: predicted noise, shape (B, C, *spatial).
        original_samples_pred: estimate of x_0, same shape, float32, not clipped.
        original_samples: x_0 in [-1, 1], same shape.
        noisy_samples: x_t, same shape.
        signal_to_noise: alpha_bar / (1 - alpha_bar) at each image's timestep, shape (B,).
        relative_timesteps: t / T of each image, shape (B,), in [0, 1).
    """

    noise_pred: Tensor
    original_samples_pred: Tensor
    original_samples: Tensor
    noisy_samples: Tensor
    signal_to_noise: Tensor
    relative_timesteps: Tensor


class MIRegularizedDiffusionInferer(DiffusionInferer):
    """`DiffusionInferer` whose training pass returns x_0 and its estimate beside the predicted noise.

    `SupervisedTrainer` gives a loss only (pred, target); with this inferer pred is a `MIRegularizedPrediction`, which
    `scripts.mutual_information.loss.MIRegularizedNoiseLoss` takes. The network sees what the stock `DiffusionInferer`
    shows it.

    Args:
        scheduler: noise scheduler with `prediction_type` "epsilon".

    Raises:
        ValueError: if the scheduler's `prediction_type` is another.
    """

    def __init__(self, scheduler: DDPMScheduler) -> None:
        if scheduler.prediction_type != "epsilon":
            raise ValueError(
                f"prediction_type of the scheduler must be 'epsilon', got {str(scheduler.prediction_type)!r};"
                " the loss compares predicted with true noise"
            )
        super().__init__(scheduler)

    def __call__(  # type: ignore[override]
        self, inputs: Tensor, diffusion_model: torch.nn.Module, noise: Tensor, timesteps: Tensor, **kwargs: Any
    ) -> MIRegularizedPrediction:
        """Predict the noise of a training step and estimate x_0 from it.

        Args:
            inputs: x_0 in [-1, 1], shape (B, C, *spatial).
            diffusion_model: network.
            noise: epsilon, same shape.
            timesteps: integer steps, shape (B,).
            kwargs: as for `DiffusionInferer`.
        """
        noise_pred = super().__call__(inputs, diffusion_model, noise, timesteps, **kwargs)
        with torch.autocast(device_type=inputs.device.type, enabled=False):
            noisy_samples = self.scheduler.add_noise(original_samples=inputs, noise=noise, timesteps=timesteps)
            alphas_cumprod = self.scheduler.alphas_cumprod.to(timesteps.device)
            original_samples_pred = predict_original_samples(
                noisy_samples, noise_pred.to(noisy_samples.dtype), timesteps, alphas_cumprod
            )
            signal = alphas_cumprod[timesteps]
            return MIRegularizedPrediction(
                noise_pred,
                original_samples_pred,
                inputs,
                noisy_samples,
                signal_to_noise=signal / (1 - signal),
                relative_timesteps=timesteps / len(alphas_cumprod),
            )


def predict_original_samples(
    noisy_samples: Tensor, model_output: Tensor, timesteps: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    """Estimate the clean image from a noisy one and the predicted noise.

    Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models", eq. 15.

    Args:
        noisy_samples: x_t, shape (B, C, *spatial).
        model_output: predicted noise, same shape.
        timesteps: integer steps t, shape (B,), 0 <= t < T.
        alphas_cumprod: cumulative product of 1 - beta, shape (T,), decreasing, in (0, 1].

    Returns:
        Estimate of x_0, same shape, in the intensity units of the training images; not clipped.

    Raises:
        ValueError: if `model_output` and `noisy_samples` differ in shape.
    """
    if model_output.shape != noisy_samples.shape:
        raise ValueError(
            f"model_output must have the shape of noisy_samples {tuple(noisy_samples.shape)},"
            f" got {tuple(model_output.shape)}"
        )
    alpha_prod_t = alphas_cumprod[timesteps].reshape(-1, *[1] * (noisy_samples.ndim - 1))
    return (noisy_samples - (1 - alpha_prod_t).sqrt() * model_output) / alpha_prod_t.sqrt()
