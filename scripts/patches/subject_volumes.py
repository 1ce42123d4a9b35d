"""Transforms that read the files of a subject and bring its volumes together: registered, on one grid, corrected.

The transforms of a patch (`configs/patches.yaml`) work on dictionaries. A subject comes in with `subject_id`, `images`
(modality -> path) or `image` and `channel_order` (one 4D file), `mask` and `mask_codes`, or `center` (a click). It
leaves with `image`, the patch, and with what was chosen for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import Transform

from scripts.volumes.brain_images import BrainLimits, require_brain_images, strip_skull
from scripts.volumes.mri_preprocessing import correct_bias_field, register_rigidly
from scripts.volumes.reading import read_channels, read_mask, read_volume
from scripts.volumes.volume import Volume, geometry_difference, require_one_geometry

Subject = dict[Hashable, Any]


class ReadVolumesd(Transform):
    """Read the modalities and the masks of a subject, each file once.

    Adds `volumes` (modality -> Volume, in the order of `modalities`), `mask_volume` and `brain_mask_volume` (Volume or
    None).

    Args:
        modalities: modalities to read, in the order of the patch's channels.
    """

    def __init__(self, modalities: Sequence[str]) -> None:
        self.modalities = list(modalities)

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Read the subject's files.

        Raises:
            ValueError: if a modality is not there, or a file cannot be used.
        """
        volumes = read_modalities(data, self.modalities)
        mask, brain_mask, orientation = (data.get(key) for key in ("mask", "brain_mask", "orientation"))
        return {
            **data,
            "volumes": volumes,
            "mask_volume": read_mask(mask, orientation) if mask else None,
            "brain_mask_volume": read_volume(brain_mask, orientation) if brain_mask else None,
        }

    @staticmethod
    def pixel_settings() -> dict[str, Any]:
        """Return nothing: the modalities are told by name, and how files are named decides no pixel."""
        return {}


class CorrectBiasFieldd(Transform):
    """Divide each modality by its smooth intensity inhomogeneity (N4; needs SimpleITK, about a minute per subject).

    Args:
        shrink_factor: the field is estimated on every n-th voxel of each axis, >= 1.
    """

    def __init__(self, shrink_factor: int = 4) -> None:
        if shrink_factor < 1:
            raise ValueError(f"bias_shrink_factor must be >= 1, got {shrink_factor!r}")
        self.shrink_factor = shrink_factor

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Replace the volumes by corrected ones; background stays 0."""
        volumes = {key: correct_bias_field(volume, self.shrink_factor) for key, volume in data["volumes"].items()}
        return {**data, "volumes": volumes}

    def pixel_settings(self) -> dict[str, Any]:
        """Return what two sets of patches must share to be images of one kind."""
        return {"shrink_factor": self.shrink_factor}


class RegisterRigidlyd(Transform):
    """Bring modalities of another voxel grid onto the grid of one of them (rigid, mutual information; SimpleITK).

    Args:
        reference: modality that stays as it is; the mask must lie on its grid.
        seed: seed of the voxels that are drawn to compare.
    """

    def __init__(self, reference: str, seed: int = 0) -> None:
        self.reference = reference
        self.seed = seed

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Replace the volumes that differ in shape or affine from the reference."""
        if self.reference not in data["volumes"]:
            raise ValueError(f"registration_reference must be one of {list(data['volumes'])}, got {self.reference!r}")
        fixed = data["volumes"][self.reference]
        volumes = {
            key: register_rigidly(volume, fixed, self.seed) if geometry_difference(fixed, volume) else volume
            for key, volume in data["volumes"].items()
        }
        return {**data, "volumes": volumes}

    @staticmethod
    def pixel_settings() -> dict[str, Any]:
        """Return nothing: it brings files to what others are without it, all on one grid."""
        return {}


class RequireOneGeometryd(Transform):
    """Refuse a subject whose modalities and mask do not lie on one voxel grid (RAS+ order, affines within 1e-3)."""

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Return the subject as it is."""
        mask = data["mask_volume"]
        require_one_geometry({**data["volumes"], **({"mask": mask} if mask is not None else {})})
        return dict(data)

    @staticmethod
    def pixel_settings() -> dict[str, Any]:
        """Return nothing: it changes no pixel."""
        return {}


class StripSkulld(Transform):
    """Set what lies outside the subject's brain mask to 0, where there is one."""

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Replace the volumes by stripped ones."""
        brain_mask = data["brain_mask_volume"]
        return dict(data) if brain_mask is None else {**data, "volumes": strip_skull(data["volumes"], brain_mask)}

    @staticmethod
    def pixel_settings() -> dict[str, Any]:
        """Return nothing: it makes of images what others are without it."""
        return {}


class RequireBraind(Transform):
    """Refuse a subject whose images are not those of a brain, or one whose click lies outside it.

    Args:
        limits: of what counts as skull-stripped.
    """

    def __init__(self, limits: BrainLimits) -> None:
        self.limits = limits

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Return the subject as it is."""
        click, reference = data.get("center"), clicked_volume(data)
        click_ras = None if click is None else click_in_ras(reference, click)
        require_brain_images(data["volumes"], self.limits, click_ras, reference)
        return dict(data)

    @staticmethod
    def pixel_settings() -> dict[str, Any]:
        """Return nothing: it changes no pixel."""
        return {}


def read_modalities(subject: Mapping[Any, Any], modalities: Sequence[str] | None = None) -> dict[str, Volume]:
    """Read the images of a subject, each file once.

    Args:
        subject: `images` (modality -> path), or `image` and `channel_order` of one 4D file; `orientation` of Analyze.
        modalities: those to read, in this order; None reads all.

    Raises:
        ValueError: if a modality is not there, or a file cannot be used.
    """
    one_file, lies = subject.get("image"), subject.get("orientation")
    images = read_channels(one_file, subject.get("channel_order"), lies) if one_file else subject["images"]
    wanted = list(images) if modalities is None else list(modalities)
    missing = [modality for modality in wanted if modality not in images]
    if missing:
        raise ValueError(
            f"images must hold the modalities {wanted}, got {sorted(images)} without {missing};"
            " add the files, or set modalities to those you have"
        )
    sources = {modality: images[modality] for modality in wanted}
    return {key: item if isinstance(item, Volume) else read_volume(item, lies) for key, item in sources.items()}


def clicked_volume(data: Mapping[Hashable, Any]) -> Volume:
    """Return the volume in whose file a click, or the center that was chosen, is a voxel.

    Args:
        data: `volumes`, and `clicked_in`, the modality of that file; without it the first.
    """
    volumes: Mapping[str, Volume] = data["volumes"]
    return volumes[data.get("clicked_in") or next(iter(volumes))]


def click_in_ras(reference: Volume, click: Sequence[float]) -> np.ndarray:
    """Return the RAS+ indices of a click, (3,).

    Args:
        reference: volume of the file that was clicked in.
        click: [i, j, k], zero-based voxel indices of that file.

    Raises:
        ValueError: if it is no voxel of the file.
    """
    voxel = np.asarray(click, dtype=np.float64)
    if voxel.shape != (3,) or (voxel != np.rint(voxel)).any():
        raise ValueError(f"center must be three whole voxel indices [i, j, k], got {click!r}")
    if (voxel < 0).any() or (voxel >= reference.data.shape).any():
        raise ValueError(
            f"center must lie inside {reference.path} of shape {reference.data.shape}, got"
            f" {voxel.astype(int).tolist()}; give zero-based voxel indices of that file"
        )
    return (reference.file_to_ras @ [*voxel, 1])[:3]
