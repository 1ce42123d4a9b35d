"""Work on the subjects of a cohort, one at a time, of which a stopped run keeps what it has finished."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from scripts.running.errors import root_cause
from scripts.running.files import file_state, read_json, require_file, sha256_file, write_json

# Where a stage keeps the records of finished subjects until all are there; the stage drops it at the end.
RECORDS = "checkpoints"

SOURCES = ("image", "mask", "brain_mask")  # keys of a subject that name files, beside its `images`

Made = TypeVar("Made")


class SubjectRecords(ABC, Generic[Made]):
    """What is done to one subject: its record if it is finished and its files are as they were, else the work.

    A subclass says in `make` what the work is, in `outputs` which files it leaves, and in `sources` which keys of a
    subject name files that it reads beside `images`.

    Args:
        folder: of the stage.
    """

    sources: Sequence[str] = SOURCES

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, subject: Mapping[str, Any]) -> Made | str:
        """Return what was made of a subject, or a sentence if it cannot be used."""
        record = self.folder / RECORDS / f"{subject['subject_id']}.json"
        try:
            made_from = {path: _fingerprint(path) for path in subject_files(subject, self.sources)}
            result = self._finished(record, made_from)
            if result is None:
                result = self.make(subject)
                write_json(record, {"made_from": made_from, "made": result})
            return result
        except (ValueError, TypeError, RuntimeError, FileNotFoundError) as error:
            # A full disk (another OSError) ends the run at once; a subject that cannot be used is told with the others.
            return f"- {subject['subject_id']}: {root_cause(error)}"

    @abstractmethod
    def make(self, subject: Mapping[str, Any]) -> Made:
        """Do the work; its files are written before it returns what JSON can hold."""

    @abstractmethod
    def outputs(self, result: Made) -> Iterable[tuple[str, str]]:
        """List the files of `make`, from the folder of the stage, each with its hash."""

    def _finished(self, record: Path, made_from: Mapping[str, Any]) -> Made | None:
        if not record.is_file():
            return None
        content = read_json(record)
        result: Made = content["made"]
        outputs = [(self.folder / path, digest) for path, digest in self.outputs(result)]
        intact = all(path.is_file() and sha256_file(path) == digest for path, digest in outputs)
        return result if intact and content["made_from"] == made_from else None


def require_usable(
    subjects: Sequence[Mapping[str, Any]], problems_of: Callable[[Mapping[str, Any]], Iterable[str]], must: str
) -> None:
    """Refuse subjects before any work, all that is wrong with them in one message.

    Args:
        subjects: of `cohort.json`.
        problems_of: says what is wrong with one, a sentence each.
        must: what the cohort must be, for the message.

    Raises:
        ValueError: if there is no subject, one is listed twice, or there is a problem.
    """
    names = [subject["subject_id"] for subject in subjects]
    problems = [f"- {name}: listed twice; keep one of them" for name in sorted(set(names)) if names.count(name) > 1]
    problems += [f"- {subject['subject_id']}: {problem}" for subject in subjects for problem in problems_of(subject)]
    if problems or not subjects:
        raise ValueError(f"{must}, got " + ("\n" + "\n".join(problems) if subjects else "none; scan the cohort again"))


def missing_modalities(subject: Mapping[str, Any], modalities: Sequence[str]) -> Iterator[str]:
    """Name the modalities that a subject has no file or channel of."""
    present = subject.get("images") or subject.get("channel_order") or []
    missing = [modality for modality in modalities if modality not in present]
    if missing:
        yield f"no {', '.join(missing)} among {list(present)}; add the files, or set modalities to those you have"


def subject_files(subject: Mapping[str, Any], sources: Sequence[str] = SOURCES) -> list[str]:
    """List the files of a subject: its `images`, and those that the keys `sources` name."""
    paths = [*(subject.get("images") or {}).values(), *(subject.get(key) for key in sources)]
    return [path for path in paths if path]


def _fingerprint(path: str) -> list[int]:
    return list(file_state(require_file(path, "check the path in cohort.json, or scan the cohort again")))
