"""Rows of a CSV as people's programs write it: any delimiter, encoding and number of empty rows and columns."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from scripts.running.files import read_text

DELIMITERS = ",;\t"

Row = dict[str, str]


def read_csv_rows(path: Path) -> tuple[list[str], list[tuple[str, Row]]]:
    """Read a CSV with a line of column names.

    Args:
        path: file with commas, semicolons or tabs; in an encoding of `scripts.running.files.read_text`.

    Returns:
        Names of the columns, and (file and row for messages, column -> text) of each row. Rows and columns that are
        empty throughout are none.

    Raises:
        ValueError: naming the row, if it has another number of fields or cannot be parsed; or a column without a name
            or there twice.
    """
    lines = _lines(path)
    if not lines:
        return [], []
    (_, names), *rest = lines
    names = [name.strip() for name in names]
    width = max((number for number, name in enumerate(names, start=1) if name), default=0)
    for number, cells in rest:
        _require_width(f"{path} row {number}", cells, names, width)
    filled = [index for index, name in enumerate(names) if name]
    twice = sorted({names[index] for index in filled if names.count(names[index]) > 1})
    if twice:
        raise ValueError(f"{path} must have no column twice, got {', '.join(twice)}; remove one")
    rows = [
        (f"{path} row {number}", {names[index]: cells[index].strip() for index in filled}) for number, cells in rest
    ]
    return [names[index] for index in filled], rows


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """(number, cells) of each line that is not empty."""
    text = read_text(path)
    declared = re.match(r"sep=(.)\r?\n", text, re.IGNORECASE)  # what Excel writes for itself
    text = text[declared.end() :] if declared else text
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = declared[1] if declared else max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    skipped = 1 if declared else 0
    try:
        return [(reader.line_num + skipped, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ValueError(
            f"{path} row {reader.line_num + skipped} must be a row of a CSV, got {error}; look for a quotation mark"
            " without its partner, and save the table as CSV UTF-8"
        ) from error


def _require_width(where: str, cells: list[str], names: list[str], width: int) -> None:
    nameless = [cell for index, cell in enumerate(cells) if cell.strip() and (index >= len(names) or not names[index])]
    if len(cells) < width or nameless:
        got = f"{nameless[0]!r} in a column without a name" if nameless else str(len(cells))
        raise ValueError(f"{where} must have {width} fields as the first line, got {got}; correct it")
