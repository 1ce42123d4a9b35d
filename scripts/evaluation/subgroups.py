"""How a classifier does at each site, and in other groups of patients that a cohort records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scripts.evaluation.answers import NOT_STATED, Answers
from scripts.statistics.intervals import Estimate, balanced_accuracy, sensitivities
from scripts.statistics.multiclass_area import auc

FEWEST = 5  # subjects of each class for an AUC: of fewer it moves by a fifth and more with each of them
# What a cohort may record of a patient, and what it is called.
RECORDED = {"field_strength_t": "field strength", "idh": "IDH", "codeletion_1p19q": "1p/19q codeletion"}


class GroupMeasures(NamedTuple):
    """Measures in one group of patients, such as those of a site.

    Args:
        group: its name.
        n: subjects.
        n_by_class: subjects of each class.
        sensitivities: of each class, with Wilson limits; of two classes the first is the specificity for the second.
        balanced_accuracy: their mean with square-and-add limits; without value where a class is missing.
        auc: ranked inside the folds, with DeLong's limits; without value where a class has fewer than
            `FEWEST` subjects.
    """

    group: str
    n: int
    n_by_class: list[int]
    sensitivities: list[Estimate]
    balanced_accuracy: Estimate
    auc: Estimate


def measure_groups(
    names: Sequence[str], labels: np.ndarray, probabilities: np.ndarray, folds: np.ndarray | None = None
) -> list[GroupMeasures]:
    """Measure every group by itself.

    Args:
        names: name of the group of each subject.
        labels: true classes, shape (N,).
        probabilities: shape (N, K); the most probable class is the answer.
        folds: number of the classifier that answered for each subject, shape (N,); None where it was one.

    Returns:
        One item per group, sorted by name.
    """
    rows = []
    num_classes = probabilities.shape[1]
    for group in sorted(set(names)):
        here = np.array([name == group for name in names])
        truth, answers = labels[here], probabilities[here].argmax(axis=1)
        counts = [int((truth == k).sum()) for k in range(num_classes)]
        per_class = sensitivities(truth, answers, num_classes)
        mean = balanced_accuracy(truth, answers, num_classes) if min(counts) else Estimate(None)
        strata = None if folds is None else folds[here]
        area = auc(truth, probabilities[here], strata) if min(counts) >= FEWEST else Estimate(None)
        rows.append(GroupMeasures(group, len(truth), counts, per_class, mean, area))
    return rows


def subgroups(answers: Answers, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Put the patients of a test into groups by what is recorded of them, other than their site.

    Args:
        answers: of the test.
        facts: subject id -> its entries of `cohort.json` and `patches.json`.

    Returns:
        What is divided by -> group of each patient, in the order of the answers: `enhancement` (whether the patch was
        cut around enhancing tumor), `volume of the lesion` (thirds), and what else the cohort records (`RECORDED`);
        what all patients share, or of nobody is known, is left out.
    """
    own = [facts.get(scans[0]["subject_id"], {}) for scans in answers.scans]
    names = {
        "enhancement": [_enhancement(one.get("region")) for one in own],
        "volume of the lesion": volume_thirds(answers.volumes_ml),
        **{title: [str(one.get(key) or NOT_STATED) for one in own] for key, title in RECORDED.items()},
    }
    return {by: groups for by, groups in names.items() if len(set(groups)) > 1}


def volume_thirds(volumes_ml: np.ndarray) -> list[str]:
    """Name the third of each volume among those known; all alike where these do not part into three.

    Args:
        volumes_ml: ml, shape (N,); not a number where one is not known.

    >>> volume_thirds(np.array([1.0, 2.0, 3.0]))
    ['1: up to 1.7 ml', '2: up to 2.3 ml', '3: above']
    """
    known = volumes_ml[np.isfinite(volumes_ml)]
    if len(np.unique(known)) < 3:
        return [NOT_STATED] * len(volumes_ml)
    first, second = np.quantile(known, [1 / 3, 2 / 3])
    names = (f"1: up to {first:.1f} ml", f"2: up to {second:.1f} ml", "3: above")
    return [
        names[int(volume > first) + int(volume > second)] if np.isfinite(volume) else NOT_STATED
        for volume in volumes_ml
    ]


def _enhancement(region: str | None) -> str:
    if region in (None, "click"):
        return NOT_STATED
    return "enhancing" if region == "enhancing" else "not enhancing"
