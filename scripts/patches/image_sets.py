"""Sets of images: those of a list or a folder, read and checked, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.patches.tensors import load_images
from scripts.provenance.image_form import (
    IMAGE_FACTS,
    ImageForm,
    has_background,
    image_facts,
    names_by_number,
    require_like_real,
)
from scripts.provenance.leakage import refuse_leakage, seen_subjects
from scripts.splits.lists import image_path, read_list
from scripts.splits.parts import default_held_out_part, load_part, load_splits
from scripts.splits.patients import patient_of
from scripts.volumes.file_names import is_nifti

ALL = "all"  # name of the class where images have none


@dataclass(frozen=True)
class ImageSet:
    """Images of one set with what is known of each.

    Args:
        images: (N, C, *spatial) float32 in [-1, 1].
        patients: whose each image is. Scans of one patient are of one: they resemble each other, and splits keep them
            together. None for images of nobody known, such as synthetic ones.
        names: file of each image, as the list names it; may be empty.
        subject_ids: scan of each image; None where it has none. May be empty.
        class_names: class of each image; `ALL` where it has none. May be empty.
        path: list or folder that they were read from.
        facts: what they are made of, see `scripts.provenance.image_form.image_facts`; None where nothing says it.
    """

    images: Tensor
    patients: Sequence[str | None]
    names: Sequence[str] = ()
    subject_ids: Sequence[str | None] = ()
    class_names: Sequence[str] = ()
    path: str = ""
    facts: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def different_patients(self) -> list[str | None]:
        """Each patient once, in the order of the first image."""
        return list(dict.fromkeys(self.patients))

    def of_class(self, name: str) -> ImageSet:
        """Return the images of one class; all of them for `ALL`, and where no image of this set has a class."""
        if name == ALL or set(self.class_names) == {ALL}:
            return self
        return self.take([index for index, own in enumerate(self.class_names) if own == name])

    def take(self, indices: Sequence[int]) -> ImageSet:
        """Return some of the images, by their numbers."""
        known = {key: getattr(self, key) for key in ("patients", "names", "subject_ids", "class_names")}
        taken: dict[str, Any] = {key: [values[index] for index in indices] for key, values in known.items() if values}
        return replace(self, images=self.images[list(indices)], **taken)

    def to(self, device: torch.device | str) -> ImageSet:
        """Return the set with its images on a device."""
        return replace(self, images=self.images.to(device))


def join(sets: Sequence[ImageSet]) -> ImageSet:
    """Put sets of images of one shape together; path and facts are those of the first."""
    keys = ("patients", "names", "subject_ids", "class_names")
    known: dict[str, Any] = {key: [value for one in sets for value in getattr(one, key)] for key in keys}
    return replace(sets[0], images=torch.cat([one.images for one in sets]), **known)


def input_files(path: str | None) -> list[str | None]:
    """Return what a stage reads of a set: the list, which stands for its images, or every image of a folder.

    Raises:
        FileNotFoundError: if it is no list and no folder.
        ValueError: if the folder holds no image.
    """
    if path is None or path.endswith(".json"):
        return [path]
    return list(_images_in(path))


def read_set(path: str, form: ImageForm) -> ImageSet:
    """Read all images of a list or a folder.

    Args:
        path: decathlon list (JSON), or folder with `.nii.gz` or `.nii`.
        form: that the images must have; of a folder only the number of channels and dimensions can be checked.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if it holds no image, an image has another shape, channel order or range than it must have, or no
            value is below 0, as of images in [0, 1], unless the list says that they have no background.
    """
    if not path.endswith(".json"):
        rows = [{"image": str(Path(name).absolute())} for name in _images_in(path)]
        return _refuse_half_range(read_rows(path, {**form.names(), "labels": {}}, rows))
    listing = read_list(path, "images")
    _refuse_other_channels(path, listing, form.modalities)
    images = read_rows(path, {"spatial_dims": form.spatial_dims, **listing}, listing["training"])
    return _refuse_half_range(_not_empty(images)) if has_background(listing) else _not_empty(images)


def read_parts(path: str, splits_path: str, fold: int, parts: Sequence[str], form: ImageForm) -> ImageSet:
    """Read the patches of some parts of a fold.

    Args:
        path: `patches.json`.
        splits_path: `splits.json`.
        fold: number of the fold.
        parts: as in `scripts.splits.parts.PARTS`.
        form: that the images must have.

    Raises:
        ValueError: as `read_set` and `scripts.splits.parts.load_part`.
    """
    if not path.endswith(".json"):
        raise ValueError(
            f"real_path must be the patches.json that splits_path divides, got the folder {path};"
            " leave splits_path null to compare with all images of a folder"
        )
    listing = read_list(path, "patches")
    _refuse_other_channels(path, listing, form.modalities)
    rows = [row for part in dict.fromkeys(parts) for row in load_part(path, splits_path, fold, part)]
    unique = list({row["image"]: row for row in rows}.values())
    image_facts(listing, path)
    return _not_empty(read_rows(path, {"spatial_dims": form.spatial_dims, **listing}, unique))


def read_rows(path: str | Path, listing: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> ImageSet:
    """Read some of the images of a list.

    Args:
        path: the list; the `image` of a row is relative to its folder, or absolute.
        listing: its content, of which `modality`, `spatial_dims`, `labels` and what says how images are made count.
        rows: those of `training` to read, or none.

    Raises:
        ValueError: if an image has other channels, dimensions or range than it must have, or a label has no name.
    """
    labels = listing.get("labels", {})
    located = [{**row, "image": image_path(path, row)} for row in rows]
    return ImageSet(
        images=load_images(located, len(listing["modality"]), int(listing["spatial_dims"])),
        patients=[patient_of(row) if "subject_id" in row else None for row in rows],
        names=[row["image"] for row in rows],
        subject_ids=[row.get("subject_id") for row in rows],
        class_names=[ALL if row.get("label") is None else labels[str(row["label"])] for row in rows],
        path=str(path),
        facts=image_facts(listing, path) if set(IMAGE_FACTS) <= set(listing) else None,
    )


def require_made_alike(synthetic: ImageSet, real: ImageSet) -> bool:
    """Refuse two sets whose images are made otherwise: every figure of them would measure that.

    Args:
        synthetic: images to compare.
        real: images to compare them with.

    Returns:
        Whether both say of what they are made; of a folder, or a list that does not say it, only shapes are compared.

    Raises:
        ValueError: naming the first difference.
    """
    if synthetic.images.shape[1:] != real.images.shape[1:]:
        raise ValueError(
            f"{synthetic.path} must have images of the shape of {real.path} {tuple(real.images.shape[1:])},"
            f" got {tuple(synthetic.images.shape[1:])}; make both with one patch_size and the same modalities"
        )
    if synthetic.facts is None or real.facts is None:
        return False
    require_like_real(real.facts, synthetic.facts, synthetic.path, real.path)
    return True


def choose_parts(splits_path: str, parts: Sequence[str] | None) -> list[str]:
    """Return the parts asked for; None is the one that no generator of a fold has seen."""
    return list(parts) if parts else [default_held_out_part(load_splits(splits_path))]


def set_provenance(path: str, fold: int, cohort: str) -> Mapping[str, Any]:
    """Read the provenance of a synthetic set that is compared with a part of a fold.

    Raises:
        ValueError: if it has none (a folder cannot), it is of another cohort or fold, or it does not say of what its
            images are made.
    """
    if not path.endswith(".json"):
        raise ValueError(
            f"synthetic_path must be a synthetic.json with its provenance where splits_path chooses the real images,"
            f" got {path}; leave splits_path null to compare any two sets"
        )
    listing = read_list(path, "synthetic")
    provenance: Mapping[str, Any] = listing.get("provenance") or {}
    seen_subjects(provenance, path)
    image_facts(listing, path)
    own_cohort, own_fold = provenance.get("cohort"), provenance.get("fold")
    if own_cohort != cohort or own_fold not in (fold, None):
        raise ValueError(
            f"{path} must be of cohort {cohort!r} and fold {fold}, got cohort {own_cohort!r} and fold {own_fold};"
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


def _images_in(path: str) -> list[str]:
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{path} does not exist; give a decathlon list (.json) or a folder of .nii.gz images")
    files = sorted(str(file) for file in folder.iterdir() if is_nifti(file))
    if not files:
        raise ValueError(f"{path} must hold at least one .nii.gz image, got none; give the folder of the images")
    return files


def _refuse_other_channels(path: str, listing: Mapping[str, Any], modalities: Sequence[str]) -> None:
    channels = names_by_number(listing["modality"])
    if channels != list(modalities):
        raise ValueError(
            f"{path} must have the channels {list(modalities)} in this order, got {channels};"
            " set modalities to the order of both sets, or make the set again"
        )


def _refuse_half_range(images: ImageSet) -> ImageSet:
    if len(images) and float(images.images.min()) >= 0:
        raise ValueError(
            f"{images.path} must lie in [-1, 1] with background -1, got nothing below {float(images.images.min()):g},"
            " as of images in [0, 1]; bring them to [-1, 1], or import them with configs/import_synthetic.yaml"
            " (value_range)"
        )
    return images


def _not_empty(images: ImageSet) -> ImageSet:
    if not len(images):
        raise ValueError(f"{images.path} must list at least one image, got none; run the stage that makes it again")
    return images
