"""A task of the Medical Decathlon: its dataset.json names 4D images, their channels and what the masks mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.cohorts.subjects import Source, Subject
from scripts.cohorts.words import composed
from scripts.running.errors import some_names
from scripts.running.files import read_json
from scripts.volumes.file_names import as_named, stem_of
from scripts.volumes.mask_codes import MaskCodes
from scripts.volumes.modality_names import channel_names, describe_aliases, parse_modality, require_numbered

DESCRIPTION = "dataset.json"
NEEDED = ("modality", "training")
# What a label says, in this order: "non-enhancing" holds "enhancing".
WORDS = {
    "necrotic": r"necro|\bncr\b",
    "non_enhancing": r"non[\s_-]*enhanc|\bnet\b",
    "edema": r"o?edema|\bed\b",
    "enhancing": r"enhanc|\bet\b",
    "cavity": r"cavity|\brc\b",
}


def is_decathlon(folder: Path) -> bool:
    """Tell whether a folder has a dataset.json of the Decathlon; other programs write files of that name, too."""
    path = folder / DESCRIPTION
    if not path.is_file():
        return False
    description = read_json(path)
    return isinstance(description, Mapping) and all(key in description for key in NEEDED)


def find_decathlon(folder: Path, modalities: Sequence[str]) -> Source:
    """Find the training subjects of a Medical Decathlon task.

    Channel order and, where they are in words that are understood, mask codes come from its `dataset.json`.

    Args:
        folder: the unpacked archive, such as Task01_BrainTumour.
        modalities: those wanted.

    Returns:
        Subjects and problems.

    Raises:
        ValueError: if `dataset.json` is that of another program, or is not as the Decathlon writes it.
    """
    path = folder / DESCRIPTION
    description = _checked(path, read_json(path))
    order = [parse_modality(name, modalities) or name for name in channel_names(path, description)]
    source = Source("decathlon")
    _check_channels(path, order, modalities, source)
    labels = {code: words for code, words in description.get("labels", {}).items() if int(code) != 0}
    source.mask_codes = _read_labels(labels)
    source.labels = str(labels) if labels and source.mask_codes is None else ""
    for entry in description["training"]:
        image = as_named(folder / entry["image"])
        mask = as_named(folder / entry["label"]) if entry.get("label") else None
        source.subjects.append(
            Subject(
                composed(stem_of(image)),
                f"{path} ({entry['image']})",
                image=image,
                channel_order=order,
                mask=mask,
                mask_source="expert" if mask else None,
            )
        )
    return source


def _checked(path: Path, description: Any) -> Mapping[str, Any]:
    """The content of `dataset.json`, every part that is read of the type that it must be."""
    keys = list(description) if isinstance(description, Mapping) else [type(description).__name__]
    if not set(NEEDED) <= set(keys):
        raise ValueError(
            f"{path} must be that of the Medical Decathlon, with the keys {' and '.join(NEEDED)}, got"
            f" {some_names(keys)}; list the files in a table instead (docs/reference/data.md)"
        )
    require_numbered(path, "labels", description.get("labels", {}))
    entries = description["training"]
    if not isinstance(entries, list):
        raise ValueError(f"{path}: training must be a list, got {entries!r}; correct it")
    for number, entry in enumerate(entries, start=1):
        files = [entry.get("image"), entry.get("label") or ""] if isinstance(entry, Mapping) else [None]
        if not all(isinstance(file, str) for file in files):
            raise ValueError(
                f"{path}: entry {number} of training must be {{image: path, label: path}}, got {entry!r}; correct it"
            )
    return dict(description)


def _check_channels(path: Path, order: list[str], modalities: Sequence[str], source: Source) -> None:
    """Note channels that are unknown, there twice, or missing."""
    unknown = [name for name in order if parse_modality(name, modalities) is None]
    if unknown:
        source.add_problem(
            "",
            f"{path} must name channels of {describe_aliases(modalities)}, got {', '.join(unknown)}; correct the names",
        )
    if len(set(order)) < len(order) or set(modalities) - set(order):
        source.add_problem(
            "", f"{path} must name each of {', '.join(modalities)} once, got {', '.join(order)}; correct it"
        )


def _read_labels(labels: Mapping[str, str]) -> MaskCodes | None:
    """Mask codes from the words of `dataset.json`; None unless all are understood, enhancing and edema among them."""
    codes: MaskCodes = {}
    for code, words in labels.items():
        tissue = next((name for name, word in WORDS.items() if re.search(word, words.lower())), None)
        if tissue is None or tissue in codes:
            return None
        codes[tissue] = int(code)
    if "necrotic" not in codes and "non_enhancing" in codes:
        codes["necrotic"] = codes.pop("non_enhancing")  # one code for both, as in the Decathlon
    return codes if {"necrotic", "edema", "enhancing"} <= set(codes) else None
