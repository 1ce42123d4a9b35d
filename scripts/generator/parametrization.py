"""What the network predicts, and the clean image and the noise that follow from it.

Every noisy image is x_t = alpha_t x_0 + sigma_t epsilon, and every parametrization is a linear map of (x_0, epsilon):

| parametrization | target of the network | x_0 | epsilon | source |
|---|---|---|---|---|
| `epsilon` | epsilon | (x_t - sigma F) / alpha | F | Ho et al. 2020, eq. 15 |
| `v_prediction` | alpha epsilon - sigma x_0 | alpha x_t - sigma F | sigma x_t + alpha F | Salimans, Ho 2022, app. D |
| `sample` | x_0 | F | (x_t - alpha F) / sigma | Salimans and Ho 2022, section 4 |
| `flow` | x_0 - epsilon | x_t + sigma F | x_t - alpha F | Liu et al. 2023, eq. 1 (MONAI's sign), alpha + sigma = 1 |

The schedulers are MONAI's: `DDPMScheduler` for the first three, `RFlowScheduler` (`FlowScheduler` here) for the last.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from monai.engines import DiffusionPrepareBatch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler, Scheduler
from torch import Tensor

from scripts.generator.guidance import NO_CLASS

PARAMETRIZATIONS = ("epsilon", "v_prediction", "sample", "flow")


class Prediction(NamedTuple):
    """What a network's output says about a noisy image.

    Args:
        original_samples: estimate of x_0, shape (B, C, *spatial), not clipped.
        noise: estimate of epsilon, same shape.
    """

    original_samples: Tensor
    noise: Tensor


class FlowScheduler(RFlowScheduler):
    """MONAI's `RFlowScheduler` with the discrete times of its default, made a module as its base class says it is.

    MONAI's own leaves `torch.nn.Module.__init__` out, so that whatever holds it cannot be asked for its children. Its
    continuous times lose precision: they are float16, and the next one is cut to an integer.

    Args:
        num_train_timesteps: T.
        location: mean of the logit of t / T in training; above 0 means more noise (Esser et al. 2024, "Scaling
            Rectified Flow Transformers for High-Resolution Image Synthesis", section 3.1).
        scale: its standard deviation.
        clip_sample: whether samplers clip their estimates of x_0 to [-1, 1].
    """

    def __init__(
        self, num_train_timesteps: int = 1000, location: float = 0.0, scale: float = 1.0, clip_sample: bool = True
    ) -> None:
        torch.nn.Module.__init__(self)
        super().__init__(num_train_timesteps, sample_method="logit-normal", loc=location, scale=scale)
        self.clip_sample = clip_sample
        self.clip_sample_values = (-1.0, 1.0)


def parametrization_of(scheduler: Scheduler) -> str:
    """Return which of `PARAMETRIZATIONS` a noise scheduler's network predicts.

    Raises:
        ValueError: if it is none of them.
    """
    name = "flow" if isinstance(scheduler, RFlowScheduler) else str(getattr(scheduler, "prediction_type", None))
    if name not in PARAMETRIZATIONS:
        raise ValueError(f"prediction_type must be one of {', '.join(PARAMETRIZATIONS)}, got {name!r}")
    return name


def noise_scheduler(
    parametrization: str,
    num_train_timesteps: int = 1000,
    schedule: str = "linear_beta",
    beta_start: float = 0.0001,
    beta_end: float = 0.02,
    flow_location: float = 0.0,
    flow_scale: float = 1.0,
    clip_sample: bool = True,
) -> DDPMScheduler | FlowScheduler:
    """Make MONAI's noise scheduler of a parametrization.

    Args:
        parametrization: one of `PARAMETRIZATIONS`.
        num_train_timesteps: T.
        schedule: name of MONAI's beta schedule; not used by `flow`.
        beta_start: first beta, likewise.
        beta_end: last beta, likewise.
        flow_location: of `FlowScheduler`; used by `flow` alone.
        flow_scale: likewise.
        clip_sample: whether samplers clip their estimates of x_0 to [-1, 1], the range of images, but not of latents.

    Raises:
        ValueError: if the parametrization is unknown, or there is no timestep.
    """
    if parametrization not in PARAMETRIZATIONS:
        raise ValueError(
            f"generator_parametrization must be one of {', '.join(PARAMETRIZATIONS)}, got {parametrization!r}"
        )
    if num_train_timesteps < 1:
        raise ValueError(f"num_train_timesteps must be >= 1, got {num_train_timesteps!r}; the paper has 1000")
    if parametrization == "flow":
        return FlowScheduler(num_train_timesteps, flow_location, flow_scale, clip_sample)
    return DDPMScheduler(
        num_train_timesteps,
        schedule,
        clip_sample=clip_sample,
        prediction_type=parametrization,
        beta_start=beta_start,
        beta_end=beta_end,
    )


def signal_and_noise_scales(scheduler: Scheduler, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha_t and sigma_t of x_t = alpha_t x_0 + sigma_t epsilon.

    Args:
        scheduler: noise scheduler.
        timesteps: integers, any shape, 0 <= t < T.

    Returns:
        Two tensors of the shape of `timesteps`, float32, in [0, 1].
    """
    if parametrization_of(scheduler) == "flow":
        sigma = timesteps.float() / scheduler.num_train_timesteps
        return 1 - sigma, sigma
    alphas_cumprod = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    return alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()


def predict_original_and_noise(
    scheduler: Scheduler, model_output: Tensor, timesteps: Tensor, noisy_samples: Tensor
) -> Prediction:
    """Estimate the clean image and the noise from a network's output; see the table above.

    Args:
        scheduler: noise scheduler that the network was trained with.
        model_output: network output F, shape (B, C, *spatial).
        timesteps: integer steps t, shape (B,), 0 <= t < T.
        noisy_samples: x_t, same shape as `model_output`.

    Returns:
        Estimates of x_0 and epsilon, in the intensity units of the training images; not clipped.

    Raises:
        ValueError: if `model_output` and `noisy_samples` differ in shape.
    """
    if model_output.shape != noisy_samples.shape:
        raise ValueError(
            f"model_output must have the shape of noisy_samples {tuple(noisy_samples.shape)},"
            f" got {tuple(model_output.shape)}"
        )
    alpha, sigma = _scales(scheduler, timesteps, noisy_samples)
    parametrization = parametrization_of(scheduler)
    if parametrization == "epsilon":
        return Prediction((noisy_samples - sigma * model_output) / alpha, model_output)
    if parametrization == "v_prediction":
        return Prediction(alpha * noisy_samples - sigma * model_output, sigma * noisy_samples + alpha * model_output)
    if parametrization == "sample":
        return Prediction(model_output, (noisy_samples - alpha * model_output) / sigma)
    return Prediction(noisy_samples + sigma * model_output, noisy_samples - alpha * model_output)


def clipped_prediction(scheduler: Scheduler, model_output: Tensor, timestep: int, noisy_samples: Tensor) -> Prediction:
    """Estimate the clean image, clipped if the scheduler clips, and the noise, as stock DDIM takes the two.

    Args:
        scheduler: noise scheduler that the network was trained with, with `clip_sample` and `clip_sample_values`.
        model_output: network output, shape (B, C, *spatial).
        timestep: t, the same for all images.
        noisy_samples: x_t, same shape.
    """
    timesteps = torch.full((len(noisy_samples),), int(timestep), device=noisy_samples.device)
    prediction = predict_original_and_noise(scheduler, model_output, timesteps, noisy_samples)
    if not scheduler.clip_sample:
        return prediction
    return prediction._replace(original_samples=prediction.original_samples.clamp(*scheduler.clip_sample_values))


def noise_of(scheduler: Scheduler, original_samples: Tensor, timesteps: Tensor, noisy_samples: Tensor) -> Tensor:
    """Return the noise that belongs to a noisy image and an estimate of the clean one, clipped or not.

    epsilon = (x_t - alpha x_0) / sigma. Arguments as in `predict_original_and_noise`; sigma_t must be above 0.
    """
    alpha, sigma = _scales(scheduler, timesteps, noisy_samples)
    return (noisy_samples - alpha * original_samples) / sigma


def training_target(scheduler: Scheduler, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Return what the network should predict; see the table above.

    Args:
        scheduler: noise scheduler.
        original_samples: x_0, shape (B, C, *spatial).
        noise: epsilon, same shape.
        timesteps: integers, shape (B,).
    """
    parametrization = parametrization_of(scheduler)
    if parametrization == "epsilon":
        return noise
    if parametrization == "sample":
        return original_samples
    if parametrization == "flow":
        return original_samples - noise
    return scheduler.get_velocity(original_samples, noise, timesteps)


class ParametrizedPrepareBatch(DiffusionPrepareBatch):
    """`DiffusionPrepareBatch` whose target and times are those of the noise scheduler.

    With `epsilon` it draws what the stock class draws, in the same order, and then which labels are dropped.

    Args:
        scheduler: noise scheduler of the training.
        condition_name: key of the batch that the network is conditioned on; None for none.
        label_dropout: probability that a label is dropped, in [0, 1), as a
            `scripts.generator.conditional_unet.ClassConditionalUNet` that has the whole batch drops them itself.
    """

    def __init__(self, scheduler: Any, condition_name: str | None = None, label_dropout: float = 0.0) -> None:
        super().__init__(scheduler.num_train_timesteps, condition_name)
        self.scheduler = scheduler
        self.label_dropout = label_dropout

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, tuple[Any, ...], dict[str, Any]]:
        """Return images, the target, and what the inferer takes beside them: noise, timesteps and the condition."""
        images, target, positional, named = super().__call__(*args, **kwargs)
        if self.label_dropout > 0 and "condition" in named:
            labels = named["condition"]
            dropped = torch.rand(labels.shape, device=labels.device) < self.label_dropout
            named["condition"] = torch.where(dropped, NO_CLASS, labels)
        return images, target, positional, named

    def get_timesteps(self, images: Tensor) -> Tensor:
        """Draw the timestep of each image: uniform, or as the flow's scheduler draws them."""
        if parametrization_of(self.scheduler) == "flow":
            return self.scheduler.sample_timesteps(images)
        return super().get_timesteps(images)

    def get_target(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the network should predict."""
        return training_target(self.scheduler, images, noise, timesteps)


def _scales(scheduler: Scheduler, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    shape = (-1, *[1] * (like.ndim - 1))
    alpha, sigma = signal_and_noise_scales(scheduler, timesteps.to(like.device))
    return alpha.reshape(shape), sigma.reshape(shape)
