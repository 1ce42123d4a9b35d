"""Whether a map shows what a network has learned: it must change when the weights are replaced by random ones."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

LOW, HIGH = 0.3, 0.7  # our own borders of a plain sentence; the source has none


def randomize(network: nn.Module, seed: int) -> nn.Module:
    """Copy a network and draw every parameter anew, in all layers at once.

    Source: the model parameter randomization test of Adebayo et al. 2018, "Sanity checks for saliency maps", section 3.
    Each tensor is drawn from a normal distribution with its own mean and standard deviation, so that activations keep
    their size and normalization layers, whose running statistics stay, do not drown the answer.

    Args:
        network: any; not changed.
        seed: of the draws.

    Returns:
        The copy, on the same device and in the same mode.
    """
    randomized = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in randomized.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.copy_(parameter.mean() + parameter.std(unbiased=False) * noise)
    return randomized


def map_correlation(first: np.ndarray, second: np.ndarray, mask: np.ndarray | None = None) -> float | None:
    """Correlate the ranks of two maps (Spearman).

    Args:
        first: any shape (C, *spatial).
        second: the same shape.
        mask: (*spatial) boolean, the pixels that count; None takes all.

    Returns:
        In [-1, 1]; None where one of the maps is flat and has no ranks.

    >>> map_correlation(np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 4.0, 9.0]]))
    1.0
    """
    flattened = [array[:, mask].ravel() if mask is not None else array.ravel() for array in (first, second)]
    if any(values.size < 2 or np.ptp(values) == 0 for values in flattened):
        return None
    return float(np.clip(spearmanr(*flattened).statistic, -1.0, 1.0))


def describe_correlations(signed: Sequence[float | None], absolute: Sequence[float | None]) -> dict[str, float | str]:
    """Say in a sentence what the correlations of trained with randomized maps mean.

    Args:
        signed: rank correlations of the maps, one per case and randomized network; None where a map was flat.
        absolute: the same of their absolute values, which do not cancel where signs are exchanged.

    Returns:
        `rank_correlation` and `rank_correlation_absolute` (means; missing if none is defined), `num_compared` and
        `sentence`.
    """
    correlations = [(a, b) for a, b in zip(signed, absolute, strict=True) if a is not None and b is not None]
    if not correlations:
        return {"num_compared": 0, "sentence": "Not known: each pair of maps has a flat one, without any rank."}
    means = [float(np.mean(values)) for values in zip(*correlations, strict=True)]
    return {
        "rank_correlation": means[0],
        "rank_correlation_absolute": means[1],
        "num_compared": len(correlations),
        "sentence": _sentence(max(map(abs, means))),
    }


def _sentence(correlation: float) -> str:
    if correlation < LOW:
        return "The maps change when the weights are random: they depend on what was learned."
    if correlation < HIGH:
        return "The maps change in part when the weights are random: some of what they show is the image itself."
    return "The maps hardly change when the weights are random: they show the image, not what was learned."
