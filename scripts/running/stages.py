"""A stage of the study: its settings, its inputs and its record beside the output."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import logging
import platform
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
import yaml
from monai.bundle import ConfigWorkflow

from scripts.running.configs import Invocation, reachable, refuse_unknown_keys
from scripts.running.errors import explain_last
from scripts.running.files import read_json, sha256_file, sha256_text, write_json, write_text
from scripts.running.identity import code_identity, target_modules
from scripts.running.memory import keep_freed_memory

logger = logging.getLogger(__name__)

ENTRY_POINTS = ("initialize", "run", "finalize")
RECORD = "stage.json"
# Where things lie, and how the work is cut, does not change what comes out; the content of inputs is hashed instead.
PLACE = re.compile(
    r"(_dir|_dirs|_path|_paths|_root|_checkpoint_interval|_num_workers|_block_size)$"
    r"|^(device|overwrite|imports|stage|stage_inputs|num_workers)$"
)
NOT_OUTPUT = re.compile(r"^(\.|checkpoints/|events/|(stage\.json|config\.yaml|log\.txt)$)|/\.")
PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scipy", "scikit-learn", "scikit-image", "nibabel")

_locks_of_process: dict[Path, IO[str]] = {}
_invocation: ContextVar[Invocation | None] = ContextVar("invocation", default=None)
_locks: ContextVar[dict[Path, IO[str]]] = ContextVar("locks", default=_locks_of_process)


class AlreadyFinished(SystemExit):
    """The stage was finished before with these settings: nothing is left to do, and the exit status is 0."""

    def __init__(self, output_dir: Path) -> None:
        super().__init__(0)
        logger.warning("%s is finished with these settings, nothing to do", output_dir)


def run_invocation(invocation: Invocation) -> ConfigWorkflow:
    """Do in this process what the command line of `invocation` does: initialize, run, finalize.

    Raises:
        AlreadyFinished: if the stage was finished before.
    """
    with invoked(invocation):
        workflow = create_workflow(invocation)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    return workflow


def create_workflow(invocation: Invocation) -> ConfigWorkflow:
    """Build the workflow of `invocation`, of which nothing is done yet; use it inside `invoked`."""
    return ConfigWorkflow(
        config_file=list(invocation.config_files),
        logging_file=False,
        workflow_type=None,  # type: ignore[arg-type]
        **invocation.overrides,
    )


@contextlib.contextmanager
def invoked(invocation: Invocation) -> Iterator[None]:
    """Tell the stages run inside the block which files and overrides they are made of (else the command line does).

    A stage that the block leaves unfinished loses its lock with it; those of other blocks keep theirs.
    """
    token, outer_locks = _invocation.set(invocation), _locks.set({})
    try:
        yield
    finally:
        for folder in list(_locks.get()):
            _release_lock(folder)
        _locks.reset(outer_locks)
        _invocation.reset(token)


class Stage:
    """One stage: a folder, what it was made from, and whether it is finished.

    Args:
        output_dir: folder of the outputs.
        inputs: files that the stage reads; a None among them is an input not given.
        seed: seed of torch, numpy and random at the start.
        num_threads: torch threads; results depend on it in the sixth digit, so it is part of the key. None keeps it.
        overwrite: empty a folder that holds the results of other settings, instead of refusing it.
    """

    def __init__(
        self,
        output_dir: str,
        inputs: Sequence[str | None] = (),
        seed: int = 0,
        num_threads: int | None = None,
        overwrite: bool = False,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.inputs = list(inputs)
        self.seed = seed
        self.num_threads = num_threads
        self.overwrite = overwrite
        self._started = time.monotonic()

    def identity(self) -> dict[str, Any]:
        """Return what the outputs depend on: settings, input hashes, threads, kind of device and the code reached.

        Raises:
            FileNotFoundError: if an input is missing.
        """
        return {
            **self.chosen(),
            "inputs": [None if path is None else self._input_hash(path) for path in self.inputs],
            "code": code_identity(target_modules(self._config)),
        }

    def chosen(self) -> dict[str, Any]:
        """Return the part of the identity that somebody chose: settings, threads, seed and kind of device."""
        return {
            "settings": {key: value for key, value in self._config.items() if not PLACE.search(key)},
            "num_threads": self.num_threads,
            "seed": self.seed,
            "device": device_type(self._config.get("device")),
        }

    def other_settings(self) -> list[str]:
        """Name what was chosen otherwise in the run that the folder holds; nothing for a new folder or the same run.

        Inputs and code are not chosen; a run of other ones is only out of date.
        """
        record = self._record()
        if not record:
            return []
        return differences({**record["identity"], "inputs": None, "code": None}, self.chosen())

    def is_finished(self, identity: Mapping[str, Any] | None = None) -> bool:
        """Tell whether the folder holds finished outputs of exactly these settings, all still there.

        Args:
            identity: what `identity` returned, if it is at hand.
        """
        record = self._record()
        return bool(
            record.get("finished")
            and record["key"] == key_of(self.identity() if identity is None else identity)
            and all(self._size(name) == output["bytes"] for name, output in record["outputs"].items())
        )

    def begin(self) -> None:
        """Check the command line, lock the folder, record the settings and seed everything.

        Raises:
            AlreadyFinished: if there is nothing left to do.
            ValueError: if the folder holds results of other settings and `overwrite` is false, or foreign files.
            RuntimeError: if another process works in this folder.
        """
        sys.excepthook = explain_last
        invocation = current_invocation()
        if invocation is not None:
            refuse_unknown_keys(invocation)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        _lock(self.output_dir)
        identity = self.identity()
        if self.is_finished(identity):
            raise AlreadyFinished(self.output_dir)
        self._refuse_other_files()
        self._refuse_other_settings(identity)
        for leftover in self.output_dir.rglob(".partial-*"):
            leftover.unlink()
        self._write_record(identity, finished=False)
        if invocation is not None:
            write_text(self.output_dir / "config.yaml", yaml.safe_dump(invocation.merged(), sort_keys=False))
        keep_freed_memory()
        self.set_threads_and_seeds()

    def set_threads_and_seeds(self) -> None:
        """Set torch's threads, where the config names a number, and seed every source of randomness.

        What a stage before it in this process set for itself is put back.
        """
        torch.backends.cudnn.benchmark = False
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)
        torch.manual_seed(self.seed)
        np.random.seed(self.seed)
        random.seed(self.seed)

    def end(self) -> None:
        """Mark the stage finished and drop its checkpoints."""
        self._write_record(self._record()["identity"], finished=True)
        # Only now: a kill before this line must still find the checkpoints.
        shutil.rmtree(self.output_dir / "checkpoints", ignore_errors=True)
        _release_lock(self.output_dir)

    @cached_property
    def _config(self) -> dict[str, Any]:
        invocation = current_invocation()
        return reachable(invocation.merged(), ENTRY_POINTS) if invocation else {}

    def _record(self) -> dict[str, Any]:
        path = self.output_dir / RECORD
        return read_json(path) if path.is_file() else {}

    def _size(self, name: str) -> int | None:
        path = self.output_dir / name
        return path.stat().st_size if path.is_file() else None

    def _write_record(self, identity: Mapping[str, Any], finished: bool) -> None:
        record = {
            "key": key_of(identity),
            "finished": finished,
            "identity": identity,
            "versions": versions(),
            "seconds": round(time.monotonic() - self._started, 3),
            "outputs": self._outputs() if finished else {},
        }
        write_json(self.output_dir / RECORD, record)

    def _outputs(self) -> dict[str, dict[str, Any]]:
        files = (path for path in sorted(self.output_dir.rglob("*")) if path.is_file())
        named = {path.relative_to(self.output_dir).as_posix(): path for path in files}
        return {
            name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for name, path in named.items()
            if not NOT_OUTPUT.search(name)
        }

    def _input_hash(self, path: str) -> str:
        # A listing that a stage makes of its source in its own folder must not count the outputs beside it.
        return sha256_file(path) if Path(path).parent == self.output_dir else input_hash(path)

    def _refuse_other_files(self) -> None:
        # What is not ours must never be taken for an output, nor be emptied with them later.
        strangers = [path.name for path in self.output_dir.iterdir() if not NOT_OUTPUT.search(path.name)]
        if strangers and not self._record():
            raise ValueError(
                f"{self.output_dir} must be new or hold a run, got a folder with {', '.join(sorted(strangers)[:5])};"
                " choose an output_dir of its own for each stage"
            )

    def _refuse_other_settings(self, identity: Mapping[str, Any]) -> None:
        record = self._record()
        # A folder of the same key is continued, even if an output was lost.
        if not record or record["key"] == key_of(identity):
            return
        if not self.overwrite:
            raise ValueError(
                f"{self.output_dir} must be empty or hold a run of these settings, got one that differs in"
                f" {', '.join(differences(record['identity'], identity))}; choose another output_dir,"
                " or pass --overwrite True to empty this one"
            )
        # The record goes last: a kill in between must find what the rest belongs to.
        for path in sorted(self.output_dir.iterdir(), key=lambda path: path.name == RECORD):
            if path.name not in (".lock", "log.txt"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def current_invocation() -> Invocation | None:
    """Return what this run is made of: from `invoked`, else from the command line, else None (called as a library)."""
    return _invocation.get() or Invocation.from_command_line()


def key_of(identity: Mapping[str, Any]) -> str:
    """Hash an identity to 64 hexadecimal digits, whatever the order of its keys."""
    return sha256_text(_as_text(identity))


def _as_text(value: Any) -> str:
    # One of two identities comes from a file, in which a tuple is a list.
    return json.dumps(value, sort_keys=True, default=str)


def holds_work(folder: Path) -> bool:
    """Tell whether a stage left something in a folder that took time: its outputs, or an epoch of a training."""
    record = folder / RECORD
    is_finished = record.is_file() and read_json(record)["finished"]
    return is_finished or any((folder / "checkpoints").glob("*"))


def input_hash(path: str) -> str:
    """Hash an input file and, where a stage wrote it, all of its outputs: a list stands for the images it names."""
    record = Path(path).parent / RECORD
    outputs = read_json(record).get("outputs", {}) if record.is_file() else {}
    return sha256_text(sha256_file(path) + "".join(f"{name}:{item['sha256']}" for name, item in outputs.items()))


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name the settings in which two identities differ, then "inputs", "code", "seed" or "num_threads"."""
    old, new = before["settings"], after["settings"]
    settings = [key for key in sorted({*old, *new}) if _as_text(old.get(key)) != _as_text(new.get(key))]
    others = ("inputs", "code", "seed", "num_threads", "device")
    return settings + [key for key in others if _as_text(before.get(key)) != _as_text(after.get(key))]


def device_type(device: Any) -> str | None:
    """Return "cpu" or "cuda" of a config's `device`, which may be an expression; the two draw other random numbers."""
    if device is None:
        return None
    text = str(device)
    return ("cuda" if torch.cuda.is_available() else "cpu") if text.startswith("$") else text.partition(":")[0]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a number can depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def _lock(folder: Path) -> None:
    folder, locks = folder.resolve(), _locks.get()
    if folder in locks:
        return
    stream = (folder / ".lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise RuntimeError(
            f"{folder} is in use by another process; wait for it or choose another output_dir"
        ) from error
    locks[folder] = stream


def _release_lock(folder: Path) -> None:
    stream = _locks.get().pop(folder.resolve(), None)
    if stream is not None:
        stream.close()
