"""Every number of a study's tables, computed anew from its predictions with scikit-learn, statsmodels and numpy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics as sk
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from scripts.running.files import read_csv, read_json

GROUP = ("direction", "setup", "role", "cohort")
Z = norm.ppf(0.975)
DRAWS = 100  # as the fixture has it


@pytest.fixture(scope="module")
def groups(report):
    """Rows of `predictions.csv` as arrays: labels, probabilities of HGG and folds, by group."""
    arrays = {}
    for row in read_csv(report / "predictions.csv"):
        entry = (row["label"] == "HGG", float(row["probability_HGG"]), int(row["fold"]), row["subject_id"])
        arrays.setdefault(tuple(row[name] for name in GROUP), []).append(entry)
    return {key: [np.array(column) for column in zip(*rows, strict=True)] for key, rows in arrays.items()}


@pytest.fixture(scope="module")
def metrics(report):
    """Rows of `metrics.csv` by group and measure: value, low and high."""
    rows = read_csv(report / "metrics.csv")
    return {(*(row[name] for name in GROUP), row["measure"]): numbers(row) for row in rows}


def numbers(row, names=("value", "low", "high")):
    return [float(row[name]) if row[name] not in ("", None) else None for name in names]


def wilson(right, total):
    return [right / total, *proportion_confint(right, total, method="wilson")]


def square_and_add(estimates):
    values, lows, highs = np.array(estimates).T
    down, up = (np.sqrt(((values - limits) ** 2).sum()) / len(values) for limits in (lows, highs))
    return [values.mean(), values.mean() - down, values.mean() + up]


def kernel(truth, scores):
    """1 where a case scores above a control, half where alike: (cases, controls)."""
    difference = scores[truth][:, None] - scores[~truth][None, :]
    return (difference > 0) + 0.5 * (difference == 0)


def weighted(truth, folds):
    """Folds of both classes, each with its share of all pairs."""
    pairs = {fold: truth[folds == fold].sum() * (~truth[folds == fold]).sum() for fold in np.unique(folds)}
    total = sum(pairs.values())
    return [(folds == fold, count / total) for fold, count in pairs.items() if count]


def area(truth, scores, folds):
    return sum(share * sk.roc_auc_score(truth[own], scores[own]) for own, share in weighted(truth, folds))


def covariance(truth, first, second, folds):
    """DeLong's covariance of two areas, by the kernel of every pair."""
    total = 0.0
    for own, share in weighted(truth, folds):
        kernels = [kernel(truth[own], scores[own]) for scores in (first, second)]
        for axis in (1, 0):
            a, b = (one.mean(axis=axis) for one in kernels)
            total += share**2 * np.cov(a, b)[0, 1] / len(a)
    return total


def area_limits(truth, scores, folds):
    value = area(truth, scores, folds)
    width = Z * np.sqrt(covariance(truth, scores, scores, folds)) / (value * (1 - value))
    center = np.log(value / (1 - value))
    return [value, *(1 / (1 + np.exp(-(center + side * width))) for side in (-1, 1))]


def mover(first, second, correlation):
    """Difference of two estimates from the limits of each (Zou, Donner 2008)."""
    down, up = first[0] - first[1], first[2] - first[0]
    other_down, other_up = second[0] - second[1], second[2] - second[0]
    low = np.sqrt(max(0, down**2 - 2 * correlation * down * other_up + other_up**2))
    high = np.sqrt(max(0, up**2 - 2 * correlation * up * other_down + other_down**2))
    value = first[0] - second[0]
    return [value, value - low, value + high]


def test_accuracies_and_sensitivities_with_their_limits(groups, metrics):
    for key, (truth, scores, _, _) in groups.items():
        right = (scores > 0.5) == truth
        per_class = [wilson(right[truth == label].sum(), (truth == label).sum()) for label in (False, True)]
        assert metrics[(*key, "accuracy")] == pytest.approx(wilson(right.sum(), len(right)))
        assert metrics[(*key, "accuracy")][0] == pytest.approx(sk.accuracy_score(truth, scores > 0.5))
        assert metrics[(*key, "balanced_accuracy")] == pytest.approx(square_and_add(per_class))
        assert metrics[(*key, "sensitivity_HGG")][0] == pytest.approx(sk.recall_score(truth, scores > 0.5))
        assert [metrics[(*key, f"sensitivity_{name}")] for name in ("LGG", "HGG")] == [
            pytest.approx(one) for one in per_class
        ]


