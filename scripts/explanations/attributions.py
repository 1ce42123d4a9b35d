"""What each part of each modality adds to a classifier's answer: LIME over superpixels, occlusion and GradCAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import Occlusion
from torch import Tensor, nn

from scripts.explanations.coverings import BASELINES, BATCH, covered
from scripts.explanations.lime import fit_lime
from scripts.explanations.maps import explain
from scripts.patches.intensities import BACKGROUND, foreground

OUTPUTS = ("log_odds", "probability")
TOGETHER = "LIME and occlusion cover all channels at once: they have no shares"
NO_SHARES = "GradCAM weighs the maps of a deep layer, where the modalities are mixed already: it has no shares"


@dataclass(frozen=True)
class Attribution:
    """What one method says about one answer.

    Args:
        values: (C, *spatial), in units of the explained output: above 0 speaks for the class, below 0 against it. Of
            channels that are covered together (1, *spatial), and of GradCAM the same in [0, 1].
        shares: (C,) of the sum of absolute attributions, each in [0, 1], sum 1; None where the method has none, as of
            channels that are covered together, or where nothing has any effect.
        fit: of LIME, R^2 of its linear model, each image predicted by the model fitted to the others, weighted as in
            the fit, at most 1; where it is low, the answer is no sum of parts and the map says little.
    """

    values: np.ndarray
    shares: list[float] | None
    fit: float | None = None


@dataclass(frozen=True)
class Attributor:
    """The methods with their settings; equal settings and seed give equal maps.

    Args:
        methods: keys of `METHODS`.
        output: what is explained: "log_odds" of the class, log p - log(1 - p), which stays sensitive where the answer
            is sure and is linear for a linear network of two classes, or its "probability".
        baseline: what a covered part becomes: "background" is -1 in every modality; "mean" is the mean of the
            superpixel (LIME) or of the modality where there is no background (occlusion).
        num_superpixels: superpixels aimed at, of the part of the image that is not background; each is a feature of its
            own in each modality.
        compactness: of SLIC; higher makes squarer superpixels.
        num_samples: images that LIME's linear model is fitted to; should be several times superpixels x modalities.
        kernel_width: of LIME's weights, in cosine distance.
        occlusion_size: side of the window that covers one modality, pixels; it moves by half of that.
        layer: of GradCAM; None takes the deepest one whose map is fine enough.
        seed: of LIME's samples.
        channels_together: whether a covered part is covered in all channels at once, as in the colors of a picture,
            instead of in one modality.

    Raises:
        ValueError: if a method, output or baseline is unknown, or a number is not positive.
    """

    methods: Sequence[str] = ("lime", "occlusion", "gradcam")
    output: str = "log_odds"
    baseline: str = "background"
    num_superpixels: int = 40
    compactness: float = 0.5
    num_samples: int = 1000
    kernel_width: float = 0.25
    occlusion_size: int = 8
    layer: str | None = None
    seed: int = 0
    channels_together: bool = False

    def __post_init__(self) -> None:
        _refuse_unknown("explain_output", [self.output], OUTPUTS)
        _refuse_unknown("explain_baseline", [self.baseline], BASELINES)
        _refuse_unknown("explain_methods", self.methods, tuple(METHODS))
        numbers = {
            "lime_num_superpixels": self.num_superpixels,
            "lime_compactness": self.compactness,
            "lime_num_samples": self.num_samples,
            "lime_kernel_width": self.kernel_width,
            "occlusion_size": self.occlusion_size,
        }
        for name, value in numbers.items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}")

    @property
    def no_shares(self) -> dict[str, str]:
        """Why a method has no shares of the modalities, by its name."""
        reasons = {"lime": TOGETHER, "occlusion": TOGETHER} if self.channels_together else {}
        return {name: reason for name, reason in {**reasons, "gradcam": NO_SHARES}.items() if name in self.methods}

    def __call__(self, network: nn.Module, image: Tensor, label: int) -> dict[str, Attribution]:
        """Explain one class of one image by every method.

        Args:
            network: classifier in evaluation mode, from (B, C, *spatial) to logits (B, K).
            image: (C, *spatial) of two or three spatial dimensions, [-1, 1], background -1, on the network's device.
            label: class that is explained, 0 <= label < K.

        Returns:
            Method -> its attribution.

        Raises:
            ValueError: if the image has other dimensions or is all background, or the network has one class.
        """
        if image.ndim not in (3, 4):
            raise ValueError(f"image must have 2 or 3 spatial dimensions, got shape {tuple(image.shape)}")
        if not bool(foreground(image).any()):
            raise ValueError(f"image must show something, got background ({BACKGROUND:g}) in every pixel")
        return {name: METHODS[name](self, network, image, label) for name in self.methods}


def answer_function(network: nn.Module, label: int, output: str = "log_odds") -> Callable[[Tensor], Tensor]:
    """Make the function that is explained.

    Args:
        network: from (B, C, *spatial) to logits (B, K), K >= 2.
        label: class.
        output: "log_odds", log p - log(1 - p), or "probability".

    Returns:
        Function from images (B, C, *spatial) to (B,).
    """

    def answer(images: Tensor) -> Tensor:
        logits = network(images)
        if logits.shape[1] < 2:
            raise ValueError(f"network must have at least 2 classes, got logits of shape {tuple(logits.shape)}")
        if output == "probability":
            return logits.softmax(dim=1)[:, label]
        others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
        return logits[:, label] - torch.logsumexp(others, dim=1)

    return answer


def shares_of(totals: np.ndarray) -> list[float] | None:
    """Divide sums of absolute attributions, (C,) >= 0, by their sum; None where that is 0."""
    total = float(totals.sum())
    return [float(value) / total for value in totals] if total > 0 else None


def lime(attributor: Attributor, network: nn.Module, image: Tensor, label: int) -> Attribution:
    """Attribute to superpixels by a linear model: see `fit_lime`.

    Returns:
        The coefficient of each feature over the pixels of its superpixel; shares are sums of absolute coefficients.
    """
    fitted = fit_lime(
        answer_function(network, label, attributor.output),
        image,
        attributor.num_superpixels,
        attributor.compactness,
        attributor.num_samples,
        attributor.kernel_width,
        attributor.baseline,
        attributor.seed,
        attributor.channels_together,
    )
    if attributor.channels_together:
        return Attribution(fitted.values[:1], None, fitted.fit)
    return Attribution(fitted.values, shares_of(fitted.totals), fitted.fit)


def occlusion(attributor: Attributor, network: nn.Module, image: Tensor, label: int) -> Attribution:
    """Cover one modality, or all channels together, by a moving window and see what the answer loses.

    Source: Zeiler and Fergus 2014, section 4.2, through captum, which averages over the windows on a pixel.

    Returns:
        Loss of the output at each pixel of each modality; shares are sums of its absolute values.
    """
    window = len(image) if attributor.channels_together else 1  # channels
    size = tuple(min(attributor.occlusion_size, side) for side in image.shape[1:])
    steps = tuple(max(1, side // 2) for side in size)
    shown = foreground(image)
    groups = torch.stack([torch.where(shown, k, len(image)) for k in range(len(image))])
    with torch.no_grad():
        values = Occlusion(answer_function(network, label, attributor.output)).attribute(
            image[None],
            sliding_window_shapes=(window, *size),
            strides=(1, *steps),
            baselines=covered(image, groups, attributor.baseline)[None],
            perturbations_per_eval=BATCH,
        )[0]
    losses = values.cpu().numpy().astype(np.float32)
    if attributor.channels_together:
        return Attribution(losses[:1], None)
    return Attribution(losses, shares_of(np.abs(losses, dtype=np.float64).reshape(len(losses), -1).sum(axis=1)))


def gradcam(attributor: Attributor, network: nn.Module, image: Tensor, label: int) -> Attribution:
    """Weigh the maps of a deep layer by their gradients (Selvaraju et al. 2017), see `scripts.explanations.maps`.

    Returns:
        One map for all modalities, [0, 1], without shares: see `NO_SHARES`.
    """
    return Attribution(explain(network, image, label, "gradcam", attributor.layer)[None], None)


METHODS: dict[str, Callable[[Attributor, nn.Module, Tensor, int], Attribution]] = {
    "lime": lime,
    "occlusion": occlusion,
    "gradcam": gradcam,
}


def _refuse_unknown(name: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [item for item in names if item not in known]
    if unknown or not names:
        raise ValueError(f"{name} must be of {', '.join(known)}, got {', '.join(map(repr, unknown)) or 'none'}")
