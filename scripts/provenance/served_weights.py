"""Weights that are served, with their record, and those that were served before, which are kept to go back to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from scripts.provenance.record import FILE_NAME, read_provenance, record_path
from scripts.running.files import atomic_path, sha256_file

KEPT = "kept"  # folder beside the served file; who looks for weights at the top of `models/` sees one file
ID_LENGTH = 12  # hexadecimal digits of the hash


def replace_weights(served_path: Path, new_path: Path) -> None:
    """Put weights and their record in the place of those that are served, which are kept first.

    A full disk, or a stop while files are copied, leaves both as they were. One between the two renames leaves the new
    record beside the old weights, which are kept: `kept_weights` then lists them, and they can be served again.

    Args:
        served_path: `model.pt` that is served, with `provenance.json` beside it.
        new_path: `model.pt` to serve, likewise.

    Raises:
        FileNotFoundError: if weights or record are missing.
        ValueError: if a record is about other weights than those beside it.
    """
    read_provenance(new_path)
    for leftover in served_path.parent.rglob(f".partial-*-{served_path.name}"):
        leftover.unlink()  # a copy that was stopped, as large as the weights
    if served_path.is_file():
        _keep(served_path)
    # The block renames the record first: who serves looks for it only where the weights are others than before.
    with atomic_path(served_path) as weights, atomic_path(record_path(served_path)) as record:
        _copy(new_path, weights)
        _copy(record_path(new_path), record)


def kept_weights(served_path: Path) -> dict[str, Path]:
    """List the weights that can be gone back to.

    Args:
        served_path: `model.pt` that is served.

    Returns:
        Id -> file of the weights, in the order in which they were replaced. Those that are served are not among them;
        weights beside a record of others are not served.
    """
    records = sorted((served_path.parent / KEPT).glob(f"*/{FILE_NAME}"), key=lambda path: path.stat().st_mtime_ns)
    served = _served_id(served_path)
    return {path.parent.name: path.with_name(served_path.name) for path in records if path.parent.name != served}


def weights_id(path: Path) -> str:
    """Return the first digits of the hash of weights, by which they are kept."""
    return str(read_provenance(path)["weights_sha256"])[:ID_LENGTH]


def _served_id(path: Path) -> str | None:
    try:
        return weights_id(path)
    except (FileNotFoundError, ValueError):
        return None


def _keep(served: Path) -> None:
    kept = served.parent / KEPT / sha256_file(served)[:ID_LENGTH] / served.name
    if record_path(kept).is_file():
        return
    with atomic_path(kept) as temporary:
        _copy(served, temporary)
    if _served_id(served) is not None:  # weights without a record of their own are kept, but cannot be served
        with atomic_path(record_path(kept)) as temporary:  # last: where it lies, the weights do
            _copy(record_path(served), temporary)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb") as written:
        os.fsync(written.fileno())  # now, and not between two renames
