"""Paired tests and intervals against published examples, direct sums and swaps of the two classifiers."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from scripts.statistics.paired_tests import (
    accuracy_difference,
    auc_difference,
    balanced_accuracy_difference,
    count_discordant,
    holm,
    mcnemar,
)

LABELS = np.array([0] * 15 + [1] * 52)


def table(both, only_own, only_reference, neither):
    """Right answers of two classifiers with these counts."""
    own = [True] * (both + only_own) + [False] * (only_reference + neither)
    reference = [True] * both + [False] * only_own + [True] * only_reference + [False] * neither
    return np.array(own), np.array(reference)


def scores(seed, shift=1.2):
    return np.random.RandomState(seed).normal(LABELS * shift)


def test_discordant_pairs_are_counted_by_who_is_right():
    assert count_discordant(*table(4, 3, 2, 1)) == (3, 2)


@pytest.mark.parametrize(("own", "reference"), [(0, 0), (0, 5), (9, 1), (14, 30)])
def test_mcnemar_is_a_sum_of_binomial_coefficients(own, reference):
    total, rarer = own + reference, min(own, reference)
    tail = sum(math.comb(total, k) for k in range(rarer + 1)) / 2**total
    assert mcnemar(own, reference) == pytest.approx(min(1.0, 2 * tail))


def test_holm_gives_the_p_values_of_r():
    # p.adjust(c(.01, .02, .03, .04, .05), "holm") of R 4
    assert holm([0.05, 0.01, 0.03, 0.04, 0.02]) == pytest.approx([0.09, 0.05, 0.09, 0.09, 0.08])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_what_its_steps_reject(p_values):
    rejected, order = set(), sorted(range(len(p_values)), key=lambda index: p_values[index])
    for step, index in enumerate(order):
        if p_values[index] * (len(p_values) - step) > 0.05:
            break
        rejected.add(index)
    assert {index for index, p in enumerate(holm(p_values)) if p <= 0.05} == rejected


def test_the_paired_interval_is_the_published_one():
    # Cavo et al. 2012 as in Fagerland, Lydersen, Laake 2017, "Statistical analysis of contingency tables", chapter 8:
    # 59, 6, 16, 80; Newcombe's square-and-add interval of -.0621 is -.1186 to -.0046.
    assert accuracy_difference(*table(59, 6, 16, 80))[:3] == pytest.approx((-0.0621, -0.1186, -0.0046), abs=5e-5)


@pytest.mark.parametrize("counts", [(40, 9, 3, 15), (0, 5, 5, 0), (20, 0, 0, 0), (0, 7, 0, 3), (3, 1, 1, 2)])
def test_exchanging_the_classifiers_mirrors_the_interval(counts):
    own, reference = table(*counts)
    value, low, high, _ = accuracy_difference(own, reference)
    assert accuracy_difference(reference, own)[:3] == pytest.approx((-value, -high, -low))
    assert -1 <= low <= value <= high <= 1


def test_the_paired_interval_is_narrower_than_that_of_independent_samples():
    paired = accuracy_difference(*table(60, 6, 4, 30))
    unrelated = accuracy_difference(*table(42, 24, 22, 12))  # the same margins, almost no correlation
    assert paired.high - paired.low < 0.6 * (unrelated.high - unrelated.low)


def test_no_subject_gives_no_difference():
    assert accuracy_difference([], []).value is None


def test_a_difference_of_balanced_accuracies_joins_those_of_the_classes():
    random = np.random.RandomState(0)
    own, reference = random.random((2, len(LABELS))) < 0.7
    parts = [accuracy_difference(own[members], reference[members]) for members in (LABELS == 0, LABELS == 1)]
    value, low, high, _ = balanced_accuracy_difference(LABELS, own, reference)
    assert value == pytest.approx(sum(part.value for part in parts) / 2)
    assert value - low == pytest.approx(math.hypot(*(part.value - part.low for part in parts)) / 2)
    assert high - value == pytest.approx(math.hypot(*(part.high - part.value for part in parts)) / 2)


def test_balanced_accuracy_of_one_class_is_accuracy():
    own, reference = table(5, 3, 2, 1)
    assert balanced_accuracy_difference(np.zeros(11), own, reference)[:3] == pytest.approx(
        accuracy_difference(own, reference)[:3]
    )


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
    assert estimate[:3] == pytest.approx([difference + norm.ppf(q) * error for q in (0.5, 0.025, 0.975)])
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
    estimate, _ = auc_difference(positive, own, other)
    assert estimate.high - estimate.low == pytest.approx(2 * norm.ppf(0.975) * np.std(draws), rel=0.08)


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


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (count_discordant, ([True], [True, False]), "of the same subjects, got 1 and 2"),
        (accuracy_difference, ([True], [True, False]), "of the same subjects, got 1 and 2"),
        (auc_difference, (LABELS == 1, scores(0), scores(0)[1:]), "of the same 67 subjects, got 67 and 66"),
        (auc_difference, (np.array([True, False, False]), np.arange(3.0), np.arange(3.0)), "two subjects of each"),
    ],
)
def test_unequal_or_too_few_subjects_are_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_all_tables_of_six_subjects_give_limits_around_the_value():
    for counts in product(range(7), repeat=4):
        if sum(counts) == 6:
            value, low, high, _ = accuracy_difference(*table(*counts))
            assert -1 <= low <= value <= high <= 1
