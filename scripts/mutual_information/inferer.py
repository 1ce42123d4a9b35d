"""The diffusion forward pass that also returns the estimate of the clean image."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from monai.inferers import DiffusionInferer
from torch import Tensor

from scripts.generator.parametrization import predict_original_and_noise, signal_and_noise_scales


class MIRegularizedPrediction(NamedTuple):
    """What the loss with a mutual-information term needs of a training step.

    Args:
        model_output: what the network returned, shape (B, C, *spatial); the loss compares it with its target.
        noise_pred: the noise that follows from it, same shape; with noise prediction the same.
        original_samples_pred: estimate of x_0, same shape, float32, not clipped.
        original_samples: x_0 in [-1, 1], same shape.
        noisy_samples: x_t, same shape.
        signal_to_noise: alpha_t^2 / sigma_t^2 at each image's timestep, shape (B,).
        relative_timesteps: t / T of each image, shape (B,), in [0, 1).
    """

    model_output: Tensor
    noise_pred: Tensor
    original_samples_pred: Tensor
    original_samples: Tensor
    noisy_samples: Tensor
    signal_to_noise: Tensor
    relative_timesteps: Tensor


class MIRegularizedDiffusionInferer(DiffusionInferer):
    """`DiffusionInferer` whose training pass returns x_0 and its estimate beside the network's output.

    `SupervisedTrainer` gives a loss only (pred, target); with this inferer pred is a `MIRegularizedPrediction`, which
    `scripts.mutual_information.loss.MIRegularizedNoiseLoss` takes. The network sees what the stock `DiffusionInferer`
    shows it.

    Args:
        scheduler: noise scheduler of any parametrization.
    """

    def __call__(  # type: ignore[override]
        self, inputs: Tensor, diffusion_model: torch.nn.Module, noise: Tensor, timesteps: Tensor, **kwargs: Any
    ) -> MIRegularizedPrediction:
        """Run the network in a training step and estimate x_0 from its output.

        Args:
            inputs: x_0 in [-1, 1], shape (B, C, *spatial).
            diffusion_model: network.
            noise: epsilon, same shape.
            timesteps: integer steps, shape (B,).
            kwargs: as for `DiffusionInferer`.
        """
        model_output = super().__call__(inputs, diffusion_model, noise, timesteps, **kwargs)
        with torch.autocast(device_type=inputs.device.type, enabled=False):
            noisy_samples = self.scheduler.add_noise(original_samples=inputs, noise=noise, timesteps=timesteps)
            prediction = predict_original_and_noise(
                self.scheduler, model_output.to(noisy_samples.dtype), timesteps, noisy_samples
            )
            alpha, sigma = signal_and_noise_scales(self.scheduler, timesteps)
            return MIRegularizedPrediction(
                model_output,
                prediction.noise,
                prediction.original_samples,
                inputs,
                noisy_samples,
                signal_to_noise=(alpha / sigma).square(),
                relative_timesteps=timesteps / self.scheduler.num_train_timesteps,
            )
