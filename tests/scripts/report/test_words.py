from __future__ import annotations

import math

import pytest

from scripts.report.words import format_interval, format_number, format_p


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, ".000"),
        (-0.0, ".000"),
        (0.0004, ".000"),
        (-0.0001, ".000"),
        (-0.0006, "−.001"),
        (0.9996, "1.000"),
        (0.85, ".850"),
        (1, "1.000"),
        (-0.05, "−.050"),
        (12.0, "12.000"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers_are_written_without_leading_zero(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (-0.0, "0"), (0.4, "0"), (-0.4, "0"), (1, "1"), (57.6, "58")])
def test_a_zero_without_decimals_is_not_an_empty_cell(value, text):
    assert format_number(value, 0) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (0.0004, ".0004"),
        (1, "1"),
        (0.5, ".5"),
        (0.012345, ".0123"),
        (2.0, "2"),
        (1234.5, "1230"),
        (-0.00012, "−.00012"),
        (0.0000123, "1.23 × 10⁻⁵"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_numbers_keep_three_significant_digits(value, text):
    assert format_number(value, significant=3) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "< .001"), (0.0004, "< .001"), (0.12, ".120"), (1.0, "1.000"), (None, "–")]
)
def test_no_p_value_is_written_as_zero(p, text):
    assert format_p(p) == text


def test_the_limits_of_an_interval_keep_their_zero():
    assert format_interval({"low": -0.001, "high": 0.0}) == ".00 to .00"
    assert format_interval({"low": 0.0, "high": 1.0}, 0) == "0 to 1"
    assert format_interval({"low": None, "high": None}) == format_interval(None) == ""
