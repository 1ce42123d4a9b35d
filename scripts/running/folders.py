"""The folder of a stage: its lock, its record, and which of the files in it are its own."""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from scripts.running.errors import some_names
from scripts.running.files import JOURNAL, RECORD, file_state, read_json, sha256_file

logger = logging.getLogger(__name__)

LOCK = ".lock"
# What a run leaves beside its outputs.
NOT_OUTPUT = re.compile(r"^(\.|checkpoints/|events/|(stage\.json|config\.yaml|log\.txt)$)|/\.")
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system
POLL_SECONDS = 1.0
REMINDER_SECONDS = 60.0

# None where the file system has no locks.
_locks_of_process: dict[Path, FileLock | None] = {}
_locks: ContextVar[dict[Path, FileLock | None]] = ContextVar("locks", default=_locks_of_process)
_is_patient: ContextVar[bool] = ContextVar("is_patient", default=False)


def make_folder(folder: Path) -> None:
    """Make the folder of a stage, if it is not there.

    Raises:
        ValueError: if a file stands in its place, or it may not be made there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"output_dir must be a folder that can be made, got {str(folder)!r} ({error.strerror}); choose another"
        ) from error


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of the run that a folder holds; empty if it holds none.

    Raises:
        ValueError: if the record was cut or edited, naming the folder to delete.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        record = read_json(path)
        fault = _fault(record)
    except ValueError as error:
        fault = str(error)
    if fault:
        raise ValueError(
            f"{path} must be the record of a run, got a damaged one ({fault}); delete the folder {folder} and run the"
            " same command again, which makes the stage anew"
        )
    return dict(record)


def _fault(record: Any) -> str:
    if not isinstance(record, dict):
        return f"{type(record).__name__} instead of an object"
    identity, outputs = record.get("identity"), record.get("outputs", {})
    if not isinstance(record.get("finished"), bool):
        return "no `finished`"
    if not isinstance(identity, dict) or not isinstance(identity.get("settings"), dict):
        return "no `identity` with `settings`"
    if not isinstance(outputs, dict) or not all(_has_hash(item) for item in outputs.values()):
        return "`outputs` without hashes"
    return ""


def _has_hash(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("sha256"), str)


def describe_outputs(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size, time of change and hash of every output that the run in a folder wrote, by name."""
    paths = {name: folder / name for name in sorted(_written(folder)) if (folder / name).is_file()}
    return {name: {**_state(path), "sha256": sha256_file(path)} for name, path in paths.items()}


