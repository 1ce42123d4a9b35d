"""The area under the ROC curve and its strata against pairs counted one by one, bootstraps and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from scripts.statistics.classification_measures import average_precision, value_of
from scripts.statistics.roc_area import auc_difference, delong, newcombe_auc, placements

LABELS = np.array([0] * 15 + [1] * 52)
STRATA = np.arange(67) % 3


def scores(seed, shift=1.2):
    return np.random.RandomState(seed).normal(LABELS * shift)


def test_delong_area_is_the_mann_whitney_statistic_with_ties():
    positive, rounded = LABELS == 1, np.round(scores(0), 0)
    statistic = mannwhitneyu(rounded[positive], rounded[~positive]).statistic
    assert delong(positive, rounded).value == pytest.approx(statistic / (15 * 52))


def test_delong_variance_is_that_of_the_placements_counted_one_by_one():
    positive, score = LABELS == 1, scores(0)
    wins = (score[positive][:, None] > score[~positive][None]).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / 52 + wins.mean(axis=0).var(ddof=1) / 15
    area, low, high, _ = delong(positive, score)
    half = (math.log(high / (1 - high)) - math.log(low / (1 - low))) / 2
    assert half == pytest.approx(norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area)))


def test_a_score_that_is_no_number_has_no_area():
    assert math.isnan(placements(LABELS == 1, np.where(np.arange(len(LABELS)) == 3, np.nan, scores(0)))[0].mean())
    assert math.isnan(placements(LABELS == 1, np.where(LABELS == 1, np.nan, scores(0)))[1].mean())


@pytest.mark.parametrize("area", [0.0, 0.3, 0.5, 0.93, 1.0])
def test_newcombes_limits_solve_their_equation(area):
    _, low, high, _ = newcombe_auc(area, [(15, 52)])
    assert 0 <= low <= area <= high <= 1
    assert high - low < 0.5
    for theta in (low, high):
        if 0 < theta < 1:
            spread = 1 + (33.5 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
            variance = theta * (1 - theta) * spread / (15 * 52)
            assert abs(area - theta) == pytest.approx(norm.ppf(0.975) * math.sqrt(variance), rel=1e-3)


def test_perfect_separation_has_an_interval_with_width():
    estimate = delong(np.array([False, False, True, True, True]), np.arange(5.0))
    assert estimate.value == 1
    assert estimate.high == 1
    assert estimate.low < 0.9


def test_delongs_difference_is_that_of_pairs_counted_one_by_one():
    positive, (own, other) = LABELS == 1, (np.round(scores(0), 1), np.round(scores(1, 0.8), 1))
    wins = [
        np.array([[(x > y) + 0.5 * (x == y) for y in s[~positive]] for x in s[positive]], dtype=float)
        for s in (own, other)
    ]
    # The covariance matrix S = S10 / m + S01 / n of DeLong et al., eq. 6, and L S L' with L = (1, -1).
    cases = np.cov([w.mean(axis=1) for w in wins]) / 52
    controls = np.cov([w.mean(axis=0) for w in wins]) / 15
    contrast = np.array([1, -1])
    error = math.sqrt(contrast @ (cases + controls) @ contrast)
    difference = wins[0].mean() - wins[1].mean()
    estimate, p = auc_difference(positive, own, other)
    assert estimate.value == pytest.approx(difference)
    assert p == pytest.approx(2 * norm.cdf(-abs(difference) / error))


@pytest.mark.slow
def test_delongs_variance_is_that_of_a_bootstrap():
    positive, own, other = LABELS == 1, scores(0), scores(0) + scores(2)
    random = np.random.RandomState(0)
    draws = []
    for _ in range(4000):
        index = np.concatenate([random.choice(np.flatnonzero(positive == k), (positive == k).sum()) for k in (0, 1)])
        drawn = positive[index]
        areas = [np.mean([s[drawn][:, None] > s[~drawn]]) for s in (own[index], other[index])]
        draws.append(areas[0] - areas[1])
    estimate, p = auc_difference(positive, own, other)
    assert abs(estimate.value) / norm.isf(p / 2) == pytest.approx(np.std(draws), rel=0.08)
    assert estimate.high - estimate.low == pytest.approx(2 * norm.ppf(0.975) * np.std(draws), rel=0.15)


def test_equal_rankings_do_not_differ_and_keep_an_interval_with_width():
    positive = LABELS == 1
    estimate, p = auc_difference(positive, scores(0), np.exp(scores(0)))
    assert (estimate.value, p) == (0, 1)
    assert estimate.low < -0.05 < 0.05 < estimate.high


def test_perfect_against_reversed_has_no_p_but_an_interval():
    positive = LABELS == 1
    estimate, p = auc_difference(positive, LABELS.astype(float), -LABELS.astype(float))
    assert (estimate.value, p) == (1, None)
    assert 0 < estimate.low < estimate.high == 1


def test_the_area_of_several_strata_is_that_of_all_pairs_inside_them():
    positive, score = LABELS == 1, np.round(scores(0), 1)
    pairs = [
        (x > y) + 0.5 * (x == y)
        for stratum in range(3)
        for x in score[positive & (stratum == STRATA)]
        for y in score[~positive & (stratum == STRATA)]
    ]
    assert delong(positive, score, STRATA).value == pytest.approx(np.mean(pairs))


def test_offsets_and_scales_of_the_classifiers_change_nothing():
    positive, score = LABELS == 1, scores(0, shift=3.0)
    offset = score * (1 + STRATA) + 9 * STRATA
    assert delong(positive, offset, STRATA)[:3] == pytest.approx(delong(positive, score, STRATA)[:3])
    assert delong(positive, offset).value < delong(positive, score).value - 0.2
    pair = [auc_difference(positive, own, scores(1), STRATA) for own in (offset, score)]
    assert pair[0][0][:3] == pytest.approx(pair[1][0][:3])


def test_a_perfect_ranking_inside_every_stratum_is_exactly_one_and_has_an_interval():
    positive, strata = np.arange(59) % 3 == 0, np.arange(59) // 6
    estimate = delong(positive, positive + 2.0 * strata, strata)
    assert (estimate.value, estimate.high) == (1, 1)
    assert 0.5 < estimate.low < 1


def test_one_stratum_is_no_stratum():
    positive, nought = LABELS == 1, np.zeros(67)
    assert delong(positive, scores(0), nought) == delong(positive, scores(0))
    assert auc_difference(positive, scores(0), scores(1), nought) == auc_difference(positive, scores(0), scores(1))


def test_two_equal_strata_halve_the_variance():
    positive, score = LABELS == 1, scores(0)
    twice = delong(np.tile(positive, 2), np.tile(score, 2), np.repeat([0, 1], 67))
    widths = [math.log(e.high / (1 - e.high)) - math.log(e.low / (1 - e.low)) for e in (delong(positive, score), twice)]
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(2))


def test_a_stratum_of_one_class_makes_no_pair():
    positive, score = np.append(LABELS == 1, [True] * 4), np.append(scores(0), [-9.0] * 4)
    strata = np.append(np.zeros(67), [1.0] * 4)
    assert delong(positive, score, strata) == delong(LABELS == 1, scores(0))
    assert delong(np.array([True, False]), np.arange(2.0), np.arange(2)).value is None


def test_the_precision_of_several_classifiers_is_their_mean_by_cases():
    labels, random = np.arange(60) % 3, np.random.RandomState(0)
    probabilities = random.dirichlet([1, 1, 1], 60)
    strata = np.arange(60) // 20
    precisions = [value_of(average_precision, labels[strata == s], probabilities[strata == s]) for s in range(3)]
    counts = [(labels[strata == s] == 0).sum() for s in range(3)]
    assert value_of(average_precision, labels, probabilities, strata) == pytest.approx(
        np.average(precisions, weights=counts)
    )


def test_the_limits_of_a_difference_are_those_of_independent_areas_where_nothing_correlates():
    positive = np.repeat([False, True], [400, 400])
    random = np.random.RandomState(0)
    own, other = random.normal(positive * 1.0), random.normal(positive * 0.8)
    estimate, _ = auc_difference(positive, own, other)
    first, second = delong(positive, own), delong(positive, other)
    down = math.hypot(first.value - first.low, second.high - second.value)
    assert estimate.value - estimate.low == pytest.approx(down, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LABELS == 1, scores(0), scores(0)[1:]), "of the same 67 subjects, got 67 and 66"),
        ((np.array([True, False, False]), np.arange(3.0), np.arange(3.0)), "two subjects of each"),
        ((LABELS == 1, scores(0), scores(1), LABELS), "both classes in one of them"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        auc_difference(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_stratified_intervals_hold_the_truth_whatever_the_offsets_of_the_folds(offset):
    labels, folds = np.repeat([0, 1], [37, 187]), np.arange(224) % 5
    random, shift, truth = np.random.RandomState(0), 1.8, norm.cdf(1.8 / math.sqrt(2))
    hits = {"stratified": 0, "pooled": 0}
    for _ in range(400):
        score = random.normal(labels * shift) + offset * random.normal(size=5)[folds]
        for name, strata in (("stratified", folds), ("pooled", None)):
            estimate = delong(labels == 1, score, strata)
            hits[name] += estimate.low <= truth <= estimate.high
    assert 0.92 <= hits["stratified"] / 400 <= 0.98
    if offset:
        assert hits["pooled"] / 400 < 0.6
