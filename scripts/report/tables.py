"""The numbers of the report: predictions of all evaluations in one table, and the measures computed from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.evaluation.answers import GROUP, Answers, group_answers
from scripts.running.files import read_csv
from scripts.statistics import intervals
from scripts.statistics.bootstrap import bootstrap, draw_weights
from scripts.statistics.classification_measures import (
    Measure,
    auc_one_against_rest,
    average_precision,
    brier,
    expected_calibration_error,
    matthews,
    weighted_f1,
)
from scripts.statistics.interval_coverage import coverage_beside
from scripts.statistics.intervals import Estimate

KEY = ("direction", "setup", "role", "cohort", "fold", "subject_id")
MEASURES = ("balanced_accuracy", "auc", "accuracy", "weighted_f1")  # the first two come first
MEASURE_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
}
ROLE_NAMES = {
    "external": "other cohort (ensemble)",
    "locked_test": "locked test (ensemble)",
    "out_of_fold": "out of fold",
    "validation_selected_on": "validation (selected on)",
}
METRIC_COLUMNS = (*GROUP, "n", "measure", "value", "low", "high", "interval", "coverage")
# Measures without an interval in closed form, lower or higher is better as their docstrings say.
BOOTSTRAPPED: dict[str, Measure] = {
    "weighted_f1": weighted_f1,
    "mcc": matthews,
    "auprc": average_precision,
    "brier": brier,
    "ece": expected_calibration_error,
}


def merge_predictions(predictions_paths: Sequence[str | Path]) -> list[dict[str, str]]:
    """Read the predictions of several evaluations into one sorted list.

    Args:
        predictions_paths: `predictions.csv` files of one set of classes.

    Returns:
        Rows as they were written, text untouched, sorted by `KEY`: the same files in any order give the same list.

    Raises:
        ValueError: if the columns differ, or two rows predict the same subject in the same role.
    """
    if not predictions_paths:
        raise ValueError(
            "predictions_paths must name at least one predictions.csv, got none; run configs/evaluate.yaml"
        )
    rows: list[dict[str, str]] = []
    for path in predictions_paths:
        new = read_csv(path)
        if rows and new and list(new[0]) != list(rows[0]):
            raise ValueError(f"{path} must have the columns {list(rows[0])}, got {list(new[0])}; evaluate it again")
        rows += new
    rows.sort(key=lambda row: tuple(row[name] for name in KEY))
    for before, after in zip(rows, rows[1:], strict=False):
        if all(before[name] == after[name] for name in KEY):
            raise ValueError(
                f"predictions_paths must predict a subject once in each role, got {after['subject_id']!r} twice for"
                f" {after['direction']}, {after['setup']}, {after['role']}; give each evaluation once"
            )
    return rows


def compute_metrics(rows: Sequence[Mapping[str, str]], num_draws: int = 2000, seed: int = 0) -> list[dict[str, Any]]:
    """Compute every measure with its interval for each direction, setup, role and cohort.

    Args:
        rows: what `merge_predictions` returns.
        num_draws: of the bootstrap, for the measures that have no better interval.
        seed: of the draws.

    Returns:
        One row a measure, columns `METRIC_COLUMNS`; `value` is None where a measure is not defined, such as the AUC of
        a cohort with one class; `coverage` is what simulations found where that is not 93 to 97 %.
    """
    metrics = []
    for answers in group_answers(rows):
        group = {name: getattr(answers, name) for name in GROUP}
        for name, estimate in measure(answers, num_draws, seed).items():
            coverage = coverage_beside(name, answers.n_by_class) if estimate.low is not None else None
            entry = {"n": len(answers.rows), "measure": name, **estimate._asdict(), "coverage": coverage}
            metrics.append({**group, **entry})
    return metrics


def measure(answers: Answers, num_draws: int, seed: int = 0) -> dict[str, Estimate]:
    """Compute the measures of one setup on one test.

    Args:
        answers: predictions; the predicted class is the most probable one.
        num_draws: of the bootstrap.
        seed: of the draws.

    Returns:
        Measure -> estimate with its interval: `MEASURES`, the sensitivity of each class, `mcc`, `auprc` (of the first
        class), `brier` and `ece`.
    """
    labels, probabilities, predicted = answers.labels, answers.probabilities, answers.predictions
    num_classes = len(answers.classes)
    weights = draw_weights(labels, num_draws, seed)
    resampled = {name: bootstrap(one, labels, probabilities, weights) for name, one in BOOTSTRAPPED.items()}
    area = intervals.auc(labels, probabilities)
    if num_classes > 2:
        area = bootstrap(auc_one_against_rest, labels, probabilities, weights)
    sensitivities = intervals.sensitivities(labels, predicted, num_classes)
    return {
        "balanced_accuracy": intervals.balanced_accuracy(labels, predicted, num_classes),
        "auc": area,
        "accuracy": intervals.accuracy(labels, predicted),
        "weighted_f1": resampled.pop("weighted_f1"),
        **{f"sensitivity_{name}": one for name, one in zip(answers.classes, sensitivities, strict=True)},
        **resampled,
    }


def metric_table(metrics: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turn one row a measure into one row a group, with a dictionary of value and limits under each measure."""
    table: dict[tuple[Any, ...], dict[str, Any]] = {}
    for metric in metrics:
        group = tuple(metric[name] for name in GROUP)
        row = table.setdefault(group, {**dict(zip(GROUP, group, strict=True)), "n": metric["n"]})
        row[metric["measure"]] = {name: metric[name] for name in (*Estimate._fields, "coverage")}
    return list(table.values())


def ordered(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """Return unique names, those of `first` in its order and the others behind them as they come."""
    unique = list(dict.fromkeys(names))
    return [name for name in first if name in unique] + [name for name in unique if name not in first]


def summary_table(metrics: Sequence[Mapping[str, Any]], setups: Sequence[str] = (), role: str = "external") -> str:
    """Lay out the setups and the directions as text, for the end of a run.

    Args:
        metrics: what `compute_metrics` returns.
        setups: order of the rows; others follow.
        role: whose figures are shown.

    Returns:
        Lines of equal structure: a setup a line; for each direction the four measures.
    """
    chosen = [row for row in metric_table(metrics) if row["role"] == role]
    pairs = list(dict.fromkeys((row["direction"], row["cohort"]) for row in chosen))
    found = {(row["setup"], row["direction"], row["cohort"]): row for row in chosen}
    names = ordered((row["setup"] for row in chosen), setups)
    short = {"balanced_accuracy": "bal.acc", "auc": "AUC", "accuracy": "acc", "weighted_f1": "F1"}
    block = "".join(f"{short[name]:>9}" for name in MEASURES)
    width = max([len(name) for name in names], default=5) + 2
    counts = {pair: next(row["n"] for row in chosen if (row["direction"], row["cohort"]) == pair) for pair in pairs}
    heads = [f"{direction} -> {cohort} (n = {counts[direction, cohort]})" for direction, cohort in pairs]
    column = max([len(block), *(len(head) + 2 for head in heads)])
    lines = [" " * width + "".join(f"{head:>{column}}" for head in heads)]
    lines.append(f"{'setup':<{width}}" + "".join(f"{block:>{column}}" for _ in pairs))
    for name in names:
        cells = [_cells(found.get((name, *pair))) for pair in pairs]
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>{column}}" for cell in cells))
    return "\n".join(lines)


def _cells(row: Mapping[str, Any] | None) -> str:
    values = [row[name]["value"] if row else None for name in MEASURES]
    return "".join(f"{'-':>9}" if value is None else f"{value:>9.3f}" for value in values)
