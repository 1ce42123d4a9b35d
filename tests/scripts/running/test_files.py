"""Outputs are whole or not there."""

from __future__ import annotations

import errno
import os

import pytest

from scripts.running.files import (
    atomic_path,
    read_csv,
    read_json,
    require_file,
    sha256_file,
    sha256_text,
    why_no_file,
    write_csv,
    write_json,
)


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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_read_in_every_encoding_that_says_what_it_is(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes('{"site": "Köln"}'.encode(encoding))
    (tmp_path / "a.csv").write_bytes("subject_id,site\r\nP1,Köln\r\n".encode(encoding))
    assert read_json(tmp_path / "a.json") == {"site": "Köln"}
    assert read_csv(tmp_path / "a.csv") == [{"subject_id": "P1", "site": "Köln"}]


@pytest.mark.parametrize(
    ("site", "encoding", "place"),
    [("Köln", "cp1252", "the byte 0xf6 in line 3"), ("Bonn", "utf-16-le", "a null character in line 1")],
)
@pytest.mark.parametrize("read", [read_json, read_csv])
def test_text_in_an_encoding_that_can_only_be_guessed_is_refused_by_line(tmp_path, read, site, encoding, place):
    (tmp_path / "a.txt").write_bytes(f'[\n"a",\n"{site}"]'.encode(encoding))
    with pytest.raises(ValueError, match=rf"a\.txt must be text in UTF-8, got {place}; save it as UTF-8"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("text", ["[" * 100_000, "[" + "9" * 5_000 + "]"], ids=["nested", "long number"])
def test_json_that_the_parser_gives_up_on_is_refused_by_name(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json must be JSON, got .* too (deeply|long)"):
        read_json(tmp_path / "a.json")


def test_why_there_is_no_file_is_told_apart(tmp_path):
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    assert why_no_file(tmp_path / "gone") == "does not exist"
    assert why_no_file(tmp_path / "file" / "below") == "does not exist"
    assert why_no_file(tmp_path / "broken") == f"is a link to {tmp_path / 'gone'}, which does not exist"
    assert why_no_file(tmp_path / "loop") == "is a link that leads to itself"
    assert why_no_file(tmp_path) == "is a folder"
    assert why_no_file(tmp_path / "pipe") == why_no_file(os.devnull) == "is a device, a pipe or a socket"
    assert why_no_file(tmp_path / "file") == why_no_file(tmp_path / "link") == ""
    with pytest.raises(FileNotFoundError, match="pipe is a device, a pipe or a socket; give another"):
        require_file(tmp_path / "pipe", "give another")


def test_a_folder_that_cannot_be_entered_is_not_said_to_be_missing(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "stat", refuse)  # a test that runs as root may enter everything
    assert why_no_file(tmp_path / "closed" / "t1.nii.gz") == "cannot be reached (permission denied)"
