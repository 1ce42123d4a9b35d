"""The report's first sections: every setup on every test, as heatmaps, as a table, as a figure, and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scripts.evaluation.answers import GROUP, class_name
from scripts.evaluation.metrics import MEASURES
from scripts.patches.pictures import draw_intervals, heat_color, heat_text_color
from scripts.report.words import MEASURE_NAMES, ROLE_NAMES, name_setup, ordered
from scripts.statistics.intervals import Estimate


def result_sections(
    metrics: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    predictions: Sequence[Mapping[str, str]],
    setups: Sequence[str],
) -> dict[str, Any]:
    """Arrange the measures as heatmaps, as a table and as a figure with intervals.

    Args:
        metrics: what `compute_metrics` returns.
        classes: names of the classes, by label.
        predictions: what `merge_predictions` returns.
        setups: order of the setups.

    Returns:
        Items of the template.
    """
    table = metric_table(metrics)
    names = ordered((row["setup"] for row in table), setups)
    roles = ordered((row["role"] for row in table), list(ROLE_NAMES))
    table.sort(key=lambda row: (row["direction"], roles.index(row["role"]), row["cohort"], names.index(row["setup"])))
    external = [row for row in table if row["role"] == "external"]
    guess = {
        cohort: _always_largest(predictions, classes, cohort) for cohort in sorted({row["cohort"] for row in external})
    }
    return {
        "classes": list(classes),
        "setups": names,
        "measure_names": MEASURE_NAMES,
        "role_names": {role: ROLE_NAMES.get(role, role) for role in roles},
        "directions": list(dict.fromkeys((row["direction"], row["cohort"]) for row in external)),
        "heatmaps": [heatmap(external, names, measure) for measure in MEASURES],
        "results": _grouped(table, ("direction", "role", "cohort")),
        "guess": guess,
        "intervals": [interval_figure(table, measure, 1 / len(classes)) for measure in MEASURES[:2]],
        "selected_on": "validation_selected_on" in roles,
    }


def heatmap(rows: Sequence[Mapping[str, Any]], setups: Sequence[str], measure: str) -> dict[str, Any]:
    """Arrange one measure as the paper does: a row a setup, a column a direction.

    Returns:
        `name`; `rows`: setup and cells, each None or `estimate`, `color`, `text_color` and `best` in its column.
    """
    columns = list(dict.fromkeys((row["direction"], row["cohort"]) for row in rows))
    found = {(row["setup"], row["direction"], row["cohort"]): row[measure] for row in rows}
    tops = {
        column: max((found[(s, *column)]["value"] or 0.0 for s in setups if (s, *column) in found), default=0.0)
        for column in columns
    }
    lines = []
    for setup in setups:
        cells = [found.get((setup, *column)) for column in columns]
        lines.append({"setup": setup, "cells": [_cell(c, tops[k]) for c, k in zip(cells, columns, strict=True)]})
    return {"name": MEASURE_NAMES[measure], "columns": columns, "rows": lines}


def interval_figure(table: Sequence[Mapping[str, Any]], measure: str, chance: float) -> dict[str, str]:
    """Draw one measure with its intervals, one panel a direction and role."""
    rows = [
        {
            "name": name_setup(row["setup"]),
            "group": f"{row['direction']} → {row['cohort']}: {ROLE_NAMES.get(row['role'], row['role'])}",
            **row[measure],
        }
        for row in table
        if row[measure]["value"] is not None and row[measure]["low"] is not None
    ]
    return {"name": MEASURE_NAMES[measure], "svg": draw_intervals(rows, MEASURE_NAMES[measure], chance) if rows else ""}


def metric_table(metrics: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turn one row a measure into one row a group, with a dictionary of value and limits under each measure."""
    table: dict[tuple[Any, ...], dict[str, Any]] = {}
    for metric in metrics:
        group = tuple(metric[name] for name in GROUP)
        row = table.setdefault(group, {**dict(zip(GROUP, group, strict=True)), "n": metric["n"]})
        row[metric["measure"]] = {name: metric[name] for name in (*Estimate._fields, "coverage")}
    return list(table.values())


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


def _cell(estimate: Mapping[str, Any] | None, top: float) -> dict[str, Any] | None:
    if estimate is None:
        return None
    value = estimate["value"]
    colors = {"color": heat_color(value), "text_color": heat_text_color(value)}
    return {"estimate": estimate, **colors, "best": value is not None and value == top}


def _grouped(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in names)
        groups.setdefault(key, {**dict(zip(names, key, strict=True)), "rows": []})["rows"].append(row)
    return list(groups.values())


def _always_largest(predictions: Sequence[Mapping[str, str]], classes: Sequence[str], cohort: str) -> dict[str, Any]:
    chosen = [row for row in predictions if row["cohort"] == cohort and row["role"] == "external"]
    labels = {row["subject_id"]: class_name(row["label"], classes) for row in chosen}
    name, count = Counter(labels.values()).most_common(1)[0]
    return {"class": name, "accuracy": count / len(labels)}
