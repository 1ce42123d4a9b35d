"""The order of the modules, long ones first, so that no worker ends alone; quick YAML, and files not synced.

A study of the tests reads its configs some 200 times, a tenth of its time, by MONAI's loader, a subclass of PyYAML's in
Python. The one in C reads the same in a tenth of that; it is set here, before MONAI is loaded.

It also waits 600 times until a file is on the disk. That is for a power cut, which no test outlives; whether it is
asked for is tested in tests/scripts/running/test_files.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
import yaml

yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # type: ignore[misc]
os.fsync = lambda fd: None

# Those of more than 10 s of one core, the longest first as far as they were timed.
LONG = (
    *("test_workers.py", "test_kill.py", "test_recipes.py", "test_gpu_check.py", "test_verify.py", "test_page.py"),
    *("test_exports.py", "test_audit.py", "test_networks.py", "test_synthetic_set.py", "test_difficulty.py"),
    *("test_study.py", "test_checks.py", "test_imported_methods.py", "test_train_classifier.py", "test_turns.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the tests of long modules to the front, and keep the order otherwise."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def subnormal_numbers() -> Iterator[None]:
    """Keep numbers below the least normal one, which a stage flushes for its process; hypothesis draws them."""
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)
