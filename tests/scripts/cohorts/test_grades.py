from __future__ import annotations

import pytest

from scripts.cohorts.grades import grade_of_folder, parse_grade

CLASSES = ("LGG", "HGG")


@pytest.mark.parametrize(
    "word",
    ["LGG", "lgg", " Low Grade ", "low-grade glioma", "2", "2.0", 2, "II", "WHO II", "WHO grade 2", "G2", "Grade_II"],
)
def test_words_for_low_grade_are_understood(word):
    assert parse_grade(word, CLASSES) == "LGG"


@pytest.mark.parametrize(
    "word", ["HGG", "high grade", "3", "III", "grade 3", "4", 4.0, "IV", "who-grade-IV", "GBM", "Glioblastoma"]
)
def test_words_for_high_grade_are_understood(word):
    assert parse_grade(word, CLASSES) == "HGG"


@pytest.mark.parametrize("word", [None, "", " ", "NA", "n/a", "NaN", float("nan"), "unknown"])
def test_no_grade_is_no_error(word):
    assert parse_grade(word, CLASSES) is None


@pytest.mark.parametrize("word", ["1", "0", "I", "V", "astrocytoma", "LGG?", "23", "grade"])
def test_a_grade_that_is_not_understood_is_refused_with_the_accepted_words(word):
    with pytest.raises(ValueError, match=r"grade must be LGG \(lgg, low grade.*\); HGG .*, got .* grade_map"):
        parse_grade(word, CLASSES)


def test_the_users_own_words_come_first():
    grade_map = {"Astro II": "LGG", "borderline": None, "2": "HGG"}
    assert parse_grade("astro  ii", CLASSES, grade_map) == "LGG"
    assert parse_grade("Borderline", CLASSES, grade_map) is None
    assert parse_grade(2, CLASSES, grade_map) == "HGG"
    with pytest.raises(ValueError, match="grade_map must give one of LGG, HGG or null, got 'MID' for 'x'"):
        parse_grade("x", CLASSES, {"x": "MID"})


def test_other_classes_are_understood_by_name_alone():
    assert parse_grade("meningioma", ["Glioma", "Meningioma"]) == "Meningioma"
    with pytest.raises(ValueError, match="grade must be Glioma; Meningioma, or empty"):
        parse_grade("GBM", ["Glioma", "Meningioma"])


@pytest.mark.parametrize("name", ["LGG", "lgg", "Low Grade", "low-grade_glioma", "Grade II", "WHO_2", "grade-2"])
def test_a_folder_may_be_named_as_a_grade(name):
    assert grade_of_folder(name, CLASSES) == "LGG"


@pytest.mark.parametrize("name", ["2", "IV", "G3", "g iv", "train", "unknown", "LGG_HGG", "Brats18_2013_10_1", ""])
def test_a_number_or_another_name_of_a_folder_is_no_grade(name):
    assert grade_of_folder(name, CLASSES) is None


def test_a_folder_may_be_named_in_the_users_own_words():
    assert grade_of_folder("2", CLASSES, {"2": "HGG"}) == "HGG"
    with pytest.raises(ValueError, match="grade_map must give one of LGG, HGG"):
        grade_of_folder("astro", CLASSES, {"astro": "MID"})


@pytest.mark.parametrize("grade_map", ["LGG", ["LGG"], 2])
def test_a_grade_map_of_another_type_is_refused_with_its_key(grade_map):
    with pytest.raises(TypeError, match="grade_map must be a mapping from a word to a class or null, got"):
        parse_grade("II", CLASSES, grade_map)
