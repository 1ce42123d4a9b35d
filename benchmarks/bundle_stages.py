"""Stages of the bundle as an experiment runs them: in this process, with its configs, and each only once."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.running.configs import Invocation
from scripts.running.stages import AlreadyFinished, run_invocation


def run_once(config_files: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Run one stage, unless it is finished with these settings.

    Args:
        config_files: in the order of a command line, from the bundle root.
        overrides: ids and values, as on the command line; paths may be `Path`.
    """
    values = {key: str(value) if isinstance(value, Path) else value for key, value in overrides.items()}
    with contextlib.suppress(AlreadyFinished):
        run_invocation(Invocation(tuple(config_files), values))
