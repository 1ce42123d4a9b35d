"""Weights that are served, with their record, and those that were served before, which are kept to go back to."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.provenance.record import FILE_NAME, read_provenance, record_path
from scripts.running.files import atomic_path

KEPT = "kept"  # folder beside the served file; who looks for weights at the top of `models/` sees one file
ID_LENGTH = 12  # hexadecimal digits of the hash


def replace_weights(served_path: Path, new_path: Path) -> None:
    """Put weights and their record in the place of those that are served, which are kept first.

    Args:
        served_path: `model.pt` that is served, with `provenance.json` beside it.
        new_path: `model.pt` to serve, likewise.

    Raises:
        FileNotFoundError: if weights or record are missing.
        ValueError: if a record is about other weights than those beside it.
    """
    read_provenance(new_path)
    kept = served_path.parent / KEPT / weights_id(served_path) / served_path.name
    if not record_path(kept).is_file():
        _copy(served_path, kept)
        _copy(record_path(served_path), record_path(kept))  # last: where it lies, the weights do
    # The record first: weights without their record are refused, and whoever serves waits for both to agree.
    _copy(record_path(new_path), record_path(served_path))
    _copy(new_path, served_path)


def kept_weights(served_path: Path) -> dict[str, Path]:
    """List the weights that can be gone back to.

    Args:
        served_path: `model.pt` that is served.

    Returns:
        Id -> file of the weights, in the order in which they were replaced; those that are served are not among them.
    """
    records = sorted((served_path.parent / KEPT).glob(f"*/{FILE_NAME}"), key=lambda path: path.stat().st_mtime_ns)
    served = weights_id(served_path)
    return {path.parent.name: path.with_name(served_path.name) for path in records if path.parent.name != served}


def weights_id(path: Path) -> str:
    """Return the first digits of the hash of weights, by which they are kept."""
    return str(read_provenance(path)["weights_sha256"])[:ID_LENGTH]


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
