"""The last line of an error is its cause."""

from __future__ import annotations

from scripts.running.errors import explain_last, root_cause


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