def changed_outputs(folder: Path, outputs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Compare outputs with their record.

    An output of the recorded size and time of change counts as unchanged, as for git; any other is hashed, so that a
    study may be copied elsewhere.

    Returns:
        Name -> "lost" or "changed", for those that are not as they were recorded.
    """
    faults = {}
    for name, recorded in outputs.items():
        path = folder / name
        if not path.is_file():
            faults[name] = "lost"
        elif not _is_as_recorded(path, recorded) and sha256_file(path) != recorded["sha256"]:
            faults[name] = "changed"
    return faults


def output_hashes(folder: Path) -> dict[str, str | None]:
    """Hash the outputs that the record of a folder lists, as they are now; None for a lost one.

    The recorded hash is taken where size and time of change are the recorded ones.
    """
    hashes: dict[str, str | None] = {}
    for name, recorded in read_record(folder).get("outputs", {}).items():
        path = folder / name
        if not path.is_file():
            hashes[name] = None
        else:
            hashes[name] = recorded["sha256"] if _is_as_recorded(path, recorded) else sha256_file(path)
    return hashes


def _state(path: Path) -> dict[str, int]:
    size, changed_ns = file_state(path)
    return {"bytes": size, "mtime_ns": changed_ns}


def _is_as_recorded(path: Path, recorded: Mapping[str, Any]) -> bool:
    return all(recorded.get(key) == value for key, value in _state(path).items())


def holds_work(folder: Path, record: Mapping[str, Any]) -> bool:
    """Tell whether a run left something in a folder that took time: its outputs, or an epoch of a training."""
    return bool(record) and (record["finished"] or any((folder / "checkpoints").glob("*")))


def begin_journal(folder: Path, outputs: Mapping[str, Any]) -> None:
    """Let `atomic_path` list what is written below a folder from now on.

    Args:
        folder: of the stage.
        outputs: names that an earlier run recorded, which are kept.
    """
    with (folder / JOURNAL).open("a", encoding="utf-8") as stream:
        stream.writelines(f"{name}\n" for name in outputs)


def end_journal(folder: Path) -> None:
    """Stop listing; what is written below the folder from now on is a stranger's."""
    (folder / JOURNAL).unlink(missing_ok=True)


def _written(folder: Path) -> set[str]:
    journal = folder / JOURNAL
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []
    return {name for name in lines if not NOT_OUTPUT.search(name)}


def strangers(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """Name the files of a folder that no run of a stage wrote."""
    own = {*record.get("outputs", {}), *_written(folder)}
    names = (
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()
    )
    return sorted(name for name in names if name not in own and not NOT_OUTPUT.search(name))


def empty_folder(folder: Path, record: Mapping[str, Any]) -> None:
    """Delete what a run left in a folder, and nothing else; lock and log stay.

    Raises:
        ValueError: if the folder holds files of somebody else, naming them; nothing is deleted then.
    """
    if foreign := strangers(folder, record):
        raise ValueError(
            f"{folder} must hold nothing but its run to be made anew, got also {some_names(foreign, limit=5)};"
            " move these files elsewhere, or choose another output_dir"
        )
    names = {*record.get("outputs", {}), *_written(folder)}
    for name in sorted(names):
        (folder / name).unlink(missing_ok=True)
    for name in ("checkpoints", "events"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for below in sorted({parent for name in names for parent in Path(name).parents[:-1]}, reverse=True):
        with contextlib.suppress(OSError):
            (folder / below).rmdir()
    # The record goes last: a kill in between must find what the rest belongs to.
    for name in ("config.yaml", JOURNAL, RECORD):
        (folder / name).unlink(missing_ok=True)


def drop_partial_files(folder: Path) -> None:
    """Delete what a killed run had begun to write below its folder."""
    for leftover in folder.rglob(".partial-*"):
        leftover.unlink()


@contextlib.contextmanager
def locks_of_block() -> Iterator[None]:
    """Give up, at the end of the block, the locks that were taken inside it; those of other blocks stay."""
    token = _locks.set({})
    try:
        yield
    finally:
        for folder in list(_locks.get()):
            release_lock(folder)
        _locks.reset(token)


@contextlib.contextmanager
def waiting_for_locks() -> Iterator[None]:
    """Wait, inside the block, for a folder that another process works in, instead of refusing it.

    A worker of dask may get a stage that another one, which was given up, is still working on.
    """
    token = _is_patient.set(True)
    try:
        yield
    finally:
        _is_patient.reset(token)


def lock(folder: Path) -> None:
    """Keep other processes out of a folder until `release_lock`, the end of `locks_of_block` or of the process.

    Where the file system has no locks, the folder is used without one, and a warning says so.

    Raises:
        RuntimeError: if another process works in the folder (inside `waiting_for_locks`, it is waited for).
        ValueError: if the folder may not be written to.
    """
    folder, locks = folder.resolve(), _locks.get()
    if folder in locks:
        return
    # One thread may begin a stage and another one end it. A lock that is a mere file would outlive a killed run.
    file_lock = FileLock(folder / LOCK, thread_local=False, fallback_to_soft=False)
    locks[folder] = file_lock if _acquire(file_lock, folder) else None


def release_lock(folder: Path) -> None:
    """Let other processes in again."""
    file_lock = _locks.get().pop(folder.resolve(), None)
    if file_lock is not None:
        file_lock.release()


def _acquire(file_lock: FileLock, folder: Path) -> bool:
    reminder = time.monotonic()
    while True:
        try:
            file_lock.acquire(timeout=0)
        except Timeout as error:
            if not _is_patient.get():
                raise RuntimeError(
                    f"{folder} is in use by another process; wait for it or choose another output_dir"
                ) from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise ValueError(
                    f"output_dir must be a folder that can be written to, got {str(folder)!r} ({error.strerror});"
                    " choose another"
                ) from error
            logger.warning(
                "%s is used without a lock: %s has none (%s); start no second run in this folder",
                *(folder, file_system_of(folder), error.strerror),
            )
            return False
        else:
            return True
        if time.monotonic() >= reminder:
            logger.warning("waiting for %s, in which another process still works", folder)
            reminder = time.monotonic() + REMINDER_SECONDS
        time.sleep(POLL_SECONDS)


def file_system_of(folder: Path) -> str:
    """Name the file system that a folder lies on, as far as the system tells: "nfs4 at /home"."""
    mounts = Path("/proc/self/mounts")
    lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines() if mounts.is_file() else []
    # A space in a path stands as \040.
    points = {line.split()[1].replace("\\040", " "): line.split()[2] for line in lines if len(line.split()) > 2}
    above = [str(path) for path in (folder, *folder.parents) if str(path) in points]
    return f"{points[above[0]]} at {above[0]}" if above else "its file system"
