"""Leave-site-out: parts of whole sites, so that a network is tested at hospitals that it has never seen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from scripts.running.errors import some_names
from scripts.splits.patients import patient_of

NUM_DRAWS = 200  # of test parts, of which the best is taken
Patients = list[dict[str, Any]]  # each with `patient_id`, `grade` and `site`


def refuse_unclear_sites(subjects: Iterable[Mapping[str, Any]]) -> None:
    """Refuse patients of whom a scan has no site, or scans are of several: their hospitals could not be kept apart.

    Args:
        subjects: `subject_id`, `site` and, if there, `patient_id` of each scan.

    Raises:
        ValueError: naming the patients.
    """
    sites: dict[str, set[Any]] = defaultdict(set)
    for subject in subjects:
        sites[patient_of(subject)].add(subject.get("site"))
    unknown = [patient for patient, sites_of_patient in sites.items() if None in sites_of_patient]
    if unknown:
        raise ValueError(
            f"site must be known for every scan with splits_hold_out sites, got none for {some_names(unknown)}; give"
            " it in the cohort (docs/reference/data.md), leave these scans out (`leave_out` of configs/cohort.yaml), or"
            " set splits_hold_out to patients"
        )
    several = [patient for patient, sites_of_patient in sites.items() if len(sites_of_patient) > 1]
    if several:
        raise ValueError(
            f"site must be one for all scans of a patient with splits_hold_out sites, got several for"
            f" {some_names(several)}; leave scans out (`leave_out` of configs/cohort.yaml), or set splits_hold_out to"
            " patients"
        )


def refuse_too_few_sites(patients: Patients, num_folds: int, test_fraction: float) -> None:
    """Refuse cohorts of too few sites before any draw.

    Args:
        patients: `site` of each.
        num_folds: folds, each of which holds out one site at least.
        test_fraction: above 0, the locked test takes one site at least, too.

    Raises:
        ValueError: naming the sites.
    """
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
    patients: Patients, fraction: float, num_folds: int, classes: Sequence[str | None], random: np.random.RandomState
) -> tuple[Patients, Patients]:
    """Take whole sites for the locked test, and return their patients and the rest.

    Of many random draws that hold every class, the one nearest to the wanted share.

    Args:
        patients: `grade` and `site` of each, in an order that does not depend on the cohort's.
        fraction: wanted share of the patients, in [0, 1).
        num_folds: sites that must be left.
        classes: grades that the test must hold.
        random: source of the draws.

    Raises:
        ValueError: if no draw holds every class.
    """
    if fraction == 0:
        return [], patients
    drawn = [_taken_sites(patients, fraction, num_folds, random) for _ in range(NUM_DRAWS)]
    parts = [_apart(patients, sites) for sites in drawn]
    whole = [(rest, test) for rest, test in parts if {patient["grade"] for patient in test} >= set(classes)]
    if not whole:
        raise ValueError(
            f"the locked test must hold every class with splits_hold_out sites, got no {num_folds} sites to leave of"
            f" {some_names(site_names(patients))} whose others do; use test_fraction 0, fewer folds (num_folds), or"
            " splits_hold_out patients"
        )
    rest, test = min(whole, key=lambda part: abs(len(part[1]) - fraction * len(patients)))
    return test, rest


def _taken_sites(patients: Patients, fraction: float, num_folds: int, random: np.random.RandomState) -> list[str]:
    """Sites in random order, each taken if it brings the share nearer to the wanted one."""
    sizes, wanted = Counter(str(patient["site"]) for patient in patients), fraction * len(patients)
    taken: list[str] = []
    for site in random.permutation(site_names(patients)).tolist():
        share = sum(sizes[name] for name in taken)
        nearer = abs(share + sizes[site] - wanted) < abs(share - wanted)
        if len(taken) < len(sizes) - num_folds and (nearer or not taken):
            taken.append(site)
    return taken


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
            trained_on = sum(patient["grade"] == name for patient in training)
            if trained_on < least or not validation:
                raise ValueError(
                    f"fold {number} must train on at least {least} patients of {name or 'any grade'} and hold out a"
                    f" site, got {trained_on} outside of {some_names(site_names(validation)) or 'no site'}; use other"
                    " folds (num_folds, seed), or splits_hold_out patients"
                )


def _apart(patients: Patients, sites: Sequence[str]) -> tuple[Patients, Patients]:
    inside = [str(patient["site"]) in sites for patient in patients]
    return (
        [patient for patient, held in zip(patients, inside, strict=True) if not held],
        [patient for patient, held in zip(patients, inside, strict=True) if held],
    )
