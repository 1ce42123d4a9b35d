"""What people write for a class, such as the grade of a glioma, and the class it means."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from scripts.cohorts.words import is_unknown, plain

# Grade 1 is left out on purpose: a 1 in somebody's table may as well be the label of the high-grade class.
WORDS = {
    "LGG": ("lgg", "low grade", "low grade glioma", "2", "ii"),
    "HGG": ("hgg", "high grade", "high grade glioma", "3", "iii", "4", "iv", "gbm", "glioblastoma"),
}
NUMBER = re.compile(r"g?(\d|[iv]+)")

GradeMap = Mapping[str, str | None]


def parse_grade(value: object, classes: Collection[str], grade_map: GradeMap | None = None) -> str | None:
    """Find the class that a word for a grade means.

    Args:
        value: what the table says: a class by its name, LGG or HGG in words, or a WHO grade (2, II, "grade 3", GBM).
        classes: names of the classes; the words for LGG and HGG count where these are among them.
        grade_map: the user's own words and the class each means (None: no grade), asked first.

    Returns:
        Name of the class, or None if the grade is empty or said to be unknown.

    Raises:
        TypeError: if `grade_map` is no mapping.
        ValueError: if the word is not understood, or means a class that is not among `classes`.
    """
    word = plain(value)
    own = {plain(key): name for key, name in _checked(grade_map).items()}
    if word in own:
        return _known(own[word], value, classes)
    if is_unknown(value):
        return None
    by_name = {plain(name): name for name in classes}
    if word in by_name:
        return by_name[word]
    number = re.sub(r"^(who )?(grade |g)?(?=(\d|[iv]+$))", "", word)
    for name, words in WORDS.items():
        if name in classes and (word in words or number in words):
            return name
    raise ValueError(f"grade must be {accepted_words(classes)}, got {value!r}; or say what it means with grade_map")


def check_grade_map(grade_map: GradeMap | None, classes: Collection[str]) -> None:
    """Refuse a map that gives something else than classes.

    Args:
        grade_map: as in `parse_grade`.
        classes: names of the classes.

    Raises:
        TypeError: if it is no mapping.
        ValueError: naming the word and the class that there is not.
    """
    for word, name in _checked(grade_map).items():
        _known(name, word, classes)


def grade_of_folder(name: str, classes: Collection[str], grade_map: GradeMap | None = None) -> str | None:
    """Find the class that the name of a folder means, such as HGG, hgg or Low Grade.

    Args:
        name: of the folder.
        classes: as in `parse_grade`.
        grade_map: as in `parse_grade`.

    Returns:
        Name of the class; None for other names. A number alone may be that of a patient, and is none.
    """
    word = plain(name)
    if word in map(plain, _checked(grade_map)):
        return parse_grade(name, classes, grade_map)
    if NUMBER.fullmatch(word):
        return None
    try:
        return parse_grade(name, classes)
    except ValueError:
        return None


def accepted_words(classes: Collection[str]) -> str:
    """List the words that are understood for each class, for an error message."""
    listed = "; ".join(f"{name} ({', '.join(WORDS[name])})" if name in WORDS else name for name in classes)
    return f"{listed}, or empty where it is unknown"


def _checked(grade_map: GradeMap | None) -> GradeMap:
    if grade_map is not None and not isinstance(grade_map, Mapping):
        raise TypeError(
            f"grade_map must be a mapping from a word to a class or null, got {grade_map!r}; write it as"
            " {astro II: LGG, borderline: null}"
        )
    return grade_map or {}


def _known(name: str | None, value: object, classes: Collection[str]) -> str | None:
    if name is not None and name not in classes:
        raise ValueError(f"grade_map must give one of {', '.join(classes)} or null, got {name!r} for {value!r}")
    return name
