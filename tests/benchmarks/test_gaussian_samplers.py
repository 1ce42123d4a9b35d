"""The table of samplers in the docs is what its command prints."""

from __future__ import annotations

import re

from benchmarks.gaussian_samplers import main
from tests.helpers import ROOT


def test_the_docs_hold_the_table_that_is_printed(capsys):
    main()
    printed = capsys.readouterr().out.splitlines()
    docs = (ROOT / "docs" / "explanation" / "method.md").read_text(encoding="utf-8")
    for row in printed[2:]:
        name, *values = re.split(r" *\| *", row.strip("| "))
        line = next(line for line in docs.splitlines() if re.match(rf"\| {re.escape(name)} \| 1?\.\d", line))
        assert [value.removeprefix("0") for value in values] == re.split(r" *\| *", line.strip("| "))[1:]
