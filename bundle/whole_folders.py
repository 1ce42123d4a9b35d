"""Folders that are there whole or not at all: filled under another name, then put in their place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Give a folder beside another, which takes its place when the block succeeds, and goes when it fails.

    Args:
        final: folder that is new or is replaced; missing parents are made.

    Yields:
        Path of the folder to make, on the same disk.
    """
    partial = final.with_name(f".partial-{os.getpid()}-{final.name}")
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        replace_folder(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(partial: Path, final: Path) -> None:
    """Put a finished folder in the place of another, on the same disk; the other one goes when it is there."""
    old = final.with_name(f".partial-{os.getpid()}-old-{final.name}")
    is_there = final.exists()
    if is_there:
        final.rename(old)
    try:
        partial.rename(final)
    except OSError:
        if is_there:
            old.rename(final)
        raise
    shutil.rmtree(old, ignore_errors=True)
