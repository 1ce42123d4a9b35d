from __future__ import annotations

import unicodedata

import pytest

from scripts.cohorts.words import is_unknown, name_of, plain, spelled_differently


@pytest.mark.parametrize(
    "text", ["Low Grade", "low-grade", " LOW_grade ", "low.grade", "low\u2013grade", "Low  /grade"]
)
def test_case_and_separators_make_no_other_word(text):
    assert plain(text) == "low grade"


def test_a_float_of_a_whole_number_is_that_number():
    assert plain(2.0) == plain("2.0") == plain(2) == "2"
    assert plain("2.5") != plain("25")


@pytest.mark.parametrize(
    "value", [None, "", " ", "-", "NA", "n/a", "NaN", float("nan"), "None", "unknown", "Not stated"]
)
def test_cells_that_say_nothing_are_empty(value):
    assert is_unknown(value)
    assert name_of(value) == ""


def test_a_name_is_one_whatever_system_wrote_its_umlaut():
    apart = unicodedata.normalize("NFD", "Müller_1")
    assert apart != "Müller_1"
    assert name_of(apart) == "Müller_1"
    assert name_of(" 7 ") == name_of(7) == "7"
    assert name_of("?") == ""


def test_names_that_differ_in_spelling_only_are_grouped():
    names = ["Bonn", "bonn", "BONN", "1", "01", "1.0", "A-1", "A 1", "A1", "11", "0", "00"]
    assert spelled_differently(names) == [["0", "00"], ["01", "1", "1.0"], ["A 1", "A-1"], ["BONN", "Bonn", "bonn"]]


def test_names_that_differ_otherwise_are_not():
    assert spelled_differently(["1-11", "11-1", "P1", "P01", "Bonn", "Bonn 2", "Bonn"]) == []
