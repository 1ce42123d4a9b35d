"""Every setup of a study against the reference, on each test: differences, tests, and what could have been found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from scripts.evaluation.answers import TEST, Answers, aligned
from scripts.running.setups import classifier_of, permutation_of, setup_of, with_classifier
from scripts.statistics.interval_coverage import coverage_beside
from scripts.statistics.intervals import Estimate
from scripts.statistics.multiclass_area import auc, mean_area_difference
from scripts.statistics.paired_tests import (
    accuracy_difference,
    balanced_accuracy_difference,
    count_discordant,
    holm,
    mcnemar,
)
from scripts.statistics.power import ALPHA, detectable_gain, needed_subjects

COMPARISON_COLUMNS = (
    *("direction", "role", "cohort", "setup", "reference", "n", "measure"),
    *("value", "low", "high", "interval", "coverage"),
    *("only_setup_right", "only_reference_right", "test", "p", "p_holm", "num_tests", "is_primary"),
)
END_POINT = (*TEST, "setup", "reference", "measure")  # what names one row
MIN_SUBJECTS = 2  # of each class: a variance needs two
PROTOCOL_CHECKS = ("synthetic_shuffled",)  # setups of shuffled labels, which must answer as by chance: no hypotheses
PAPER_GAIN = 0.02  # of the paper's accuracy, .89 over .87


def compare_setups(
    groups: Sequence[Answers], reference: str, primary: Mapping[str, Any] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Compare every setup with the reference, test by test; of several classifiers, with that of the same one.

    Args:
        groups: what `group_answers` returns.
        reference: name of the setup that the others are compared with, without a classifier.
        primary: the end point that was declared beforehand (`scripts.evaluation.primary`); None where there is none.

    Returns:
        Rows with `COMPARISON_COLUMNS`, three per comparison (accuracy with McNemar's test, balanced accuracy, AUC with
        DeLong's test), p corrected by Holm over all `num_tests` tests of the role: every setup with every classifier,
        every pair of cohorts, and both tests, so that the chance of one false alarm among all of them keeps its level.
        Setups with images of control generators are among them; the `PROTOCOL_CHECKS` are no hypotheses and have their
        p alone. The primary end point is a family of its own, declared before anything was seen, and so is not
        corrected. And the tests that could not be compared, each with the `reason`.

    Raises:
        ValueError: if two setups were tested on other subjects.
    """
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    for test in _by_test(groups):
        own_reference = with_classifier(reference, classifier_of(test[0].setup))
        reason = _why_not(test, own_reference)
        if reason:
            left = {**test[0].test, "reason": reason}
            left_out += [left] if left not in left_out else []
            continue
        compared = next(answers for answers in test if answers.setup == own_reference)
        others = [aligned(answers, compared) for answers in test if answers is not compared]
        rows += [row for other in others for row in compare_pair(other, compared)]
    for row in rows:
        row["is_primary"] = primary is not None and all(row[name] == primary[name] for name in END_POINT)
    for role in {row["role"] for row in rows}:
        _correct([row for row in rows if row["role"] == role])
    return rows, left_out


def is_protocol_check(setup: str) -> bool:
    """Tell whether a setup, with whatever classifier, is one of `PROTOCOL_CHECKS` or a permutation of labels."""
    return setup_of(setup) in PROTOCOL_CHECKS or permutation_of(setup) is not None


def differs(comparison: Mapping[str, Any]) -> bool:
    """Tell whether a row of `compare_setups` has a p below .05 after correction."""
    return comparison["p_holm"] is not None and comparison["p_holm"] < ALPHA


