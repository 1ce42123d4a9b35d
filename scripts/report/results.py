"""The report's first sections: every setup on every test, as heatmaps, as a table, as a figure, and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from scripts.evaluation.answers import GROUP, ROLES, TEST, Answers, class_name, group_answers, main_role
from scripts.evaluation.metrics import MACRO_F1, MEASURES, confusion_matrix, figure_of, is_trivial_gain, top_confusions
from scripts.evaluation.setups import differs
from scripts.patches.pictures import draw_intervals, heat_color, heat_text_color
from scripts.provenance.task import GLIOMA, Task
from scripts.report.findings import classifier_sentence
from scripts.report.words import MEASURE_NAMES, ROLE_NAMES, name_reference, name_setup, name_test, ordered
from scripts.running.setups import classifier_of, with_classifier, without_classifier
from scripts.statistics.intervals import Estimate

# In the words of a task.
RESULT_TITLES = {
    "external": "Trained on one cohort, tested on the other",
    "locked_test": "Tested on {cases} of the same cohort, set aside before training",
    "out_of_fold": "Tested on the fold that was left out",
    "validation_selected_on": "Validation, on the {cases} that chose the epochs",
}
RESULT_WORDS = {
    "external": "the ensemble of the folds, tested on every {subject} of a cohort that it never saw.",
    "locked_test": "the ensemble of the folds, tested on the locked test part of its own cohort.",
    "out_of_fold": "each {subject} predicted by the one network that neither trained nor was selected on it.",
    "validation_selected_on": "each {subject} predicted by a network selected on it, so the figures are too good.",
}


def result_sections(
    metrics: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    predictions: Sequence[Mapping[str, str]],
    setups: Sequence[str],
    comparisons: Sequence[Mapping[str, Any]] = (),
    trivial: Collection[tuple[str, ...]] = (),
    task: Task = GLIOMA,
) -> dict[str, Any]:
    """Arrange the measures as heatmaps, as a table and as a figure with intervals.

    Args:
        metrics: what `compute_metrics` returns.
        classes: names of the classes, by label.
        predictions: what `merge_predictions` returns.
        setups: order of the setups.
        comparisons: what `compare_setups` returns; what differs after correction is marked.
        trivial: what `trivial_measures` returns; no gain of it is marked.
        task: what things are called.

    Returns:
        Items of the template; the heatmaps are of the tests of `role`, see `main_role`.
    """
    table = metric_table(metrics)
    groups = group_answers(predictions)
    answered = {tuple(getattr(one, name) for name in GROUP): one.only_answer for one in groups}
    for row in table:
        row["answer"] = answered[tuple(row[name] for name in GROUP)]
    names = ordered((row["setup"] for row in table), setups)
    roles = ordered((row["role"] for row in table), ROLES)
    table.sort(key=lambda row: (row["direction"], roles.index(row["role"]), row["cohort"], names.index(row["setup"])))
    main = [row for row in table if row["role"] == roles[0]]
    cohorts = sorted({row["cohort"] for row in main})
    marked = {figure_of(row) for row in comparisons if differs(row) and not is_trivial_gain(row, trivial)}
    return {
        "role": roles[0],
        "result_title": RESULT_TITLES[roles[0]].format(cases=task.cases),
        "result_words": RESULT_WORDS[roles[0]].format(subject=task.subject),
        "reference": next((name_reference(row["reference"]) for row in comparisons if row["role"] == roles[0]), None),
        "classes": list(classes),
        "setups": names,
        "measure_names": MEASURE_NAMES,
        "role_names": ROLE_NAMES,
        "classifier_tables": classifier_tables(main, names, comparisons, marked),
        "heatmaps": [heatmap(main, names, measure, marked) for measure in MEASURES],
        "results": _grouped(table, ("direction", "role", "cohort")),
        "per_class": class_tables(main, groups) if len(classes) > 2 else [],
        "guess": {cohort: _always_largest(predictions, classes, cohort, roles[0]) for cohort in cohorts},
        "intervals": [interval_figure(table, measure, 1 / len(classes)) for measure in MEASURES[:2]],
        "selected_on": "validation_selected_on" in roles,
    }


def classifier_tables(
    rows: Sequence[Mapping[str, Any]],
    setups: Sequence[str],
    comparisons: Sequence[Mapping[str, Any]],
    marked: Collection[tuple[str, ...]],
) -> list[dict[str, Any]]:
    """Lay out setups against the classifiers with which they were trained.

    Args:
        rows: of `metric_table`, of one role.
        setups: their names with classifiers, in order.
        comparisons: what `compare_setups` returns.
        marked: measure and `GROUP` of what differs from the reference after correction and is marked.

    Returns:
        Empty of a study without several classifiers. Else one item per test: its names, `setups` (without classifiers),
        `rows`: `classifier` and `cells`, one a setup, each None or `balanced_accuracy` and `auc` with limits, `p`
        (measure -> corrected p; empty of the reference) and the measures in which it `differs`; and `sentence`, what
        the table shows.
    """
    tables = []
    for test in _grouped([row for row in rows if classifier_of(row["setup"])], TEST):
        by_setup = {row["setup"]: row for row in test["rows"]}
        compared = [row for row in comparisons if all(row[name] == test[name] for name in TEST)]
        names = [name for name in setups if name in by_setup]
        columns = list(dict.fromkeys(map(without_classifier, names)))
        lines = [
            {
                "classifier": classifier,
                "cells": [
                    _tested_cell(by_setup.get(with_classifier(setup, classifier)), compared, marked)
                    for setup in columns
                ],
            }
            for classifier in dict.fromkeys(classifier_of(name) for name in names)
        ]
        sentence = classifier_sentence(test["rows"], compared, marked)
        tables.append({**test, "setups": columns, "rows": lines, "sentence": sentence})
    return tables


def _tested_cell(
    row: Mapping[str, Any] | None, compared: Sequence[Mapping[str, Any]], marked: Collection[tuple[str, ...]]
) -> dict[str, Any] | None:
    if row is None:
        return None
    own = [one for one in compared if one["setup"] == row["setup"] and one["measure"] in ("accuracy", "auc")]
    return {
        "balanced_accuracy": row["balanced_accuracy"],
        "auc": row["auc"],
        "p": {one["measure"]: one["p_holm"] for one in own},
        "differs": [name for name in MEASURES if (name, *(row[key] for key in GROUP)) in marked],
    }


def class_tables(rows: Sequence[Mapping[str, Any]], groups: Iterable[Answers]) -> list[dict[str, Any]]:
    """Arrange what each setup makes of each class: measures, confusion matrix, and what is taken for what.

    Args:
        rows: of `metric_table`, of one role, in the order in which they are shown.
        groups: what `group_answers` returns of the same predictions.

    Returns:
        One item per test: its names and `rows`, one per setup with `classes` (`name`, `n`, `sensitivity`, `auc`, and
        `answers`: the count of each answer with its colors), `balanced_accuracy`, `auc`, `macro_f1` and `confused`
        (what `top_confusions` returns).
    """
    by_group = {tuple(getattr(one, name) for name in GROUP): one for one in groups}
    tables = []
    for row in rows:
        matrix = confusion_matrix(by_group[tuple(row[name] for name in GROUP)])
        classes = [
            {
                "name": name,
                "n": sum(answers.values()),
                "sensitivity": row[f"sensitivity_{name}"],
                "auc": row[f"auc_{name}"],
                "answers": [_shaded(count, sum(answers.values())) for count in answers.values()],
            }
            for name, answers in matrix.items()
        ]
        means = {name: row[name] for name in ("balanced_accuracy", "auc", MACRO_F1)}
        names = {name: row[name] for name in GROUP}
        tables.append({**names, "classes": classes, **means, "confused": top_confusions(matrix)})
    return _grouped(tables, TEST)


def _shaded(count: int, total: int) -> dict[str, Any]:
    share = count / total if total else 0.0
    return {"count": count, "color": heat_color(share, low=0.0), "text_color": heat_text_color(share, low=0.0)}


def heatmap(
    rows: Sequence[Mapping[str, Any]], setups: Sequence[str], measure: str, marked: Collection[tuple[str, ...]] = ()
) -> dict[str, Any]:
    """Arrange one measure as the paper does: a row per setup, a column per test.

    Args:
        rows: of `metric_table`, of one role.
        setups: their order.
        measure: a key of the rows.
        marked: measure and `GROUP` of what differs from the reference after correction.

    Returns:
        `name`, `columns` (names of the tests) and `rows`: setup and cells, each None or `estimate`, `color`,
        `text_color`, `differs` and `answer`: the class that every patient is answered, or None.
    """
    tests = list(dict.fromkeys((row["direction"], row["cohort"]) for row in rows))
    by_cell = {(row["setup"], row["direction"], row["cohort"]): row for row in rows}
    lines = [
        {"setup": setup, "cells": [_cell(by_cell.get((setup, *test)), measure, marked) for test in tests]}
        for setup in ordered((row["setup"] for row in rows), setups)
    ]
    columns = [name_test({"direction": direction, "cohort": cohort}) for direction, cohort in tests]
    return {"name": MEASURE_NAMES[measure], "columns": columns, "rows": lines}


def interval_figure(table: Sequence[Mapping[str, Any]], measure: str, chance: float) -> dict[str, str]:
    """Draw one measure with its intervals, one panel per direction and role."""
    rows = [
        {
            "name": name_setup(row["setup"]),
            "group": f"{name_test(row)}: {ROLE_NAMES[row['role']]}",
            **row[measure],
        }
        for row in table
        if row[measure]["value"] is not None and row[measure]["low"] is not None
    ]
    return {"name": MEASURE_NAMES[measure], "svg": draw_intervals(rows, MEASURE_NAMES[measure], chance) if rows else ""}


def metric_table(metrics: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turn one row per measure into one row per group, with a dictionary of value and limits under each measure."""
    table: dict[tuple[Any, ...], dict[str, Any]] = {}
    for metric in metrics:
        group = tuple(metric[name] for name in GROUP)
        row = table.setdefault(group, {**dict(zip(GROUP, group, strict=True)), "n": metric["n"]})
        row[metric["measure"]] = {name: metric[name] for name in (*Estimate._fields, "coverage")}
    return list(table.values())


