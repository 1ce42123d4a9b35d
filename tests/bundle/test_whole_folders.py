"""Folders that are replaced whole, and what is there when that fails."""

from __future__ import annotations

import pytest

from bundle.whole_folders import replace_folder, whole_folder


def test_a_folder_is_replaced_whole_and_kept_when_the_new_one_fails(tmp_path):
    final = tmp_path / "deep" / "final"
    for word in ("old", "new"):
        with whole_folder(final) as partial:
            partial.mkdir()
            (partial / word).touch()
    assert [path.name for path in final.iterdir()] == ["new"]

    def fail():
        with whole_folder(final) as partial:
            partial.mkdir()
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        fail()
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "nothing", final)
    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in final.parent.iterdir()] == ["final"]
