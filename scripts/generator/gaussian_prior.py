"""The part of a denoiser that needs no training: the best guess if the images of each class were Gaussian.

Far from the end of sampling the guess of a trained network is this linear one (Wang and Vastola 2024, "The Unreasonable
Effectiveness of Gaussian Score Approximation for Diffusion Models and its Applications", section 4), and it is known in
closed form from the mean and the principal components of the training images. The network learns what is missing. Near
the end images are far from Gaussian, and a network that must first undo the wrong guess leaves grain: the guess fades.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.schedulers import Scheduler
from torch import Tensor, nn

from scripts.generator.parametrization import signal_and_noise_scales, training_target

MIN_VARIANCE = 1e-4  # of the directions that are no principal component, in units of [-1, 1]


EVERYWHERE = (0.0, 0.0)  # limits of a guess that counts in full at every timestep


class GaussianPrior(nn.Module):
    """What a network would predict if the images of each class were Gaussian, in any parametrization.

    The covariance of a class is U diag(v) U^T + r (1 - U U^T): principal axes U with their variances v, and one
    variance r for all other directions (Tipping and Bishop 1999, "Probabilistic Principal Component Analysis", section
    3.2). Of x_t = alpha x_0 + sigma epsilon, with y = x_t - alpha mean and a direction of variance v,

        E[x_0 | x_t] = mean + alpha v / (alpha^2 v + sigma^2) y    and    E[epsilon | x_t] = sigma / (...) y.

    The guess counts in full where the noise-to-signal ratio sigma / alpha is at least the upper end of `fade`, not at
    all below its lower end, and in proportion to the logarithm of the ratio between. (1, 4) was chosen by measures and
    by eye (docs/results/generator-recipes.md).

    Before `fit` it is a standard normal, and waits for the buffers of trained weights. They hold the mean and the
    leading components of the training images: whoever may not publish averages of these may not publish the weights.
    They hold `fade`, too: see `with_fade`.

    Args:
        scheduler: noise scheduler of the training, which says alpha, sigma and what is predicted.
        rank: principal components of each class, >= 1; a class of N images gets at most N / 2.
        shape: of an image, (C, *spatial).
        num_classes: K; the prior has K Gaussians and one of all images, for "no class". None has the last alone.
        fade: noise-to-signal ratios below which the guess does not count and from which it counts in full, 0 < low <
            high; None lets it count everywhere.

    Raises:
        ValueError: if the rank is below 1, or `fade` is not two rising numbers above 0.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        rank: int,
        shape: Sequence[int],
        num_classes: int | None = None,
        fade: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be >= 1, got {rank!r}; generator_gaussian_rank 0 is the network alone")
        require_fade(fade)
        self.scheduler = scheduler
        self.rank = rank
        groups, size = (num_classes or 0) + 1, torch.Size(shape).numel()
        self.register_buffer("mean", torch.zeros(groups, size))
        self.register_buffer("axes", torch.zeros(groups, rank, size))
        self.register_buffer("variances", torch.ones(groups, rank))
        self.register_buffer("rest", torch.ones(groups, 1))
        self.register_buffer("fade", torch.tensor(EVERYWHERE if fade is None else tuple(map(float, fade))))

    @torch.no_grad()
    def fit(self, images: Tensor, labels: Tensor | None = None) -> None:
        """Take mean and principal components of each class, and of all images.

        A class of one image or none gets the Gaussian of all; of a single image in all nothing is taken, because its
        Gaussian would copy it.

        Args:
            images: training images, shape (N, C, *spatial), in [-1, 1].
            labels: class of each, shape (N,); a negative one, or None, is "no class".

        Raises:
            ValueError: if the images have another size.
        """
        flat = images.flatten(1).to(self.mean)
        if flat.shape[1] != self.mean.shape[1]:
            raise ValueError(
                f"images must have {self.mean.shape[1]} values each, got shape {tuple(images.shape)}; set patch_size"
                " and modalities as the patches have them"
            )
        if len(flat) < 2:
            return
        for group in range(len(self.mean)):
            is_class = group < len(self.mean) - 1 and labels is not None
            own = flat[labels.to(flat.device) == group] if is_class else flat  # type: ignore[union-attr]
            self._fit_group(group, own if len(own) > 1 else flat)

    def _fit_group(self, group: int, flat: Tensor) -> None:
        mean = flat.mean(0)
        _, singular, axes = torch.linalg.svd(flat - mean, full_matrices=False)
        variances = singular.square() / (len(flat) - 1)
        # Of as many components as images each would be a mixture that its image dominates.
        rank = min(self.rank, len(flat) // 2)
        rest = (variances[rank:].sum() / max(flat.shape[1] - rank, 1)).clamp_min(MIN_VARIANCE)
        self.mean[group] = mean
        self.axes[group] = 0
        self.axes[group, :rank] = axes[:rank]
        self.variances[group] = rest
        self.variances[group, :rank] = variances[:rank].clamp_min(rest)
        self.rest[group] = rest

    def forward(self, noisy_samples: Tensor, timesteps: Tensor, groups: Tensor) -> Tensor:
        """Predict what a network of the scheduler's parametrization should, as far as the guess counts.

        Args:
            noisy_samples: x_t, shape (B, C, *spatial).
            timesteps: integers, shape (B,) or (1,).
            groups: class of each, K for "no class", shape (B,).

        Returns:
            Shape of `noisy_samples`, float32.
        """
        timesteps = timesteps.long().expand(noisy_samples.shape[0])
        # bfloat16 would round the differences from the mean away.
        with torch.autocast(noisy_samples.device.type, enabled=False):
            original, noise = self.expected(noisy_samples.float(), timesteps, groups)
            share = self.share(timesteps).reshape(-1, *[1] * (noisy_samples.ndim - 1))
            return share * training_target(self.scheduler, original, noise, timesteps)

    def share(self, timesteps: Tensor) -> Tensor:
        """How much the guess counts at some timesteps, in [0, 1], shape (B,)."""
        alpha, sigma = signal_and_noise_scales(self.scheduler, timesteps)
        low, high = self.fade.log()
        # Without noise the ratio is 0, and without signal infinite.
        position = (sigma / alpha).log() - low
        return torch.nan_to_num(position / (high - low), nan=1.0).clamp(0, 1)

    def expected(self, noisy_samples: Tensor, timesteps: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Return E[x_0 | x_t] and E[epsilon | x_t]; arguments as for `forward`, timesteps of shape (B,)."""
        alpha, sigma = (scale.reshape(-1, 1) for scale in signal_and_noise_scales(self.scheduler, timesteps))
        mean, variances, rest = self.mean[groups], self.variances[groups], self.rest[groups]
        centered = noisy_samples.flatten(1) - alpha * mean
        # Against the axes of all groups at once: those of each image need not be copied.
        own = (groups[:, None] == torch.arange(self.mean.shape[0], device=groups.device)).to(centered)
        coordinates = torch.einsum("bd,grd,bg->br", centered, self.axes, own)

        def scaled(gains: Tensor, rest_gain: Tensor) -> Tensor:
            weights = torch.einsum("br,bg->bgr", (gains - rest_gain) * coordinates, own)
            return rest_gain * centered + torch.einsum("bgr,grd->bd", weights, self.axes)

        power, rest_power = alpha**2 * variances + sigma**2, alpha**2 * rest + sigma**2
        original = mean + scaled(alpha * variances / power, alpha * rest / rest_power)
        noise = scaled(sigma / power, sigma / rest_power)
        return original.view_as(noisy_samples), noise.view_as(noisy_samples)


def require_fade(fade: Sequence[float] | None) -> None:
    """Refuse limits of the closed-form part that are not two rising numbers above 0; None passes.

    Raises:
        ValueError: naming the config key.
    """
    numbers = [isinstance(limit, (int, float)) and math.isfinite(limit) for limit in fade or ()]
    if fade is not None and not (len(numbers) == 2 and all(numbers) and 0 < fade[0] < fade[1]):
        raise ValueError(
            f"generator_gaussian_fade must be two rising noise-to-signal ratios above 0, got {fade!r};"
            " null lets the closed-form part count at every timestep"
        )


def with_fade(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Complete a generator's weights from before its closed-form part faded: they were trained with it everywhere.

    Args:
        state: state dict of a network, whose prior, if it has one, is called `prior`.

    Returns:
        A copy, with the limits of each prior that has none.
    """
    priors = [name.removesuffix("mean") for name in state if re.fullmatch(r"(.*\.)?prior\.mean", name)]
    return {**{f"{prior}fade": torch.tensor(EVERYWHERE) for prior in priors}, **state}


def fit_prior(network: nn.Module, dataset: Any) -> None:
    """Fit the prior of a generator, if it has one, to its training images.

    Args:
        network: generator; without a `prior` nothing is done.
        dataset: of the training part of a fold, with `images` and `labels`
            (`scripts.patches.tensors.LabeledImages`).
    """
    prior = getattr(network, "prior", None)
    if prior is not None:
        prior.fit(dataset.images, dataset.labels)
