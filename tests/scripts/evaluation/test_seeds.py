from __future__ import annotations

import pytest

from scripts.evaluation.seeds import refuse_other_patients, seed_spread
from scripts.statistics.intervals import Estimate


def test_the_spread_stands_beside_the_interval_of_the_first_seed():
    found = seed_spread([Estimate(0.8, 0.7, 0.9), Estimate(0.7, 0.6, 0.8), Estimate(0.9, 0.8, 1.0)])
    assert found.mean == pytest.approx(0.8)
    assert found.sd == pytest.approx(0.1)
    assert (found.low, found.high) == (0.7, 0.9)


def test_one_seed_has_no_spread():
    assert seed_spread([Estimate(0.8)]).sd is None


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
