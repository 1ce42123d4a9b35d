"""Freed memory is reused."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from scripts.running.memory import keep_freed_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's mallopt is a thing of Linux")
def test_tensors_of_a_training_soon_take_no_new_pages():
    if not keep_freed_memory():
        pytest.skip("this Linux has no glibc")

    def step() -> None:
        tensors = [torch.ones(2**20 * size) for size in (1, 2, 3, 4)]
        del tensors

    for _ in range(10):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        step()
    # A step has 10240 pages of 4 KiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 10240
