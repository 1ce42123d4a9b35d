"""The bench of inference compares two ways to the same grade."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from benchmarks import inference

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Both files of the weights, which take seconds to export."""
    return inference.make_weights(tmp_path_factory.mktemp("weights"), "resnet10", 2)


@pytest.fixture
def arguments(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(inference, "make_weights", lambda folder, *network: weights)
    images = inference.write_patient(tmp_path, shape=(120, 110, 12))
    sizes = ["--backbone", "resnet10", "--members", "2", "--repeats", "1", "--threads", str(torch.get_num_threads())]
    return ["inference", *sizes, "--images", *images.values(), "--click", "50", "61", "5"]


def test_both_ways_give_the_same_grade_and_their_ratio_is_printed(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", arguments)
    inference.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" stock")[0].strip() for line in lines[1:]] == ["building", "first answer", "cold", "warm"]


def test_a_faster_way_to_another_grade_is_no_way(arguments, monkeypatch):
    fast = inference.Ours.__call__
    monkeypatch.setattr(inference.Ours, "__call__", lambda self, *patient: np.flip(fast(self, *patient)))
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        inference.main()
