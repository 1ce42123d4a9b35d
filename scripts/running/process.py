"""What a stage sets in its process: random states, threads, memory and logs; and what runs there."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import logging
import platform
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

logger = logging.getLogger(__name__)

# What a number can depend on; the others run, draw or read what is asked for and change no number.
PACKAGES = (
    *("torch", "monai", "pytorch-ignite", "captum", "nibabel", "numpy", "scipy", "scikit-learn", "scikit-image"),
    *("einops", "torchmetrics", "SimpleITK", "diffusers", "onnxruntime", "pillow"),
    *("pillow", "torchvision", "timm"),
)
# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
LARGEST = 2**31 - 1
MOST_THREADS = 1024  # of torch; of a thousand million, libgomp says "Out of memory" and ends the process
TOP_PAD = 64 * 2**20


def require_num_threads(num_threads: int | None) -> None:
    """Refuse a number of torch threads for which OpenMP would end the process without a word of ours.

    Args:
        num_threads: from 1 to `MOST_THREADS`; None keeps the number.

    Raises:
        ValueError: if it is out of range.
    """
    if num_threads is not None and not 1 <= num_threads <= MOST_THREADS:
        raise ValueError(
            f"num_threads must be from 1 to {MOST_THREADS}, got {num_threads!r}; more than the cores of the machine"
            " make nothing faster"
        )


def seed_everything(seed: int, num_threads: int | None = None) -> None:
    """Seed torch, numpy and random, and set torch's threads.

    Args:
        seed: of every source of randomness.
        num_threads: torch threads; None keeps their number.
    """
    torch.backends.cudnn.benchmark = False
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    seed_random_states(seed)


def seed_random_states(seed: int) -> None:
    """Seed torch, numpy and random."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def device_type(device: Any) -> str | None:
    """Return "cpu" or "cuda" of a config's `device`, which may be an expression; the two draw other random numbers."""
    if device is None:
        return None
    text = str(device)
    return ("cuda" if torch.cuda.is_available() else "cpu") if text.startswith("$") else text.partition(":")[0]


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a number can depend on, as far as they are installed."""
    return {"python": platform.python_version(), **installed_versions(PACKAGES)}


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    installed = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def keep_freed_memory() -> bool:
    """Let glibc reuse the memory of freed tensors; the process keeps its peak size from then on.

    By default glibc returns large blocks at once, and the kernel hands out and clears every page again at each training
    step: a tenth of the time on a quiet machine, more than half on a busy one. Numbers do not change.

    Returns:
        Whether it was done: on Linux with glibc, nowhere else.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(
        mallopt(parameter, value) == 1
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, LARGEST), (M_TOP_PAD, TOP_PAD))
    )


def flush_subnormals() -> bool:
    """Let the processor take numbers below the least normal one (1e-38 in float32) for 0, from then on.

    Many processors work on them a hundred times more slowly, and the products of a histogram's shares are full of them:
    a training with the mutual-information term takes a fifth less time.

    Returns:
        Whether the processor can.
    """
    return torch.set_flush_denormal(True)


@contextlib.contextmanager
def consoles_silenced() -> Iterator[None]:
    """Let every logger speak through the root's handlers alone.

    MONAI and ignite hang a console on each of their loggers; it would tear the progress bars apart.
    """
    known = [item for item in logging.root.manager.loggerDict.values() if isinstance(item, logging.Logger)]
    before = [(item, item.handlers, item.propagate, item.level) for item in [logging.root, *known]]
    for item, handlers, *_ in before[1:]:
        if handlers:
            item.handlers, item.propagate = [], True
    logging.root.setLevel(logging.INFO)
    try:
        yield
    finally:
        for item, handlers, propagate, level in before:
            item.handlers, item.propagate = handlers, propagate
            if item.level != level:  # to set one empties the caches of all loggers, a thousand of them
                item.setLevel(level)


@contextlib.contextmanager
def logged_to(path: Path, command: str) -> Iterator[None]:
    """Send the log of a stage to a file, which begins with the command that runs the stage alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    before = logging.root.handlers
    logging.root.handlers = [handler]
    try:
        logger.info("%s", command)
        yield
    finally:
        logging.root.handlers = before
        handler.close()
