"""Paired tests and intervals against published examples, direct sums and swaps of the two classifiers."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.statistics.paired_tests import (
    accuracy_difference,
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


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (count_discordant, ([True], [True, False]), "of the same subjects, got 1 and 2"),
        (accuracy_difference, ([True], [True, False]), "of the same subjects, got 1 and 2"),
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
