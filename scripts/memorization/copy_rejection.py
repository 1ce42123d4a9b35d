"""Synthetic images that are copies of training images, found while they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts.memorization.duplicates import count_once, find_duplicates
from scripts.memorization.nearest_images import between_subjects, pixels_of_shift
from scripts.memorization.parts import whole_image
from scripts.memorization.search import CopySearch
from scripts.patches.image_sets import ImageSet, read_rows
from scripts.provenance.leakage import seen_by_generator
from scripts.splits.lists import read_list
from scripts.splits.patients import number_patients


class CopyFilter:
    """Tell copies of whole training images by the same search and ratio as the audit.

    The audit compares with held-out subjects, too, which can only raise the ratio. Copies of a part alone, and of
    held-out subjects, pass, and the audit names them.

    Args:
        training: images of the class behind the generator.
        copy_ratio: d1 / d2 below which an image is a copy, in (0, 1).
        max_shift: pixels that a copy may have been moved along each axis; None is a sixth of the smallest side.

    Raises:
        ValueError: if `copy_ratio` is out of range, there are fewer than two subjects, or the shift is too large.
    """

    def __init__(self, training: ImageSet, copy_ratio: float, max_shift: int | None) -> None:
        _check_ratio(copy_ratio)
        if len(training.different_patients) < 2:
            raise ValueError(
                f"reject_copies must have at least 2 training subjects of the class to compare with, got"
                f" {len(training.different_patients)}; train on more, or pass --reject_copies False"
            )
        self.copy_ratio = copy_ratio
        owners = number_patients(training.patients)
        self.search = CopySearch(training.images, owners.tolist(), max_shift)
        merged = self._counted_once(training, owners)
        if merged is not training:
            self.search = CopySearch(merged.images, number_patients(merged.patients).tolist(), max_shift)

    def _counted_once(self, training: ImageSet, owners: np.ndarray) -> ImageSet:
        """Give a patient under two names one, as the audit does: a copy would be as far from the one as the other."""
        among = self.search(training.images, own=owners.tolist(), parts=False).similarities
        pairs = find_duplicates(between_subjects(among, torch.as_tensor(owners)), self.copy_ratio)
        return count_once(training, training.take([]), pairs)[0] if pairs else training

    def __call__(self, images: Tensor) -> list[bool]:
        """Say of each image, (B, C, *spatial) in [-1, 1], whether it is a copy."""
        ratios = whole_image(self.search(images.to(self.search.references.device), parts=False)).ratios
        return [] if ratios is None else (ratios < self.copy_ratio).tolist()


def check_rejection(
    reject_copies: bool,
    patches_path: str | None,
    splits_path: str | None,
    copy_ratio: float,
    max_shift: int | None,
    patch_size: Sequence[int],
) -> None:
    """Refuse settings by which no copy could be told; see `copy_filter`.

    Args:
        reject_copies: whether copies are told at all.
        patches_path: `patches.json` of the generator.
        splits_path: `splits.json` of the generator.
        copy_ratio: see `CopyFilter`.
        max_shift: likewise.
        patch_size: cells of each axis.

    Raises:
        ValueError: naming the config key and the way out.
    """
    if reject_copies:
        _require_paths(patches_path, splits_path)
        _check_ratio(copy_ratio)
        pixels_of_shift(max_shift, patch_size)


def copy_filter(
    provenance: Mapping[str, Any],
    label: int | None,
    patches_path: str | None,
    splits_path: str | None,
    copy_ratio: float,
    max_shift: int | None,
    device: torch.device | str = "cpu",
) -> CopyFilter:
    """Load the training images of a generator to compare with.

    Args:
        provenance: record of the generator, which names its subjects.
        label: class that is drawn; None for all.
        patches_path: `patches.json` that it was trained on.
        splits_path: `splits.json`, by which `checked_provenance` has checked the subjects.
        copy_ratio: see `CopyFilter`, as `max_shift`.
        device: where images are compared.

    Raises:
        ValueError: if the two files are not given, or do not hold the generator's subjects.
    """
    _require_paths(patches_path, splits_path)
    patches = read_list(str(patches_path), "patches")
    behind = seen_by_generator(provenance, patches["training"])
    of_class = [row for row in behind if label is None or row["label"] == label]
    return CopyFilter(read_rows(str(patches_path), patches, of_class).to(device), copy_ratio, max_shift)


def _check_ratio(copy_ratio: float) -> None:
    if not 0 < copy_ratio < 1:
        raise ValueError(f"audit_copy_ratio must be in (0, 1), got {copy_ratio!r}; .5 is the default")


def _require_paths(patches_path: str | None, splits_path: str | None) -> None:
    for name, path in (("patches_path", patches_path), ("splits_path", splits_path)):
        if path is None:
            raise ValueError(
                f"{name} must be given where reject_copies is true, got None; pass the file that the generator was"
                " trained with, or --reject_copies False"
            )