def test_areas_with_their_limits(groups, metrics):
    for key, (truth, scores, folds, _) in groups.items():
        if 0 < area(truth, scores, folds) < 1:
            assert metrics[(*key, "auc")] == pytest.approx(area_limits(truth, scores, folds), abs=1e-6)


def ece(truth, scores, weights=None):
    weights = np.ones(len(truth)) if weights is None else weights
    confidence = np.maximum(scores, 1 - scores)
    bins = np.ceil(confidence * 15 - 1e-12)
    right = (scores > 0.5) == truth
    gaps = (abs(np.sum((weights * (confidence - right))[bins == one])) for one in np.unique(bins))
    return sum(gaps) / weights.sum()


def resampled(truth, scores, weights=None):
    options = {"sample_weight": weights}
    return {
        "weighted_f1": sk.f1_score(truth, scores > 0.5, average="weighted", zero_division=0, **options),
        "mcc": sk.matthews_corrcoef(truth, scores > 0.5, **options),
        "brier": sk.brier_score_loss(truth, scores, **options),
        "auprc": sk.average_precision_score(~truth, 1 - scores, **options),
        "ece": ece(truth, scores, weights),
    }


def test_further_measures(groups, metrics):
    for key, (truth, scores, folds, _) in groups.items():
        expected = resampled(truth, scores)
        cases = [(folds == fold, (~truth[folds == fold]).sum() / (~truth).sum()) for fold in np.unique(folds)]
        expected["auprc"] = sum(w * sk.average_precision_score(~truth[own], 1 - scores[own]) for own, w in cases)
        for name, value in expected.items():
            assert metrics[(*key, name)][0] == pytest.approx(value, abs=1e-8), (key, name)


def test_the_limits_of_the_bootstrap_are_percentiles_of_its_draws(groups, metrics):
    key = next(key for key in groups if key[2] == "external")
    truth, scores, _, _ = groups[key]
    random = np.random.default_rng(0)
    weights = np.zeros((DRAWS, len(truth)))
    for label in (False, True):
        own = np.flatnonzero(truth == label)
        weights[:, own] = random.multinomial(len(own), np.full(len(own), 1 / len(own)), size=DRAWS)
    draws = [resampled(truth, scores, one) for one in weights]
    for name in draws[0]:
        low, high = np.quantile([one[name] for one in draws], [0.025, 0.975])
        value = metrics[(*key, name)][0]
        if name == "ece":
            low, high = min(value, max(0, 2 * value - high)), max(value, 2 * value - low)
        assert metrics[(*key, name)][1:] == pytest.approx([low, high], abs=1e-8), name


def newcombe(own, other):
    """Difference of two paired proportions by method 10 (Newcombe 1998), phi corrected for continuity."""
    a, b, c, d = (int(((own == x) & (other == y)).sum()) for x, y in product((True, False), repeat=2))
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    surplus = a * d - b * c
    surplus = max(surplus - len(own) / 2, 0) if surplus > 0 else surplus
    phi = surplus / np.sqrt(margins) if margins else 0
    return mover(wilson(own.sum(), len(own)), wilson(other.sum(), len(own)), phi)


def test_differences_with_limits_and_p(groups, report):
    rows = read_csv(report / "comparisons.csv")
    assert len(rows) == 3 * 3 * 6  # setups beside the reference, measures, tests
    for row in rows:
        key = tuple(row[name] for name in GROUP)
        truth, scores, folds, names = groups[key]
        reference_truth, others, _, reference_names = groups[(key[0], row["reference"], *key[2:])]
        order = [reference_names.tolist().index(name) for name in names]
        others = others[order]
        assert (reference_truth[order] == truth).all()
        own, other = (scores > 0.5) == truth, (others > 0.5) == truth
        counts = int((own & ~other).sum()), int((other & ~own).sum())
        assert (int(row["only_setup_right"]), int(row["only_reference_right"])) == counts
        if row["measure"] == "auc" and {0, 1} & {area(truth, one, folds) for one in (scores, others)}:
            continue  # limits at perfect separation have a test of their own, against Newcombe's equation
        if row["measure"] == "auc":
            areas = [area_limits(truth, one, folds) for one in (scores, others)]
            both = covariance(truth, scores, others, folds)
            variances = [covariance(truth, one, one, folds) for one in (scores, others)]
            expected = mover(*areas, both / np.sqrt(np.prod(variances)))
            p = 2 * norm.sf(abs(expected[0]) / np.sqrt(sum(variances) - 2 * both))
        elif row["measure"] == "accuracy":
            expected = newcombe(own, other)
            p = mcnemar([[0, counts[0]], [counts[1], 0]], exact=True).pvalue if sum(counts) else 1.0
        else:
            expected = square_and_add([newcombe(own[truth == label], other[truth == label]) for label in (False, True)])
            p = None
        assert numbers(row) == pytest.approx(expected, abs=1e-6), row
        assert numbers(row, ("p",)) == [None if p is None else pytest.approx(p, abs=1e-6)]