def summary_table(metrics: Sequence[Mapping[str, Any]], setups: Sequence[str] = ()) -> str:
    """Lay out the setups and the tests of the main role (see `main_role`) as text, for the end of a run.

    Args:
        metrics: what `compute_metrics` returns.
        setups: order of the rows; others follow.

    Returns:
        Lines of equal structure: a line per setup; for each test the four measures.
    """
    role = main_role(metrics)
    rows = [row for row in metric_table(metrics) if row["role"] == role]
    by_cell = {(row["setup"], row["direction"], row["cohort"]): row for row in rows}
    counts = {(row["direction"], row["cohort"]): row["n"] for row in rows}
    names = ordered((row["setup"] for row in rows), setups)
    short = {"balanced_accuracy": "bal.acc", "auc": "AUC", "accuracy": "acc", "weighted_f1": "F1"}
    block = "".join(f"{short[name]:>9}" for name in MEASURES)
    width = max([len(name) for name in names], default=5) + 2
    heads = [f"{_plain_title(role, *test)} (n = {count})" for test, count in counts.items()]
    column = max([len(block), *(len(head) + 2 for head in heads)])
    lines = [" " * width + "".join(f"{head:>{column}}" for head in heads)]
    lines.append(f"{'setup':<{width}}" + "".join(f"{block:>{column}}" for _ in counts))
    for name in names:
        cells = [_cells(by_cell.get((name, *test))) for test in counts]
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>{column}}" for cell in cells))
    return "\n".join(lines)


