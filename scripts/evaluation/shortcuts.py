"""The report's look at shortcuts: how far site, volume of the lesion or intensities alone give the class away."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from scripts.evaluation.answers import NOT_STATED
from scripts.provenance.image_form import names_by_number
from scripts.splits.patients import patient_of
from scripts.statistics.intervals import Estimate
from scripts.statistics.multiclass_area import auc
from scripts.statistics.paired_tests import holm

NUM_FOLDS = 10
CHANCE = 0.5
LEVEL = 0.05
MIN_SITE = 5  # subjects from which on a site of one class is named
NORMAL_MAD = 0.6745  # median of the absolute values of a standard normal variable

# Training values, their labels, test values, number of classes -> probabilities (N, K) of the test values.
Predictor = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def find_shortcuts(
    patches: Mapping[str, Any], markers: Mapping[str, Mapping[str, float | None]] | None = None
) -> dict[str, Any]:
    """Measure what the table of a cohort, and the plainest properties of its images, say about the class.

    Args:
        patches: content of `patches.json`.
        markers: subject id -> what `image_markers` returns of its image, for all `graded_rows`; None measures the
            table alone.

    Returns:
        `cohort`; `classes`; `sites`: `name` and `counts` by class of each, largest first; `one_class`: names of the
        sites of at least `MIN_SITE` subjects that hold one class only; `predictors`: `name`, `kind` ("site", "volume"
        or "image"), `n`, `auc` (an `Estimate` as a dictionary), `p` by Holm over all predictors of the cohort, and
        `telling`, whether it is below `LEVEL`. Where no volume is known, none of it is among them.
    """
    names = names_by_number(patches["labels"])
    graded = graded_rows(patches)
    measured = [row for row in graded if row.get("lesion_volume_ml")]
    volumes = [math.log(row["lesion_volume_ml"]) for row in measured]
    counts = _classes_by_site(graded)
    predictors = [_describe("site", "site", [_site(row) for row in graded], graded, len(names), share_by_site)]
    of_volume = {"lesion volume": fit_volume, "lesion volume’s distance from the median": fit_distance}
    for name, predict in of_volume.items() if measured else ():
        predictors.append(_describe(name, "volume", volumes, measured, len(names), predict))
    of_images = [(markers or {}).get(row["subject_id"], {}) for row in graded]
    for name in of_images[0] if of_images else ():
        known = [(row, one[name]) for row, one in zip(graded, of_images, strict=True) if one[name] is not None]
        rows, values = [row for row, _ in known], [value for _, value in known]
        predictors.append(_describe(name, "image", values, rows, len(names), fit_marker))
    _correct(predictors)
    return {
        "cohort": patches["name"],
        "classes": names,
        "sites": [{"name": site, "counts": [count[index] for index in range(len(names))]} for site, count in counts],
        "one_class": sorted(site for site, count in counts if len(count) == 1 and count.total() >= MIN_SITE),
        "predictors": predictors,
    }


def graded_rows(patches: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the row of each graded patient's first scan of each class in a `patches.json`, by subject id.

    Scans of one patient in two folds would let a predictor recognize the patient instead of the class.
    """
    graded = sorted((row for row in patches["training"] if row["label"] is not None), key=lambda r: r["subject_id"])
    rows = {(patient_of(row), row["label"]): row for row in reversed(graded)}
    return sorted(rows.values(), key=lambda row: row["subject_id"])


def image_markers(image: np.ndarray, modalities: Sequence[str], has_background: bool = True) -> dict[str, float | None]:
    """Measure what a scanner or a program may leave in an image of any tumor.

    The noise is the median of the absolute diagonal details of a Haar wavelet inside the brain, divided by that of a
    standard normal variable. Source: Donoho, Johnstone 1994, "Ideal spatial adaptation by wavelet shrinkage", as
    `skimage.restoration.estimate_sigma` has it for the whole image. It is of noise and of the finest structures.

    Args:
        image: (C, *spatial) in [-1, 1], background the minimum.
        modalities: names of the C channels.
        has_background: whether the minimum is background; else all of the image counts as brain.

    Returns:
        Name -> value: mean and noise of each modality inside the brain and, of images with a background, its mean
        intensity and its share of the image; None where there is no brain or no background.
    """
    brain = (image > image.min()).any(axis=0) if has_background else np.ones(image.shape[1:], dtype=bool)
    details = np.abs(_diagonal_details(image))
    inside = _whole_cells(brain)
    means = {f"mean of {name}": _mean(channel[brain]) for name, channel in zip(modalities, image, strict=True)}
    noise = {
        f"noise of {name}": float(np.median(detail[inside])) / NORMAL_MAD if inside.any() else None
        for name, detail in zip(modalities, details, strict=True)
    }
    if not has_background:
        return {**means, **noise}
    background = {"background’s intensity": _mean(image[:, ~brain]), "background’s share": float(1 - brain.mean())}
    return {**means, **noise, **background}


