from __future__ import annotations

import pytest

from scripts.cohorts.csv_rows import read_csv_rows

ROWS = [{"subject_id": "P1", "site": "Köln"}, {"subject_id": "P2", "site": ""}]


def read(path, text: str, encoding: str = "utf-8"):
    path.write_bytes(text.encode(encoding))
    return read_csv_rows(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows_come_in_as_any_program_writes_them(tmp_path, encoding, delimiter, end):
    text = end.join(delimiter.join(row) for row in (["subject_id", "site"], ["P1", "Köln"], ["P2", ""], []))
    names, rows = read(tmp_path / "a.csv", text, encoding)
    assert names == ["subject_id", "site"]
    assert rows == [(f"{tmp_path / 'a.csv'} row {number}", row) for number, row in enumerate(ROWS, start=2)]


def test_rows_and_columns_that_are_empty_throughout_are_none(tmp_path):
    text = "\n,,,\nsubject_id,,site,\nP1,,Köln,,,\n , ,,\n\nP2,,,\n,,,\n"
    names, rows = read(tmp_path / "a.csv", text)
    assert names == ["subject_id", "site"]
    assert [row for _, row in rows] == ROWS
    assert [where.split()[-1] for where, _ in rows] == ["4", "7"]


def test_the_line_that_excel_writes_for_itself_is_no_row(tmp_path):
    _, rows = read(tmp_path / "a.csv", "sep=;\r\nsubject_id;site\r\nP1;Köln\r\nP2;\r\n")
    assert [row for _, row in rows] == ROWS
    assert rows[0][0].endswith("row 3")


def test_a_delimiter_within_quotation_marks_is_none(tmp_path):
    _, rows = read(tmp_path / "a.csv", 'subject_id,site\nP1,"Köln, Uni"\n')
    assert rows[0][1]["site"] == "Köln, Uni"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n1,2,3\n1,2\n", "a.csv row 3 must have 3 fields as the first line, got 2"),
        ("a,b\n1,2,3\n", "a.csv row 2 must have 2 fields as the first line, got '3' in a column without a name"),
        ("a,,b\n1,2,3\n", "got '2' in a column without a name"),
        ("a,b,a\n1,2,3\n", "a.csv must have no column twice, got a; remove one"),
        ('a,b\n1,"2\n' + "x" * 200_000, "a.csv row .* must be a row of a CSV, got field larger.* quotation mark"),
    ],
    ids=["short", "long", "nameless", "twice", "unclosed"],
)
def test_a_table_that_cannot_be_read_is_refused_by_row(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.csv", text)


def test_an_empty_file_has_no_rows(tmp_path):
    assert read(tmp_path / "a.csv", "\n\n") == ([], [])
