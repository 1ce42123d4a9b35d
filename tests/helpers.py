"""Running a stage in this process, as `python -m monai.bundle run` would."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from scripts.provenance.image_form import ImageForm
from scripts.running.configs import Invocation
from scripts.running.folders import LOCK
from scripts.running.stages import run_invocation

ROOT = Path(__file__).parents[1]
TINY = str(ROOT / "tests" / "tiny.yaml")  # recipe of the smallest study that has every part


def image_form(num_channels: int = 4, size: Sequence[int] = (96, 96)) -> ImageForm:
    """Return the form of images of so many modalities, of this size."""
    return ImageForm(("t1n", "t1c", "t2w", "t2f")[:num_channels], {"LGG": 0, "HGG": 1}, size, spatial_dims=len(size))


def list_header(
    modalities: Sequence[str], classes: Mapping[str, int], size: Sequence[int], spacing_mm: float = 1.0
) -> dict[str, Any]:
    """Return what a list of simulated images says about how they are made."""
    form = ImageForm(modalities, classes, size, spacing_mm, spatial_dims=len(size))
    return {
        "simulated": True,
        **form.names(),
        "patch_size": list(size),
        "spacing_mm": spacing_mm,
        "intensity_mode": "percentile",
        "intensity_percentiles": [0.5, 99.5],
        "zscore_limit": None,
        "preprocessing": {"ChooseCenterd.slice": "largest"},
    }


def is_locked(folder: Path) -> bool:
    """Tell whether another descriptor holds the lock of a stage's folder."""
    with (folder / LOCK).open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def config_files(*names: str) -> list[str]:
    """Return paths of `configs/NAME.yaml`, with `common` first."""
    return [str(ROOT / "configs" / f"{name}.yaml") for name in dict.fromkeys(("common", *names))]


def run_stage(*names: str, **overrides: Any) -> ConfigWorkflow:
    """Run `configs/common.yaml` + NAMES with overrides through initialize, run and finalize.

    A stage that is finished already raises `scripts.running.stages.AlreadyFinished`.
    """
    # One thread: the tests run side by side, and threads that wait for a busy core wait a hundred times longer.
    return run_invocation(Invocation(tuple(config_files(*names)), {"num_threads": 1, **overrides}))
