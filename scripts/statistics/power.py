"""How many subjects it takes to see that one classifier is more often right than another."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, norm

ALPHA = 0.05  # of the two-sided test
POWER = 0.8


def mcnemar_power(num_subjects: int, discordant: float, gain: float, alpha: float = ALPHA) -> float:
    """Chance that the exact McNemar test finds a gain in accuracy; higher is better, [0, 1].

    The number of discordant pairs is binomial (n, discordant); given it, those in favor are binomial with probability
    (discordant + gain) / (2 discordant): the sum over both, exactly (Duffy 1984, "Asymptotic and exact power for the
    McNemar test and its analogue with R controls per case").

    Args:
        num_subjects: n >= 1, each answered by both classifiers.
        discordant: share of subjects that exactly one of them has right, in (0, 1].
        gain: difference of their accuracies, at most `discordant` in absolute value.
        alpha: level of the two-sided test, in (0, 1).

    Returns:
        Power; at a gain of 0, the false alarms, at most `alpha`.

    >>> round(mcnemar_power(224, 0.12, 0.08), 2)
    0.94
    """
    _check(discordant, gain)
    pairs = np.arange(num_subjects + 1)
    favor = (discordant + gain) / (2 * discordant)
    critical = _critical_counts(1 << num_subjects.bit_length(), alpha)[: num_subjects + 1]
    detected = binom.cdf(critical, pairs, favor) + binom.sf(pairs - critical - 1, pairs, favor)
    return float((binom.pmf(pairs, num_subjects, discordant) * detected).sum())


def connor_subjects(discordant: float, gain: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """Subjects that McNemar's test needs, by the normal approximation.

    Source: Connor 1987, "Sample size for testing differences in proportions for the paired-sample design", eq. 3:
    n = [z_(alpha/2) sqrt(discordant) + z_power sqrt(discordant - gain^2)]^2 / gain^2. The exact test needs a few more:
    `needed_subjects`.

    Args:
        discordant: share of subjects that exactly one classifier has right, in (0, 1].
        gain: difference of the accuracies, not 0, at most `discordant` in absolute value.
        power: chance to find it, in (0, 1).
        alpha: level of the two-sided test.

    >>> connor_subjects(0.12, 0.08)
    145
    """
    _check(discordant, gain)
    if gain == 0:
        raise ValueError("gain must not be 0, got 0: no number of subjects finds a difference that is not there")
    spread = norm.isf(alpha / 2) * math.sqrt(discordant) + norm.ppf(power) * math.sqrt(discordant - gain**2)
    return math.ceil((spread / gain) ** 2)


def needed_subjects(discordant: float, gain: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """Subjects that the exact McNemar test needs; arguments as in `connor_subjects`.

    Returns:
        The smallest number at which `mcnemar_power` reaches `power` and one subject fewer does not.
    """
    few, many = 1, connor_subjects(discordant, gain, power, alpha)
    while mcnemar_power(many, discordant, gain, alpha) < power:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        enough = mcnemar_power(middle, discordant, gain, alpha) >= power
        few, many = (few, middle) if enough else (middle, many)
    return many


def detectable_gain(num_subjects: int, discordant: float, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """Smallest gain in accuracy that the exact McNemar test finds with the given power.

    Args:
        num_subjects: n >= 1.
        discordant: share of subjects that exactly one classifier has right, in (0, 1].
        power: chance to find it, in (0, 1).
        alpha: level of the two-sided test.

    Returns:
        Gain in (0, `discordant`]; None where even the largest possible gain is found more rarely.
    """
    _check(discordant, 0.0)
    if mcnemar_power(num_subjects, discordant, discordant, alpha) < power:
        return None

    def excess(gain: float) -> float:
        return mcnemar_power(num_subjects, discordant, gain, alpha) - power

    return float(brentq(excess, 0.0, discordant, xtol=1e-6))


def detectable_difference(
    low: float | None, high: float | None, power: float = POWER, alpha: float = ALPHA
) -> float | None:
    """Smallest difference that a z test finds with the given power, from the interval of a difference that was seen.

    Source: Hanley, McNeil 1983, "A method of comparing the areas under ROC curves derived from the same cases": the
    standard error times the sum of the quantiles of level and power. The standard error is that of the interval, so it
    is the one of the classifiers that were compared, and the same for any difference.

    Args:
        low: lower limit of the interval, whose coverage is 1 - `alpha`.
        high: upper limit.
        power: chance to find it, in (0, 1).
        alpha: level of the two-sided test.

    Returns:
        Difference > 0; None without limits.

    >>> round(detectable_difference(-0.196, 0.196), 3)
    0.28
    """
    if low is None or high is None:
        return None
    z = float(norm.isf(alpha / 2))
    return (high - low) / (2 * z) * (z + float(norm.ppf(power)))


@lru_cache(maxsize=64)
def _critical_counts(limit: int, alpha: float) -> np.ndarray:
    """Return the largest count of the rarer side that is rejected, -1 where none is, of each number of pairs < limit.

    Whoever searches for a gain, or for a number of subjects, asks a dozen times.
    """
    pairs = np.arange(limit)
    critical = binom.ppf(alpha / 2, pairs, 0.5)
    critical -= binom.cdf(critical, pairs, 0.5) > alpha / 2
    critical.flags.writeable = False
    return critical


def _check(discordant: float, gain: float) -> None:
    if not 0 < discordant <= 1:
        raise ValueError(f"discordant must be in (0, 1], got {discordant!r}; it is a share of the subjects")
    if abs(gain) > discordant:
        raise ValueError(f"gain must be at most discordant {discordant!r} in absolute value, got {gain!r}")
