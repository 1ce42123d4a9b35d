"""Whether synthetic images lie where real ones do, and everywhere there: from nearest neighbors of features."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import pairwise_distances
from torch import Tensor

NEAREST = 5


def pairwise(features: Tensor) -> np.ndarray:
    """Euclidean distance between all pairs of rows: (N, D) to (N, N) float64, computed on the CPU."""
    return pairwise_distances(features.double().cpu().numpy())


def manifold_measures(distances: np.ndarray, num_real: int, nearest: int = NEAREST) -> dict[str, float]:
    """Precision, recall, density and coverage; higher is better.

    | measure | share of | range |
    |---|---|---|
    | precision | synthetic images inside a ball of a real one | [0, 1] |
    | recall | real images inside a ball of a synthetic one | [0, 1] |
    | density | real balls around a synthetic image, mean, over k | [0, N / k], 1 on average for equal distributions |
    | coverage | real images whose ball holds a synthetic one | [0, 1] |

    A ball reaches from an image to the k-th nearest other one of its set.

    Sources: Kynkaanniemi et al. 2019, "Improved precision and recall metric for assessing generative models"; Naeem et
    al. 2020, "Reliable fidelity and diversity metrics for generative models", equations 4 to 7.

    Args:
        distances: (N + M, N + M), of the N real images and behind them the M synthetic ones.
        num_real: N.
        nearest: k.

    Raises:
        ValueError: if a set has no more than `nearest` images.
    """
    num_synthetic = len(distances) - num_real
    if min(num_real, num_synthetic) <= nearest:
        raise ValueError(
            f"precision, recall, density and coverage must have at least {nearest + 1} images in each set for"
            f" {nearest} nearest neighbors, got {num_real} real and {num_synthetic} synthetic; give more images"
        )
    across = distances[:num_real, num_real:]
    real_radii = _radii(distances[:num_real, :num_real], nearest)
    synthetic_radii = _radii(distances[num_real:, num_real:], nearest)
    in_real_ball = across < real_radii[:, None]
    return {
        "precision": float(in_real_ball.any(axis=0).mean()),
        "recall": float((across < synthetic_radii[None, :]).any(axis=1).mean()),
        "density": float(1 / nearest * in_real_ball.sum(axis=0).mean()),
        "coverage": float((across.min(axis=1) < real_radii).mean()),
    }


def _radii(distances: np.ndarray, nearest: int) -> np.ndarray:
    # The nearest of all is the image itself.
    return np.partition(distances, nearest, axis=1)[:, nearest]