def power_rows(comparisons: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Say for each test which gain in accuracy it could have found, and how many subjects the paper's gain needs.

    The share of discordant pairs is the mean of those seen between the setups and the reference, without
    `PROTOCOL_CHECKS`, which disagree with it by design. The power is for a gain fixed beforehand; that of the gain that
    was seen would say no more than its p (Hoenig, Heisey 2001).

    Args:
        comparisons: what `compare_setups` returns.

    Returns:
        One row per test: `n`, `discordant` (share of the subjects), `num_tests` corrected for, `detectable_gain` with
        80 % by a single test at 5 %, `detectable_gain_holm` at the strictest level of Holm, and
        `subjects_for_paper_gain`; None where no gain is large enough, or a gain of .02 is larger than the share of
        discordant pairs.
    """
    tests: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in comparisons:
        if row["measure"] == "accuracy" and not is_protocol_check(row["setup"]):
            tests.setdefault(tuple(row[name] for name in TEST), []).append(row)
    return [{**dict(zip(TEST, test, strict=True)), **_power(rows)} for test, rows in tests.items()]


def _power(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    n = int(rows[0]["n"])
    share = float(np.mean([row["only_setup_right"] + row["only_reference_right"] for row in rows])) / n
    num_tests = max(row["num_tests"] for row in rows)
    return {
        "n": n,
        "discordant": share,
        "num_tests": num_tests,
        "detectable_gain": detectable_gain(n, share) if share else None,
        "detectable_gain_holm": detectable_gain(n, share, alpha=ALPHA / num_tests) if share else None,
        "paper_gain": PAPER_GAIN,
        "subjects_for_paper_gain": needed_subjects(share, PAPER_GAIN) if share > PAPER_GAIN else None,
    }


def _by_test(groups: Sequence[Answers]) -> list[list[Answers]]:
    """Setups on one test with one classifier, which are compared with each other."""
    tests: dict[tuple[str | None, ...], list[Answers]] = {}
    for answers in groups:
        tests.setdefault((*answers.test.values(), classifier_of(answers.setup)), []).append(answers)
    return list(tests.values())


def _why_not(test: Sequence[Answers], reference: str) -> str | None:
    setups = [answers.setup for answers in test]
    if reference not in setups:
        return f"no evaluation of the reference {reference!r}; run it, or set report_reference to one of these setups"
    if len(setups) == 1:
        return f"only {setup_of(reference)!r} was evaluated; run another setup"
    counts = dict(zip(test[0].classes, test[0].n_by_class, strict=True))
    few = [f"{name} {count}" for name, count in counts.items() if count < MIN_SUBJECTS]
    if few:
        return f"a comparison needs {MIN_SUBJECTS} subjects of each class, got {', '.join(few)}; test on more subjects"
    return None


def compare_pair(own: Answers, reference: Answers) -> Iterator[dict[str, Any]]:
    """Compare two setups on the same patients in the same order; yields the rows of `compare_setups`, not corrected."""
    discordant = count_discordant(own.right, reference.right)
    fixed = {**own.test, "setup": own.setup, "reference": reference.setup, "n": own.n}
    counts = dict(zip(("only_setup_right", "only_reference_right"), discordant, strict=True))
    area, p = area_difference(own, reference)
    measures: list[tuple[str, Estimate, str | None, float | None]] = [
        ("accuracy", accuracy_difference(own.right, reference.right), "exact McNemar", mcnemar(*discordant)),
        ("balanced_accuracy", balanced_accuracy_difference(own.labels, own.right, reference.right), None, None),
        ("auc", area, "DeLong", p),
    ]
    for measure, estimate, test, p_value in measures:
        situation = area_situation(own, reference) if measure == "auc" else ()
        coverage = coverage_beside(f"{measure}_difference", own.n_by_class, *situation)
        tested = {**counts, "test": test, "p": p_value, "p_holm": None, "num_tests": None}
        yield {**fixed, "measure": measure, **estimate._asdict(), "coverage": coverage, **tested}


def area_situation(own: Answers, reference: Answers) -> tuple[float | None, float | None]:
    """What decides the coverage of a difference of AUCs: the larger area, and the spread of its scores."""
    both = (own, reference)
    areas = [(auc(one.labels, one.probabilities, one.folds).value or 0.0, one) for one in both]
    area, larger = max(areas, key=lambda item: item[0])
    return area or None, larger.spread


def area_difference(own: Answers, reference: Answers) -> tuple[Estimate, float | None]:
    """AUC of a setup less that of another on the same patients, with DeLong's p.

    Patients are ranked among those of their fold, whom one classifier answered for.
    """
    return mean_area_difference(own.labels, own.probabilities, reference.probabilities, own.folds)


def _correct(rows: Sequence[dict[str, Any]]) -> None:
    """Write `p_holm` and `num_tests` into the rows of one role that have a p and are no `PROTOCOL_CHECKS`."""
    tested = [row for row in rows if row["p"] is not None and not is_protocol_check(row["setup"])]
    for row in tested:
        if row["is_primary"]:
            row |= {"p_holm": row["p"], "num_tests": 1}
    family = [row for row in tested if not row["is_primary"]]
    for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
        row |= {"p_holm": p, "num_tests": len(family)}
