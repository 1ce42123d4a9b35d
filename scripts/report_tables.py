"""The numbers of the report: predictions of all evaluations in one table, and the measures computed from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts import statistics
from scripts.files import read_csv

KEY = ("direction", "setup", "role", "cohort", "fold", "subject_id")
GROUP = ("direction", "setup", "role", "cohort")
MEASURES = ("balanced_accuracy", "auc", "accuracy", "weighted_f1")  # the first two come first, see docs/method.md
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
METRIC_COLUMNS = (*GROUP, "n", "measure", "value", "low", "high", "interval")


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


def class_names(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the classes in the order of the columns `probability_<class>`."""
    return [name.removeprefix("probability_") for name in rows[0] if name.startswith("probability_")]


def class_name(label: str, names: Sequence[str]) -> str:
    """Return the name of a class that a row gives by name or by index.

    Raises:
        ValueError: if it is neither.
    """
    if label in names:
        return label
    if label.isdigit() and int(label) < len(names):
        return names[int(label)]
    raise ValueError(f"label must be one of {list(names)} or an index of them, got {label!r}; evaluate again")


def compute_metrics(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Compute every measure with its interval for each direction, setup, role and cohort.

    Args:
        rows: what `merge_predictions` returns.

    Returns:
        One row a measure, columns `METRIC_COLUMNS`; `value` is None where a measure is not defined, such as the AUC of
        a cohort with one class.
    """
    names = class_names(rows)
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in GROUP)].append(row)
    metrics = []
    for group, members in groups.items():
        labels = [_label(row["label"], names) for row in members]
        probabilities = np.array([[float(row[f"probability_{name}"]) for name in names] for row in members])
        for name, estimate in measure(labels, probabilities).items():
            entry = {"n": len(members), "measure": name, **estimate._asdict()}
            metrics.append({**dict(zip(GROUP, group, strict=True)), **entry})
    return metrics


def measure(labels: Sequence[int], probabilities: np.ndarray) -> dict[str, statistics.Estimate]:
    """Compute the four measures of a set of predictions.

    Args:
        labels: N integers.
        probabilities: (N, K), rows sum to 1; the predicted class is the most probable one.

    Returns:
        Measure -> estimate with its interval.
    """
    predicted = probabilities.argmax(axis=1).tolist()
    return {
        "balanced_accuracy": statistics.balanced_accuracy(labels, predicted, probabilities.shape[1]),
        "auc": statistics.auc(labels, probabilities),
        "accuracy": statistics.accuracy(labels, predicted),
        "weighted_f1": statistics.weighted_f1(labels, predicted),
    }


def metric_table(metrics: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turn one row a measure into one row a group, with a dictionary of value and limits under each measure."""
    table: dict[tuple[Any, ...], dict[str, Any]] = {}
    for metric in metrics:
        group = tuple(metric[name] for name in GROUP)
        row = table.setdefault(group, {**dict(zip(GROUP, group, strict=True)), "n": metric["n"]})
        row[metric["measure"]] = {name: metric[name] for name in ("value", "low", "high", "interval")}
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


def _label(text: str, names: Sequence[str]) -> int:
    return names.index(class_name(text, names))
