"""Outputs are whole or not there."""

from __future__ import annotations

import errno

import pytest

from scripts.running.files import atomic_path, read_csv, read_json, sha256_file, sha256_text, write_csv, write_json


def write_until_full(target):
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "weights.pt"
    target.write_text("old")
    with pytest.raises(OSError, match=r"no space left to write .*weights\.pt; free some"):
        write_until_full(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_temporary_name_keeps_the_suffixes(tmp_path):
    with atomic_path(tmp_path / "new" / "image.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"x")
    assert (tmp_path / "new" / "image.nii.gz").read_bytes() == b"x"


def test_json_comes_back_as_it_was_written(tmp_path):
    content = {"subject": "ö", "volume_ml": 1.25, "site": None, "center": [1, 2, 3]}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content


def test_json_refuses_not_a_number(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"auc": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_broken_json_is_refused_with_its_name_and_line(tmp_path):
    (tmp_path / "splits.json").write_text('{\n"a": }')
    with pytest.raises(ValueError, match=r"splits\.json must be JSON, got .* in line 2"):
        read_json(tmp_path / "splits.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"patches\.json does not exist"):
        read_json(tmp_path / "patches.json")
    with pytest.raises(FileNotFoundError, match=r"model\.pt does not exist"):
        sha256_file(tmp_path / "model.pt")


def test_csv_keeps_nine_digits_and_the_order_of_columns(tmp_path):
    write_csv(tmp_path / "a.csv", [{"b": 1 / 3, "a": "x"}], ["a", "b"])
    assert (tmp_path / "a.csv").read_text() == "a,b\nx,0.333333333\n"
    assert read_csv(tmp_path / "a.csv") == [{"a": "x", "b": "0.333333333"}]


def test_file_and_text_of_the_same_bytes_have_the_same_hash(tmp_path):
    (tmp_path / "a").write_text("glioma")
    assert sha256_file(tmp_path / "a") == sha256_text("glioma")
