"""What each part of each modality adds to a classifier's answer: LIME over superpixels, occlusion and GradCAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import LimeBase, Occlusion
from skimage.segmentation import slic
from torch import Tensor, nn
from torch.utils.data import DataLoader

from scripts.explanations.maps import BACKGROUND, explain

OUTPUTS = ("log_odds", "probability")
BASELINES = ("background", "mean")
PENALTY = 1.0  # of LIME's ridge regression, on the squares of the coefficients
BATCH = 32  # covered images at once
NO_SHARES = "GradCAM weighs the maps of a deep layer, where the modalities are mixed already: it has no shares"


@dataclass(frozen=True)
class Attribution:
    """What one method says about one answer.

    Args:
        values: (C, *spatial), in units of the explained output: above 0 speaks for the class, below 0 against it. Of
            GradCAM (1, *spatial) in [0, 1].
        shares: (C,) of the sum of absolute attributions, each in [0, 1], sum 1; None where the method has none or
            where nothing has any effect.
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

    def __post_init__(self) -> None:
        for name, chosen, known in (("output", [self.output], OUTPUTS), ("baseline", [self.baseline], BASELINES)):
            _refuse_unknown(name, chosen, known)
        _refuse_unknown("methods", self.methods, tuple(METHODS))
        for name in ("num_superpixels", "compactness", "num_samples", "kernel_width", "occlusion_size"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")

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
        if bool((image == BACKGROUND).all()):
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


def superpixels(image: np.ndarray, num_superpixels: int, compactness: float = 0.5) -> np.ndarray:
    """Cut what is not background into superpixels that all modalities share.

    Source: SLIC (Achanta et al. 2012), scikit-image, restricted to a mask (maskSLIC, Irving 2016).

    Args:
        image: (C, *spatial), two or three spatial dimensions, [-1, 1]; background is -1 in every modality.
        num_superpixels: number aimed at.
        compactness: weight of nearness in space against likeness of intensity.

    Returns:
        (*spatial) integers: 0 is background, superpixels are 1 to S.
    """
    shown = (image != BACKGROUND).any(axis=0)
    # A mask that leaves nothing out would only make SLIC slower.
    mask = None if shown.all() else shown
    count = min(num_superpixels, int(shown.sum()))
    segments = slic(
        np.moveaxis(image, 0, -1), count, compactness, mask=mask, channel_axis=-1, start_label=1, convert2lab=False
    )
    numbered = np.zeros(shown.shape, dtype=np.int64)
    # Without gaps: each number is a column of the linear model.
    numbered[shown] = np.unique(segments[shown], return_inverse=True)[1] + 1
    return numbered


def lime(attributor: Attributor, network: nn.Module, image: Tensor, label: int) -> Attribution:
    """Fit a linear model to the answers to images of which superpixels of single modalities were covered.

    Source: Ribeiro, Singh, Guestrin 2016, "Why should I trust you?", algorithm 1, through captum, with the kernel, the
    ridge regression (penalty 1) and the coin-toss sampling of the authors' own program. A feature is one superpixel of
    one modality, and the first sample is the image itself.

    Returns:
        The coefficient of each feature over the pixels of its superpixel; shares are sums of absolute coefficients.
    """
    segments = torch.from_numpy(superpixels(image.cpu().numpy(), attributor.num_superpixels, attributor.compactness))
    count = int(segments.max())
    num_features = count * len(image)
    # Column of each pixel in the linear model; background has the last, which is never covered.
    firsts = range(0, num_features, count)
    columns = torch.stack([torch.where(segments > 0, segments - 1 + first, num_features) for first in firsts])
    baseline = _covered(image, columns.to(image.device), attributor.baseline)
    model = _Ridge(PENALTY)
    surrogate = LimeBase(
        answer_function(network, label, attributor.output),
        model,
        similarity_func=_kernel(attributor.kernel_width),
        perturb_func=_coin_tosses(num_features, attributor.seed),
        perturb_interpretable_space=True,
        from_interp_rep_transform=_cover(columns.to(image.device), baseline),
        to_interp_rep_transform=None,
    )
    # captum's linear model and its loader draw from the global random state, without using what they draw.
    with torch.random.fork_rng(devices=[]):
        weights = surrogate.attribute(image[None], n_samples=attributor.num_samples, perturbations_per_eval=BATCH)
    coefficients = weights.reshape(-1).cpu().double()
    values = torch.cat([coefficients, torch.zeros(1)])[columns].numpy().astype(np.float32)
    totals = coefficients.abs().reshape(len(image), count).sum(dim=1).numpy()
    return Attribution(values, shares_of(totals), model.fit_of_others)


def occlusion(attributor: Attributor, network: nn.Module, image: Tensor, label: int) -> Attribution:
    """Cover one modality by a moving window and see what the answer loses.

    Source: Zeiler and Fergus 2014, section 4.2, through captum, which averages over the windows on a pixel.

    Returns:
        Loss of the output at each pixel of each modality; shares are sums of its absolute values.
    """
    size = tuple(min(attributor.occlusion_size, side) for side in image.shape[1:])
    steps = tuple(max(1, side // 2) for side in size)
    shown = (image != BACKGROUND).any(dim=0)
    groups = torch.stack([torch.where(shown, k, len(image)) for k in range(len(image))])
    with torch.no_grad():
        values = Occlusion(answer_function(network, label, attributor.output)).attribute(
            image[None],
            sliding_window_shapes=(1, *size),
            strides=(1, *steps),
            baselines=_covered(image, groups, attributor.baseline)[None],
            perturbations_per_eval=BATCH,
        )[0]
    attributions = values.cpu().numpy().astype(np.float32)
    return Attribution(
        attributions, shares_of(np.abs(attributions, dtype=np.float64).reshape(len(attributions), -1).sum(axis=1))
    )


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


class _Ridge(SkLearnRidge):
    """Ridge regression that tells how well it foresees what it was not fitted to."""

    def __init__(self, penalty: float) -> None:
        super().__init__(alpha=penalty)
        self.penalty = penalty
        self.fit_of_others: float | None = None

    def fit(self, train_data: DataLoader, **kwargs: Any) -> Any:
        """Fit to the one batch that captum gives."""
        result = super().fit(train_data, **kwargs)
        inputs, outputs, weights = (part.cpu().double().numpy() for part in next(iter(train_data)))
        self.fit_of_others = left_out_fit(inputs, outputs, weights, self.penalty)
        return result


def left_out_fit(inputs: np.ndarray, outputs: np.ndarray, weights: np.ndarray, penalty: float) -> float | None:
    """Compute R^2 of a weighted ridge regression from leave-one-out predictions, in closed form.

    Source: Allen 1974 (PRESS): without sample i its residual is r_i / (1 - h_i), h_i the diagonal of the hat matrix.

    Args:
        inputs: (N, M).
        outputs: (N,).
        weights: (N,), >= 0.
        penalty: on the squared coefficients; the intercept is free.

    Returns:
        At most 1, below 0 where the mean foresees better; None where the outputs do not differ.
    """
    design = np.column_stack([np.ones(len(inputs)), inputs])
    normal = (design.T * weights) @ design + np.diag([0.0] + [penalty] * inputs.shape[1])
    solved = np.linalg.solve(normal, design.T * weights)
    leverages = np.einsum("ij,ji->i", design, solved)
    residuals = (outputs - design @ (solved @ outputs)) / (1 - leverages)
    spread = np.sum(weights * (outputs - np.average(outputs, weights=weights)) ** 2)
    return float(1 - np.sum(weights * residuals**2) / spread) if spread > 0 else None


def _covered(image: Tensor, groups: Tensor, baseline: str) -> Tensor:
    """Return the image with everything covered; `groups` numbers what shares a mean, the highest is background."""
    if baseline == "background":
        return torch.full_like(image, BACKGROUND)
    flat = groups.reshape(-1)
    sums = torch.zeros(int(flat.max()) + 1, device=image.device).index_add(0, flat, image.reshape(-1))
    means = sums / torch.bincount(flat).clamp(min=1).to(sums.dtype)
    shown = (image != BACKGROUND).any(dim=0)
    return torch.where(shown, means[groups], BACKGROUND)


def _coin_tosses(num_features: int, seed: int) -> Callable[..., Iterator[Tensor]]:
    def samples(image: Tensor, **kwargs: Any) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        yield torch.ones(1, num_features)
        while True:
            yield torch.randint(0, 2, (1, num_features), generator=generator).float()

    return samples


def _cover(columns: Tensor, baseline: Tensor) -> Callable[..., Tensor]:
    def image_of(sample: Tensor, image: Tensor, **kwargs: Any) -> Tensor:
        is_kept = torch.cat([sample[0], torch.ones(1)]).bool().to(columns.device)[columns]
        return torch.where(is_kept, image, baseline)

    return image_of


def _kernel(width: float) -> Callable[..., Tensor]:
    def similarity(image: Tensor, covered: Tensor, sample: Tensor, **kwargs: Any) -> Tensor:
        # The cosine of a vector of zeros and ones with the vector of ones is the root of its mean.
        distance = 1 - sample.mean().sqrt()
        return torch.exp(-(distance**2) / (2 * width**2))

    return similarity


def _refuse_unknown(name: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [item for item in names if item not in known]
    if unknown or not names:
        raise ValueError(f"{name} must be of {', '.join(known)}, got {', '.join(map(repr, unknown)) or 'none'}")
