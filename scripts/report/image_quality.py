"""The measures of synthetic images in the report: one table a cohort, averaged over folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scripts.report.study_files import StudyFiles
from scripts.running.files import read_json

MINUS = "−"
KEY = ("cohort", "network", "measure", "class", "method")


def measure_section(files: StudyFiles) -> dict[str, Any]:
    """Collect the rows of every `measures.json`.

    Returns:
        Items of the template: `measures`, one a cohort: its name, the parts of the real images, and groups of rows of
        one feature network; `measures_left_out`: networks that were not used, with the reason.
    """
    contents = [content for content in map(read_json, files.named("measures.json")) if content["cohort"] is not None]
    groups: dict[tuple[str, str, str, str, str], list[Mapping[str, Any]]] = {}
    for content in contents:
        for name, found in content["classes"].items():
            for row in found["measures"]:
                key = (content["cohort"], row["network"], row["measure"], name, content["method"])
                groups.setdefault(key, []).append(row)
    order = {key: index for index, key in enumerate(dict.fromkeys((key[1], key[2]) for key in groups))}
    rows = [
        {**dict(zip(KEY, key, strict=True)), **average_rows(found)}
        for key, found in sorted(groups.items(), key=lambda item: (item[0][0], order[item[0][1:3]], item[0][3:]))
    ]
    parts = {content["cohort"]: content["real_parts"] for content in contents}
    left_out = {(item["network"], item["reason"]) for content in contents for item in content["left_out"]}
    return {
        "measures": [
            {"cohort": cohort, "real_parts": parts[cohort], "networks": _by_network(rows, cohort)} for cohort in parts
        ],
        "measures_left_out": [{"network": network, "reason": reason} for network, reason in sorted(left_out)],
    }


def average_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average the rows of one measure, class and method over the folds.

    Args:
        rows: of `measures.json`, one a fold.

    Returns:
        Texts for the table: `value` (mean, with the standard deviation over several folds, or the interval of one),
        `at_floor_n`, `floor`, `ratio`, `p_value`, `num_synthetic`, `num_real`, `direction`, `reason` (of a fold without
        a value) and `num_folds`, those with a value.
    """
    found = [row for row in rows if row["value"] is not None]
    reasons = [row["reason"] for row in rows if row["value"] is None]
    floors = [row["floor"] for row in found]
    limits = [(row["low"], row["high"]) for row in found]
    only = limits[0] if len(found) == 1 and limits[0][0] is not None else None
    return {
        "value": _mean_sd([row["value"] for row in found]),
        "interval": "" if only is None else f"{significant(only[0])} to {significant(only[1])}",
        "at_floor_n": _mean_sd([row["value_at_floor_n"] for row in found]),
        "floor": significant(_mean([floor["mean"] for floor in floors])),
        "floor_spread": significant(_mean([floor["sd"] for floor in floors if floor["sd"] is not None])),
        "floor_n": _range([floor["n"] for floor in floors]),
        "ratio": significant(_mean([row["ratio"] for row in found if row["ratio"] is not None])),
        "p_value": _range([row["p_value"] for row in found if row["p_value"] is not None]),
        "num_synthetic": _range([row["num_synthetic"] for row in rows]),
        "num_real": _range([row["num_real"] for row in rows]),
        "direction": rows[0]["direction"],
        "reason": reasons[0] if reasons else None,
        "num_folds": len(found),
    }


def significant(value: float | None, digits: int = 3) -> str:
    """Write a number with significant digits, without a leading zero; None is a dash.

    >>> significant(0.012345), significant(-4567.8), significant(None)
    ('.0123', '−4570', '–')
    """
    if value is None:
        return "–"
    text = f"{abs(value):.{digits}g}"
    if "e" in text:
        text = f"{float(text):.0f}" if abs(value) >= 1 else f"{abs(value):.1e}"
    return (MINUS if value < 0 and float(text) else "") + (text.removeprefix("0") if text.startswith("0.") else text)


def _by_network(rows: Sequence[Mapping[str, Any]], cohort: str) -> list[dict[str, Any]]:
    own = [row for row in rows if row["cohort"] == cohort]
    names = dict.fromkeys(row["network"] for row in own)
    return [{"network": name, "rows": [row for row in own if row["network"] == name]} for name in names]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _mean_sd(values: Sequence[float]) -> str:
    spread = f" ± {significant(float(np.std(values, ddof=1)))}" if len(values) > 1 else ""
    return significant(_mean(values)) + spread


def _range(values: Sequence[float]) -> str:
    texts = list(dict.fromkeys(significant(value) for value in sorted(values)))
    return "–" if not texts else texts[0] if len(texts) == 1 else f"{texts[0]} to {texts[-1]}"
