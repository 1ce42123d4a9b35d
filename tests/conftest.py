"""The order of the modules: the long ones first, so that no worker is left alone with one of them at the end."""

from __future__ import annotations

import pytest

# Those of more than 20 s of one core, the longest first as far as they were timed.
LONG = (
    *("test_workers.py", "test_recipes.py", "test_kill.py", "test_audit.py", "test_turns.py", "test_memorization.py"),
    *("test_difficulty.py", "test_synthetic_set.py", "test_networks.py", "test_train_classifier.py"),
    "test_shortcuts.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the tests of long modules to the front, and keep the order otherwise."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
