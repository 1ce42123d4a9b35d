"""The filled sheets of a reader's test: read, and refused by name where they do not answer it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.running.errors import some_names
from scripts.splits.lists import read_list


def answer_files(answers_dir: str) -> list[str]:
    """List the filled sheets of a folder, by name.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no sheet.
    """
    folder = Path(answers_dir)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} does not exist; put the files that the readers saved into it (--reader_answers_dir)"
        )
    files = sorted(str(path) for path in folder.glob("*.json"))
    if not files:
        raise ValueError(f"{folder} must hold the files that the readers saved, got no .json; copy them there")
    return files


def read_answers(key: Mapping[str, Any], answers_dir: str) -> dict[str, list[dict[str, Any]]]:
    """Read the filled sheets of a folder.

    Args:
        key: content of `reader_key.json`.
        answers_dir: folder of the filled sheets.

    Returns:
        Name of each reader -> answers in the order of the key, each with what `reader_answers` of
        `scripts.splits.lists.SCHEMAS` lists.

    Raises:
        ValueError: naming file and fault: a sheet of another test, no reader's name or one that another sheet has,
            an unknown picture, one answered twice or not at all, a class that there is not.
    """
    readers: dict[str, tuple[str, list[dict[str, Any]]]] = {}
    for path in answer_files(answers_dir):
        sheet = read_list(path, "reader_answers")
        name = sheet["reader"].strip()
        if sheet["study"] != key["study"]:
            raise ValueError(
                f"{path} must be of the test {key['study']}, got {sheet['study']}; give the key of that test, or take"
                " the sheet out of the folder"
            )
        if not name:
            raise ValueError(f"{path} must name its reader, got {sheet['reader']!r}; write the name in `reader`")
        same = [other for other in readers if other.casefold() == name.casefold()]
        if same:
            raise ValueError(
                f"{path} must be of another reader than {readers[same[0]][0]}, got {name!r} twice; take one of them"
                " out, or correct the name of the reader in it"
            )
        readers[name] = (path, _in_order(path, sheet["answers"], key))
    return {name: answers for name, (_, answers) in sorted(readers.items())}


def _in_order(path: str, answers: list[dict[str, Any]], key: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Check the answers of a sheet, and put them into the order of the key."""
    names = [picture["picture"] for picture in key["pictures"]]
    counts = Counter(answer["picture"] for answer in answers)
    asked = ["source", "source_confidence", *(["class_name", "class_confidence"] if key["asks_class"] else [])]
    open_ones = [answer["picture"] for answer in answers if any(answer.get(name) is None for name in asked)]
    for pictures, constraint, fault in (
        (set(counts) - set(names), "name pictures of the test", "unknown"),
        ({name for name, count in counts.items() if count > 1}, "answer each picture once", "answered twice"),
        ((set(names) - set(counts)) | set(open_ones), "answer every picture in full", "missing"),
    ):
        if pictures:
            raise ValueError(
                f"{path} must {constraint}, got {fault}: {some_names(pictures)}; open the answer sheet again, answer it"
                " in full and save it"
            )
    classes = {answer["class_name"] for answer in answers} - set(key["classes"]) if key["asks_class"] else set()
    if classes:
        raise ValueError(f"{path} must name classes of {', '.join(key['classes'])}, got {some_names(classes)}")
    by_name = {answer["picture"]: answer for answer in answers}
    return [by_name[name] for name in names]
