"""Whether synthetic images lie where real ones do, and everywhere there: from nearest neighbors of features."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from sklearn.metrics import pairwise_distances
from torch import Tensor

from scripts.splits.patients import number_patients

NEAREST = 5


def pairwise(features: Tensor) -> np.ndarray:
    """Euclidean distance between all pairs of rows: (N, D) to (N, N) float64, computed on the CPU."""
    return pairwise_distances(features.double().cpu().numpy())


def manifold_measures(
    distances: np.ndarray, num_real: int, nearest: int = NEAREST, patients: Sequence[Hashable] | None = None
) -> dict[str, float]:
    """Precision, recall, density and coverage; higher is better.

    | measure | share of | range |
    |---|---|---|
    | precision | synthetic images inside a ball of a real one | [0, 1] |
    | recall | real images inside a ball of a synthetic one | [0, 1] |
    | density | real balls around a synthetic image, mean, over k | [0, N / k], 1 on average for equal distributions |
    | coverage | real images whose ball holds a synthetic one | [0, 1] |

    A ball reaches from an image to the k-th nearest one of another patient of its set: scans of one patient resemble
    each other, and balls that end at them would hold nobody.

    Sources: Kynkaanniemi et al. 2019, "Improved precision and recall metric for assessing generative models"; Naeem et
    al. 2020, "Reliable fidelity and diversity metrics for generative models", equations 4 to 7.

    Args:
        distances: (N + M, N + M), of the N real images and behind them the M synthetic ones.
        num_real: N.
        nearest: k.
        patients: whose each image is; None is a patient for each image.

    Raises:
        ValueError: if an image of a set has no `nearest` images of other patients beside it.
    """
    names = list(range(len(distances))) if patients is None else list(patients)
    real, synthetic = (_different(part) for part in (names[:num_real], names[num_real:]))
    others = [int(part.sum(axis=1).min(initial=len(part))) for part in (real, synthetic)]
    if min(others) < nearest:
        raise ValueError(
            f"precision, recall, density and coverage must have at least {nearest} images of other patients beside"
            f" each for {nearest} nearest neighbors, got {others[0]} real and {others[1]} synthetic; give more images"
        )
    across = distances[:num_real, num_real:]
    real_radii = _radii(distances[:num_real, :num_real], real, nearest)
    synthetic_radii = _radii(distances[num_real:, num_real:], synthetic, nearest)
    in_real_ball = across < real_radii[:, None]
    return {
        "precision": float(in_real_ball.any(axis=0).mean()),
        "recall": float((across < synthetic_radii[None, :]).any(axis=1).mean()),
        "density": float(1 / nearest * in_real_ball.sum(axis=0).mean()),
        "coverage": float((across.min(axis=1) < real_radii).mean()),
    }


def _different(patients: Sequence[Hashable]) -> np.ndarray:
    """Whether two images are of different patients, (N, N)."""
    numbers = number_patients(patients)
    return numbers[:, None] != numbers[None, :]


def _radii(distances: np.ndarray, counted: np.ndarray, nearest: int) -> np.ndarray:
    return np.partition(np.where(counted, distances, np.inf), nearest - 1, axis=1)[:, nearest - 1]
