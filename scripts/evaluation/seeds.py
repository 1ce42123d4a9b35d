"""How much a measure varies with the seed of the training, beside how much it varies with the subjects."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t

from scripts.running.errors import some_names
from scripts.statistics.intervals import CONFIDENCE, Estimate, distances

FEWEST_SEEDS = 3  # of two, Student's t of one degree of freedom makes an interval six times as wide as of three


class SeedSpread(NamedTuple):
    """One measure over studies that differ in their seed only.

    Args:
        values: one per seed.
        mean: of them.
        sd: standard deviation between seeds (divisor: seeds less one); None for one seed.
        low: lower limit of the first seed's interval, which is over subjects.
        high: upper limit of the same.
        both_low: lower limit of the mean over seeds *and* subjects, see `over_seeds_and_subjects`; None where it has
            none.
        both_high: upper limit of the same.
    """

    values: list[float]
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    both_low: float | None
    both_high: float | None


def seed_spread(estimates: Sequence[Estimate], lowest: float = 0.0) -> SeedSpread:
    """Put the spread between seeds beside the interval between subjects.

    The two answer different questions: the interval says what other patients would give with this network, the spread
    what another training would give with these patients (Bouthillier et al. 2021, "Accounting for variance in machine
    learning benchmarks"). Neither contains the other.

    Args:
        estimates: of one measure on the same subjects, one per seed, at least one, each with a value.
        lowest: value that the measure can have: 0, or -1 for a difference.

    Returns:
        Values, mean, standard deviation, the limits of the first, and those over both.

    Raises:
        ValueError: if there is none, or one has no value.

    >>> seed_spread([Estimate(0.8, 0.7, 0.9), Estimate(0.6)]).mean
    0.7
    """
    values = [estimate.value for estimate in estimates if estimate.value is not None]
    if not values or len(values) < len(estimates):
        raise ValueError(f"estimates must have a value for each seed, got {len(values)} of {len(estimates)}")
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    both = over_seeds_and_subjects(estimates, lowest=lowest)
    return SeedSpread(values, float(np.mean(values)), sd, estimates[0].low, estimates[0].high, both.low, both.high)


def over_seeds_and_subjects(
    estimates: Sequence[Estimate], confidence: float = CONFIDENCE, lowest: float = 0.0
) -> Estimate:
    """Mean over seeds, with limits for other trainings on other subjects.

    The distances from the mean to its limits are the root of the sum of two squares: the mean distance of the seeds'
    own limits, which are over subjects, and t sd / sqrt(K) between K seeds (Zou and Donner 2008, "Construction of
    confidence limits about effect measures: a general approach", eq. 3 to 5, of two independent parts). The seeds share
    their subjects, so the first does not shrink with K. Where the spread between seeds holds some of that between
    subjects, because each training errs on subjects of its own, that part counts twice: the limits are then too wide
    rather than too narrow.

    Args:
        estimates: of one measure in [lowest, 1] on the same subjects, one per seed.
        confidence: coverage aimed at, in (0, 1).
        lowest: see `seed_spread`.

    Returns:
        Mean and limits in [lowest, 1]; no limits of fewer than `FEWEST_SEEDS` seeds, or where a seed has none.
    """
    values = [estimate.value for estimate in estimates if estimate.value is not None]
    mean, count = float(np.mean(values)), len(values)
    if count < FEWEST_SEEDS or any(estimate.low is None or estimate.high is None for estimate in estimates):
        return Estimate(mean)
    between = t.ppf((1 + confidence) / 2, count - 1) * np.std(values, ddof=1) / count**0.5
    below, above = np.mean([distances(estimate) for estimate in estimates], axis=0)
    low, high = mean - np.hypot(below, between), mean + np.hypot(above, between)
    return Estimate(mean, max(lowest, float(low)), min(1.0, float(high)), "square-and-add over seeds and subjects")


def holds_over_seeds(spread: Mapping[str, Any]) -> bool:
    """Tell whether 0 lies outside the interval over seeds and subjects of a difference (`SeedSpread` as a mapping)."""
    return spread["both_low"] is not None and not spread["both_low"] <= 0 <= spread["both_high"]


def refuse_other_patients(subjects_by_seed: Mapping[str, Mapping[str, Hashable]]) -> None:
    """Refuse studies of other seeds that tested other subjects than the first, or others under the same names.

    Args:
        subjects_by_seed: name of the study -> id of each subject it tested -> what is known of the subject.

    Raises:
        ValueError: naming the study and some of the subjects.
    """
    first, *others = subjects_by_seed
    for name in others:
        own, other = subjects_by_seed[first], subjects_by_seed[name]
        strange = own.keys() ^ other.keys()
        if strange:
            raise ValueError(
                f"other_seed_dirs must hold studies of the same subjects, got {some_names(strange)} in only one of"
                f" {first} and {name}; give studies of the same cohorts that differ in `seed` only"
            )
        changed = [subject for subject in own if own[subject] != other[subject]]
        if changed:
            raise ValueError(
                f"other_seed_dirs must hold studies of the same subjects, got another grade or lesion volume of"
                f" {some_names(changed)} in {first} and {name}; a simulated cohort draws its patients from `seed`: give"
                " each cohort of the study one of its own, such as {config: phantom, phantom_site: A, seed: 0}"
            )
