"""ROC curves, reliability plots, calibration and decision curves, in the style of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from sklearn.metrics import roc_curve

from scripts.patches.pictures import COLORS
from scripts.statistics.calibration import ReliabilityBin
from scripts.statistics.classification_measures import Floats, Labels
from scripts.statistics.intervals import Estimate, distances, wilson

PANEL = (3.9, 4.1)  # inches; of the ROC curves of more than two classes one for each
MAX_GROUPS, GROUP_SIZE = 8, 8  # of a calibration curve: groups, and patients in each


def draw_roc(
    figure: FigureBase, title: str, curves: Mapping[str, tuple[Labels, Floats, Labels]], classes: Sequence[str]
) -> None:
    """Draw the ROC curves of several setups on the same patients; of several folds the mean, weighted by their pairs.

    Args:
        figure: panel that is drawn on, under the style of the report.
        title: of the test.
        curves: name of the setup -> labels (N,), probabilities (N, K), and the fold of each patient's classifier (N,).
        classes: names, by label; of two the second is the positive one, of more each has a panel against the rest.
    """
    positives = [1] if len(classes) == 2 else list(range(len(classes)))
    for axes, label in zip(figure.subplots(1, len(positives), squeeze=False)[0], positives, strict=True):
        for color, (name, (labels, probabilities, folds)) in zip(COLORS * len(curves), curves.items(), strict=False):
            curve = mean_roc(labels == label, probabilities[:, label], folds)
            if curve is not None:
                false_alarms, sensitivity = curve
                axes.plot(false_alarms, sensitivity, color=color, label=name, linewidth=1.3)
        _finish(axes, title, f"1 − specificity for {classes[label]}", f"sensitivity for {classes[label]}")
        axes.legend(fontsize=7, loc="lower right")


def mean_roc(positive: np.ndarray, scores: Floats, folds: Labels) -> tuple[Floats, Floats] | None:
    """Average the ROC curves of the folds at equal false alarms, so that the area below is that of `roc_area.auc`.

    Args:
        positive: booleans, shape (N,).
        scores: larger means more likely positive, shape (N,).
        folds: fold whose classifier answered, shape (N,).

    Returns:
        False alarms and sensitivity, rising from 0 to 1; None where no fold holds both classes.
    """
    curves, pairs = [], []
    for fold in np.unique(folds):
        own = folds == fold
        if 0 < positive[own].sum() < own.sum():
            false_alarms, sensitivity, _ = roc_curve(positive[own], scores[own])
            curves.append((false_alarms, sensitivity))
            pairs.append(float(positive[own].sum() * (~positive[own]).sum()))
    if len(curves) < 2:
        return curves[0] if curves else None
    # A curve jumps where a negative patient stands: both ends of each jump are kept.
    steps = np.unique(np.concatenate([false_alarms for false_alarms, _ in curves]))
    grid = np.sort(np.concatenate([steps, steps[1:] - 1e-9]))
    mean = np.average([np.interp(grid, *curve) for curve in curves], axis=0, weights=pairs)
    return np.concatenate([[0.0], grid]), np.concatenate([[0.0], mean])


def draw_reliability(figure: FigureBase, title: str, bins: Mapping[str, Sequence[ReliabilityBin]]) -> None:
    """Draw how often the answers of a probability are right, for several setups.

    Args:
        figure: panel that is drawn on, under the style of the report.
        title: of the test.
        bins: name of the setup -> what `reliability` returns; empty bins are left out. The area of a point is
            proportional to its number of subjects.
    """
    axes = figure.subplots()
    for color, (name, rows) in zip(COLORS * len(bins), bins.items(), strict=False):
        points = [(row.confidence, row.accuracy.value, row.n) for row in rows if row.n]
        confidence, accuracy, sizes = np.array(points, dtype=float).T
        axes.plot(confidence, accuracy, color=color, linewidth=1.0, alpha=0.8, label=name)
        axes.scatter(confidence, accuracy, s=160 * sizes / sizes.sum(), color=color, alpha=0.8, linewidths=0)
    _finish(axes, title, "probability of the answer", "share of right answers")
    axes.legend(fontsize=7, loc="upper left")  # the answer of two classes has a probability above .5


def draw_calibration(
    figure: FigureBase, title: str, answers: Mapping[str, tuple[np.ndarray, Floats]], name: str
) -> None:
    """Draw how often a class is true among patients of about the same probability of it, for several setups.

    Groups of equal size, at most `MAX_GROUPS` and of `GROUP_SIZE` patients at least; the bars are Wilson limits.

    Args:
        figure: panel that is drawn on, under the style of the report.
        title: of the test.
        answers: name of the setup -> whether each patient is of the class (N,), and its probability (N,).
        name: of the class.
    """
    axes = figure.subplots()
    for color, (setup, (positive, probabilities)) in zip(COLORS * len(answers), answers.items(), strict=False):
        points = calibration_points(positive, probabilities)
        means = np.array([mean for mean, _ in points])
        values = np.array([share.value for _, share in points], dtype=float)
        limits = np.array([distances(share) for _, share in points]).clip(min=0).T  # rounding at 0 and 1
        axes.errorbar(means, values, limits, color=color, linewidth=1.0, elinewidth=0.6, marker=".", label=setup)
    _finish(axes, title, f"probability of {name}", f"share of {name}")
    axes.legend(fontsize=7, loc="upper left")


def calibration_points(positive: np.ndarray, probabilities: Floats) -> list[tuple[float, Estimate]]:
    """Put patients of about the same probability together.

    Args:
        positive: booleans, shape (N,).
        probabilities: of the class, in [0, 1], shape (N,).

    Returns:
        Mean probability and share of the class of each group, by probability.
    """
    num_groups = min(MAX_GROUPS, max(1, len(positive) // GROUP_SIZE))
    order = np.argsort(probabilities, kind="stable")
    groups = np.array_split(order, num_groups)
    return [
        (float(probabilities[group].mean()), wilson(int(positive[group].sum()), len(group)))
        for group in groups
        if len(group)
    ]


def draw_decision_curves(
    figure: FigureBase, title: str, curves: Mapping[str, Sequence[Mapping[str, float]]], name: str
) -> None:
    """Draw the net benefit of several setups, of acting on everybody and of acting on nobody.

    Args:
        figure: panel that is drawn on, under the style of the report.
        title: of the test.
        curves: name of the setup -> `points` of `scripts.evaluation.clinical_use.decision_curve`.
        name: of the class that is acted on.
    """
    axes = figure.subplots()
    for color, (setup, points) in zip(COLORS * len(curves), curves.items(), strict=False):
        axes.plot(*_line(points, "value"), color=color, linewidth=1.2, label=setup)
    first = next(iter(curves.values()))
    axes.plot(*_line(first, "of_all"), color="#777777", linestyle="--", linewidth=0.9, label="act on everybody")
    axes.axhline(0, color="#777777", linewidth=0.9, label="act on nobody")
    top = max((point["value"] for points in curves.values() for point in points), default=0.1)
    axes.set(xlim=(0, 1), ylim=(-0.3 * top - 0.02, 1.1 * top + 0.02))
    axes.set(xlabel=f"probability of {name} from which one acts", ylabel="net benefit")
    axes.set_title(title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, loc="lower left")


def _line(points: Sequence[Mapping[str, float]], key: str) -> tuple[list[float], list[float]]:
    return [point["threshold"] for point in points], [point[key] for point in points]


def _finish(axes: Axes, title: str, across: str, up: str) -> None:
    axes.plot([0, 1], [0, 1], color="#777777", linestyle="--", linewidth=0.8)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel=across, ylabel=up)
    axes.set_title(title)
    axes.grid(alpha=0.25)
