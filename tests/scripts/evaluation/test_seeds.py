from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from scripts.evaluation.seeds import holds_over_seeds, over_seeds_and_subjects, refuse_other_patients, seed_spread
from scripts.statistics.intervals import Estimate


def test_the_spread_stands_beside_the_interval_of_the_first_seed():
    found = seed_spread([Estimate(0.8, 0.7, 0.9), Estimate(0.7, 0.6, 0.8), Estimate(0.9, 0.8, 1.0)])
    assert found.mean == pytest.approx(0.8)
    assert found.sd == pytest.approx(0.1)
    assert (found.low, found.high) == (0.7, 0.9)


def test_one_seed_has_no_spread():
    assert seed_spread([Estimate(0.8)]).sd is None


def test_seeds_that_agree_leave_the_interval_over_subjects():
    same = [Estimate(0.8, 0.7, 0.85)] * 4
    assert over_seeds_and_subjects(same)[:3] == pytest.approx((0.8, 0.7, 0.85))


def test_subjects_without_spread_leave_students_interval_over_seeds():
    values = [0.7, 0.75, 0.71, 0.66]
    low, high = t.interval(0.95, 3, np.mean(values), np.std(values, ddof=1) / 2)
    found = over_seeds_and_subjects([Estimate(value, value, value) for value in values])
    assert found[:3] == pytest.approx((np.mean(values), low, high))


@pytest.mark.parametrize("estimates", [[Estimate(0.8, 0.7, 0.9)] * 2, [Estimate(0.8, 0.7, 0.9)] * 3 + [Estimate(0.8)]])
def test_of_two_seeds_or_one_without_limits_no_interval_is_invented(estimates):
    assert over_seeds_and_subjects(estimates)[:3] == (pytest.approx(0.8), None, None)


@pytest.mark.parametrize("num_seeds", [3, 5])
@pytest.mark.parametrize(("of_subjects", "of_seeds"), [(0.04, 0.04), (0.05, 0.01), (0.01, 0.05)])
@pytest.mark.parametrize(("truth", "lowest"), [(0.6, 0.0), (0.0, -1.0)])  # a measure; a difference that is none
def test_the_interval_over_both_covers_what_other_trainings_on_other_subjects_give(
    num_seeds, of_subjects, of_seeds, truth, lowest
):
    random, covered = np.random.default_rng(0), 0
    for _ in range(2000):
        values = truth + random.normal(0, of_subjects) + random.normal(0, of_seeds, num_seeds)
        limits = 1.96 * of_subjects
        estimates = [Estimate(value, value - limits, value + limits) for value in values]
        both = over_seeds_and_subjects(estimates, lowest=lowest)
        covered += both.low <= truth <= both.high
    assert 0.935 <= covered / 2000 <= 0.99


def test_a_difference_may_be_below_0_and_holds_where_0_lies_outside():
    worse = [Estimate(value, value - 0.05, value + 0.05) for value in (-0.2, -0.21, -0.19)]
    spread = seed_spread(worse, lowest=-1.0)
    assert spread.both_low < spread.mean < spread.both_high < 0
    assert holds_over_seeds(spread._asdict())
    assert not holds_over_seeds(seed_spread([*worse[:2], Estimate(0.2, 0.1, 0.3)], lowest=-1.0)._asdict())
    assert not holds_over_seeds(seed_spread(worse[:2], lowest=-1.0)._asdict())
    assert seed_spread([Estimate(-0.9, -1.0, 0.5)] * 3, lowest=-1.0).both_low == -1


@pytest.mark.parametrize("estimates", [[], [Estimate(0.5), Estimate(None)]])
def test_a_seed_without_value_is_refused(estimates):
    with pytest.raises(ValueError, match="must have a value for each seed"):
        seed_spread(estimates)


def test_other_subjects_are_refused_by_name():
    refuse_other_patients({"first": {"a": 0, "b": 1}, "second": {"b": 1, "a": 0}})
    with pytest.raises(ValueError, match="got b, c in only one of first and second"):
        refuse_other_patients({"first": {"a": 0, "b": 1}, "second": {"a": 0, "c": 1}})


def test_other_subjects_under_the_same_names_are_refused():
    with pytest.raises(ValueError, match="another grade or lesion volume of b in first and second; .* seed: 0"):
        refuse_other_patients({"first": {"a": 0, "b": 1}, "second": {"a": 0, "b": 2}})
