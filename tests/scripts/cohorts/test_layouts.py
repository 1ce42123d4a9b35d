from __future__ import annotations

import os

import pytest

from scripts.cohorts.layouts import files_below


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def test_a_folder_is_visited_once_whatever_links_lead_to_it(tmp_path):
    touch(tmp_path / "src" / "a" / "1.nii", tmp_path / "src" / "b" / "2.nii")
    (tmp_path / "src" / "latest").symlink_to(tmp_path / "src")
    (tmp_path / "src" / "a" / "up").symlink_to("../../src")
    (tmp_path / "src" / "a" / "beside").symlink_to("../b")  # comes before b, which keeps its name all the same
    assert files_below(tmp_path / "src") == [tmp_path / "src" / "a" / "1.nii", tmp_path / "src" / "b" / "2.nii"]


def test_links_to_folders_elsewhere_are_followed_under_their_own_names(tmp_path):
    touch(tmp_path / "store" / "0a" / "1.nii", tmp_path / "store" / "0a" / "deep" / "2.nii")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "P1").symlink_to(tmp_path / "store" / "0a")
    (tmp_path / "src" / "P1 again").symlink_to("P1")
    assert files_below(tmp_path / "src") == [tmp_path / "src" / "P1" / name for name in ("1.nii", "deep/2.nii")]


def test_hidden_names_are_left_out_and_broken_links_are_not(tmp_path):
    touch(tmp_path / ".git" / "1.nii", tmp_path / "._2.nii", tmp_path / "3.nii")
    (tmp_path / "4.nii").symlink_to("gone")
    assert [path.name for path in files_below(tmp_path)] == ["3.nii", "4.nii"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    touch(tmp_path / "P1" / "1.nii")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("P1"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # a test that runs as root may list everything
    with pytest.raises(PermissionError, match="P1 cannot be listed .Permission denied.; make it readable"):
        files_below(tmp_path)