def out_of_sample_auc(values: Sequence[Any], labels: Sequence[int], num_classes: int, predict: Predictor) -> Estimate:
    """AUC of a predictor that sees one column of the cohort's table, by stratified cross-validation with seed 0.

    Args:
        values: one per subject.
        labels: integers in 0..num_classes-1, same length.
        num_classes: K.
        predict: see `Predictor`.

    Returns:
        AUC in [0, 1], of pairs inside the folds, each of which has a predictor of its own; .5 or less is chance. No
        value where a class has fewer than two subjects.
    """
    answers = _out_of_sample(values, labels, num_classes, predict)
    return Estimate(None) if answers is None else auc(labels, *answers)


def p_above_chance(labels: ArrayLike, probabilities: np.ndarray, strata: np.ndarray | None = None) -> float:
    """Return the p value of an AUC above .5 that belongs to its interval: below .05 where that of 95 % lies above .5.

    Args:
        labels: true classes, integers in 0..K-1, each of them present, shape (N,).
        probabilities: shape (N, K).
        strata: as for `scripts.statistics.multiclass_area.auc`.

    Returns:
        One less the largest confidence at which the interval of the AUC lies above .5, from 1e-8; 1 where the AUC is .5
        or less.
    """
    value = auc(labels, probabilities, strata).value
    if value is None or value <= CHANCE:
        return 1.0
    smaller, larger = 0.0, 8.0  # of -log10 p
    for _ in range(16):
        middle = (smaller + larger) / 2
        low = auc(labels, probabilities, strata, 1 - 10**-middle).low
        smaller, larger = (middle, larger) if low is not None and low > CHANCE else (smaller, middle)
    return float(10**-smaller)


def _out_of_sample(
    values: Sequence[Any], labels: Sequence[int], num_classes: int, predict: Predictor
) -> tuple[np.ndarray, np.ndarray] | None:
    """Probabilities of each subject by a predictor of the others, (N, K), and the fold it was predicted in, (N,)."""
    marker, truth = np.asarray(values), np.asarray(labels)
    fewest = min(np.bincount(truth, minlength=num_classes)) if len(truth) else 0
    if fewest < 2:
        return None
    probabilities = np.zeros((len(truth), num_classes))
    folds = StratifiedKFold(min(NUM_FOLDS, int(fewest)), shuffle=True, random_state=0)
    fold_of = np.zeros(len(truth), dtype=int)
    for fold, (training, test) in enumerate(folds.split(marker, truth)):
        probabilities[test] = predict(marker[training], truth[training], marker[test], num_classes)
        fold_of[test] = fold
    return probabilities, fold_of


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


def fit_marker(training: np.ndarray, labels: np.ndarray, test: np.ndarray, num_classes: int) -> np.ndarray:
    """Logistic regression on a number of any unit, standardized by the training subjects; see `fit_volume`."""
    center, scale = training.mean(), training.std() or 1.0
    return fit_volume((training - center) / scale, labels, (test - center) / scale, num_classes)


def fit_distance(training: np.ndarray, labels: np.ndarray, test: np.ndarray, num_classes: int) -> np.ndarray:
    """Logistic regression on the distance from the median of the training subjects; see `fit_volume`.

    It sees what a slope cannot: a class that is very small or very large.
    """
    median = np.median(training)
    return fit_marker(np.abs(training - median), labels, np.abs(test - median), num_classes)


def _site(row: Mapping[str, Any]) -> str:
    return str(row.get("site") or NOT_STATED)


def _classes_by_site(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Counter[int]]]:
    counts: dict[str, Counter[int]] = {}
    for row in rows:
        counts.setdefault(_site(row), Counter())[int(row["label"])] += 1
    return sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))


def _describe(
    name: str,
    kind: str,
    values: Sequence[Any],
    rows: Sequence[Mapping[str, Any]],
    num_classes: int,
    predict: Predictor,
) -> dict[str, Any]:
    labels = [int(row["label"]) for row in rows]
    # What is equal in all, as the background of patches is, tells nothing; a site does so by its own rule.
    is_constant = kind != "site" and len(set(values)) == 1
    answers = None if is_constant else _out_of_sample(values, labels, num_classes, predict)
    estimate = Estimate(None) if answers is None else auc(labels, *answers)
    p = None if answers is None else p_above_chance(labels, *answers)
    return {"name": name, "kind": kind, "n": len(rows), "auc": estimate._asdict(), "p": p}


def _correct(predictors: Sequence[dict[str, Any]]) -> None:
    """Correct the p of all predictors of a cohort by Holm, and say which of them tell."""
    tested = [one for one in predictors if one["p"] is not None]
    for one, p in zip(tested, holm([one["p"] for one in tested]), strict=True):
        one["p"] = p
    for one in predictors:
        one["telling"] = one["p"] is not None and one["p"] < LEVEL


def _diagonal_details(image: np.ndarray) -> np.ndarray:
    details = image
    for axis in range(1, image.ndim):
        details = np.diff(details, axis=axis)
    return details / 2 ** ((image.ndim - 1) / 2)


def _whole_cells(brain: np.ndarray) -> np.ndarray:
    """Where all corners of a cell of two pixels a side are brain."""
    sides = [(slice(None, -1), slice(1, None))] * brain.ndim
    whole: np.ndarray = np.logical_and.reduce([brain[corner] for corner in product(*sides)])
    return whole


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
