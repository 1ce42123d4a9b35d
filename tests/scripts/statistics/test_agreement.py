from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from scripts.statistics.agreement import cohen_kappa, fleiss_kappa

# Ten subjects that fourteen raters put into five categories: counts; kappa is .210 (Wikipedia, "Fleiss' kappa").
COUNTS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)


def test_cohens_kappa_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    first = random.choice(["a", "b", "c"], 60)
    second = np.where(random.random(60) < 0.6, first, random.choice(["a", "b", "c"], 60))
    kappa = cohen_kappa(first.tolist(), second.tolist(), [0] * 60, num_draws=200)
    assert kappa.value == pytest.approx(cohen_kappa_score(first, second))
    assert kappa.low < kappa.value < kappa.high


def test_fleiss_kappa_is_that_of_the_published_table():
    answers = np.array([np.repeat(list("12345"), counts) for counts in COUNTS]).T
    kappa = fleiss_kappa(answers.tolist(), [0] * 10, num_draws=200)
    assert kappa.value == pytest.approx(0.210, abs=5e-4)
    assert kappa.low < kappa.value < kappa.high


def test_people_who_agree_in_all_have_kappa_1_and_those_who_agree_in_none_of_two_answers_minus_1():
    one, other = ["a", "b"] * 5, ["b", "a"] * 5
    strata = [0, 1] * 5
    assert cohen_kappa(one, one, strata, 100).value == pytest.approx(1)
    assert fleiss_kappa([one, one, one], strata, 100).value == pytest.approx(1)
    assert cohen_kappa(one, other, strata, 100).value == pytest.approx(-1)
    assert fleiss_kappa([one, other], strata, 100).value == pytest.approx(-1)


def test_one_answer_to_everything_is_no_agreement_beyond_chance():
    same = ["a"] * 4
    assert cohen_kappa(same, same, [0] * 4, 100).value is None
    assert fleiss_kappa([same, same, same], [0] * 4, 100).value is None
