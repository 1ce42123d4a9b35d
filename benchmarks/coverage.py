"""How often the intervals hold the truth, how often the tests raise a false alarm, and how often they find a gain.

python -m benchmarks.coverage --simulations 2000 --write scripts/statistics/interval_coverage.json

Scores of two classes are normal, a distance of `SHIFT` standard deviations apart; those of two classifiers of the same
subjects correlate. Their probabilities are those of equally frequent classes, too sure by a factor of `SURENESS`. The
truth of each measure is known: in closed form, or from a grid of quantiles that stands for the whole population.
Each of four classes has a normal logit that is higher for its own subjects, by a distance of its own; the truth is that
of `POPULATION` subjects of a class (`--four_classes`).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from scripts.evaluation.metrics import BOOTSTRAPPED, MACRO_F1
from scripts.running.files import read_json, write_json
from scripts.running.progress import progress
from scripts.statistics.bootstrap import bootstrap, draw_weights
from scripts.statistics.classification_measures import (
    Floats,
    Labels,
    macro_f1,
)
from scripts.statistics.interval_coverage import TYPICAL
from scripts.statistics.intervals import Estimate, accuracy, balanced_accuracy, sensitivities
from scripts.statistics.multiclass_area import auc, class_areas, mean_area_difference
from scripts.statistics.paired_tests import (
    accuracy_difference,
    balanced_accuracy_difference,
    count_discordant,
    holm,
    mcnemar,
)
from scripts.statistics.power import mcnemar_power
from scripts.statistics.roc_area import auc_difference, delong

SIZES = ((15, 52), (37, 187), (76, 259))  # LGG, HGG: the demo's kind of size, TASMC, BraTS 2019
SHIFT, REFERENCE_SHIFT = 1.8, 1.5  # standard deviations between the classes: AUC .90 and .86
CORRELATION = 0.8  # of the scores of two classifiers, inside a class
NUM_SETUPS, NUM_DIRECTIONS = 3, 2
NUM_TESTS = 2 * NUM_SETUPS * NUM_DIRECTIONS  # of the family: McNemar's and DeLong's of each
# Areas under the ROC curve, each with that of the reference it is compared with.
AREAS = ((0.5, 0.5), (0.75, 0.7), (0.9, 0.86), (0.97, 0.94), (0.99, 0.95))
SPREADS = (1.0, 3.0, 1 / 3)  # standard deviation of LGG's scores over that of HGG's
CLASS_SIZES = ((40, 40, 40, 40),)
DISTANCES = np.array([0.7, 0.9, 1.1, 1.4])  # of the classes, times the skill of a classifier
SKILLS = {0.75: (0.8, 0.65), 0.9: (1.47, 1.25), 0.97: (2.15, 1.85)}  # mean area -> mean distances
POPULATION = 50_000
SURENESS = 1.5  # factor on the logit; 1 is calibrated for classes of equal size


CLASS_MEASURES = {**BOOTSTRAPPED, MACRO_F1: macro_f1}


class Study(NamedTuple):
    """Scores of some classifiers of the same subjects, shape (classifiers, N), and the classes, shape (N,)."""

    labels: Labels
    scores: Floats


def simulate(sizes: Sequence[int], shifts: Sequence[float], random: np.random.Generator) -> Study:
    """Draw the subjects of a study and the scores of classifiers whose answer is the sign of the score."""
    labels = np.repeat([0, 1], sizes)
    shared = random.normal(size=len(labels))
    own = random.normal(size=(len(shifts), len(labels)))
    noise = math.sqrt(CORRELATION) * shared + math.sqrt(1 - CORRELATION) * own
    return Study(labels, noise + np.outer(shifts, labels - 0.5))


def probabilities_of(scores: Floats, shift: float) -> Floats:
    """Turn scores into probabilities of both classes, shape (N, 2)."""
    positive = 1 / (1 + np.exp(-SURENESS * shift * scores))
    return np.stack([1 - positive, positive], axis=1)


def truths(sizes: Sequence[int], num_quantiles: int = 100_000) -> dict[str, float]:
    """Value of every measure and difference in the whole population, at the class frequencies of `sizes`."""
    right, reference = norm.cdf(SHIFT / 2), norm.cdf(REFERENCE_SHIFT / 2)
    area, reference_area = norm.cdf(SHIFT / math.sqrt(2)), norm.cdf(REFERENCE_SHIFT / math.sqrt(2))
    values = dict.fromkeys(("accuracy", "balanced_accuracy", "sensitivity_LGG", "sensitivity_HGG"), right)
    differences = dict.fromkeys(("accuracy_difference", "balanced_accuracy_difference"), right - reference)
    labels = np.repeat([0, 1], num_quantiles)
    quantiles = np.tile(norm.ppf((np.arange(num_quantiles) + 0.5) / num_quantiles), 2)
    probabilities = probabilities_of(quantiles + SHIFT * (labels - 0.5), SHIFT)
    weights = np.repeat(np.asarray(sizes, dtype=float), num_quantiles)[None]
    grid = {name: float(measure(labels, probabilities, weights)[0]) for name, measure in BOOTSTRAPPED.items()}
    return {**values, "auc": area, **grid, **differences, "auc_difference": area - reference_area}


def estimates(study: Study, weights: Floats) -> dict[str, Estimate]:
    """Every measure of the first classifier and its difference to the second, with the interval of the report."""
    labels, (scores, reference_scores) = study
    answers, right, reference_right = scores > 0, (scores > 0) == labels, (reference_scores > 0) == labels
    probabilities = probabilities_of(scores, SHIFT)
    low_grade, high_grade = sensitivities(labels, answers, 2)
    return {
        "accuracy": accuracy(labels, answers),
        "balanced_accuracy": balanced_accuracy(labels, answers, 2),
        "sensitivity_LGG": low_grade,
        "sensitivity_HGG": high_grade,
        "auc": auc(labels, probabilities),
        **{name: bootstrap(measure, labels, probabilities, weights) for name, measure in BOOTSTRAPPED.items()},
        "accuracy_difference": accuracy_difference(right, reference_right),
        "balanced_accuracy_difference": balanced_accuracy_difference(labels, right, reference_right),
        "auc_difference": auc_difference(labels == 1, scores, reference_scores)[0],
    }


def coverage(sizes: Sequence[int], simulations: int, num_draws: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield for each interval how often it holds the truth: `measure`, `n_by_class`, `coverage`, `width`."""
    random = np.random.default_rng(seed)
    truth = truths(sizes)
    weights = draw_weights(np.repeat([0, 1], sizes), num_draws, seed)
    hits, widths = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0.0)
    for _ in progress(range(simulations), simulations, f"studies of {sizes[0]} LGG and {sizes[1]} HGG"):
        for name, estimate in estimates(simulate(sizes, (SHIFT, REFERENCE_SHIFT), random), weights).items():
            assert estimate.low is not None
            assert estimate.high is not None
            hits[name] += estimate.low <= truth[name] <= estimate.high
            widths[name] += estimate.high - estimate.low
    for name, count in hits.items():
        share, width = round(count / simulations, 4), round(widths[name] / simulations, 4)
        yield {"measure": name, "n_by_class": list(sizes), "coverage": share, "width": width}


