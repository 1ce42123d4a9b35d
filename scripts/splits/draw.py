"""Which subjects train, select, validate and test: drawn once by patient, and stored as a file."""

from __future__ import annotations

import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from scripts.running.errors import some_names
from scripts.running.files import write_json
from scripts.splits.hints import draw_hinted
from scripts.splits.lists import read_list
from scripts.splits.patients import patient_of
from scripts.splits.sites import (
    draw_sites,
    refuse_missing_grades,
    refuse_too_few_sites,
    refuse_unclear_sites,
    site_folds,
    site_names,
)

SELECTIONS = ("inner", "validation")
STRATA = ("grade", "site")
HELD_OUT = ("patients", "sites", "hint")

Patient = dict[str, Any]  # {"patient_id", "grade", "site", "subject_ids"}


def make_splits(
    cohort: Mapping[str, Any],
    num_folds: int = 5,
    test_fraction: float = 0.2,
    inner_fraction: float = 0.1,
    seed: int = 0,
    classes: Collection[str] = ("LGG", "HGG"),
    stratify_by: Sequence[str] = STRATA,
    selection: str = "inner",
    hold_out: str = "patients",
    generator_fraction: float | None = None,
) -> dict[str, Any]:
    """Draw a locked test part and the folds of cross-validation, patient by patient.

    All scans of a patient share a part. Each fold's training part gives up an inner part, on which a network is
    selected, so that nothing selects on the subjects it is reported on. The order of the subjects does not matter.

    Args:
        cohort: content of `cohort.json`; of a subject, `subject_id`, `grade`, `site` and, if there, `patient_id` count.
        num_folds: >= 1; at 1 nothing is held out but the test and the inner part, and `validation` is empty.
        test_fraction: part of the patients of each class in the locked test, in [0, 1); above 0 at least one of each.
        inner_fraction: part of a fold's training patients of each class in the inner part, in [0, 1); likewise.
        seed: of every draw.
        classes: the grades a classifier tells apart.
        stratify_by: `[grade, site]`, `[grade]` or `[]`; without `grade`, subjects without grade are drawn like others.
        selection: `inner`, or `validation` as in the paper: the inner part *is* the validation part.
        hold_out: `patients`; `sites`: the test and each validation part are of whole sites (`scripts.splits.sites`); or
            `hint`: the test is what lies in a test folder of the data set (`scripts.splits.hints`), whatever
            `test_fraction`.
        generator_fraction: part of the patients of each class that trains anything, written down; all others are the
            test, so `test_fraction` is what is left of 1. None where `test_fraction` was chosen by itself.

    Returns:
        Content of `splits.json`; the lists hold subject ids, sorted. `ungraded` names the subjects without grade, which
        are in no part unless the whole cohort is ungraded or `stratify_by` is without `grade`. `held_out_sites` names
        the sites of each fold's validation part, and is empty where patients are held out. `patients` is what the
        cohort says of them: where it is "unknown", parts are drawn by image and every result is optimistic.

    Raises:
        ValueError: if an argument is out of range, a class is missing from a part of a fold, or there are too few sites
            to hold out.
    """
    check_splits(num_folds, test_fraction, inner_fraction, stratify_by, selection, hold_out, generator_fraction)
    subjects = sorted(cohort["subjects"], key=lambda subject: subject["subject_id"])
    _check_subjects(subjects, classes)
    ungraded = [subject["subject_id"] for subject in subjects if subject.get("grade") is None]
    by_grade = "grade" in stratify_by and len(ungraded) < len(subjects)
    names: tuple[str | None, ...] = tuple(classes) if by_grade else (None,)
    patients = _patients([s for s in subjects if s.get("grade") is not None or not by_grade], names)
    if "site" not in stratify_by:
        patients = [{**patient, "site": None} for patient in patients]

    _check_classes(patients, names)
    random = np.random.RandomState(seed)
    inner_share = inner_fraction if selection == "inner" else 0.0
    if hold_out == "sites":
        in_parts = {name for patient in patients for name in patient["subject_ids"]}
        refuse_unclear_sites(subject for subject in subjects if subject["subject_id"] in in_parts)
        refuse_too_few_sites(patients, num_folds, test_fraction)
        test, rest = draw_sites(patients, test_fraction, num_folds, names, random)
        parts = site_folds(rest, num_folds, random)
        refuse_missing_grades(parts, names, 2 if inner_share else 1)
    elif hold_out == "hint":
        test, rest = draw_hinted(patients, subjects, names)
        test_fraction = round(len(test) / len(patients), 6)
        _check_enough(rest, names, num_folds, 0, inner_share)
        parts = _fold_parts(rest, num_folds, random)
    else:
        _check_enough(patients, names, num_folds, test_fraction, inner_share)
        test, rest = _draw(patients, test_fraction, random)
        parts = _fold_parts(rest, num_folds, random)
    folds = []
    for training, validation in parts:
        inner, train = (validation, training) if selection == "validation" else _draw(training, inner_fraction, random)
        folds.append({"train": train, "inner": inner, "validation": validation})
    return {
        "cohort": cohort["name"],
        "seed": seed,
        "num_folds": num_folds,
        "test_fraction": test_fraction,
        "inner_fraction": inner_fraction,
        "generator_fraction": generator_fraction,
        "selection": selection,
        "classes": list(classes) if by_grade else [],
        "strata": "whole sites" if hold_out == "sites" else _describe_strata(patients, by_grade, num_folds),
        "held_out_sites": [site_names(held_out) for _, held_out in parts] if hold_out == "sites" else [],
        "patients": cohort.get("patients"),
        "ungraded": ungraded,
        "test": _subject_ids(test),
        "folds": [{part: _subject_ids(rows) for part, rows in fold.items()} for fold in folds],
    }


