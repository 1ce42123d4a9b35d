"""How a classifier does at each site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scripts.statistics.intervals import Estimate, balanced_accuracy, sensitivities


class SiteMeasures(NamedTuple):
    """Measures at one site.

    Args:
        site: its name.
        n: subjects.
        n_by_class: subjects of each class.
        sensitivities: of each class, with Wilson limits; of two classes the first is the specificity for the second.
        balanced_accuracy: their mean with square-and-add limits; without value where a class is missing.
    """

    site: str
    n: int
    n_by_class: list[int]
    sensitivities: list[Estimate]
    balanced_accuracy: Estimate


def measure_sites(
    sites: Sequence[str], labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> list[SiteMeasures]:
    """Measure every site by itself.

    Args:
        sites: name of the site of each subject.
        labels: true classes, shape (N,).
        predictions: answers, shape (N,).
        num_classes: K.

    Returns:
        One item per site, sorted by name.
    """
    rows = []
    for site in sorted(set(sites)):
        here = np.array([name == site for name in sites])
        truth, answers = labels[here], predictions[here]
        counts = [int((truth == k).sum()) for k in range(num_classes)]
        per_class = sensitivities(truth, answers, num_classes)
        mean = balanced_accuracy(truth, answers, num_classes) if min(counts) else Estimate(None)
        rows.append(SiteMeasures(site, len(truth), counts, per_class, mean))
    return rows