def area_coverage(
    sizes: Sequence[int], areas: tuple[float, float], spread: float, simulations: int, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield how often the intervals of an AUC, and of its difference to a reference's, hold the truth.

    Args:
        sizes: subjects of LGG and HGG.
        areas: AUC of the classifier and of the reference; their scores correlate by `CORRELATION` inside a class.
        spread: standard deviation of LGG's scores over that of HGG's.
        simulations: studies.
        seed: of the studies.
    """
    random, labels = np.random.default_rng(seed), np.repeat([0, 1], sizes)
    deviations = np.where(labels == 0, spread, 1.0)
    # The area of two normal classes is Phi(distance / sqrt(sum of the variances)).
    shifts = [norm.ppf(area) * math.sqrt(1 + spread**2) for area in areas]
    truth = {"auc": areas[0], "auc_difference": areas[0] - areas[1]}
    hits, widths = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0.0)
    for _ in range(simulations):
        shared, own = random.normal(size=len(labels)), random.normal(size=(2, len(labels)))
        noise = (math.sqrt(CORRELATION) * shared + math.sqrt(1 - CORRELATION) * own) * deviations
        scores, reference = noise + np.outer(shifts, labels)
        estimates = {
            "auc": delong(labels == 1, scores),
            "auc_difference": auc_difference(labels == 1, scores, reference)[0],
        }
        for name, estimate in estimates.items():
            low, high = estimate.low or 0.0, estimate.high or 0.0
            hits[name] += low <= truth[name] <= high
            widths[name] += high - low
    for name, count in hits.items():
        share, width = round(count / simulations, 4), round(widths[name] / simulations, 4)
        where = {"n_by_class": list(sizes), "area": areas[0], "spread": round(spread, 4)}
        yield {"measure": name, **where, "coverage": share, "width": width}


def simulate_classes(labels: Labels, skills: Sequence[float], random: np.random.Generator) -> list[Floats]:
    """Draw the probabilities of classifiers for subjects of several classes, each (N, K)."""
    num_classes = len(DISTANCES)
    shared, right = random.normal(size=(len(labels), num_classes)), np.eye(num_classes)[labels] * DISTANCES
    tables = []
    for skill in skills:
        noise = math.sqrt(CORRELATION) * shared + math.sqrt(1 - CORRELATION) * random.normal(size=shared.shape)
        tables.append(np.asarray(softmax(SURENESS * (noise + skill * right), axis=1)))
    return tables


def class_truths(sizes: Sequence[int], skills: Sequence[float]) -> dict[str, Any]:
    """Value of every measure of several classes in the whole population, at the class frequencies of `sizes`.

    A class has so many of `POPULATION` subjects that the rest of each area is mixed as in a study.
    """
    labels = np.repeat(range(len(sizes)), [POPULATION * size // max(sizes) for size in sizes])
    tables = simulate_classes(labels, skills, np.random.default_rng(1))
    values = [_class_values(labels, table) for table in tables]
    return {**values[0], **{f"{name}_difference": values[0][name] - values[1][name] for name in ("accuracy", "auc")}}


def _class_values(labels: Labels, probabilities: Floats) -> dict[str, Any]:
    once, right = np.ones((1, len(labels))), probabilities.argmax(axis=1) == labels
    areas = [float(roc_auc_score(labels == k, scores)) for k, scores in enumerate(probabilities.T)]
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean([right[labels == k].mean() for k in range(len(areas))])),
        "auc": float(np.mean(areas)),
        "auc_of_class": areas,
        **{name: float(measure(labels, probabilities, once)[0]) for name, measure in CLASS_MEASURES.items()},
    }


def class_coverage(
    sizes: Sequence[int], area: float, simulations: int, num_draws: int, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield how often each interval of several classes holds the truth, and how often the test of the areas errs.

    Args:
        sizes: subjects of each class.
        area: about the mean area, of `SKILLS`.
        simulations: studies.
        num_draws: of the bootstrap; 0 leaves its measures out.
        seed: of the studies.

    Returns:
        Rows as those of `coverage` with `area`, and `false_alarms` of the test of the areas where nothing differs.
    """
    random, labels, skills = np.random.default_rng(seed), np.repeat(range(len(sizes)), sizes), SKILLS[area]
    truth = class_truths(sizes, skills)
    weights = draw_weights(labels, num_draws, seed) if num_draws else None
    found: dict[str, list[tuple[bool, float]]] = {}
    alarms = 0
    for _ in progress(range(simulations), simulations, f"studies of {' + '.join(map(str, sizes))}"):
        own, reference, equal = simulate_classes(labels, (*skills, skills[0]), random)
        for name, estimate, value in _class_estimates(labels, own, reference, weights, truth):
            low, high = (math.nan if one is None else one for one in (estimate.low, estimate.high))
            found.setdefault(name, []).append((low <= value <= high, high - low))
        p = mean_area_difference(labels, own, equal)[1]
        alarms += p is not None and p < 0.05
    for name, hits in found.items():
        share, width = (round(float(np.nanmean(column)), 4) for column in zip(*hits, strict=True))
        extra = {"false_alarms": alarms / simulations} if name == "auc_difference" else {}
        yield {"measure": name, "n_by_class": list(sizes), "area": area, "coverage": share, "width": width, **extra}


def _class_estimates(
    labels: Labels, own: Floats, reference: Floats, weights: Floats | None, truth: dict[str, Any]
) -> Iterator[tuple[str, Estimate, float]]:
    answers, right, reference_right = own.argmax(1), own.argmax(1) == labels, reference.argmax(1) == labels
    yield "auc", auc(labels, own), truth["auc"]
    for estimate, value in zip(class_areas(labels, own), truth["auc_of_class"], strict=True):
        yield "auc_of_class", estimate, value
    yield "auc_difference", mean_area_difference(labels, own, reference)[0], truth["auc_difference"]
    if weights is None:
        return
    yield "accuracy", accuracy(labels, answers), truth["accuracy"]
    yield "balanced_accuracy", balanced_accuracy(labels, answers, own.shape[1]), truth["balanced_accuracy"]
    yield "accuracy_difference", accuracy_difference(right, reference_right), truth["accuracy_difference"]
    for name, measure in CLASS_MEASURES.items():
        yield name, bootstrap(measure, labels, own, weights), truth[name]


def dependent_coverage(
    sizes: Sequence[int], simulations: int, offset: float = 1.0, scans: int = 3, seed: int = 0
) -> dict[str, float]:
    """Coverage of the AUC where scores are not comparable, or cases not independent, by the report and naively.

    Args:
        sizes: subjects of LGG and HGG, in five folds.
        simulations: studies.
        offset: standard deviation of the folds' offsets, of that of the scores.
        scans: of each patient, which share 80 % of the variance of their score.
        seed: of the studies.
    """
    random, labels = np.random.default_rng(seed), np.repeat([0, 1], sizes)
    folds, truth = np.arange(len(labels)) % 5, norm.cdf(SHIFT / math.sqrt(2))
    names = ("offsets, inside the folds", "offsets, pooled", "scans, averaged", "scans, each a case")
    hits = dict.fromkeys(names, 0)
    # The mean of the scans has less variance than one, and so a larger area.
    deviation = math.sqrt(0.8 + 0.2 / scans)
    mean_truth = norm.cdf(SHIFT / deviation / math.sqrt(2))
    for _ in range(simulations):
        scores = random.normal(size=len(labels)) + SHIFT * labels + offset * random.normal(size=5)[folds]
        of_scans = math.sqrt(0.8) * random.normal(size=len(labels)) + SHIFT * labels
        of_scans = of_scans + math.sqrt(0.2) * random.normal(size=(scans, len(labels)))
        for name, estimate, value in (
            (names[0], delong(labels == 1, scores, folds), truth),
            (names[1], delong(labels == 1, scores), truth),
            (names[2], delong(labels == 1, of_scans.mean(0)), mean_truth),
            (names[3], delong(np.tile(labels == 1, scans), of_scans.ravel()), truth),
        ):
            hits[name] += (estimate.low or 0.0) <= value <= (estimate.high or 0.0)
    return {name: count / simulations for name, count in hits.items()}


def false_alarms(sizes: Sequence[int], simulations: int, alpha: float = 0.05, seed: int = 0) -> float:
    """Share of studies in which a setup that is no better or worse than the reference is called so after Holm.

    A study is `NUM_DIRECTIONS` tests of `NUM_SETUPS` setups, each by McNemar's and by DeLong's test: one family, as in
    the report.
    """
    random = np.random.default_rng(seed)
    alarms = 0
    for _ in range(simulations):
        p_values = [p for _ in range(NUM_DIRECTIONS) for p in _p_values(sizes, random)]
        alarms += min(holm(p_values)) < alpha
    return alarms / simulations


def _p_values(sizes: Sequence[int], random: np.random.Generator) -> Iterator[float]:
    """Test setups that are as good as the reference on one cohort."""
    labels, (reference, *others) = simulate(sizes, [REFERENCE_SHIFT] * (1 + NUM_SETUPS), random)
    for scores in others:
        yield _mcnemar(*count_discordant((scores > 0) == labels, (reference > 0) == labels))
        p = auc_difference(labels == 1, scores, reference)[1]
        yield 1.0 if p is None else p


def found_gains(
    num_subjects: int, discordant: float, gain: float, simulations: int, num_tests: int = NUM_TESTS, seed: int = 0
) -> dict[str, float]:
    """Share of studies in which McNemar's test finds a planted gain, alone and as one of several tests after Holm.

    The other tests have the same share of discordant pairs and no gain: the worst case for Holm, whose p is then up to
    `num_tests` times that of the test alone.
    """
    random = np.random.default_rng(seed)
    shares = [[(discordant + g) / 2, (discordant - g) / 2, 1 - discordant] for g in [gain] + [0.0] * (num_tests - 1)]
    counts = np.stack([random.multinomial(num_subjects, share, size=simulations) for share in shares], axis=1)
    p_values = [[_mcnemar(int(own), int(other)) for own, other, _ in study] for study in counts]
    return {
        "alone": float(np.mean([p[0] < 0.05 for p in p_values])),
        "after Holm": float(np.mean([holm(p)[0] < 0.05 for p in p_values])),
        "alone, exactly": mcnemar_power(num_subjects, discordant, gain),
    }


@cache
def _mcnemar(only_own: int, only_reference: int) -> float:
    return mcnemar(only_own, only_reference)


def print_coverage(rows: Sequence[dict[str, Any]]) -> None:
    """Print a Markdown table: a line an interval, a column a size."""
    columns = list(dict.fromkeys(tuple(row["n_by_class"]) for row in rows))
    by_size = {(row["measure"], tuple(row["n_by_class"])): row for row in rows}
    print("| interval of | " + " | ".join(f"{low} + {high}" for low, high in columns) + " |")
    print("|---" * (1 + len(columns)) + "|")
    for name in dict.fromkeys(row["measure"] for row in rows):
        cells = [by_size[name, column] for column in columns]
        shown = " | ".join(f"{cell['coverage']:.3f} ({cell['width']:.2f})".replace("0.", ".") for cell in cells)
        print(f"| {name.replace('_', ' ')} | {shown} |")


def print_areas(rows: Sequence[dict[str, Any]]) -> None:
    """Print a Markdown table: a line for each interval, spread and area, a column for each size."""
    columns = list(dict.fromkeys(tuple(row["n_by_class"]) for row in rows))
    print("\n| interval of | spread | area | " + " | ".join(f"{low} + {high}" for low, high in columns) + " |")
    print("|---" * (3 + len(columns)) + "|")
    lines: dict[tuple[Any, ...], list[str]] = {}
    for row in rows:
        cell = f"{row['coverage']:.3f} ({row['width']:.2f})".replace("0.", ".")
        lines.setdefault((row["measure"], row["spread"], row["area"]), []).append(cell)
    for (measure, spread, area), cells in sorted(lines.items()):
        print(f"| {measure.replace('_', ' ')} | {spread:.2g} | {area:g} | " + " | ".join(cells) + " |")


def main() -> None:
    """Simulate, print the tables, and write that of the intervals where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--num_draws", type=int, default=500, help="of the bootstrap")
    parser.add_argument("--four_classes", action="store_true", help="studies of four classes instead of two")
    parser.add_argument("--write", help="JSON file of the coverage, which the report reads")
    arguments = parser.parse_args()
    if arguments.four_classes:
        rows = list(simulate_four(arguments.simulations, arguments.num_draws))
        print_classes(rows)
    else:
        rows = simulate_two(arguments)
    if arguments.write:
        write_coverage(arguments, rows)


def simulate_four(simulations: int, num_draws: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of `class_coverage` for every size and area; measures without area at an area of .9 alone."""
    for sizes in CLASS_SIZES:
        for area in SKILLS:
            yield from class_coverage(sizes, area, simulations, num_draws if area == TYPICAL else 0)


def print_classes(rows: Sequence[dict[str, Any]]) -> None:
    """Print a Markdown table of four classes: a line for each interval and area, a column for each size."""
    columns = list(dict.fromkeys(tuple(row["n_by_class"]) for row in rows))
    print("| interval of | area | " + " | ".join(" + ".join(map(str, column)) for column in columns) + " |")
    print("|---" * (2 + len(columns)) + "|")
    lines: dict[tuple[str, float], list[str]] = {}
    for row in rows:
        cell = f"{row['coverage']:.3f} ({row['width']:.2f})".replace("0.", ".")
        alarms = f"; {row['false_alarms']:.3f}".replace("0.", ".") if "false_alarms" in row else ""
        lines.setdefault((row["measure"], row["area"]), []).append(cell + alarms)
    for (measure, area), cells in lines.items():
        print(f"| {measure.replace('_', ' ')} | {area:g} | " + " | ".join(cells) + " |")


def write_coverage(arguments: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> None:
    """Write the rows with their command, and keep those of the other number of classes where the file exists."""
    options = f"--simulations {arguments.simulations}{' --four_classes' * arguments.four_classes}"
    command = f"python -m benchmarks.coverage {options} --write scripts/statistics/interval_coverage.json"
    key = "four_classes" if arguments.four_classes else "two_classes"
    kept = read_json(arguments.write) if Path(arguments.write).is_file() else {}
    content = {**kept, key: {"command": command, "coverage": rows}}
    write_json(arguments.write, {name: content[name] for name in ("two_classes", "four_classes") if name in content})


def simulate_two(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Simulate studies of two classes, print their tables, and return the rows of the intervals."""
    rows = [row for sizes in SIZES for row in coverage(sizes, arguments.simulations, arguments.num_draws)]
    print_coverage(rows)
    situations = [(sizes, areas, spread) for spread in SPREADS for areas in AREAS for sizes in SIZES]
    areas = [
        row
        for situation in progress(situations, len(situations), "areas")
        for row in area_coverage(*situation, arguments.simulations)
    ]
    print_areas(areas)
    for sizes in SIZES:
        shares = dependent_coverage(sizes, arguments.simulations)
        print(f"\n{sizes[0]} + {sizes[1]}: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()))
    # Of an AUC the situations tell more than the row of its size.
    rows = [row for row in rows if row["measure"] not in ("auc", "auc_difference")] + areas
    for sizes in SIZES:
        alarms = false_alarms(sizes, arguments.simulations)
        print(f"\nno difference, {NUM_TESTS} tests, {sizes[0]} + {sizes[1]} subjects: false alarm in {alarms:.3f}")
    for name, share in found_gains(224, 0.12, 0.08, arguments.simulations).items():
        print(f"\ngain of .08 at n = 224 with 12 % discordant pairs, found {name}: {share:.3f}")
    return rows


if __name__ == "__main__":
    main()
