"""How often each interval was found to hold the truth, for the report to print beside it.

The table is `interval_coverage.json` beside this file, written by
`python -m benchmarks.coverage --write scripts/statistics/interval_coverage.json`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from scripts.running.files import read_json

TABLE_PATH = Path(__file__).with_suffix(".json")
TARGET = (0.93, 0.97)  # of intervals of 95 %


def coverage_beside(measure: str, n_by_class: Sequence[int]) -> float | None:
    """Coverage to print beside an interval, from the simulated cohort nearest in size.

    Args:
        measure: name of a measure, or of a difference: `auc_difference`.
        n_by_class: tested subjects of each class; the smallest class decides which size is nearest.

    Returns:
        Coverage found in simulations where it is outside .93 to .97; None where it is inside, or was not simulated
        (more than two classes, measures without interval).
    """
    rows = [row for row in coverage_table() if row["measure"] == measure]
    if not rows or len(n_by_class) != 2 or min(n_by_class) < 1:
        return None
    smallest = min(n_by_class)
    nearest = min(rows, key=lambda row: abs(math.log(min(row["n_by_class"]) / smallest)))
    coverage = float(nearest["coverage"])
    return None if TARGET[0] <= coverage <= TARGET[1] else coverage


@cache
def coverage_table() -> list[dict[str, Any]]:
    """Read the table: `measure`, `n_by_class`, `coverage`, `simulations` of each row."""
    return list(read_json(TABLE_PATH)["coverage"])
