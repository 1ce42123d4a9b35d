from __future__ import annotations

import copy

import pytest

from scripts.image_quality.reader_answers import read_answers
from scripts.running.files import write_json

NAMES = ("picture_001.png", "picture_002.png")
KEY = {
    "study": "0123",
    "simulated": True,
    "asks_class": True,
    "classes": ["LGG", "HGG"],
    "pictures": [
        {"picture": NAMES[0], "source": "real", "method": None, "class_name": "LGG"},
        {"picture": NAMES[1], "source": "synthetic", "method": "ddpm", "class_name": "HGG"},
    ],
}
SHEET = {
    "study": "0123",
    "reader": "Ada",
    "answers": [
        {"picture": name, "source": "real", "source_confidence": 3, "class_name": "LGG", "class_confidence": 1}
        for name in reversed(NAMES)
    ],
}


def test_answers_come_in_the_order_of_the_key(tmp_path):
    write_json(tmp_path / "ada.json", SHEET)
    write_json(tmp_path / "bob.json", {**SHEET, "reader": " Bob "})
    readers = read_answers(KEY, str(tmp_path))
    assert list(readers) == ["Ada", "Bob"]
    assert [answer["picture"] for answer in readers["Bob"]] == list(NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sheet: sheet.update(study="4567"), "must be of the test 0123, got 4567"),
        (lambda sheet: sheet.update(reader=" "), "must name its reader, got ' '"),
        (lambda sheet: sheet["answers"][0].update(picture="other.png"), "got unknown: other.png"),
        (lambda sheet: sheet["answers"].append(sheet["answers"][0]), "got answered twice: picture_002.png"),
        (lambda sheet: sheet["answers"].pop(), "got missing: picture_001.png"),
        (lambda sheet: sheet["answers"][0].update(source=None), "got missing: picture_002.png"),
        (lambda sheet: sheet["answers"][1].pop("class_confidence"), "got missing: picture_001.png"),
        (lambda sheet: sheet["answers"][0].update(class_name="G4"), "must name classes of LGG, HGG, got G4"),
        (lambda sheet: sheet["answers"][0].update(source_confidence=0), "must be a whole number from 1 to 5"),
    ],
)
def test_a_sheet_that_does_not_answer_the_test_is_refused_by_name(tmp_path, change, message):
    sheet = copy.deepcopy(SHEET)
    change(sheet)
    write_json(tmp_path / "ada.json", sheet)
    with pytest.raises(ValueError, match="ada.json") as caught:
        read_answers(KEY, str(tmp_path))
    assert message in str(caught.value)


def test_one_reader_answers_once(tmp_path):
    write_json(tmp_path / "1.json", SHEET)
    write_json(tmp_path / "2.json", {**SHEET, "reader": "ada"})
    with pytest.raises(ValueError, match=r"2.json must be of another reader than .*1.json, got 'ada' twice"):
        read_answers(KEY, str(tmp_path))


def test_a_folder_without_sheets_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold the files that the readers saved"):
        read_answers(KEY, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        read_answers(KEY, str(tmp_path / "none"))
