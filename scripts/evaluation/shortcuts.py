"""The report's look at shortcuts: how far site alone, or the volume of the lesion alone, gives the class away."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from scripts.evaluation.answers import NOT_STATED
from scripts.provenance.image_form import names_by_number
from scripts.statistics import intervals
from scripts.statistics.intervals import Estimate

NUM_FOLDS = 10
CHANCE = 0.5
MIN_SITE = 5  # subjects from which on a site of one class is named

# Training values, their labels, test values, number of classes -> probabilities (N, K) of the test values.
Predictor = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def find_shortcuts(patches: Mapping[str, Any]) -> dict[str, Any]:
    """Measure what the table of a cohort alone, without any image, says about the class.

    Args:
        patches: content of `patches.json`; the first row of each graded subject counts.

    Returns:
        `cohort`; `classes`; `sites`: `name` and `counts` by class of each, largest first; `one_class`: names of the
        sites of at least `MIN_SITE` subjects that hold one class only; `predictors`: `name`, `n`, `auc` (an `Estimate`
        as a dictionary) and `telling`, whether its interval lies above .5.
    """
    names = names_by_number(patches["labels"])
    rows = {row["subject_id"]: row for row in reversed(patches["training"]) if row["label"] is not None}
    graded = [rows[subject] for subject in sorted(rows)]
    measured = [row for row in graded if row.get("lesion_volume_ml")]
    volumes = [math.log(row["lesion_volume_ml"]) for row in measured]
    counts = _classes_by_site(graded)
    return {
        "cohort": patches["name"],
        "classes": names,
        "sites": [{"name": site, "counts": [count[index] for index in range(len(names))]} for site, count in counts],
        "one_class": sorted(site for site, count in counts if len(count) == 1 and count.total() >= MIN_SITE),
        "predictors": [
            _describe("site", [_site(row) for row in graded], graded, len(names), share_by_site),
            _describe("lesion volume", volumes, measured, len(names), fit_volume),
        ],
    }


def out_of_sample_auc(values: Sequence[Any], labels: Sequence[int], num_classes: int, predict: Predictor) -> Estimate:
    """AUC of a predictor that sees one column of the cohort's table, by stratified cross-validation with seed 0.

    Args:
        values: one per subject.
        labels: integers in 0..num_classes-1, same length.
        num_classes: K.
        predict: see `Predictor`.

    Returns:
        AUC in [0, 1]; .5 or less is chance. DeLong's interval takes the pooled predictions as those of one predictor.
        No value where a class has fewer than two subjects, no interval for more than two classes.
    """
    marker, truth = np.asarray(values), np.asarray(labels)
    fewest = min(np.bincount(truth, minlength=num_classes)) if len(truth) else 0
    if fewest < 2:
        return Estimate(None)
    probabilities = np.zeros((len(truth), num_classes))
    folds = StratifiedKFold(min(NUM_FOLDS, int(fewest)), shuffle=True, random_state=0)
    for training, test in folds.split(marker, truth):
        probabilities[test] = predict(marker[training], truth[training], marker[test], num_classes)
    return intervals.auc(labels, probabilities)


def share_by_site(training: np.ndarray, labels: np.ndarray, test: np.ndarray, num_classes: int) -> np.ndarray:
    """Bayes' rule with equal priors on the share of each class that is from a site, one subject added to each.

    One site, or sites with the same shares, give equal probabilities to all: an AUC of exactly .5.

    Args:
        training: sites, shape (N,).
        labels: integers, shape (N,).
        test: sites, shape (M,).
        num_classes: K.

    Returns:
        Shape (M, K), rows sum to 1.
    """
    known = sorted({*training.tolist(), *test.tolist()})
    counts = np.array([[np.sum((training == s) & (labels == k)) + 1.0 for k in range(num_classes)] for s in known])
    shares = counts / counts.sum(axis=0)
    likelihoods = shares[[known.index(site) for site in test.tolist()]]
    return likelihoods / likelihoods.sum(axis=1, keepdims=True)


def fit_volume(training: np.ndarray, labels: np.ndarray, test: np.ndarray, num_classes: int) -> np.ndarray:
    """Logistic regression on the log volume, each class of equal weight.

    Args:
        training: log of the volumes, shape (N,).
        labels: integers, shape (N,).
        test: log of the volumes, shape (M,).
        num_classes: K.

    Returns:
        Shape (M, K), rows sum to 1.
    """
    model = LogisticRegression(class_weight="balanced").fit(training[:, None], labels)
    return model.predict_proba(test[:, None])


def _site(row: Mapping[str, Any]) -> str:
    return str(row.get("site") or NOT_STATED)


def _classes_by_site(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Counter[int]]]:
    counts: dict[str, Counter[int]] = {}
    for row in rows:
        counts.setdefault(_site(row), Counter())[int(row["label"])] += 1
    return sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))


def _describe(
    name: str, values: Sequence[Any], rows: Sequence[Mapping[str, Any]], num_classes: int, predict: Predictor
) -> dict[str, Any]:
    estimate = out_of_sample_auc(values, [int(row["label"]) for row in rows], num_classes, predict)
    telling = estimate.low is not None and estimate.low > CHANCE
    return {"name": name, "n": len(rows), "auc": estimate._asdict(), "telling": telling}
