"""LIME: what each superpixel adds to an answer, of each modality or of all, by a linear model of covered images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import LimeBase
from skimage.segmentation import slic
from torch import Tensor
from torch.utils.data import DataLoader

from scripts.explanations.coverings import BATCH, covered
from scripts.patches.intensities import foreground

PENALTY = 1.0  # of LIME's ridge regression, on the squares of the coefficients


class LimeFit(NamedTuple):
    """A linear model of the answers to images of which parts were covered.

    Args:
        values: (C, *spatial) float32, the coefficient of each superpixel of each modality, 0 in the background; equal
            in all of them where they are covered together.
        totals: (C,) sums of the absolute coefficients of each modality; (1,) of all together.
        fit: R^2 of the model, each image predicted by the model fitted to the others; None where answers do not differ.
    """

    values: np.ndarray
    totals: np.ndarray
    fit: float | None


def fit_lime(
    answer: Callable[[Tensor], Tensor],
    image: Tensor,
    num_superpixels: int,
    compactness: float,
    num_samples: int,
    kernel_width: float,
    baseline: str,
    seed: int,
    channels_together: bool = False,
) -> LimeFit:
    """Fit a linear model to the answers to images of which superpixels were covered, of single modalities or of all.

    Source: Ribeiro, Singh, Guestrin 2016, "Why should I trust you?", algorithm 1, through captum, with the kernel, the
    ridge regression (penalty 1) and the coin-toss sampling of the authors' own program. A feature is one superpixel of
    one modality or, as in that program, of all channels; the first sample is the image itself.

    Args:
        answer: from images (B, C, *spatial) to (B,).
        image: (C, *spatial), [-1, 1], background -1.
        num_superpixels: number aimed at; see `superpixels`.
        compactness: see `superpixels`.
        num_samples: images that the model is fitted to.
        kernel_width: of the weights of the samples, in cosine distance.
        baseline: see `covered`.
        seed: of the samples.
        channels_together: whether a superpixel is covered in all channels at once.
    """
    segments = torch.from_numpy(superpixels(image.cpu().numpy(), num_superpixels, compactness))
    count = int(segments.max())
    num_groups = 1 if channels_together else len(image)
    num_features = count * num_groups
    # Column of each pixel in the linear model; background has the last, which is never covered.
    columns = _columns(segments, num_groups, num_features).expand(len(image), *segments.shape)
    on_device = columns.to(image.device)
    parts = _columns(segments, len(image), count * len(image)).to(image.device)  # whose mean is of one channel
    model = _Ridge(PENALTY)
    surrogate = LimeBase(
        answer,
        model,
        similarity_func=_kernel(kernel_width),
        perturb_func=_coin_tosses(num_features, seed),
        perturb_interpretable_space=True,
        from_interp_rep_transform=_cover(on_device, covered(image, parts, baseline)),
        to_interp_rep_transform=None,
    )
    # captum's linear model and its loader draw from the global random state, without using what they draw.
    with torch.random.fork_rng(devices=[]):
        weights = surrogate.attribute(image[None], n_samples=num_samples, perturbations_per_eval=BATCH)
    coefficients = weights.reshape(-1).cpu().double()
    values = torch.cat([coefficients, torch.zeros(1)])[columns].numpy().astype(np.float32)
    return LimeFit(values, coefficients.abs().reshape(num_groups, count).sum(dim=1).numpy(), model.fit_of_others)


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
    shown = foreground(image)
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


def _columns(segments: Tensor, num_groups: int, background: int) -> Tensor:
    """Number the superpixels of each group of channels, (num_groups, *spatial), and the background of all."""
    firsts = range(0, int(segments.max()) * num_groups, int(segments.max()))
    return torch.stack([torch.where(segments > 0, segments - 1 + first, background) for first in firsts])


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
