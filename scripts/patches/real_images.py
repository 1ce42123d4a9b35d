"""Real images of a patches list: those behind a generator, or held out from it, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.patches.tensors import load_patch
from scripts.provenance.record import hash_subject
from scripts.splits.patients import patient_of


@dataclass(frozen=True)
class RealImages:
    """Real images and whose they are.

    Args:
        images: (M, C, *spatial) in [-1, 1].
        subject_ids: whose each image is. Scans of one patient are of one subject: they resemble each other, and splits
            keep them together.
        names: file of each image, for the record; may be empty.
    """

    images: Tensor
    subject_ids: Sequence[str]
    names: Sequence[str] = ()

    @property
    def subjects(self) -> list[str]:
        """Each subject once, in the order of the first image."""
        return list(dict.fromkeys(self.subject_ids))


def load_images(
    list_path: str | Path, listing: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]
) -> torch.Tensor:
    """Load some of the images of a decathlon list.

    Args:
        list_path: the list; its entries' `image` is relative to its folder.
        listing: its content, of which `modality` and `spatial_dims` count.
        entries: those to load, or none.

    Returns:
        (N, C, *spatial) float32 in [-1, 1]; (0,) when there are no entries.

    Raises:
        ValueError: if an image has other channels, dimensions or range than it must have.
    """
    folder, num_channels, spatial_dims = Path(list_path).parent, len(listing["modality"]), int(listing["spatial_dims"])
    images = [load_patch(str(folder / entry["image"]), num_channels, spatial_dims) for entry in entries]
    return torch.stack(images) if images else torch.empty(0)


def seen_by_generator(provenance: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Pick the patches of the subjects that stand, hashed, in a generator's provenance.

    Raises:
        ValueError: if a subject of the provenance is not in the list: the two do not belong together.
    """
    hashed = {hash_subject(entry["subject_id"]) for entry in entries}
    missing = set(provenance["subjects"]) - hashed
    if missing:
        raise ValueError(
            f"patches must hold all {len(provenance['subjects'])} subjects behind the generator,"
            f" got a list without {len(missing)} of them; give the patches.json it was trained on"
        )
    return [dict(entry) for entry in entries if hash_subject(entry["subject_id"]) in set(provenance["subjects"])]


def real_images(
    path: str | Path,
    patches: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    label: int | None,
    device: torch.device | str = "cpu",
) -> RealImages:
    """Load the real images of one class.

    Args:
        path: `patches.json`.
        patches: its content.
        entries: those to choose from.
        label: class; None takes all.
        device: where the images shall lie.
    """
    own = [entry for entry in entries if label is None or entry["label"] == label]
    patients, names = [patient_of(entry) for entry in own], [entry["image"] for entry in own]
    return RealImages(load_images(path, patches, own).to(device), patients, names)