def _plain_title(role: str, direction: str, cohort: str) -> str:
    return f"{direction} -> {cohort}" if role == "external" else f"{direction}, {role.replace('_', ' ')}"


def _cells(row: Mapping[str, Any] | None) -> str:
    values = [row[name]["value"] if row else None for name in MEASURES]
    return "".join(f"{'-':>9}" if value is None else f"{value:>9.3f}" for value in values)


def _cell(row: Mapping[str, Any] | None, measure: str, marked: Collection[tuple[str, ...]]) -> dict[str, Any] | None:
    if row is None:
        return None
    value = row[measure]["value"]
    return {
        "estimate": row[measure],
        "color": heat_color(value),
        "text_color": heat_text_color(value),
        "answer": row.get("answer"),
        "differs": (measure, *(row[name] for name in GROUP)) in marked,
    }


def _grouped(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in names)
        groups.setdefault(key, {**dict(zip(names, key, strict=True)), "rows": []})["rows"].append(row)
    return list(groups.values())


def _always_largest(
    predictions: Sequence[Mapping[str, str]], classes: Sequence[str], cohort: str, role: str
) -> dict[str, Any]:
    tested = [row for row in predictions if row["cohort"] == cohort and row["role"] == role]
    labels = {row["subject_id"]: class_name(row["label"], classes) for row in tested}
    name, count = Counter(labels.values()).most_common(1)[0]
    return {"class": name, "accuracy": count / len(labels)}
