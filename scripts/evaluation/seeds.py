"""How much a measure varies with the seed of the training, beside how much it varies with the subjects."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scripts.running.errors import some_names
from scripts.statistics.intervals import Estimate


class SeedSpread(NamedTuple):
    """One measure over studies that differ in their seed only.

    Args:
        values: one per seed.
        mean: of them.
        sd: standard deviation between seeds (divisor: seeds less one); None for one seed.
        low: lower limit of the first seed's interval, which is over subjects.
        high: upper limit of the same.
    """

    values: list[float]
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def seed_spread(estimates: Sequence[Estimate]) -> SeedSpread:
    """Put the spread between seeds beside the interval between subjects.

    The two answer different questions: the interval says what other patients would give with this network, the spread
    what another training would give with these patients (Bouthillier et al. 2021, "Accounting for variance in machine
    learning benchmarks"). Neither contains the other.

    Args:
        estimates: of one measure on the same subjects, one per seed, at least one, each with a value.

    Returns:
        Values, mean, standard deviation, and the limits of the first.

    Raises:
        ValueError: if there is none, or one has no value.

    >>> seed_spread([Estimate(0.8, 0.7, 0.9), Estimate(0.6)]).mean
    0.7
    """
    values = [estimate.value for estimate in estimates if estimate.value is not None]
    if not values or len(values) < len(estimates):
        raise ValueError(f"estimates must have a value for each seed, got {len(values)} of {len(estimates)}")
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return SeedSpread(values, float(np.mean(values)), sd, estimates[0].low, estimates[0].high)


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
