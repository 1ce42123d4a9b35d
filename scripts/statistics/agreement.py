"""How far several people give one case one answer, beyond what chance would."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from scripts.statistics.bootstrap import INTERVAL, draw_weights
from scripts.statistics.intervals import CONFIDENCE, Estimate


def cohen_kappa(
    first: Sequence[str], second: Sequence[str], strata: ArrayLike, num_draws: int = 2000, seed: int = 0
) -> Estimate:
    """Agreement of two people beyond chance, each with shares of answers of their own; higher is better, [-1, 1].

    Source: Cohen 1960, "A coefficient of agreement for nominal scales": (p_o - p_e) / (1 - p_e).

    Args:
        first: answers of one, (N,).
        second: answers of the other, of the same cases.
        strata: group of each case, (N,) integers, inside which the bootstrap draws.
        num_draws: of the bootstrap.
        seed: of the draws.

    Returns:
        Kappa and its limits; no value where both gave all cases one and the same answer, which chance does, too.
    """
    names = sorted({*first, *second})
    own, other = (_indicators(answers, names) for answers in (first, second))
    same = (own * other).sum(axis=1)

    def kappa(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1)
        expected = ((weights @ own) * (weights @ other)).sum(axis=1) / total**2
        return _beyond_chance(weights @ same / total, expected)

    return _estimate(kappa, np.asarray(strata), num_draws, seed)


def fleiss_kappa(answers: Sequence[Sequence[str]], strata: ArrayLike, num_draws: int = 2000, seed: int = 0) -> Estimate:
    """Agreement of several people beyond chance; higher is better, at most 1.

    Source: Fleiss 1971, "Measuring nominal scale agreement among many raters", eqs. 1 to 7.

    Args:
        answers: of each person, at least two, (N,) of the same cases.
        strata: group of each case, (N,) integers, inside which the bootstrap draws.
        num_draws: of the bootstrap.
        seed: of the draws.

    Returns:
        Kappa and its limits; no value where all gave all cases one and the same answer.
    """
    names = sorted({answer for own in answers for answer in own})
    counts = np.sum([_indicators(own, names) for own in answers], axis=0)
    number = len(answers)
    agreement = ((counts**2).sum(axis=1) - number) / (number * (number - 1))

    def kappa(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1)
        shares = (weights @ counts) / (number * total[:, None])
        return _beyond_chance(weights @ agreement / total, (shares**2).sum(axis=1))

    return _estimate(kappa, np.asarray(strata), num_draws, seed)


def _indicators(answers: Sequence[str], names: Sequence[str]) -> np.ndarray:
    return (np.asarray(answers)[:, None] == np.asarray(names)[None]).astype(float)


def _beyond_chance(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)


def _estimate(kappa: Callable[[np.ndarray], np.ndarray], strata: np.ndarray, num_draws: int, seed: int) -> Estimate:
    value = float(kappa(np.ones((1, len(strata))))[0])
    if np.isnan(value):
        return Estimate(None)
    draws = kappa(draw_weights(strata, num_draws, seed))
    draws = draws[~np.isnan(draws)]
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value) if low == high else Estimate(value, float(low), float(high), INTERVAL)
