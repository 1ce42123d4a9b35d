"""The denoising loss with a mutual-information term."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from scripts.mutual_information.estimators import check_options, mutual_information
from scripts.mutual_information.inferer import MIRegularizedPrediction
from scripts.mutual_information.noise_levels import NoiseLevels

# Noise reaches about 3 standard deviations; histograms want [-1, 1].
NOISE_RANGE = 3.0

PAIRS: dict[str, Callable[[MIRegularizedPrediction], tuple[Tensor, Tensor]]] = {
    "x0_pred__x0": lambda p: (p.original_samples_pred, p.original_samples),
    "x_t__noise_pred": lambda p: (p.noisy_samples / NOISE_RANGE, p.noise_pred / NOISE_RANGE),
    "noise_pred__x0": lambda p: (p.noise_pred / NOISE_RANGE, p.original_samples),
}
# Weight of an image's term from its signal-to-noise ratio; alpha_bar is snr / (1 + snr).
TIMESTEP_WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": torch.ones_like,
    "min_snr": lambda snr: snr.clamp_max(1),
    "high_noise": lambda snr: 1 / (1 + snr),
}


class MIRegularizedNoiseLoss(nn.Module):
    """Denoising loss plus mutual information between the estimate of the clean image and the clean image.

    L = denoise_weight * D(F, target) + mi_weight * I(x0_hat; x0), D the loss of the network's output F, in the paper
    SmoothL1 of the noise. The mutual information is added, so training lowers it: the network is discouraged from
    reproducing the training image it sees.

    Source: Moshe, Teicher, Artzi (see `scripts/report/published.py`); best reading of its equation, with options for
    what it leaves open.

    With `denoise_weight` 1 and `mi_weight` 0 the value and the gradient are those of the denoising loss, bit for bit.

    The gradient of the term by the network's output, over that of the denoising loss, grows with sigma_t / alpha_t in
    noise prediction, without bound, and stays below 1 with velocity or flow: there "min_snr" would weaken it twice.

    Args:
        denoising_loss: of the network's output and its target, a mean over images; None is `torch.nn.SmoothL1Loss`.
        denoise_weight: factor of the denoising loss, dimensionless, >= 0.
        mi_weight: factor of the mutual information, dimensionless, >= 0.
        mi_pair: "x0_pred__x0"; "noise_pred__x0"; or "x_t__noise_pred", which made memorization worse (warned).
        mi_estimator: "parzen_gaussian" and "gaussian" (nats), or "nmi" (in [0, 1]); "histogram" (nats) has no gradient
            and only logs, with `mi_weight` 0.
        mi_channels: "per_channel" or "pooled".
        mi_timestep_weighting: "uniform"; "min_snr", min(1, SNR), for noise prediction alone, where it keeps the
            gradient of the term below 3 times that of the noise loss; "high_noise", sigma_t^2, which gives the term
            the share at each noise level that it has with velocity: the error of x_0 is sigma_t times that of v, so
            D(x_0) + sigma_t^2 I is sigma_t^2 (D(v) + I) of a squared error. Of x_0 prediction "uniform" is warned of.
        mi_num_bins: bins on each axis of a histogram.
        mi_x0_clamp: clamp both of the pair to [-1, 1]; pixels outside then get no gradient. A histogram without it
            counts them in its outermost bins, where the gradient vanishes smoothly.
        mi_warmup_steps: training steps over which the factor rises linearly from 0 to `mi_weight`.
        mi_log_interval: training steps between two looks at the gradients of both terms, for `noise_levels`.
        parametrization: what the network predicts, of `scripts.generator.parametrization`.
        num_parts: calls in training that make one training step, where a trainer adds up gradients.

    Raises:
        ValueError: if a weight is negative, an option unknown, an estimator without gradient is to be minimized, or
            "min_snr" is asked for a parametrization that bounds the term by itself.
    """

    def __init__(
        self,
        denoise_weight: float = 0.9,
        mi_weight: float = 0.1,
        mi_pair: str = "x0_pred__x0",
        mi_estimator: str = "parzen_gaussian",
        mi_channels: str = "per_channel",
        mi_timestep_weighting: str = "uniform",
        mi_num_bins: int = 23,
        mi_x0_clamp: bool = True,
        mi_warmup_steps: int = 0,
        mi_log_interval: int = 10,
        denoising_loss: nn.Module | None = None,
        parametrization: str = "epsilon",
        num_parts: int = 1,
    ) -> None:
        super().__init__()
        _check_weights(denoise_weight=denoise_weight, mi_weight=mi_weight, mi_warmup_steps=mi_warmup_steps)
        if mi_log_interval < 1:
            raise ValueError(f"mi_log_interval must be >= 1, got {mi_log_interval!r}")
        _check_choices(mi_pair=(mi_pair, PAIRS), mi_timestep_weighting=(mi_timestep_weighting, TIMESTEP_WEIGHTINGS))
        check_options(mi_estimator, mi_channels, with_gradient=mi_weight > 0)
        if mi_timestep_weighting == "min_snr" and parametrization != "epsilon":
            raise ValueError(
                f"mi_timestep_weighting must be uniform or high_noise for generator_parametrization {parametrization},"
                " whose term is bounded by itself, got 'min_snr'; leave options/mutual_information_bounded.yaml out"
            )
        if mi_timestep_weighting == "uniform" and parametrization == "sample" and mi_weight > 0:
            warnings.warn(
                "mi_timestep_weighting 'uniform' outweighs the error of x_0 where there is little noise, and images get"
                " a fine pattern; use 'high_noise' with generator_parametrization sample",
                stacklevel=2,
            )
        if mi_pair == "x_t__noise_pred":
            warnings.warn(
                "mi_pair 'x_t__noise_pred' made memorization worse when tried; it is an ablation", stacklevel=2
            )
        self.denoising_loss = nn.SmoothL1Loss() if denoising_loss is None else denoising_loss
        self.denoise_weight = denoise_weight
        self.mi_weight = mi_weight
        self.mi_pair = mi_pair
        self.mi_estimator = mi_estimator
        self.mi_channels = mi_channels
        self.mi_timestep_weighting = mi_timestep_weighting
        self.mi_num_bins = mi_num_bins
        self.mi_x0_clamp = mi_x0_clamp
        self.mi_warmup_steps = mi_warmup_steps
        self.mi_log_interval = mi_log_interval
        self.num_parts = num_parts
        self.num_calls = 0
        self.terms: dict[str, Tensor] = {}
        self.noise_levels = NoiseLevels()

    def forward(self, pred: MIRegularizedPrediction, target: Tensor) -> Tensor:
        """Compute the loss of a training step and keep its two terms, without gradient, in `terms` for the log.

        Args:
            pred: what `MIRegularizedDiffusionInferer` returned.
            target: what the network should predict, shape (B, C, *spatial).

        Returns:
            Scalar.
        """
        noise_loss = self.denoising_loss(pred.model_output, target)
        mi_weight = self.mi_weight * self._warmup()
        # At weight 0 the term is logged only: not even a zero times its gradient enters the sum.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.mi_weight > 0):
            information = self.information(pred)
            weighted = (information * TIMESTEP_WEIGHTINGS[self.mi_timestep_weighting](pred.signal_to_noise)).mean()
        self.terms = {"noise_loss": noise_loss.detach(), "mutual_information": information.detach().mean()}
        denoising, regularizing = self.denoise_weight * noise_loss, mi_weight * weighted
        if self.training and pred.model_output.requires_grad and self.num_steps % self.mi_log_interval == 0:
            self._log_noise_levels(pred, target, information, denoising, regularizing)
        return denoising + regularizing if self.mi_weight > 0 else denoising

    def information(self, pred: MIRegularizedPrediction) -> Tensor:
        """Mutual information of each image's pair, shape (B,), before weighting."""
        with torch.autocast(device_type=pred.original_samples.device.type, enabled=False):
            first, second = (image.float() for image in PAIRS[self.mi_pair](pred))
            if self.mi_x0_clamp:
                first, second = first.clamp(-1, 1), second.clamp(-1, 1)
            return mutual_information(first, second, self.mi_estimator, self.mi_channels, self.mi_num_bins)

    @property
    def num_steps(self) -> int:
        """Training steps so far, with the one whose parts are being computed."""
        return -(-self.num_calls // self.num_parts)

    def get_extra_state(self) -> dict[str, int]:
        """Return the number of training steps so far, which the warm-up needs after a restart."""
        return {"num_steps": self.num_steps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up where `get_extra_state` left."""
        self.num_calls = int(state["num_steps"]) * self.num_parts  # an epoch ends with a whole step

    def _log_noise_levels(
        self,
        pred: MIRegularizedPrediction,
        target: Tensor,
        information: Tensor,
        denoising: Tensor,
        regularizing: Tensor,
    ) -> None:
        # By the network's output, where both terms meet: the network is not walked through a second time.
        noise_gradient = _gradient(denoising, pred.model_output)
        information_gradient = _gradient(regularizing, pred.model_output)
        outputs = pred.model_output.detach()
        images = zip(outputs.split(1), target.split(1), strict=True)
        noise_loss = torch.stack([self.denoising_loss(output, wanted) for output, wanted in images])
        self.noise_levels.add(
            pred.relative_timesteps, noise_loss, information.detach(), noise_gradient, information_gradient
        )

    def _warmup(self) -> float:
        self.num_calls += self.training
        return min(1.0, self.num_steps / self.mi_warmup_steps) if self.mi_warmup_steps else 1.0


def _check_weights(**weights: float) -> None:
    for name, value in weights.items():
        if value < 0:
            raise ValueError(f"{name} must be >= 0, got {value!r}; 0 switches the term off")


def _check_choices(**choices: tuple[str, dict[str, Any]]) -> None:
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _gradient(term: Tensor, model_output: Tensor) -> Tensor:
    if not term.requires_grad:
        return torch.zeros_like(model_output)
    return torch.autograd.grad(term, model_output, retain_graph=True)[0]
