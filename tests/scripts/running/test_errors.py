"""The last line of an error is its cause."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


@pytest.mark.slow
def test_an_error_while_items_are_built_ends_in_its_cause_on_the_command_line(tmp_path):
    """The listing of the source is built before the stage begins; MONAI wraps what goes wrong there."""
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        "['configs/common.yaml','configs/cohort.yaml']",
    ]
    overrides = ["--source_path", str(tmp_path / "nowhere"), "--output_dir", str(tmp_path / "out")]
    run = subprocess.run([*command, *overrides], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "Failed to instantiate" in run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("FileNotFoundError: source_path must be a folder or a table, got ")
    assert last.endswith("/nowhere, which does not exist")


def test_the_hook_of_another_program_is_left_alone(monkeypatch):
    hook = sys.excepthook
    explain_errors()
    assert sys.excepthook is hook
