"""The measures of every setup on every test, each with its interval, from the rows of `predictions.csv`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from scripts.evaluation.answers import GROUP, TEST, Answers, group_answers
from scripts.provenance.image_form import names_by_label
from scripts.running.errors import some_names
from scripts.running.setups import classifier_of, permutation_of, setup_of, with_classifier
from scripts.statistics.bootstrap import bootstrap, draw_weights
from scripts.statistics.classification_measures import (
    ROUNDING,
    Measure,
    average_precision,
    brier,
    confusion,
    expected_calibration_error,
    macro_f1,
    matthews,
    value_of,
    weighted_f1,
)
from scripts.statistics.interval_coverage import coverage_beside
from scripts.statistics.intervals import Estimate, accuracy, balanced_accuracy, sensitivities
from scripts.statistics.multiclass_area import auc, class_areas

MEASURES = ("balanced_accuracy", "auc", "accuracy", "weighted_f1")  # the first two come first
METRIC_COLUMNS = (*GROUP, "n", "measure", "value", "low", "high", "interval", "coverage", "reason")
MACRO_F1 = "macro_f1"
CHANCE_TOLERANCE = 0.1  # of the mean AUC of shuffled labels around .5
# Why a measure has no value, or no limits.
ALL_AGREE = "no interval: all draws of the bootstrap agree, as where every answer is right"
IN_REPORT = "no interval here: the report has that of the bootstrap"
NOT_RANKED = "no fold holds patients of two classes"
# Measures without an interval in closed form, lower or higher is better as their docstrings say.
BOOTSTRAPPED: dict[str, Measure] = {
    "weighted_f1": weighted_f1,
    "mcc": matthews,
    "auprc": average_precision,
    "brier": brier,
    "ece": expected_calibration_error,
}


def compute_metrics(rows: Sequence[Mapping[str, str]], num_draws: int = 2000, seed: int = 0) -> list[dict[str, Any]]:
    """Compute every measure with its interval for each direction, setup, role and cohort.

    Args:
        rows: what `merge_predictions` returns.
        num_draws: of the bootstrap, for the measures that have no better interval.
        seed: of the draws.

    Returns:
        One row per measure, columns `METRIC_COLUMNS`; `value` is None where it is not defined, such as the AUC of
        a cohort with one class, and `reason` then says why, and why there are no limits; `coverage` is what simulations
        found where that is not 93 to 97 %.
    """
    metrics = []
    for answers in group_answers(rows):
        group = {name: getattr(answers, name) for name in GROUP}
        for name, estimate in measure(answers, num_draws, seed).items():
            kind = "auc_of_class" if name.startswith("auc_") else name
            situation = (estimate.value, answers.spread) if kind.startswith("auc") else ()
            coverage = None if estimate.low is None else coverage_beside(kind, answers.n_by_class, *situation)
            entry = {"n": answers.n, "measure": name, **_with_reason(estimate, answers), "coverage": coverage}
            metrics.append({**group, **{column: entry[column] for column in METRIC_COLUMNS[len(GROUP) :]}})
    return metrics


def measure(answers: Answers, num_draws: int, seed: int = 0) -> dict[str, Estimate]:
    """Compute the measures of one setup on one test.

    Args:
        answers: predictions; the predicted class is the most probable one.
        num_draws: of the bootstrap.
        seed: of the draws.

    Returns:
        Measure -> estimate with its interval: `MEASURES`, the sensitivity of each class, `mcc`, `auprc` (of the first
        class), `brier` and `ece`; of more than two classes the AUC of each against the rest and `macro_f1`, too.
    """
    labels, probabilities, num_classes = answers.labels, answers.probabilities, len(answers.classes)
    main = _main_measures(answers)
    weights = draw_weights(labels, num_draws, seed)
    ranked = {"auprc": partial(average_precision, strata=answers.folds)}
    resampled = {
        name: bootstrap(ranked.get(name, one), labels, probabilities, weights) for name, one in BOOTSTRAPPED.items()
    }
    per_class = sensitivities(labels, answers.predictions, num_classes)
    further: dict[str, Estimate] = {}
    if num_classes > 2:
        areas = class_areas(labels, probabilities, answers.folds)
        further = {f"auc_{name}": one for name, one in zip(answers.classes, areas, strict=True)}
        further[MACRO_F1] = bootstrap(macro_f1, labels, probabilities, weights)
    return {
        **main,
        "weighted_f1": resampled.pop("weighted_f1"),
        **{f"sensitivity_{name}": one for name, one in zip(answers.classes, per_class, strict=True)},
        **further,
        **resampled,
    }


def trivial_value(measure: str, n_by_class: Sequence[int]) -> float | None:
    """Value of a measure that needs no classifier: the largest class, or chance, for everybody; None of other measures.

    >>> trivial_value("accuracy", [12, 28]), trivial_value("auc", [12, 28])
    (0.7, 0.5)
    """
    share = max(n_by_class) / sum(n_by_class)
    values = {
        "accuracy": share,
        "balanced_accuracy": 1 / len(n_by_class),
        "auc": 0.5,
        "weighted_f1": share * 2 * share / (1 + share),
    }
    return values.get(measure)


def trivial_measures(metrics: Iterable[Mapping[str, Any]], groups: Iterable[Answers]) -> set[tuple[str, ...]]:
    """Find the figures that are no better than an answer without a look at the images, whatever a test says of them.

    Args:
        metrics: what `compute_metrics` returns.
        groups: what `group_answers` returns of the same predictions.

    Returns:
        Measure and `GROUP` of each figure at or below `trivial_value`, and of every figure of a setup that gives all
        patients of a test one answer.
    """
    by_key = {tuple(getattr(answers, name) for name in GROUP): answers for answers in groups}
    found = set()
    for row in metrics:
        key = tuple(row[name] for name in GROUP)
        trivial = trivial_value(row["measure"], by_key[key].n_by_class)
        is_at_most = trivial is not None and (row["value"] is None or row["value"] <= trivial + ROUNDING)
        if is_at_most or by_key[key].only_answer is not None:
            found.add((row["measure"], *key))
    return found


def figure_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Measure and `GROUP` of a row, by which figures of several tables are told to be one."""
    return (row["measure"], *(row[name] for name in GROUP))


