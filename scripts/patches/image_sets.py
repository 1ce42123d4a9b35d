"""Sets of images to compare: a decathlon list or a folder of NIfTI, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.patches.tensors import load_patch, refuse_other_shapes
from scripts.provenance.leakage import refuse_leakage, seen_subjects
from scripts.running.files import read_json
from scripts.splits.parts import default_held_out_part, load_part, load_splits
from scripts.splits.patients import patient_of
from scripts.volumes.file_names import is_nifti

ALL = "all"  # name of the class where images have none


@dataclass(frozen=True)
class ImageSet:
    """Images of one set with what is known of each.

    Args:
        path: list or folder that it was read from.
        images: (N, C, *spatial) float32 in [-1, 1].
        class_names: class of each image; `ALL` where it has none.
        subject_ids: subject of each image; None where it has none.
        patients: whose each image is, the same for all scans of a patient; None where it has none.
    """

    path: str
    images: Tensor
    class_names: Sequence[str]
    subject_ids: Sequence[str | None]
    patients: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.images)

    def of_class(self, name: str) -> ImageSet:
        """Return the images of one class; all of them for `ALL`, and where no image of this set has a class."""
        if name == ALL or set(self.class_names) == {ALL}:
            return self
        return self.take([index for index, own in enumerate(self.class_names) if own == name])

    def take(self, chosen: Sequence[int]) -> ImageSet:
        """Return some of the images, by their numbers."""
        return ImageSet(
            self.path,
            self.images[list(chosen)],
            [self.class_names[index] for index in chosen],
            [self.subject_ids[index] for index in chosen],
            [self.patients[index] for index in chosen],
        )


def files_of(path: str | None) -> list[str | None]:
    """Return what a stage reads of a set: the list itself, or every image of a folder.

    Raises:
        FileNotFoundError: if it is no list and no folder.
        ValueError: if the folder holds no image.
    """
    if path is None or path.endswith(".json"):
        return [path]
    return list(_images_in(path))


def read_set(path: str, modalities: Sequence[str], spatial_dims: int) -> ImageSet:
    """Read all images of a list or a folder.

    Args:
        path: decathlon list (JSON), or folder with `.nii.gz` or `.nii`.
        modalities: channels that the images must have, in this order; of a folder only their number can be checked.
        spatial_dims: 2 or 3.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if it holds no image, or an image has another shape, channel order or range than it must have.
    """
    if path.endswith(".json"):
        listing = read_json(path)
        _refuse_other_channels(path, listing, modalities)
        entries = [{**entry, "image": str(Path(path).parent / entry["image"])} for entry in listing["training"]]
        return _load(path, entries, listing.get("labels", {}), len(modalities), spatial_dims)
    return _load(path, [{"image": name} for name in _images_in(path)], {}, len(modalities), spatial_dims)


def read_parts(
    path: str, splits_path: str, fold: int, parts: Sequence[str], modalities: Sequence[str], spatial_dims: int
) -> ImageSet:
    """Read the patches of some parts of a fold.

    Args:
        path: `patches.json`.
        splits_path: `splits.json`.
        fold: number of the fold.
        parts: as in `scripts.splits.parts.PARTS`.
        modalities: channels that the images must have, in this order.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: as `read_set` and `scripts.splits.parts.load_part`.
    """
    if not path.endswith(".json"):
        raise ValueError(
            f"real_path must be the patches.json that splits_path divides, got the folder {path};"
            " leave splits_path null to compare with all images of a folder"
        )
    listing = read_json(path)
    _refuse_other_channels(path, listing, modalities)
    entries = [entry for part in dict.fromkeys(parts) for entry in load_part(path, splits_path, fold, part)]
    unique = list({entry["image"]: entry for entry in entries}.values())
    return _load(path, unique, listing["labels"], len(modalities), spatial_dims)


def choose_parts(splits_path: str, parts: Sequence[str] | None) -> list[str]:
    """Return the parts asked for; None is the one that no generator of a fold has seen."""
    return list(parts) if parts else [default_held_out_part(load_splits(splits_path))]


def set_provenance(path: str, fold: int, cohort: str) -> Mapping[str, Any]:
    """Read the provenance of a synthetic set that is compared with a part of a fold.

    Raises:
        ValueError: if it has none (a folder cannot), or it is of another cohort or fold.
    """
    if not path.endswith(".json"):
        raise ValueError(
            f"synthetic_path must be a synthetic.json with its provenance where splits_path chooses the real images,"
            f" got {path}; leave splits_path null to compare any two sets"
        )
    provenance: Mapping[str, Any] = read_json(path).get("provenance") or {}
    seen_subjects(provenance, path)
    found = (provenance.get("cohort"), provenance.get("fold"))
    if found[0] != cohort or found[1] not in (fold, None):
        raise ValueError(
            f"{path} must be of cohort {cohort!r} and fold {fold}, got cohort {found[0]!r} and fold {found[1]};"
            " give the patches, splits and fold that its generator was trained with"
        )
    return provenance


def refuse_seen(provenance: Mapping[str, Any], path: str, real: ImageSet, parts: Sequence[str], fold: int) -> None:
    """Stop where a generator has seen a subject of a part that is held out from it.

    Raises:
        LeakageError: naming the set and the subjects.
    """
    if set(parts) <= {"validation", "test"}:
        subjects = [subject for subject in real.subject_ids if subject is not None]
        refuse_leakage(seen_subjects(provenance, path), subjects, path, f"{' and '.join(parts)} of fold {fold}")


def refuse_other_shape(synthetic: ImageSet, real: ImageSet) -> None:
    """Stop where two sets have images of different shape.

    Raises:
        ValueError: naming both.
    """
    if synthetic.images.shape[1:] != real.images.shape[1:]:
        raise ValueError(
            f"{synthetic.path} must have images of the shape of {real.path} {tuple(real.images.shape[1:])},"
            f" got {tuple(synthetic.images.shape[1:])}; make both with one patch_size and the same modalities"
        )


def _load(
    path: str,
    entries: Sequence[Mapping[str, Any]],
    labels: Mapping[str, str],
    num_channels: int,
    spatial_dims: int,
) -> ImageSet:
    if not entries:
        raise ValueError(f"{path} must list at least one image, got none; run the stage that makes it again")
    images = [load_patch(entry["image"], num_channels, spatial_dims) for entry in entries]
    refuse_other_shapes([entry["image"] for entry in entries], images, "put images of one size into a set")
    names = [ALL if entry.get("label") is None else labels[str(entry["label"])] for entry in entries]
    subjects = [entry.get("subject_id") for entry in entries]
    patients = [patient_of(entry) if "subject_id" in entry else None for entry in entries]
    return ImageSet(path, torch.stack(images), names, subjects, patients)


def _images_in(path: str) -> list[str]:
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{path} does not exist; give a decathlon list (.json) or a folder of .nii.gz images")
    found = sorted(str(file) for file in folder.iterdir() if is_nifti(file))
    if not found:
        raise ValueError(f"{path} must hold at least one .nii.gz image, got none; give the folder of the images")
    return found


def _refuse_other_channels(path: str, listing: Mapping[str, Any], modalities: Sequence[str]) -> None:
    found = [listing["modality"][key] for key in sorted(listing["modality"], key=int)]
    if found != list(modalities):
        raise ValueError(
            f"{path} must have the channels {list(modalities)} in this order, got {found};"
            " set modalities to the order of both sets, or make the set again"
        )
