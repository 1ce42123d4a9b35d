"""One process works in a folder at a time, and knows which files there are its own."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import subprocess
import sys
import threading
import time

import pytest

from scripts.running import folders
from scripts.running.files import write_text
from scripts.running.folders import (
    begin_journal,
    describe_outputs,
    empty_folder,
    end_journal,
    file_system_of,
    lock,
    locks_of_block,
    make_folder,
    release_lock,
    strangers,
    waiting_for_locks,
)
from tests.helpers import is_locked


@pytest.fixture
def folder(tmp_path):
    """A folder; the locks that a test takes in it are given up."""
    with locks_of_block():
        yield tmp_path


def test_a_second_process_is_kept_out_until_the_lock_is_released(folder):
    with (folder / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RuntimeError, match="in use by another process; wait for it or choose another output_dir"):
            lock(folder)
    lock(folder)
    assert is_locked(folder)
    release_lock(folder)
    assert not is_locked(folder)


def test_a_worker_waits_for_the_lock_of_one_that_was_given_up(folder, monkeypatch, caplog):
    monkeypatch.setattr(folders, "POLL_SECONDS", 0.01)
    other = (folder / ".lock").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    released = []

    def release():
        time.sleep(0.1)
        released.append(True)
        other.close()

    thread = threading.Thread(target=release)
    thread.start()
    with waiting_for_locks():
        lock(folder)
    thread.join()
    assert released
    assert is_locked(folder)
    assert caplog.text.count("another process still works") == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_and_used_without(folder, monkeypatch, caplog, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING):
        lock(folder)
        lock(folder)
    assert caplog.text.count("is used without a lock") == 1
    assert f"{file_system_of(folder)} has none ({os.strerror(number)})" in caplog.text


def test_a_pipe_in_the_place_of_the_lock_does_not_wait_for_ever(folder):
    os.mkfifo(folder / ".lock")
    lock(folder)


def test_a_folder_that_may_not_be_written_to_is_refused_with_the_way_out(folder, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ValueError, match=r"output_dir must be a folder that can be written to, got .*choose another"):
        lock(folder)


def test_a_file_in_the_place_of_a_folder_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="output_dir must be a folder that can be made, got .*; choose another"):
            make_folder(path)


def test_the_file_system_of_a_folder_is_found_by_its_mount():
    assert file_system_of(folders.Path("/proc/self")) == "proc at /proc"


def test_a_system_without_the_locks_of_unix_has_others(tmp_path):
    program = """
import sys, pathlib
sys.modules["fcntl"] = None
from scripts.running.folders import lock, locks_of_block
lock(pathlib.Path(sys.argv[1]))
with locks_of_block():
    lock(pathlib.Path(sys.argv[1]))
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "is in use by another process" in run.stderr.strip().splitlines()[-1]


def test_what_is_written_during_a_run_is_its_own_and_nothing_else(tmp_path):
    begin_journal(tmp_path, {})
    write_text(tmp_path / "subject" / "t1c.nii.gz", "image")
    write_text(tmp_path / "checkpoints" / "epoch_1.pt", "weights")
    (tmp_path / "notes.txt").write_text("by hand")
    assert set(describe_outputs(tmp_path)) == {"subject/t1c.nii.gz"}
    assert strangers(tmp_path, {}) == ["notes.txt"]


def test_what_is_written_into_a_finished_folder_is_a_strangers(tmp_path):
    begin_journal(tmp_path, {})
    write_text(tmp_path / "stage.json", "{}")
    write_text(tmp_path / "model.pt", "weights")
    record = {"outputs": describe_outputs(tmp_path)}
    end_journal(tmp_path)
    write_text(tmp_path / "model.onnx", "an export")
    assert strangers(tmp_path, record) == ["model.onnx"]


def test_what_a_stage_writes_below_the_unfinished_folder_of_another_is_its_own(tmp_path):
    begin_journal(tmp_path, {})
    (tmp_path / "inner").mkdir()
    begin_journal(tmp_path / "inner", {})
    write_text(tmp_path / "inner" / "model.pt", "weights")
    assert set(describe_outputs(tmp_path / "inner")) == {"model.pt"}
    assert describe_outputs(tmp_path) == {}


def test_a_folder_is_emptied_of_its_run_but_for_lock_and_log(tmp_path):
    begin_journal(tmp_path, {"earlier.txt": {}})
    for name in ("stage.json", "config.yaml", "subject/t1c.nii.gz", "checkpoints/epoch_1.pt"):
        write_text(tmp_path / name, "ours")
    for name in (".lock", "log.txt", "earlier.txt"):
        (tmp_path / name).write_text("ours")
    empty_folder(tmp_path, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "log.txt"]
