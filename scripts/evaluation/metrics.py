"""The measures of every setup on every test, each with its interval, from the rows of `predictions.csv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scripts.evaluation.answers import GROUP, Answers, group_answers
from scripts.provenance.image_form import names_by_label
from scripts.statistics.bootstrap import bootstrap, draw_weights
from scripts.statistics.classification_measures import (
    Floats,
    Labels,
    Measure,
    auc_one_against_rest,
    average_precision,
    brier,
    expected_calibration_error,
    matthews,
    value_of,
    weighted_f1,
)
from scripts.statistics.interval_coverage import coverage_beside
from scripts.statistics.intervals import Estimate, accuracy, auc, balanced_accuracy, sensitivities

MEASURES = ("balanced_accuracy", "auc", "accuracy", "weighted_f1")  # the first two come first
METRIC_COLUMNS = (*GROUP, "n", "measure", "value", "low", "high", "interval", "coverage")
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
    labels, probabilities, num_classes = answers.labels, answers.probabilities, len(answers.classes)
    main = _main_measures(labels, probabilities)
    weights = draw_weights(labels, num_draws, seed)
    resampled = {name: bootstrap(one, labels, probabilities, weights) for name, one in BOOTSTRAPPED.items()}
    if num_classes > 2:
        main["auc"] = bootstrap(auc_one_against_rest, labels, probabilities, weights)
    per_class = sensitivities(labels, answers.predictions, num_classes)
    return {
        **main,
        "weighted_f1": resampled.pop("weighted_f1"),
        **{f"sensitivity_{name}": one for name, one in zip(answers.classes, per_class, strict=True)},
        **resampled,
    }


def summarize(rows: Sequence[Mapping[str, Any]], classes: Mapping[str, int]) -> dict[str, Any]:
    """Compute the measures of some rows of `predictions.csv`, each with its interval where one is known.

    Args:
        rows: one per subject.
        classes: class name -> label.
    """
    names = names_by_label(classes)
    labels = np.array([int(row["label"]) for row in rows])
    probabilities = np.array([[row[f"probability_{name}"] for name in names] for row in rows])
    measures = {
        **_main_measures(labels, probabilities),
        "weighted_f1": Estimate(value_of(weighted_f1, labels, probabilities)),
    }
    per_class = sensitivities(labels, probabilities.argmax(axis=1), len(names))
    return {
        "n": len(rows),
        "n_by_class": {name: int((labels == index).sum()) for index, name in enumerate(names)},
        **{name: estimate._asdict() for name, estimate in measures.items()},
        "sensitivity": {name: estimate._asdict() for name, estimate in zip(names, per_class, strict=True)},
    }


def _main_measures(labels: Labels, probabilities: Floats) -> dict[str, Estimate]:
    """The measures whose interval has a closed form."""
    predictions = probabilities.argmax(axis=1)
    return {
        "balanced_accuracy": balanced_accuracy(labels, predictions, probabilities.shape[1]),
        "auc": auc(labels, probabilities),
        "accuracy": accuracy(labels, predictions),
    }
