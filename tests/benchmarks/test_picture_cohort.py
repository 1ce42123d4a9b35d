"""The benchmark of a folder of pictures scans what it wrote, once written."""

from __future__ import annotations

import sys

from benchmarks import picture_cohort


def test_a_thousandth_of_the_set_is_written_once_and_scanned(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["picture_cohort", str(tmp_path), "--share", "0.002"])
    picture_cohort.main()
    paths = list((tmp_path / "pictures").rglob("*.jpg"))
    assert f"{len(paths)} pictures: " in capsys.readouterr().out
    states = {path: path.stat().st_mtime_ns for path in paths}
    assert picture_cohort.write_pictures(tmp_path / "pictures", 0.002) == len(paths) == 16
    assert {path: path.stat().st_mtime_ns for path in paths} == states