def write_splits(cohort_path: str | Path, output_dir: str | Path, **options: Any) -> Path:
    """Write `splits.json` for a cohort.

    Args:
        cohort_path: `cohort.json` of the stage before.
        output_dir: folder for `splits.json`.
        options: as in `make_splits`.

    Returns:
        Path of the file written.
    """
    path = Path(output_dir) / "splits.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, make_splits(read_list(cohort_path, "cohort"), **options))
    return path


def _patients(subjects: Iterable[Mapping[str, Any]], classes: Sequence[str | None]) -> list[Patient]:
    """One row per patient; of several grades the highest counts, as a glioma progresses and never goes back."""
    scans = defaultdict(list)
    for subject in subjects:
        scans[patient_of(subject)].append(subject)
    rows = []
    for patient_id, own in scans.items():
        grade = None if tuple(classes) == (None,) else max((s["grade"] for s in own), key=list(classes).index)
        row = {"patient_id": patient_id, "grade": grade, "site": own[0].get("site")}
        rows.append({**row, "subject_ids": [s["subject_id"] for s in own]})
    return sorted(rows, key=_stratum)


def _stratum(patient: Patient) -> tuple[str, str, str]:
    return str(patient["grade"]), str(patient["site"]), patient["patient_id"]


def _draw(
    patients: list[Patient], fraction: float, random: np.random.RandomState
) -> tuple[list[Patient], list[Patient]]:
    """Take a part of each grade, sites in proportion where counts allow, and return it and the rest."""
    if fraction == 0:
        return [], patients
    taken: list[Patient] = []
    rest: list[Patient] = []
    for grade in sorted({str(patient["grade"]) for patient in patients}):
        rows = [patient for patient in patients if str(patient["grade"]) == grade]
        count = _drawn(fraction, len(rows))
        sites = _pooled_sites(rows, count)
        left, drawn = train_test_split(rows, test_size=count, stratify=sites, random_state=random)
        taken, rest = taken + drawn, rest + left
    return sorted(taken, key=_stratum), sorted(rest, key=_stratum)


def _drawn(fraction: float, size: int) -> int:
    """How many of `size` patients are drawn: at least one, and of two or more one at least is left."""
    return min(size, max(1, min(size - 1, round(fraction * size)))) if fraction else 0


def _pooled_sites(patients: list[Patient], count: int) -> list[str] | None:
    """Sites as strata of a draw of `count`: those too small to give one are one stratum; None if no two are left."""
    sizes = Counter(str(patient["site"]) for patient in patients)
    smallest = max(2, math.ceil(len(patients) / count))
    strata = ["" if sizes[str(p["site"])] < smallest else str(p["site"]) for p in patients]
    pooled = Counter(strata)
    if not 1 < len(pooled) <= min(count, len(patients) - count) or min(pooled.values()) < 2:
        return None
    return strata


def _fold_parts(
    patients: list[Patient], num_folds: int, random: np.random.RandomState
) -> list[tuple[list[Patient], list[Patient]]]:
    """(training, validation) of each fold; every grade, and every site of a grade, spread within one over the folds.

    `StratifiedKFold` deals the sorted strata out in turn: with the sites of a grade side by side, grades are even too.
    """
    if num_folds == 1:
        return [(patients, [])]
    by_site = [str(_stratum(patient)[:2]) for patient in patients]
    by_grade = [str(patient["grade"]) for patient in patients]
    strata = by_site if max(Counter(by_site).values()) >= num_folds else by_grade
    splitter = StratifiedKFold(num_folds, shuffle=True, random_state=random)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="The least populated class"
        )  # a site with two subjects is in two folds
        parts = list(splitter.split(patients, strata))
    return [([patients[i] for i in training], [patients[i] for i in validation]) for training, validation in parts]


def _describe_strata(patients: list[Patient], by_grade: bool, num_folds: int) -> str:
    """Say what the parts are stratified by, and which sites are too small for it."""
    grades = "grade" if by_grade else "nothing"
    if len({patient["site"] for patient in patients}) < 2:
        return f"{grades}; the subjects are of one site, or their sites are unknown or not asked for"
    sizes = Counter(_stratum(patient)[:2] for patient in patients)
    if max(sizes.values()) < num_folds:
        return f"{grades} alone: no site has {num_folds} subjects of a grade"
    small = sorted({site for (_, site), size in sizes.items() if size < num_folds})
    strata = "grade, then site" if by_grade else "site"
    return strata + (f"; fewer than {num_folds} subjects of a grade at {', '.join(small)}" if small else "")


