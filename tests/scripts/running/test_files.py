"""Outputs are whole or not there."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time

import pytest
import torch

from scripts.running import files
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


def fail_to_write(target, error):
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"no space left to write .*weights\.pt; free some",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            r"the quota is used up and does not let .*weights\.pt be",
        ),
        (OSError(errno.EFBIG, "File too large"), r"weights\.pt must be smaller than the limit of files here"),
        (OSError(errno.EROFS, "Read-only"), r"weights\.pt lies on a disk that is read-only; choose another output_dir"),
        (OSError(errno.ESTALE, "Stale file handle"), r"weights\.pt could not be written \(Stale file handle\); check"),
        (RuntimeError("[enforce fail] . unexpected pos 17 vs 16"), r"weights\.pt could not be written .*its quota"),
    ],
    ids=["full", "quota", "limit", "read-only", "stale", "torch"],
)
def test_a_failed_write_names_the_file_and_leaves_the_old_one(tmp_path, error, message):
    target = tmp_path / "weights.pt"
    target.write_text("old")
    with pytest.raises(OSError, match=f"{message}.*, then run the same command again"):
        fail_to_write(target, error)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError("loss is nan"), FileNotFoundError(errno.ENOENT, "gone", "source.nii")])
def test_an_error_that_is_not_of_the_write_stays_as_it_is(tmp_path, error):
    with pytest.raises(type(error)) as caught:
        fail_to_write(tmp_path / "image.nii", error)
    assert caught.value is error


def test_weights_beyond_the_limit_of_file_sizes_are_named(tmp_path):
    """What a quota does to torch.save, in a child process because the limit holds for the whole process."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            with atomic_path(tmp_path / "model.pt") as temporary, temporary.open("wb") as stream:
                torch.save(torch.zeros(100_000), stream)
        except OSError as error:
            os._exit(int("model.pt" in str(error) and "run the same command again" in str(error)))
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_with_the_file(tmp_path):
    (tmp_path / "output").write_text("a file where a folder should be")
    with pytest.raises(OSError, match=r"output/model\.pt could not be written \((File exists|Not a directory)\)"):
        write_json(tmp_path / "output" / "model.pt", {})


def test_the_folder_of_a_new_name_is_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    write_json(tmp_path / "a.json", {})
    assert synced[-1] == tmp_path.stat().st_ino


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
    with pytest.raises(FileNotFoundError, match=r"patches\.json does not exist; .* or run the stage that writes it"):
        read_json(tmp_path / "patches.json")
    with pytest.raises(FileNotFoundError, match=r"model\.pt does not exist"):
        sha256_file(tmp_path / "model.pt")


def test_a_misspelt_path_of_an_own_file_is_not_blamed_on_a_stage(tmp_path):
    (tmp_path / "patients.csv").touch()
    with pytest.raises(
        FileNotFoundError, match=r"patient\.csv does not exist; check .* \(did you mean patients\.csv\?\)$"
    ):
        sha256_file(tmp_path / "patient.csv")


def test_a_folder_is_not_said_to_be_missing(tmp_path):
    (tmp_path / "cohort.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"is a folder; name the file in it, such as .*/cohort\.json"):
        read_json(tmp_path)


def test_csv_keeps_nine_digits_and_the_order_of_columns(tmp_path):
    write_csv(tmp_path / "a.csv", [{"b": 1 / 3, "a": "x"}], ["a", "b"])
    assert (tmp_path / "a.csv").read_text() == "a,b\nx,0.333333333\n"
    assert read_csv(tmp_path / "a.csv") == [{"a": "x", "b": "0.333333333"}]


def test_a_cell_beyond_every_size_is_told_with_its_table(tmp_path):
    (tmp_path / "a.csv").write_text("subject_id\n" + "x" * 200_000)
    with pytest.raises(ValueError, match=r"a\.csv must be a table in CSV, got field larger than field limit"):
        read_csv(tmp_path / "a.csv")


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
    [
        ("Köln", "cp1252", r"the byte 0xf6 in line 3 \('ö' in cp1252\)"),
        ("Bonn", "utf-16-le", "a null character in line 1"),
    ],
)
@pytest.mark.parametrize("read", [read_json, read_csv])
def test_text_in_an_encoding_that_can_only_be_guessed_is_refused_by_line(tmp_path, read, site, encoding, place):
    (tmp_path / "a.txt").write_bytes(f'[\n"a",\n"{site}"]'.encode(encoding))
    with pytest.raises(ValueError, match=rf"a\.txt must be text in UTF-8, got {place}; save it as UTF-8"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("text", ["[" * 100_000, "[" + "9" * 5_000 + "]"], ids=["nested", "long number"])
def test_json_that_the_parser_gives_up_on_is_refused_by_name(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json must be JSON, got .*(too deeply|cannot hold)"):
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


def settle(path):
    """Make a file look as if it was written ten seconds ago."""
    then = time.time_ns() - 10**10
    os.utime(path, ns=(then, then))


def test_a_file_that_did_not_change_is_hashed_once(tmp_path, monkeypatch):
    digests = []
    whole = files._digest
    monkeypatch.setattr(files, "_digest", lambda file: digests.append(file) or whole(file))
    (tmp_path / "model.pt").write_text("weights")
    settle(tmp_path / "model.pt")
    assert [sha256_file(tmp_path / "model.pt") for _ in range(3)] == [sha256_text("weights")] * 3
    assert len(digests) == 1
    (tmp_path / "model.pt").write_text("WEIGHTS")
    assert sha256_file(tmp_path / "model.pt") == sha256_text("WEIGHTS")


def test_a_second_change_within_one_tick_of_the_clock_is_seen(tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("weights")
    now = path.stat().st_mtime_ns
    sha256_file(path)
    path.write_text("WEIGHTS")
    os.utime(path, ns=(now, now))
    assert sha256_file(path) == sha256_text("WEIGHTS")
