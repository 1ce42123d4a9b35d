"""Power of McNemar's test against a count of all outcomes and against simulation."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from scipy.stats import norm

from scripts.statistics.paired_tests import mcnemar
from scripts.statistics.power import (
    connor_subjects,
    detectable_difference,
    detectable_gain,
    mcnemar_power,
    needed_subjects,
)


@pytest.mark.parametrize(("discordant", "gain"), [(0.4, 0.2), (0.3, -0.3), (1.0, 0.0), (0.5, 0.5)])
def test_power_is_the_chance_of_all_outcomes_that_are_rejected(discordant, gain):
    n, for_own, for_other = 24, (discordant + gain) / 2, (discordant - gain) / 2
    expected = sum(
        comb(n, own) * comb(n - own, other) * for_own**own * for_other**other * (1 - discordant) ** (n - own - other)
        for own in range(n + 1)
        for other in range(n - own + 1)
        if mcnemar(own, other) < 0.05
    )
    assert mcnemar_power(n, discordant, gain) == pytest.approx(expected)


def test_without_gain_the_power_is_at_most_the_level():
    assert all(mcnemar_power(n, 0.12, 0.0) <= 0.05 for n in (10, 67, 224, 335))


def test_simulated_studies_find_the_gain_as_often():
    counts = np.random.default_rng(0).multinomial(224, [0.10, 0.02, 0.88], size=2000)
    found = np.mean([mcnemar(int(own), int(other)) < 0.05 for own, other, _ in counts])
    assert found == pytest.approx(mcnemar_power(224, 0.12, 0.08), abs=0.02)


def test_connors_number_is_his_formula():
    # z of .975 is 1.959964, of .8 is .841621: (1.959964 sqrt(.12) + .841621 sqrt(.12 - .0064))^2 / .0064 = 144.8
    assert connor_subjects(0.12, 0.08) == 145


@pytest.mark.parametrize(("discordant", "gain"), [(0.12, 0.08), (0.2, 0.05), (0.12, 0.12), (0.5, -0.2)])
def test_needed_subjects_are_enough_and_one_fewer_are_not(discordant, gain):
    needed = needed_subjects(discordant, gain)
    assert mcnemar_power(needed, discordant, gain) >= 0.8 > mcnemar_power(needed - 1, discordant, gain)
    assert connor_subjects(discordant, gain) * 0.7 < needed < connor_subjects(discordant, gain) * 1.5


def test_the_papers_gain_of_two_hundredths_needs_ten_times_its_subjects():
    assert needed_subjects(0.12, 0.02) > 10 * 224


def test_the_detectable_gain_is_found_with_that_power():
    gain = detectable_gain(224, 0.12)
    assert mcnemar_power(224, 0.12, gain) == pytest.approx(0.8, abs=1e-3)
    assert detectable_gain(20, 0.1) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0.0, 0.0), "discordant must be in"), ((0.1, 0.2), "gain must be at most"), ((0.1, 0.0), "must not be 0")],
)
def test_impossible_shares_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        connor_subjects(*arguments)


def test_a_detectable_difference_is_found_by_a_z_test_with_that_power():
    low, high = 0.05, 0.25
    error = (high - low) / 2 / norm.isf(0.025)
    difference = detectable_difference(low, high)
    rejected = norm.sf(norm.isf(0.025), difference / error) + norm.cdf(norm.ppf(0.025), difference / error)
    assert rejected == pytest.approx(0.8, abs=1e-4)
    assert detectable_difference(None, None) is None
