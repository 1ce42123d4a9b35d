"""Files of weights: equal bytes for equal weights, and one refusal for all that is no state dict."""

from __future__ import annotations

import logging
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.provenance.state_dicts import all_finite, load_state, refuse_other_state, save_tensors, state_faults
from tests.helpers import ROOT


def weights(**others: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"conv.weight": torch.arange(6.0).reshape(2, 3), "norm.num_batches_tracked": torch.tensor(3), **others}


def test_equal_weights_are_equal_files_and_name_no_process(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "model.pt", tmp_path / "b" / "epoch_7.pt"]
    for path in paths:
        save_tensors(path, weights())
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert {name.split("/")[0] for name in zipfile.ZipFile(paths[0]).namelist()} == {"archive"}
    assert [path.name for path in paths[0].parent.iterdir()] == ["model.pt"]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_tensors(tmp_path / "model.pt", weights())
    loaded = load_state(tmp_path / "model.pt")
    assert all(torch.equal(loaded[name], value) for name, value in weights().items())
    assert loaded["norm.num_batches_tracked"].dtype == torch.int64


def spoilt(content: bytes) -> Any:
    def write(path: Path) -> None:
        save_tensors(path, weights())
        path.write_bytes(path.read_bytes()[:-1000] + content if content else b"")

    return write


@pytest.mark.parametrize(
    "write",
    [
        spoilt(b""),
        spoilt(b"\0" * 1000),
        lambda path: path.write_bytes(b"not a file of torch"),
        lambda path: path.write_bytes(b"\x80\x02e."),
        lambda path: torch.save(Path("x"), path),
        lambda path: torch.save(torch.nn.Linear(2, 3), path),
    ],
    ids=["empty", "cut", "text", "pickle", "object", "network"],
)
def test_a_file_that_cannot_be_read_is_named_with_the_way_out(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "model.pt")
    with pytest.raises(
        ValueError, match=r"model\.pt must be a file of tensors that torch.save wrote, got \w+.*; retry"
    ):
        load_state(tmp_path / "model.pt", "retry")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "state_dict": {}}, "must be a bare state dict, name -> tensor, got a dict of epoch, state_dict"),
        ([torch.zeros(1)], "must be a bare state dict, name -> tensor, got a list"),
        (torch.zeros(3), "must be a bare state dict, name -> tensor, got a Tensor;"),
        (None, "must be a bare state dict, name -> tensor, got a NoneType;"),
        (weights(bias=torch.tensor([0.0, torch.nan])), "must hold finite weights, got NaN or infinity in bias"),
        (weights(bias=torch.tensor([0.0, -torch.inf])).copy(), "must hold finite weights, got NaN or infinity in bias"),
        (weights(bias=torch.zeros(2, dtype=torch.int8)), "must hold floating-point weights, got int8 in bias"),
        (weights(bias=torch.zeros(2, dtype=torch.complex64)), "must hold floating-point weights, got complex64"),
    ],
)
def test_what_is_no_state_dict_of_finite_weights_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=rf"model\.pt {message}"):
        load_state(tmp_path / "model.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.pt does not exist; train first"):
        load_state(tmp_path / "model.pt", "train first")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_read_as_float32_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, dtype: torch.dtype
) -> None:
    torch.save(weights(bias=torch.tensor([0.1, 2.0], dtype=dtype)), tmp_path / "model.pt")
    with caplog.at_level(logging.WARNING):
        loaded = load_state(tmp_path / "model.pt")
    assert loaded["bias"].dtype == torch.float32
    assert loaded["bias"][0].item() == pytest.approx(0.1, abs=1e-3)
    assert f"holds weights of {str(dtype).removeprefix('torch.')}; they are read as float32" in caplog.text


def test_a_state_dict_under_a_name_is_found_where_that_is_allowed(tmp_path: Path) -> None:
    torch.save({"model": weights()}, tmp_path / "model.pt")
    assert load_state(tmp_path / "model.pt", wrapped_as="model").keys() == weights().keys()
    with pytest.raises(ValueError, match="got a dict of model"):
        load_state(tmp_path / "model.pt")


def test_no_other_module_reads_weights_by_itself() -> None:
    # A guard of one room is none: torch.load of a file that a user brings stands in `load_state` alone.
    others = {
        path.relative_to(ROOT).as_posix()
        for folder in ("scripts", "bundle")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"torch\.(load|save)\(", path.read_text(encoding="utf-8"))
    }
    assert others == {"scripts/provenance/state_dicts.py", "scripts/training/resume.py"}  # the latter, its checkpoints


def test_faults_name_shape_kind_missing_and_unexpected() -> None:
    expected = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1), "steps": torch.tensor(1)}
    found = {"a": torch.zeros(2, 1), "b": torch.zeros(3, dtype=torch.int64), "d": torch.zeros(1)}
    assert state_faults(expected, found) == [
        "a has shape (2, 1) instead of (2,)",
        "b is int64 instead of float32",
        "c (1,) is missing",
        "steps () is missing",
        "d (1,) is unexpected",
    ]
    assert state_faults(expected, expected) == []


def test_a_prefix_before_every_name_is_named_and_how_to_take_it_off() -> None:
    expected, state = weights(), {f"module.{name}": value for name, value in weights().items()}
    with pytest.raises(
        ValueError, match=r"m\.pt must fit, got names that all begin with 'module\.'.*DataParallel"
    ) as error:
        refuse_other_state(expected, state, "m.pt must fit", "choose another")
    assert "choose another" not in str(error.value)
    (expression,) = [part for part in str(error.value).split("save ") if part.startswith("{")]
    refuse_other_state(expected, eval(expression, {"state": state}), "m.pt must fit", "choose another")


def test_a_common_word_of_another_network_is_no_prefix() -> None:
    expected = {"net.a": torch.zeros(1), "net.b": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"got 2 differences: net\.b \(1,\) is missing; net\.c \(1,\) is unexpected"):
        refuse_other_state(expected, {"net.a": torch.zeros(1), "net.c": torch.zeros(1)}, "it must fit", "retry")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_numbers_whose_sum_is_too_large_are_finite(dtype):
    largest = torch.full((3,), torch.finfo(dtype).max, dtype=dtype)
    assert all_finite([torch.ones(2, dtype=dtype), largest])
    for value in (float("nan"), float("inf"), -float("inf")):
        assert not all_finite([largest, torch.tensor([1.0, value], dtype=dtype)])