def _subject_ids(patients: Iterable[Patient]) -> list[str]:
    return sorted(name for patient in patients for name in patient["subject_ids"])


def check_splits(
    num_folds: int,
    test_fraction: float,
    inner_fraction: float,
    stratify_by: Sequence[str] = STRATA,
    selection: str = "inner",
    hold_out: str = "patients",
    generator_fraction: float | None = None,
) -> None:
    """Refuse settings by which no cohort can be split; arguments as of `make_splits`.

    Raises:
        ValueError: naming the config key.
    """
    if num_folds < 1:
        raise ValueError(f"num_folds must be at least 1, got {num_folds!r}")
    if generator_fraction is not None and not 0 < generator_fraction < 1:
        raise ValueError(
            f"generator_fraction must be in (0, 1), or null where test_fraction decides, got {generator_fraction!r}"
        )
    if generator_fraction is not None and not math.isclose(generator_fraction + test_fraction, 1):
        raise ValueError(
            f"test_fraction must be 1 - generator_fraction, {1 - generator_fraction:g}, where that is set, got"
            f" {test_fraction!r}; set one of the two"
        )
    for name, fraction in (("test_fraction", test_fraction), ("inner_fraction", inner_fraction)):
        if not 0 <= fraction < 1:
            raise ValueError(f"{name} must be in [0, 1), got {fraction!r}")
    if tuple(stratify_by) not in ((), ("grade",), STRATA):
        raise ValueError(f"splits_stratify_by must be [], [grade] or [grade, site], got {list(stratify_by)!r}")
    if selection not in SELECTIONS:
        raise ValueError(f"selection must be one of {', '.join(SELECTIONS)}, got {selection!r}")
    if selection == "validation" and num_folds == 1:
        raise ValueError("selection must be inner where num_folds is 1, got 'validation': one fold validates nothing")
    _check_held_out(hold_out, stratify_by, selection)
    if hold_out == "hint" and generator_fraction is not None:
        raise ValueError(
            "generator_fraction must be null where splits_hold_out is hint, which says who is tested, got"
            f" {generator_fraction!r}; set one of the two"
        )


def _check_held_out(hold_out: str, stratify_by: Sequence[str], selection: str) -> None:
    if hold_out not in HELD_OUT:
        raise ValueError(f"splits_hold_out must be one of {', '.join(HELD_OUT)}, got {hold_out!r}")
    if hold_out == "sites" and ("site" not in stratify_by or selection != "inner"):
        raise ValueError(
            "splits_hold_out sites must have splits_stratify_by [grade, site] and selection inner, got"
            f" {list(stratify_by)!r} and {selection!r}: a held-out site must not select the network it tests"
        )


def _check_subjects(subjects: Sequence[Mapping[str, Any]], classes: Collection[str]) -> None:
    twice = [name for name, count in Counter(s["subject_id"] for s in subjects).items() if count > 1]
    if twice:
        raise ValueError(
            f"subject_id must be there once in a cohort, got {some_names(twice)} twice; name each scan apart"
        )
    strange = {s["grade"] for s in subjects if s.get("grade") is not None} - set(classes)
    if strange:
        raise ValueError(
            f"grade must be one of the classes {', '.join(classes)} or empty, got {some_names(strange)};"
            " set `classes`, or `grade_map` of configs/cohort.yaml"
        )


def _check_classes(patients: Sequence[Patient], classes: Sequence[str | None]) -> None:
    absent = [name for name in classes if name and all(patient["grade"] != name for patient in patients)]
    if absent:
        raise ValueError(
            f"a cohort must have patients of each of the classes {', '.join(map(str, classes))} to train a classifier,"
            f" got {len(patients)} graded patients and nobody of class {' or '.join(absent)}; it can be tested on"
            " (external_patches_paths of configs/evaluate.yaml), or train a generator (splits_stratify_by [])"
        )


def _check_enough(
    patients: list[Patient], classes: Sequence[str | None], num_folds: int, test_fraction: float, inner_fraction: float
) -> None:
    """Raise before any draw if a class cannot be in each part of each fold."""
    sizes = Counter(patient["grade"] for patient in patients)
    for name in classes:
        what = "a cohort without grades" if name is None else f"class {name}"
        tested = _drawn(test_fraction, sizes[name])
        left = sizes[name] - tested
        # the folds are dealt out in turn, so the first are the larger ones and the last is the first without the class
        training = left - math.ceil(left / num_folds) if num_folds > 1 else left
        needed = 2 if inner_fraction else 1
        if (num_folds > 1 and left < num_folds) or training < needed:
            fold = min(max(left, 0), num_folds - 1)
            raise ValueError(
                f"fold {fold} must have subjects of {what} in each part, got {sizes[name]} such patients in the cohort,"
                f" of which {tested} in the locked test, for {num_folds} folds; use fewer folds (num_folds), a smaller"
                " test_fraction, or other `classes`"
            )