def is_trivial_gain(comparison: Mapping[str, Any], trivial: Collection[tuple[str, ...]]) -> bool:
    """Tell whether a setup is ahead of another with a figure that needs no images; a loss is one whatever it needs.

    Args:
        comparison: row of `compare_setups`, or a primary end point.
        trivial: what `trivial_measures` returns.
    """
    return comparison["value"] is not None and comparison["value"] > 0 and figure_of(comparison) in trivial


def swapped_labels(metrics: Iterable[Mapping[str, Any]], reference: str) -> list[Mapping[str, Any]]:
    """List the AUCs whose whole interval lies below .5: worse than guessing, as where two labels were swapped.

    Only of tests on which that of the reference does, too: swapped labels are so for every setup, while among many
    setups that guess, one lies below by chance.

    Args:
        metrics: what `compute_metrics` returns.
        reference: setup that the others are compared with, of several classifiers those with the same one.
    """
    below = [row for row in metrics if row["measure"] == "auc" and row["high"] is not None and row["high"] < 0.5]
    tests = [_with_classifier_on_test(row) for row in below if setup_of(row["setup"]) == reference]
    return [row for row in below if _with_classifier_on_test(row) in tests]


def label_permutations(metrics: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average the AUC of a control of shuffled labels over its permutations (`shuffle_labels` says why).

    Args:
        metrics: what `compute_metrics` returns.

    Returns:
        One row per test and classifier with several permutations: the names of the test, `setup` without permutation,
        `num_permutations`, `value`, `lowest` and `highest` AUC, and whether the mean `is_chance`: no further from .5
        than `CHANCE_TOLERANCE`.
    """
    families: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in metrics:
        if row["measure"] == "auc" and permutation_of(row["setup"]) is not None and row["value"] is not None:
            families.setdefault((setup_of(row["setup"]), *_with_classifier_on_test(row)), []).append(row)
    rows = []
    for family in families.values():
        areas = [row["value"] for row in family]
        mean, first = float(np.mean(areas)), family[0]
        setup = with_classifier(setup_of(first["setup"]), classifier_of(first["setup"]))
        spread = {"value": mean, "lowest": min(areas), "highest": max(areas)}
        is_chance = abs(mean - 0.5) <= CHANCE_TOLERANCE
        test = {name: first[name] for name in TEST}
        rows.append({**test, "setup": setup, "num_permutations": len(areas), **spread, "is_chance": is_chance})
    return rows


def _with_classifier_on_test(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*(row[name] for name in TEST), classifier_of(row["setup"]))


def summarize(rows: Sequence[Mapping[str, Any]], classes: Mapping[str, int]) -> dict[str, Any]:
    """Compute the measures of some rows of `predictions.csv`, each with its interval, or the `reason` why it has none.

    Args:
        rows: one per scan, of one test; scans of one patient are averaged.
        classes: class name -> label.

    Returns:
        `n`, `n_by_class`, `MEASURES`, `sensitivity` of each class, `confusion` (true class -> answer -> patients); of
        more than two classes `class_auc`, of each against the rest, and `macro_f1`.
    """
    answers = answers_of(rows, classes)
    labels, probabilities, names = answers.labels, answers.probabilities, answers.classes
    scores = {"weighted_f1": weighted_f1} | ({MACRO_F1: macro_f1} if len(names) > 2 else {})
    measures = _main_measures(answers) | {
        name: Estimate(value_of(measure, labels, probabilities)) for name, measure in scores.items()
    }
    by_class = {"sensitivity": sensitivities(labels, answers.predictions, len(names))}
    if len(names) > 2:
        by_class["class_auc"] = class_areas(labels, probabilities, answers.folds)
    return {
        "n": answers.n,
        "n_by_class": dict(zip(names, answers.n_by_class, strict=True)),
        **{name: _with_reason(estimate, answers, IN_REPORT) for name, estimate in measures.items()},
        **{
            key: {name: _with_reason(estimate, answers) for name, estimate in zip(names, estimates, strict=True)}
            for key, estimates in by_class.items()
        },
        "confusion": confusion_matrix(answers),
    }


def confusion_matrix(answers: Answers) -> dict[str, dict[str, int]]:
    """Count the patients of each true class by their answer: true class -> answer -> patients."""
    table = confusion(answers.labels, answers.probabilities, np.ones((1, answers.n)))[0].astype(int).tolist()
    return {
        name: dict(zip(answers.classes, row, strict=True)) for name, row in zip(answers.classes, table, strict=True)
    }


def top_confusions(matrix: Mapping[str, Mapping[str, int]], most: int = 3) -> list[dict[str, Any]]:
    """List the wrong answers that are given to the largest shares of a class, the largest first.

    Args:
        matrix: what `confusion_matrix` returns.
        most: rows at most; those of equal share are in the order of the classes.

    Returns:
        `class`, `answer`, `count`, and `n` of the class; fewer where fewer wrong answers are given.
    """
    wrong: list[dict[str, Any]] = [
        {"class": name, "answer": answer, "count": count, "n": sum(row.values())}
        for name, row in matrix.items()
        for answer, count in row.items()
        if answer != name and count
    ]
    return sorted(wrong, key=lambda one: -one["count"] / one["n"])[:most]


def answers_of(rows: Sequence[Mapping[str, Any]], classes: Mapping[str, int]) -> Answers:
    """Put rows of one test together before they are written; arguments as for `summarize`."""
    written = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    group = {name: str(rows[0].get(name, "")) for name in GROUP}
    return Answers(**group, classes=names_by_label(classes), rows=written)


def _with_reason(estimate: Estimate, answers: Answers, no_limits: str = ALL_AGREE) -> dict[str, Any]:
    """Fields of an estimate, and why it has no value or no limits; None where it has both."""
    if estimate.low is not None:
        return {**estimate._asdict(), "reason": None}
    missing = [name for name, count in zip(answers.classes, answers.n_by_class, strict=True) if not count]
    reason = no_limits if estimate.value is not None else NOT_RANKED
    if estimate.value is None and missing:
        reason = f"no patient of {some_names(missing)}"
    return {**estimate._asdict(), "reason": reason}


def _main_measures(answers: Answers) -> dict[str, Estimate]:
    """The measures whose interval has a closed form."""
    labels, predictions = answers.labels, answers.predictions
    return {
        "balanced_accuracy": balanced_accuracy(labels, predictions, len(answers.classes)),
        "auc": auc(labels, answers.probabilities, answers.folds),
        "accuracy": accuracy(labels, predictions),
    }
