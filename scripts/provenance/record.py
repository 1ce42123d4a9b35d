"""What stands behind weights and synthetic images: cohort, method, kind of images and, hashed, every subject."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.running.files import sha256_file, sha256_text, write_json
from scripts.splits.lists import read_list

FILE_NAME = "provenance.json"


def hash_subject(subject_id: str) -> str:
    """Hash a subject id to 64 hexadecimal digits: a list of subjects can be compared, but not read."""
    return sha256_text(subject_id)


def hash_subjects(subject_ids: Iterable[str]) -> list[str]:
    """Hash subject ids, each once, sorted by hash so that the order tells nothing."""
    return sorted({hash_subject(subject_id) for subject_id in subject_ids})


def record_path(weights_path: str | Path) -> Path:
    """Return the path of the record beside a file of weights."""
    return Path(weights_path).parent / FILE_NAME


def write_provenance(
    weights_path: str | Path,
    *,
    cohorts: Iterable[str],
    subjects: Iterable[str],
    simulated: bool,
    fold: int | None,
    synthetic: Iterable[str] = (),
    hashed_subjects: Iterable[str] = (),
    **details: Any,
) -> Path:
    """Write `provenance.json` beside a file of weights.

    Args:
        weights_path: the state dict that the record is about; its hash ties the two together.
        cohorts: names of the cohorts trained on.
        subjects: ids, not hashed, of all subjects trained on.
        simulated: whether the subjects are simulated.
        fold: fold whose training part it was; None if it was no fold.
        synthetic: hashes of the weights behind synthetic images trained on.
        hashed_subjects: hashes of further subjects, such as those behind synthetic images or other weights.
        details: what else to record: `method`, `setup`, `selection_subjects` (hashed, chose the epoch), `images` (what
            they are made of, keys `IMAGE_FACTS`)...

    Returns:
        Path of the file written.

    Raises:
        FileNotFoundError: if the weights do not exist.
    """
    path = record_path(weights_path)
    record = {
        "cohorts": sorted(set(cohorts)),
        "subjects": sorted({*hash_subjects(subjects), *hashed_subjects}),
        "simulated": simulated,
        "fold": fold,
        "synthetic": sorted(set(synthetic)),
        **details,
        "weights_sha256": sha256_file(weights_path),
    }
    write_json(path, record)
    return path


def seen_by_any(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `write_provenance` takes of weights that were joined, by members or by sites: all that any has seen.

    Args:
        records: `provenance.json` of each.
    """
    return {
        "cohorts": [name for record in records for name in record["cohorts"]],
        "subjects": [],
        "hashed_subjects": set().union(*(record["subjects"] for record in records)),
        "selection_subjects": sorted(set().union(*(record.get("selection_subjects", ()) for record in records))),
        # Weights that have seen simulated patients are unfit for patients.
        "simulated": any(record["simulated"] for record in records),
        "synthetic": [sha for record in records for sha in record["synthetic"]],
        "leakage_not_excluded": sorted({name for record in records for name in record.get("leakage_not_excluded", ())}),
    }


def read_provenance(weights_path: str | Path) -> Mapping[str, Any]:
    """Read the record beside a file of weights, and check that it is about these weights.

    Raises:
        FileNotFoundError: if weights or record are missing.
        ValueError: if the record is about other weights.
    """
    path = record_path(weights_path)
    actual = sha256_file(weights_path)
    record = read_list(path, "provenance")
    if record.get("weights_sha256") != actual:
        raise ValueError(
            f"{path} must be about {Path(weights_path).name} (sha256 {actual}),"
            f" got weights_sha256 {record.get('weights_sha256')!r}; finish or repeat the training that writes both"
        )
    return record
