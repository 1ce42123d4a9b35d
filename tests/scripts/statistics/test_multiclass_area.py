"""Areas of several classes against scikit-learn, those of two classes, and bootstraps of the subjects."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scripts.statistics.bootstrap import draw_weights
from scripts.statistics.multiclass_area import (
    OF_CLASSES,
    area_covariance,
    auc,
    class_areas,
    mean_area,
    mean_area_difference,
    shares,
)
from scripts.statistics.roc_area import auc_difference, delong

LABELS = np.repeat(range(4), (12, 20, 31, 17))
STRATA = np.arange(len(LABELS)) % 3


def probabilities(seed, skill=1.2, digits=2, labels=LABELS):
    """Probabilities that follow the classes, rounded so that there are ties."""
    logits = np.random.default_rng(seed).normal(size=(len(labels), 4)) + skill * np.eye(4)[labels]
    return np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), digits)


def areas_of(labels, table, strata):
    """Mean over the classes of the share of the pairs inside the strata that are ranked rightly, pair by pair."""
    same, areas = strata[:, None] == strata[None], []
    for k, scores in enumerate(table.T):
        pairs = same & (labels == k)[:, None] & (labels != k)[None]
        wins = (scores[:, None] > scores[None]) + 0.5 * (scores[:, None] == scores[None])
        areas.append(wins[pairs].mean())
    return np.mean(areas)


def test_the_area_is_that_of_scikit_learn():
    table = probabilities(0, digits=6)
    table /= table.sum(axis=1, keepdims=True)
    assert auc(LABELS, table).value == pytest.approx(roc_auc_score(LABELS, table, multi_class="ovr"))
    assert [one.value for one in class_areas(LABELS, table)] == pytest.approx(
        [roc_auc_score(k == LABELS, table[:, k]) for k in range(4)]
    )
    assert auc(LABELS % 2, table).value is None


def test_of_two_classes_all_is_that_of_delong():
    positive = LABELS > 1
    pair = [np.round(np.random.default_rng(seed).normal(size=len(LABELS)) + positive, 1) for seed in (0, 1)]
    tables = [np.stack([-scores, scores], axis=1) for scores in pair]
    for strata in (None, STRATA):
        expected = delong(positive, pair[0], strata)
        assert mean_area(positive.astype(int), tables[0], strata)[:3] == pytest.approx(expected[:3])
        estimate, p = auc_difference(positive, *pair, strata)
        found, found_p = mean_area_difference(positive.astype(int), *tables, strata)
        assert (*found[:3], found_p) == pytest.approx((*estimate[:3], p))


@pytest.mark.parametrize("num_strata", [1, 2])
def test_the_covariance_is_that_of_subjects_drawn_anew_in_their_class_and_stratum(num_strata):
    labels = np.repeat(LABELS, 2)
    first, second = (probabilities(seed, labels=labels) for seed in (0, 1))
    tables, strata = (first, (first + second) / 2), np.arange(len(labels)) % num_strata
    drawn = [np.repeat(np.arange(len(labels)), row.astype(int)) for row in draw_weights(labels + 4 * strata, 300)]
    draws = np.array([[areas_of(labels[who], table[who], strata[who]) for table in tables] for who in drawn])
    joined = area_covariance(labels, np.concatenate([shares(labels, t, strata) for t in tables], axis=1), strata)
    found = joined.reshape(2, 4, 2, 4).mean(axis=(1, 3))
    # 300 draws know a deviation to 4 %; a bootstrap divides by the number of cases, 12 at least, DeLong by one less.
    assert np.sqrt(np.diag(found)) == pytest.approx(draws.std(axis=0), rel=0.15)
    assert found[0, 1] / np.sqrt(found[0, 0] * found[1, 1]) == pytest.approx(np.corrcoef(draws.T)[0, 1], abs=0.13)
    assert shares(labels, first, strata).sum() == pytest.approx(8 * areas_of(labels, first, strata))


def test_scales_of_the_folds_change_nothing_and_equal_folds_halve_the_variance():
    table = probabilities(0)
    scaled = table * (1 + STRATA)[:, None] + 5 * STRATA[:, None]
    assert mean_area(LABELS, scaled, STRATA)[:3] == pytest.approx(mean_area(LABELS, table, STRATA)[:3])
    twice = np.tile(LABELS, 2), np.tile(table, (2, 1)), np.repeat([0, 1], len(LABELS))
    variances = [area_covariance(one[0], shares(*one), one[2]).mean() for one in ((LABELS, table, None), twice)]
    assert variances[0] == pytest.approx(2 * variances[1])


def test_a_faultless_classifier_has_an_interval_with_width():
    estimate = mean_area(LABELS, np.eye(4)[LABELS], STRATA)
    assert (estimate.value, estimate.high, estimate.interval) == (1, 1, OF_CLASSES)
    assert 0.8 < estimate.low < 0.97


def test_a_class_of_one_subject_has_limits_and_no_p():
    labels = np.array([0, 1, 1, 1, 1, 2, 2, 2, 2, 2])
    table, other = probabilities(0)[:10, :3], probabilities(1)[:10, :3]
    estimate = mean_area(labels, table)
    assert estimate.interval == OF_CLASSES
    assert estimate.low < estimate.value < estimate.high
    difference, p = mean_area_difference(labels, table, other)
    assert difference.low < difference.value < difference.high
    assert p is None


def test_a_subject_alone_in_its_fold_takes_the_spread_of_the_other_folds():
    strata = np.where(np.arange(len(LABELS)) == 0, 1, STRATA * 2)  # one subject of class 0, with nobody to pair
    with_partner = np.where(np.isin(np.arange(len(LABELS)), (0, 12, 13, 14)), 1, STRATA * 2)
    table = probabilities(0)
    for one in (strata, with_partner):
        estimate = mean_area(LABELS, table, one)
        assert estimate.low < estimate.value < estimate.high
        assert estimate.value == pytest.approx(areas_of(LABELS, table, one))


def test_equal_answers_do_not_differ_and_other_ones_do():
    table = probabilities(0)
    same, p = mean_area_difference(LABELS, table, table * 0.5)
    assert (same.value, p) == (0, 1)
    assert same.low < -0.02 < 0.02 < same.high
    better, p = mean_area_difference(LABELS, probabilities(0, skill=3.0), probabilities(0, skill=0.5), STRATA)
    assert 0 < better.low < better.value < better.high
    assert p < 1e-3


@pytest.mark.parametrize("counts", [(7, 13, 9, 11), (8, 8, 8, 8)])
def test_an_answer_that_is_the_same_for_everybody_has_a_wide_interval(counts):
    labels = np.repeat(range(4), counts)
    estimate = auc(labels, np.full((len(labels), 4), 0.25))
    assert estimate.value == pytest.approx(0.5)
    assert estimate.high - estimate.low > 0.2
