"""The guard: nobody is tested on a subject that any network behind the answer has seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.provenance.declared import names_nobody
from scripts.provenance.record import hash_subject
from scripts.running.errors import some_names
from scripts.splits.lists import content_digest, image_path, read_list


class LeakageError(ValueError):
    """A held-out subject is known to a network, or it cannot be told whether it is."""


def seen_subjects(provenance: Mapping[str, Any] | None, origin: str, with_selection: bool = True) -> set[str]:
    """Return the hashed subjects behind a synthetic set or weights.

    Args:
        provenance: content of `provenance.json`, or the item of that name in `synthetic.json`.
        origin: file it belongs to, for the message.
        with_selection: count the subjects that only chose the epoch, too.

    Returns:
        Hashes; none of an imported set whose generator is declared to have seen nobody here, or unknown people.

    Raises:
        LeakageError: if there is no provenance, or it names no subject and does not declare why.
    """
    record = provenance or {}
    if not record.get("subjects") and not names_nobody(record):
        raise LeakageError(
            f"{origin} must carry the provenance of its network with the hashed subjects behind it,"
            f" got {record.get('subjects')!r}; make it again with configs/generate.yaml or train_classifier.yaml, or"
            " declare it with configs/import_synthetic.yaml"
        )
    selected = record.get("selection_subjects", ()) if with_selection else ()
    return {*record["subjects"], *selected}


def seen_by_generator(
    provenance: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], origin: str = "the generator"
) -> list[dict[str, Any]]:
    """Pick the patches of the subjects that stand, hashed, in a generator's provenance.

    Args:
        provenance: of a synthetic set or of weights; its `subjects` count.
        entries: rows of `patches.json`.
        origin: what the provenance is of, for the message.

    Raises:
        ValueError: if a subject of the provenance is not in the list: the two do not belong together.
    """
    subjects = set(provenance["subjects"])
    hashes = [hash_subject(entry["subject_id"]) for entry in entries]
    missing = subjects.difference(hashes)
    if missing:
        raise ValueError(
            f"patches must hold all {len(subjects)} subjects behind {origin},"
            f" got a list without {len(missing)} of them; give the patches.json it was trained on"
        )
    return [dict(entry) for entry, digest in zip(entries, hashes, strict=True) if digest in subjects]


def known_subjects(hashed: Iterable[str], subject_ids: Iterable[str]) -> list[str]:
    """Return the ids, not hashed, that are among hashed ones; each once, sorted."""
    known = set(hashed)
    return [subject for subject in sorted(set(subject_ids)) if hash_subject(subject) in known]


def refuse_leakage(seen: Iterable[str], held_out: Iterable[str], origin: str, use: str) -> None:
    """Stop where a network has seen a subject that is held out.

    Args:
        seen: hashed subjects behind the file.
        held_out: subject ids, not hashed.
        origin: file of the synthetic image or the weights.
        use: what the subjects are held out for, such as "validation or test of fold 0".

    Raises:
        LeakageError: naming the file and the subjects.
    """
    leaked = known_subjects(seen, held_out)
    if leaked:
        raise LeakageError(
            f"{origin} must not know the subjects of {use}, got {len(leaked)} of them behind it:"
            f" {some_names(leaked, limit=5)}; use networks trained on this fold's training part only"
        )


def load_synthetic_set(
    path: str | Path, held_out: Iterable[str], use: str, only_select: Iterable[str] = ()
) -> dict[str, Any]:
    """Read `synthetic.json` for training, if its generator saw none of the held-out subjects.

    Args:
        path: `synthetic.json`.
        held_out: subject ids of validation and test.
        use: see `refuse_leakage`.
        only_select: ids of subjects that may have chosen the generator's epoch but not trained it: the validation part
            of splits made with `selection: validation`.

    Returns:
        Content of the file; `training` has absolute image paths. Where the provenance names no weights, as of a list
        written by hand, its `weights_sha256` is the hash of the list.

    Raises:
        LeakageError: naming the first image file and the subjects, or the file without provenance.
    """
    content = read_list(path, "synthetic")
    images = [{**entry, "image": image_path(path, entry)} for entry in content["training"]]
    origin = f"{images[0]['image']} (of {path})" if images else str(path)
    provenance = content.get("provenance")
    refuse_leakage(seen_subjects(provenance, str(path)), held_out, origin, use)
    refuse_leakage(seen_subjects(provenance, str(path), with_selection=False), only_select, origin, use)
    named = {"weights_sha256": content_digest(content), **content["provenance"]}
    return {**content, "provenance": named, "training": images}
