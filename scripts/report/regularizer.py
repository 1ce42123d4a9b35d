"""The report's table of what the mutual-information term does at each noise level."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from scripts.report.study_files import StudyFiles
from scripts.running.files import read_json

QUANTITIES = ("mutual_information", "gradient_ratio")


def regularizer_section(files: StudyFiles) -> dict[str, Any]:
    """Average the last epoch's noise levels over the trainings of each method.

    Returns:
        `levels`: (from, to) of each band in timesteps over T; `rows`: `method`, number of `trainings` and `cells`, one
        a band with `mutual_information` and `gradient_ratio`, null where no image fell; both empty without such a term.
    """
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for path in files.trainings("generator"):
        levels = read_json(path)[-1].get("noise_levels")
        if levels:
            found.setdefault(read_json(path.parent / "provenance.json")["method"], []).append(levels)
    rows = [
        {"method": method, "trainings": len(trainings), "cells": [_mean(band) for band in zip(*trainings, strict=True)]}
        for method, trainings in sorted(found.items())
    ]
    first = next(iter(found.values()))[0] if found else []
    return {"levels": [(level["from"], level["to"]) for level in first], "rows": rows}


def _mean(band: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    known = {name: [level[name] for level in band if level[name] is not None] for name in QUANTITIES}
    return {name: mean(values) if values else None for name, values in known.items()}
