"""How often each interval was found to hold the truth, for the report to print beside it.

The table is `interval_coverage.json` beside this file, written by
`python -m benchmarks.coverage --write scripts/statistics/interval_coverage.json`, and that of four classes by the same
with `--four_classes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from scripts.running.files import read_json

TABLE_PATH = Path(__file__).with_suffix(".json")
TARGET = (0.93, 0.97)  # of intervals of 95 %
TYPICAL = 0.9  # area at which measures other than the AUC were simulated


def coverage_beside(
    measure: str, n_by_class: Sequence[int], area: float | None = None, spread: float | None = None
) -> float | None:
    """Coverage to print beside an interval, from the simulation nearest in size, and of an AUC in area and spread.

    Args:
        measure: name of a measure, or of a difference: `auc_difference`.
        n_by_class: tested subjects of each class; the smallest class decides which size is nearest. More than two are
            taken for the four that were simulated.
        area: AUC, of a difference the larger one; the nearest is that on the logit scale. None is that of `TYPICAL`.
        spread: standard deviation of the scores of the first class over that of the second; None is 1.

    Returns:
        Coverage found in simulations where it is outside .93 to .97; None where it is inside, or was not simulated.
    """
    several = len(n_by_class) > 2
    rows = [row for row in coverage_table() if row["measure"] == measure and (len(row["n_by_class"]) > 2) == several]
    if not rows or len(n_by_class) < 2 or min(n_by_class) < 1:
        return None
    smallest, logit = min(n_by_class), _logit(TYPICAL if area is None else area)

    def distance(row: Mapping[str, Any]) -> tuple[float, float, float]:
        return (
            abs(math.log(min(row["n_by_class"]) / smallest)),
            abs(math.log((spread or 1.0) / row.get("spread", 1.0))),
            abs(_logit(row.get("area", TYPICAL)) - logit),
        )

    nearest = min(rows, key=distance)
    coverage = float(nearest["coverage"])
    return None if TARGET[0] <= coverage <= TARGET[1] else coverage


def _logit(area: float) -> float:
    """Logit of an area, those beyond the simulated ones taken for .999."""
    inside = min(max(area, 1 - area), 0.999)
    return math.log(inside / (1 - inside))


@cache
def coverage_table() -> list[dict[str, Any]]:
    """Read the table: `measure`, `n_by_class`, `coverage`, `width` of each row, and of an AUC `area` and `spread`."""
    return [row for part in read_json(TABLE_PATH).values() for row in part["coverage"]]
