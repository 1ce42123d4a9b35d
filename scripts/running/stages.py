"""A stage of the study: its settings, its inputs and its record beside the output."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigWorkflow
from monai.bundle.utils import ID_SEP_KEY

from scripts.running.configs import Invocation, components, fit_tracking, reachable
from scripts.running.errors import explain_errors, some_names
from scripts.running.files import (
    RECORD,
    read_json,
    sha256_file,
    sha256_text,
    way_out,
    why_no_file,
    write_json,
    write_text,
)
from scripts.running.folders import (
    begin_journal,
    changed_outputs,
    describe_outputs,
    drop_partial_files,
    empty_folder,
    end_journal,
    holds_work,
    lock,
    locks_of_block,
    make_folder,
    output_hashes,
    read_record,
    release_lock,
    strangers,
)
from scripts.running.identity import code_identity, target_modules
from scripts.running.overrides import check_overrides, config_folder, known_keys
from scripts.running.process import (
    device_type,
    flush_subnormals,
    keep_freed_memory,
    require_num_threads,
    seed_everything,
    versions,
)

logger = logging.getLogger(__name__)

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the one in C writes the same in a tenth of the time
ENTRY_POINTS = ("initialize", "run", "finalize")
# Where things lie, and how the work is cut, does not change what comes out; the content of inputs is hashed instead.
PLACE = re.compile(
    r"(_dir|_dirs|_path|_paths|_root|_checkpoint_interval|_num_workers|_block_size)$"
    r"|^(device|overwrite|keep_old_code|folds_together|imports|num_workers)$"
    r"|^stage(_inputs|_kind|_belongs_to)?$"
)

_invocation: ContextVar[Invocation | None] = ContextVar("invocation", default=None)


class AlreadyFinished(SystemExit):
    """The stage was finished before with these settings: nothing is left to do, and the exit status is 0.

    Raised where the command line, or `invoked`, runs the stage; `monai.bundle.run_workflow` of a program that uses this
    as a library returns instead.
    """

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


def check_command_line(of_study: bool = False, known: Iterable[str] = ()) -> None:
    """Refuse a misspelt key and a value of another kind, and let an error end in its cause, before any item is built.

    Args:
        of_study: take the keys of all stages, which a study hands on, too.
        known: keys of other configs that are taken, too, as they are handed on.

    Raises:
        ValueError: naming the key, what it must be, and the way out.
    """
    explain_errors()
    workflow = calling_workflow()
    if workflow is not None:
        fit_tracking(workflow.parser)
    invocation = current_invocation()
    if invocation is not None:
        check_overrides(invocation, known_keys(config_folder(invocation)) if of_study else known)


def create_workflow(invocation: Invocation) -> ConfigWorkflow:
    """Build the workflow of `invocation`, of which nothing is done yet; use it inside `invoked`."""
    workflow = ConfigWorkflow(
        config_file=list(invocation.config_files),
        logging_file=False,
        workflow_type=None,  # type: ignore[arg-type]
        **invocation.overrides,
    )
    workflow.parser.locator = components()
    return workflow


@contextlib.contextmanager
def invoked(invocation: Invocation) -> Iterator[None]:
    """Tell the stages run inside the block which files and overrides they are made of (else the command line does).

    A stage that the block leaves unfinished loses its lock with it; those of other blocks keep theirs.
    """
    token = _invocation.set(invocation)
    try:
        with locks_of_block():
            yield
    finally:
        _invocation.reset(token)


@dataclass(frozen=True)
class Comparison:
    """How the run that a folder holds compares with the one that is asked for.

    Args:
        folder: of the stage.
        record: of the run that it holds; empty for none.
        settings: names of what was chosen otherwise; "seed", "num_threads" and "device" may be among them.
        inputs: files that were read with another content.
        code: modules that do something else now -> their hash now (None for one that is gone), but for what
            `keep_old_code` accepted.
        outputs: name -> "lost" or "changed", for the outputs that are not as they were written.
    """

    folder: Path
    record: Mapping[str, Any] = field(default_factory=dict)
    settings: Sequence[str] = ()
    inputs: Sequence[str] = ()
    code: Mapping[str, str | None] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_same(self) -> bool:
        """Whether there is a run and it was made from the same."""
        return bool(self.record) and not (self.settings or self.inputs or self.code)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_same and self.record["finished"] and not self.outputs

    @property
    def holds_work(self) -> bool:
        """Whether the run left something that took time."""
        return holds_work(self.folder, self.record)

    @property
    def is_old_code(self) -> bool:
        """Whether the run is of other code and otherwise as asked for."""
        return bool(self.record and self.code) and not (self.settings or self.inputs)

    @property
    def changed_outputs(self) -> list[str]:
        """Outputs that were edited or spoilt since they were written."""
        return [name for name, fault in self.outputs.items() if fault == "changed"]

    def reasons(self) -> list[str]:
        """Say in words why the stage is not finished; empty if it is."""
        if not self.record:
            return ["not begun"]
        reasons = {
            "": self.settings,
            "inputs ": self.inputs,
            "code of ": [name.removeprefix("scripts.") for name in self.code],
            "changed outputs ": self.changed_outputs,
            "lost outputs ": [name for name, fault in self.outputs.items() if fault == "lost"],
        }
        return [f"{what}{some_names(names, limit=5)}" for what, names in reasons.items() if names]


class OtherRunError(ValueError):
    """The folder of a stage holds a run of other settings, inputs or code, or outputs that were changed since.

    Args:
        fault: what the folder must hold, and what it holds.
        way_out: what to do.
    """

    def __init__(self, fault: str, way_out: str) -> None:
        super().__init__(fault, way_out)
        self.fault = fault

    def __str__(self) -> str:
        return "; ".join(self.args)


class Stage:
    """One stage: a folder, what it was made from, and whether it is finished.

    Args:
        output_dir: folder of the outputs.
        inputs: files that the stage reads; a None among them is an input not given.
        seed: seed of torch, numpy and random at the start.
        num_threads: torch threads; results depend on it in the sixth digit, so it is part of the key. None keeps it.
        overwrite: delete the outputs of a run of other settings or code, and outputs that were changed since, instead
            of refusing the folder.
        keep_old_code: keep a run that differs in its code only, and write down that this was asked for.
        kind: what the stage makes, in a word, such as "generator"; written down for those who read the study.
        belongs_to: its cohort, fold, setup, method and class_name, as the study names them; written down likewise.
        facts: what else the outputs depend on and neither a setting nor a file's content tells, such as the names of
            files, as JSON knows it; None for nothing.

    Raises:
        ValueError: if `output_dir` is no path, or `num_threads` no number of threads.
    """

    def __init__(
        self,
        output_dir: str,
        inputs: Sequence[str | None] = (),
        seed: int = 0,
        num_threads: int | None = None,
        overwrite: bool = False,
        keep_old_code: bool = False,
        kind: str | None = None,
        belongs_to: Mapping[str, Any] | None = None,
        facts: Any = None,
    ) -> None:
        if not isinstance(output_dir, str) or not output_dir:
            raise ValueError(
                f"output_dir must be the path of a folder, got {output_dir!r}; pass --output_dir PATH (digits in"
                " quotes: --output_dir \"'2020'\")"
            )
        require_num_threads(num_threads)
        self.output_dir = Path(output_dir)
        self.inputs = list(inputs)
        self.seed = seed
        self.num_threads = num_threads
        self.overwrite = overwrite
        self.keep_old_code = keep_old_code
        self.kind = kind
        self.belongs_to = dict(belongs_to or {})
        self.facts = facts
        self._started = time.monotonic()
        self._has_begun = False

    def identity(self) -> dict[str, Any]:
        """Return what the outputs depend on: settings, input hashes, threads, kind of device and the code reached.

        Raises:
            FileNotFoundError: if an input is missing, naming the key that gives it.
        """
        return self._identity([None if path is None else self._input_hash(path) for path in self.inputs])

    def choices(self) -> dict[str, Any]:
        """Return the part of the identity that somebody chose: settings, threads, seed and kind of device."""
        facts = {} if self.facts is None else {"facts": self.facts}
        return {
            "settings": {key: value for key, value in self._config.items() if not PLACE.search(key)} | facts,
            "num_threads": self.num_threads,
            "seed": self.seed,
            "device": device_type(self._config.get("device")),
        }

    def compare(self, identity: Mapping[str, Any] | None = None) -> Comparison:
        """Compare the run in the folder with the one that is asked for.

        Args:
            identity: what `identity` returned, if it is at hand; without it, an input that is not there yet counts as
                changed.
        """
        record = read_record(self.output_dir)
        if not record:
            return Comparison(self.output_dir)
        if identity is None:
            identity = self._identity(
                [self._input_hash(path) if path and not why_no_file(path) else None for path in self.inputs]
            )
        before = record["identity"]
        code = differing_code(before.get("code"), identity["code"])
        return Comparison(
            self.output_dir,
            record,
            settings=differing_settings(before, identity),
            inputs=self._differing_inputs(before.get("inputs", []), identity["inputs"]),
            code={} if code in record.get("kept_old_code", []) else code,
            outputs=changed_outputs(self.output_dir, record.get("outputs", {})),
        )

    def is_finished(self) -> bool:
        """Tell whether the folder holds finished outputs of exactly these settings, all as they were written."""
        return self.compare().is_finished

    def begin(self) -> None:
        """Lock the folder, record the settings and seed everything.

        A finished stage is only read, so that it may lie on a read-only disk. In a workflow that another program runs
        as a library, nothing follows then: `run`, `finalize` and the rest of `initialize` do nothing and return.

        Raises:
            AlreadyFinished: if there is nothing left to do and no such workflow calls.
            ValueError: if the folder holds a run of other settings or code, or changed outputs, and neither `overwrite`
                nor `keep_old_code` says what to do; or if it holds foreign files.
            RuntimeError: if another process works in this folder.
        """
        try:
            self._begin()
        except AlreadyFinished:
            workflow = calling_workflow() if current_invocation() is None else None
            if workflow is None:
                raise
            _end_here(workflow)
        else:
            self._has_begun = True

    def _begin(self) -> None:
        make_folder(self.output_dir)
        identity = self.identity()
        self._stop_if_finished(self.compare(identity))
        lock(self.output_dir)
        comparison = self.compare(identity)
        self._stop_if_finished(comparison)  # another process may have finished it meanwhile
        self._refuse_other_files(comparison)
        comparison = self._make_way(comparison, identity)
        drop_partial_files(self.output_dir)
        begin_journal(self.output_dir, comparison.record.get("outputs", {}))
        # A run that is continued keeps the code it was begun with on record.
        self._write_record(comparison.record["identity"] if comparison.is_same else identity, finished=False)
        if self._merged:
            write_text(self.output_dir / "config.yaml", yaml.dump(self._merged, Dumper=DUMPER, sort_keys=False))
        keep_freed_memory()
        flush_subnormals()
        self.set_threads_and_seeds()

    def set_threads_and_seeds(self) -> None:
        """Set torch's threads, where the config names a number, and seed every source of randomness.

        What a stage before it in this process set for itself is put back.
        """
        seed_everything(self.seed, self.num_threads)

    def end(self) -> None:
        """Mark the stage finished and drop its checkpoints; nothing, where the stage was not begun.

        A client of a federation trains without a folder of its own, and ends all the same.
        """
        if not self._has_begun:
            return
        self._write_record(read_record(self.output_dir)["identity"], finished=True)
        end_journal(self.output_dir)
        # Only now: a kill before this line must still find the checkpoints.
        shutil.rmtree(self.output_dir / "checkpoints", ignore_errors=True)
        release_lock(self.output_dir)

    @cached_property
    def _config(self) -> dict[str, Any]:
        return reachable(self._merged, ENTRY_POINTS) if self._merged else {}

    @cached_property
    def _merged(self) -> Mapping[str, Any]:
        """Files and overrides of the run as one mapping; empty where nothing is known of them."""
        return current_config()

    def _identity(self, input_hashes: Sequence[str | None]) -> dict[str, Any]:
        return {**self.choices(), "inputs": list(input_hashes), "code": code_identity(target_modules(self._config))}

    def _write_record(self, identity: Mapping[str, Any], finished: bool) -> None:
        record = {
            "key": key_of(identity),
            "finished": finished,
            "kind": self.kind,
            "belongs_to": self.belongs_to,
            "identity": identity,
            "kept_old_code": read_record(self.output_dir).get("kept_old_code", []),
            "versions": versions(),
            "seconds": round(time.monotonic() - self._started, 3),
            "outputs": describe_outputs(self.output_dir) if finished else {},
        }
        write_json(self.output_dir / RECORD, record)

    def _input_hash(self, path: str) -> str:
        if why := why_no_file(path):
            raise FileNotFoundError(f"{path} {why}; {self._key_of(path)}{way_out(path)}")
        # A listing that a stage makes of its source in its own folder must not count the outputs beside it.
        return sha256_file(path) if Path(path).parent == self.output_dir else input_hash(path)

    def _key_of(self, path: str) -> str:
        """Name the key that gives a path, as the beginning of a way out."""
        values = self._config.items()
        keys = [key for key, value in values if value == path or (isinstance(value, list | tuple) and path in value)]
        return f"correct --{keys[0]}: " if keys else ""

    def _differing_inputs(self, before: Sequence[Any], after: Sequence[Any]) -> list[str]:
        if len(before) != len(after):
            return ["of another number"]
        changed = zip(self.inputs, before, after, strict=True)
        return [str(path) for path, old, new in changed if old != new]

    def _stop_if_finished(self, comparison: Comparison) -> None:
        if comparison.is_finished:
            raise AlreadyFinished(self.output_dir)

    def _refuse_other_files(self, comparison: Comparison) -> None:
        # What is not ours must never be taken for an output, nor be emptied with them later.
        names = {name.partition("/")[0] for name in strangers(self.output_dir, {})} if not comparison.record else set()
        if names:
            raise ValueError(
                f"{self.output_dir} must be new or hold a run, got a folder with {some_names(names, limit=5)};"
                " choose an output_dir of its own for each stage"
            )

    def _make_way(self, comparison: Comparison, identity: Mapping[str, Any]) -> Comparison:
        """Do what was consented to with the run that the folder holds.

        Returns:
            What is left of it.

        Raises:
            AlreadyFinished: if the run is finished and kept.
            OtherRunError: if nothing was consented to.
        """
        if comparison.is_old_code and self.keep_old_code:
            self._keep_old_code(comparison)
            comparison = self.compare(identity)
            self._stop_if_finished(comparison)
        if comparison.record and not comparison.is_same:
            if not self._may_overwrite and (comparison.holds_work or not comparison.is_old_code):
                raise OtherRunError(*_refusal(comparison))
            empty_folder(self.output_dir, comparison.record)
            return Comparison(self.output_dir)
        # A folder of the same key is continued, even if an output was lost.
        if comparison.changed_outputs and not self._may_overwrite:
            raise OtherRunError(*_refusal(comparison))
        for name in comparison.changed_outputs:
            (self.output_dir / name).unlink()
        return comparison

    @property
    def _may_overwrite(self) -> bool:
        invocation = current_invocation()
        return self.overwrite or (invocation is not None and invocation.may_overwrite)

    def _keep_old_code(self, comparison: Comparison) -> None:
        record = comparison.record
        kept = [*record.get("kept_old_code", []), dict(comparison.code)]
        # Early records do not say what they are of.
        place = {"kind": self.kind, "belongs_to": self.belongs_to}
        write_json(self.output_dir / RECORD, {**record, **place, "kept_old_code": kept})
        logger.warning("%s is kept, which other code of %s made", self.output_dir, some_names(comparison.code))


def _refusal(comparison: Comparison) -> tuple[str, str]:
    """Say why a run is in the way, and the ways out."""
    folder, reasons = comparison.folder, ", ".join(comparison.reasons())
    if comparison.is_same:
        return (
            f"{folder} must hold its outputs as they were written, got {reasons}",
            "put the files back, or pass --overwrite True to make them anew",
        )
    if comparison.is_old_code:
        return (
            f"{folder} must hold a run of this code, got one that differs in {reasons}",
            "pass --overwrite True to make it anew, or --keep_old_code True to keep it, which is written down",
        )
    return (
        f"{folder} must be empty or hold a run of these settings, got one that differs in {reasons}",
        "choose another output_dir, or pass --overwrite True to make this one anew",
    )


def current_invocation() -> Invocation | None:
    """Return what this run is made of: from `invoked`, else from the command line, else None (called as a library)."""
    return _invocation.get() or Invocation.from_command_line()


def current_config() -> dict[str, Any]:
    """Return files and overrides of this run merged and unresolved; empty where nothing is known of them."""
    invocation = current_invocation()
    if invocation is not None:
        return invocation.merged()
    workflow = calling_workflow()
    # A program may hand over objects, which no file of settings can hold.
    return {} if workflow is None else json.loads(_as_text(workflow.parser.get()))


def calling_workflow() -> ConfigWorkflow | None:
    """Return the workflow one of whose items is being evaluated, or None.

    Of a run that another program started by `monai.bundle.run_workflow` it alone knows files and overrides: MONAI hands
    no item the workflow that it belongs to.
    """
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigWorkflow):
            return owner
        frame = frame.f_back
    return None


def _end_here(workflow: ConfigWorkflow) -> None:
    """Let nothing follow in a workflow: what has been resolved is not evaluated again, and there is nothing to run."""
    for number in range(len(workflow.parser[workflow.init_id])):
        workflow.parser.ref_resolver.resolved_content[f"{workflow.init_id}{ID_SEP_KEY}{number}"] = None
    workflow.run = workflow.finalize = list  # type: ignore[method-assign, assignment]


def key_of(identity: Mapping[str, Any]) -> str:
    """Hash an identity to 64 hexadecimal digits, whatever the order of its keys."""
    return sha256_text(_as_text(identity))


def _as_text(value: Any) -> str:
    # One of two identities comes from a file, in which a tuple is a list.
    return json.dumps(value, sort_keys=True, default=str)


def input_hash(path: str) -> str:
    """Hash an input file and what it stands for.

    Of a file that a stage wrote these are all outputs of the stage; of a list of images made by hand, the images.
    """
    hashes = output_hashes(Path(path).parent) or _listed_images(Path(path))
    return sha256_text(sha256_file(path) + "".join(f"{name}:{digest}" for name, digest in hashes.items()))


def _listed_images(path: Path) -> dict[str, str | None]:
    """Hash the images of a decathlon list; None for one that is not there. Other files list none."""
    content = read_json(path) if path.suffix == ".json" else None
    rows = content.get("training") if isinstance(content, Mapping) else None
    names = [row.get("image") for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    files = {str(name): path.parent / str(name) for name in names}
    return {name: sha256_file(file) if file.is_file() else None for name, file in files.items()}


def differing_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name what was chosen otherwise in two identities: settings, "seed", "num_threads" and "device"."""
    old, new = before["settings"], after["settings"]
    settings = [key for key in sorted({*old, *new}) if _as_text(old.get(key)) != _as_text(new.get(key))]
    others = [key for key in ("seed", "num_threads", "device") if _as_text(before.get(key)) != _as_text(after.get(key))]
    return list(dict.fromkeys([*settings, *others]))


def differing_code(before: Any, after: Mapping[str, str]) -> dict[str, str | None]:
    """Return the modules that do something else in two identities, with their hash in the second (None: gone)."""
    old = before if isinstance(before, dict) else {}  # early records hold one hash of all code
    return {name: after.get(name) for name in sorted({*old, *after}) if old.get(name) != after.get(name)}
