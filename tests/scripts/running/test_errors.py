"""The last line of an error is its cause."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys

from scripts.running.errors import explain_errors, explain_last, root_cause
from tests.helpers import ROOT


def failing():
    try:
        raise ValueError("mask.nii.gz must hold a tumor, got an empty mask")
    except ValueError as error:
        raise RuntimeError("Failed to evaluate ConfigExpression") from error


def test_the_cause_is_printed_last(capsys):
    try:
        failing()
    except RuntimeError as error:
        explain_last(type(error), error, error.__traceback__)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1] == "ValueError: mask.nii.gz must hold a tumor, got an empty mask"
    assert "RuntimeError: Failed to evaluate ConfigExpression" in lines


def test_an_error_without_cause_is_its_own_cause():
    error = ValueError("x")
    assert root_cause(error) is error


def test_an_error_that_names_the_file_is_not_followed_to_the_one_that_does_not():
    ours = ValueError("a.nii.gz must be a complete gzip file, got truncated; copy it again")
    ours.__cause__ = EOFError("truncated")
    inner, outer = (
        RuntimeError("applying transform <ReadVolumesd>"),
        RuntimeError("Failed to evaluate ConfigExpression"),
    )
    inner.__cause__, outer.__cause__ = ours, inner
    assert root_cause(outer) is ours


def run_as_python_does(arguments, path):
    """Do what `python -m` does, in a process forked from this one, which has loaded MONAI; errors go to a file."""
    os.chdir(ROOT)
    sys.argv, sys.excepthook = arguments, sys.__excepthook__
    with path.open("w", encoding="utf-8") as sys.stderr:
        try:
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(1)
    os._exit(0)


def test_an_error_while_items_are_built_ends_in_its_cause_on_the_command_line(tmp_path):
    """The listing of the source is built before the stage begins; MONAI wraps what goes wrong there."""
    command = ["monai.bundle", "run", "--config_file", "['configs/common.yaml','configs/cohort.yaml']"]
    overrides = ["--source_path", str(tmp_path / "nowhere"), "--output_dir", str(tmp_path / "out")]
    run = multiprocessing.get_context("fork").Process(
        target=run_as_python_does, args=([*command, *overrides], tmp_path / "stderr.txt")
    )
    run.start()
    run.join()
    assert run.exitcode == 1
    errors = (tmp_path / "stderr.txt").read_text(encoding="utf-8")
    assert "Failed to instantiate" in errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("FileNotFoundError: source_path must be a folder or a table, got ")
    assert last.endswith("/nowhere, which does not exist")


def test_the_hook_of_another_program_is_left_alone(monkeypatch):
    hook = sys.excepthook
    explain_errors()
    assert sys.excepthook is hook