def test_p_is_corrected_over_all_tests_of_a_role(report):
    rows = [row for row in read_csv(report / "comparisons.csv") if row["p"]]
    for role in {row["role"] for row in rows}:
        family = [row for row in rows if row["role"] == role]
        corrected = multipletests([float(row["p"]) for row in family], method="holm")[1]
        assert [float(row["p_holm"]) for row in family] == pytest.approx(corrected)
        assert {int(row["num_tests"]) for row in family} == {len(family)}


@pytest.fixture(scope="module")
def use(report):
    return read_json(report / "clinical_use.json")


def test_thresholds_are_those_of_the_inner_parts_and_land_where_they_land(groups, study, use):
    folder, _ = study
    reached = 0
    for row in use["operating_points"]:
        inner = read_csv(folder / row["direction"] / f"evaluation_{row['setup']}" / "inner_predictions.csv")
        truth, scores, folds, _ = groups[tuple(row[name] for name in GROUP)]
        answered = np.zeros(len(truth), dtype=bool)
        for one in row["thresholds"]:
            own = [r for r in inner if one["fold"] < 0 or int(r["fold"]) == one["fold"]]
            cases, controls = (
                np.array([float(r["probability_HGG"]) for r in own if (r["label"] == "HGG") == label])
                for label in (True, False)
            )
            best = max((s for s in {*cases, *controls} if np.mean(cases >= s) >= 0.9), default=None)
            if one["value"] is None:
                assert not len(cases) or not len(controls) or not np.mean(controls < best)
                continue
            assert one["value"] == best
            numbers_there = one["sensitivity"], one["specificity"]
            assert numbers_there == pytest.approx((np.mean(cases >= best), np.mean(controls < best)))
            answered |= (scores >= best) & (folds == one["fold"])
        if row["reason"]:
            continue
        reached += 1
        hits, rejections = answered[truth].mean(), (~answered[~truth]).mean()
        assert numbers(row["sensitivity"]) == pytest.approx(wilson(answered[truth].sum(), truth.sum()))
        assert numbers(row["specificity"]) == pytest.approx(wilson((~answered[~truth]).sum(), (~truth).sum()))
        assert row["positive_predictive_value"]["value"] == pytest.approx(sk.precision_score(truth, answered))
        share = row["prevalence"]
        missed = rejections * (1 - share) / (rejections * (1 - share) + (1 - hits) * share)
        assert row["negative_predictive_value"]["value"] == pytest.approx(missed)
    assert reached >= 4


def test_intercept_and_slope_are_the_most_likely_ones(groups, use):
    for row in use["logistic_calibration"]:
        truth, scores, _, _ = groups[tuple(row[name] for name in GROUP)]
        logits, ones = np.log(scores / (1 - scores)), np.ones(len(truth))
        (shift,) = GLM(truth.astype(float), ones, family=Binomial(), offset=logits).fit().params
        assert row["intercept"]["value"] == pytest.approx(shift, abs=1e-4)
        if row["slope"]["value"] is not None:
            _, slope = GLM(truth.astype(float), np.column_stack([ones, logits]), family=Binomial()).fit().params
            assert row["slope"]["value"] == pytest.approx(slope, abs=1e-3 * max(1, slope))


def test_net_benefit_is_hits_less_weighed_false_alarms(groups, use):
    for curve in use["decision_curves"]:
        truth, scores, _, _ = groups[tuple(curve[name] for name in GROUP)]
        for point in curve["points"][9::20]:
            odds = point["threshold"] / (1 - point["threshold"])
            acted = scores >= point["threshold"]
            expected = (acted & truth).sum() / len(truth) - odds * (acted & ~truth).sum() / len(truth)
            assert point["value"] == pytest.approx(expected, abs=1e-8)
            assert point["of_all"] == pytest.approx(truth.mean() - odds * (~truth).mean())
