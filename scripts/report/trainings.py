"""The report's section on the trainings: their curves, and what the mutual-information term does to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scripts.patches.pictures import Panel, draw_curve, draw_svg
from scripts.provenance.study_files import StudyFiles
from scripts.running.files import read_json
from scripts.statistics.intervals import mean_of_known

QUANTITIES = ("mutual_information", "gradient_ratio")
CURVES = (3.3, 2.4)  # inches of the curves of one training
COUNTERS = ("epoch", "steps")  # of a row; all else are curves


def curve_figure(files: StudyFiles, num_curves: int) -> dict[str, Any]:
    """Draw the training curves of the generators and the classifiers, first folds first.

    Returns:
        `figures`: kind -> SVGs; `panels`: of all of them; `left_out`: number of trainings that were not drawn.
    """
    trainings = {
        f"{kind}s": sorted(files.trainings(kind), key=lambda path: files.records[path.parent].fold or 0)
        for kind in ("generator", "classifier")
    }
    drawn = {kind: paths[:num_curves] for kind, paths in trainings.items() if paths}
    panels = {kind: [_panel(files, path) for path in paths] for kind, paths in drawn.items()}
    return {
        "figures": {kind: [draw_svg(panel, CURVES) for panel in own] for kind, own in panels.items()},
        "panels": [panel for own in panels.values() for panel in own],
        "left_out": sum(map(len, trainings.values())) - sum(map(len, drawn.values())),
    }


def training_lengths(files: StudyFiles) -> list[dict[str, Any]]:
    """Count the optimizer steps of the trainings of each method and setup.

    Returns:
        Rows with `kind`, `name` (method or setup), number of `trainings`, and `steps`: fewest and most of a training,
        which differ where some were ended early; null where an earlier version did not count them.
    """
    lengths: dict[tuple[str, str], list[int | None]] = {}
    for kind, key in (("generator", "method"), ("classifier", "setup")):
        for path in files.trainings(kind):
            record = files.records.get(path.parent)
            name = record.place.get(key, "") if record else files.title(path)
            lengths.setdefault((kind, name), []).append(read_json(path)[-1].get("steps"))
    return [
        {
            "kind": kind,
            "name": name,
            "trainings": len(steps),
            "steps": None if None in steps else (min(filter(None, steps)), max(filter(None, steps))),
        }
        for (kind, name), steps in lengths.items()
    ]


def regularizer_section(files: StudyFiles) -> dict[str, Any]:
    """Average the last epoch's noise levels over the trainings of each method.

    Returns:
        `levels`: (from, to) of each band in timesteps over T; `rows`: `method`, number of `trainings` and `cells`, one
        a band with `mutual_information` and `gradient_ratio`, null where no image fell; both empty without such a term.
    """
    levels_of_method: dict[str, list[list[dict[str, Any]]]] = {}
    for path in files.trainings("generator"):
        levels = read_json(path)[-1].get("noise_levels")
        if levels:
            levels_of_method.setdefault(read_json(path.parent / "provenance.json")["method"], []).append(levels)
    rows = [
        {
            "method": method,
            "trainings": len(trainings),
            "cells": [_average_levels(band) for band in zip(*trainings, strict=True)],
        }
        for method, trainings in sorted(levels_of_method.items())
    ]
    first = next(iter(levels_of_method.values()))[0] if levels_of_method else []
    return {"levels": [(level["from"], level["to"]) for level in first], "rows": rows}


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the curves of one training.

    Args:
        path: JSON list with one item per epoch: `epoch`, `steps`, and scalars, null, or lists that are no curve.

    Returns:
        Name of the scalar -> (epoch, value), in the order of the epochs; scalars without any value are left out.
    """
    rows: list[dict[str, Any]] = read_json(path)
    names = list(dict.fromkeys(name for row in rows for name in row if name not in COUNTERS))
    series = {
        name: [(row["epoch"], row[name]) for row in rows if isinstance(row.get(name), (int, float))] for name in names
    }
    return {name: points for name, points in series.items() if points}


def _panel(files: StudyFiles, path: Path) -> Panel:
    series = read_curves(path)
    # Of a plain DDPM the loss is the noise loss; the learning rate has another unit.
    repeated = {"learning_rate"} | ({"noise_loss"} if series.get("noise_loss") == series.get("loss") else set())
    # The mutual information last: the others keep their colors in the curves of plain DDPM.
    names = sorted((name for name in series if name not in repeated), key="mutual_information".__eq__)
    shown = {name.replace("_", " "): series[name] for name in names}
    return partial(draw_curve, title=files.title(path), series=shown)


def _average_levels(levels: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    return {name: mean_of_known(level[name] for level in levels) for name in QUANTITIES}
