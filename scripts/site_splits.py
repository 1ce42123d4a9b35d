"""Leave-site-out: parts of whole sites, so that a network is tested at hospitals that it has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from scripts.name_lists import some_names

Patients = list[dict[str, Any]]  # each with `patient_id`, `grade` and `site`


def refuse_too_few_sites(patients: Patients, num_folds: int, test_fraction: float) -> None:
    """Refuse, before any draw, patients whose site is unknown and cohorts of too few sites.

    Args:
        patients: `patient_id` and `site` of each.
        num_folds: folds, each of which holds out one site at least.
        test_fraction: above 0, the locked test takes one site at least, too.

    Raises:
        ValueError: naming the patients, or the sites.
    """
    unknown = [str(patient["patient_id"]) for patient in patients if patient["site"] is None]
    if unknown:
        raise ValueError(
            f"site must be known for every patient with splits_hold_out sites, got none for {some_names(unknown)}; give"
            " it in the cohort (docs/data.md), or set splits_hold_out to patients"
        )
    sites, needed = site_names(patients), num_folds + (1 if test_fraction else 0)
    if num_folds < 2 or len(sites) < needed:
        test = " and one for the test" if test_fraction else ""
        raise ValueError(
            f"splits_hold_out sites must have at least 2 folds, a site for each{test}, got {num_folds} folds and"
            f" {len(sites)} site{'s' * (len(sites) != 1)} ({some_names(sites)}); use fewer folds (num_folds),"
            " test_fraction 0, or splits_hold_out patients"
        )


def site_names(patients: Patients) -> list[str]:
    """Return the sites of some patients, sorted."""
    return sorted({str(patient["site"]) for patient in patients})


def draw_sites(
    patients: Patients, fraction: float, num_folds: int, random: np.random.RandomState
) -> tuple[Patients, Patients]:
    """Take whole sites, as near to a share of the patients as they come, and return their patients and the rest.

    Args:
        patients: `grade` and `site` of each, in an order that does not depend on the cohort's.
        fraction: wanted share, in [0, 1).
        num_folds: sites that must be left.
        random: source of the draw.
    """
    if fraction == 0:
        return [], patients
    sites = site_names(patients)
    fitting: list[Patients] = []
    # Single sites, at the latest, leave enough: there are more sites than folds.
    for num_parts in (min(len(sites), max(2, round(1 / fraction))), len(sites)):
        parts = [held_out for _, held_out in site_folds(patients, num_parts, random) if held_out]
        fitting = fitting or [part for part in parts if len(sites) - len(site_names(part)) >= num_folds]
    taken = min(fitting, key=lambda part: abs(len(part) - fraction * len(patients)))
    chosen = site_names(taken)
    return taken, [patient for patient in patients if str(patient["site"]) not in chosen]


def site_folds(patients: Patients, num_folds: int, random: np.random.RandomState) -> list[tuple[Patients, Patients]]:
    """(training, validation) of each fold, each site in one validation part; grades as even as whole sites allow.

    With as many folds as sites each fold holds out one, which is leave-one-site-out.

    Args:
        patients: `grade` and `site` of each, in an order that does not depend on the cohort's.
        num_folds: at least 2, at most the number of sites.
        random: source of the draw.
    """
    sites = site_names(patients)
    if len(sites) == num_folds:
        return [_apart(patients, [site]) for site in sites]
    grades, groups = ([str(patient[key]) for patient in patients] for key in ("grade", "site"))
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=random)
    held_out = [{groups[index] for index in part} for _, part in splitter.split(grades, grades, groups)]
    return [_apart(patients, sorted(names)) for names in held_out]


def refuse_missing_grades(
    folds: Sequence[tuple[Patients, Patients]], classes: Sequence[str | None], least: int
) -> None:
    """Refuse folds that hold out all, or nearly all, patients of a class: a network would not learn it.

    A validation part of one class is accepted, as some hospitals send in one only; the figures pool the folds.

    Args:
        folds: what `site_folds` returns.
        classes: grades that every training part must hold.
        least: patients of each that it must hold.

    Raises:
        ValueError: naming the fold, its sites and the class.
    """
    for number, (training, validation) in enumerate(folds):
        for name in classes:
            found = sum(patient["grade"] == name for patient in training)
            if found < least or not validation:
                raise ValueError(
                    f"fold {number} must train on at least {least} patients of {name or 'any grade'} and hold out a"
                    f" site, got {found} outside of {some_names(site_names(validation)) or 'no site'}; use other folds"
                    " (num_folds, seed), or splits_hold_out patients"
                )


def _apart(patients: Patients, sites: Sequence[str]) -> tuple[Patients, Patients]:
    inside = [str(patient["site"]) in sites for patient in patients]
    return (
        [patient for patient, held in zip(patients, inside, strict=True) if not held],
        [patient for patient, held in zip(patients, inside, strict=True) if held],
    )
