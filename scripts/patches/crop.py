"""The patch: cells around the center, cut out of every modality, scaled and resampled."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from scripts.patches.intensities import BACKGROUND, DARKEST, scale_intensities
from scripts.patches.subject_volumes import Subject
from scripts.volumes.resampling import Axis, axis_weights, centered_axis, weigh
from scripts.volumes.volume import Volume

# What was chosen for a patch, as its row in patches.json and an answer tell it.
CROP_FACTS = (
    "region",
    "region_reason",
    "slice",
    "center_voxel",
    "center_mm",
    "lesion_volume_ml",
    "region_volume_ml",
    "spacing_mm",
)

# What is kept for the crop alone.
DROPPED = (
    *("volumes", "mask_volume", "brain_mask_volume", "labeled_voxels", "intensity_ranges", "has_background"),
    *("center_ras", "box_mm", "clicked_in"),
)

CROPS = {"lesion": ("field_of_view", "lesion_box"), "whole": ("field_of_view", "center", "fit", "pad", "stretch")}
IN_MM = ("field_of_view", "center")  # crops whose cells have the length patch_spacing_mm
WHOLE_BOX = ("fit", "pad", "stretch")  # crops that show the whole box, whatever its size
DISTORTION = 0.01  # by which the sides of an image and of a patch may differ in proportion with `fit`


class CropPatchd(Transform):
    """Scale, cut out and resample the patch, and stack the modalities as channels.

    Intensities map to [-1, 1], clipped, the background (zero voxels, and all outside the volume) to exactly -1. Cells
    of the size of the voxels copy them, larger cells hold area means (of whole voxels, where a cell is a whole number
    of them), smaller ones are linear. Adds `image`, (C, *patch_size) float32 with the affine of its cells, axes towards
    right, anterior (and superior), and `spacing_mm`.

    A copy of a subject at 0.5 mm gives the same patch up to 3e-4 if its voxels are repeated (percentiles move by a
    rank), and with a mean difference of at most .05 and a correlation of at least .99 if it is interpolated linearly
    inside the brain (three real cases; .11 and .98 if interpolation also dims the rim of the brain).

    Args:
        patch_size: cells of each axis; its length is the number of dimensions, 2 or 3.
        patch_spacing_mm: length of a cell, mm; None for images without mm, such as pictures; counts for
            "field_of_view" and "center" alone.
        crop: "field_of_view" takes `patch_size` x `patch_spacing_mm` around the center; "lesion_box" the extent of the
            region times `box_margin`, resized to `patch_size`. Of whole images, "field_of_view" refuses those that
            reach beyond it, "center" takes their middle, "fit" resizes those that have the proportions of `patch_size`
            and refuses others, "pad" keeps proportions and fills up with background, "stretch" does not keep them.
        box_margin: factor >= 1.
        keep_overview: add `overview` to patches around a place, the whole slices that they were cut from: an
            `Overview`; None for whole images.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        patch_spacing_mm: float | None = 1.0,
        crop: str = "field_of_view",
        box_margin: float = 1.5,
        keep_overview: bool = False,
    ) -> None:
        if len(patch_size) not in (2, 3) or min(patch_size) < 1:
            raise ValueError(f"patch_size must be two or three positive numbers, got {list(patch_size)!r}")
        if crop not in {name for names in CROPS.values() for name in names}:
            raise ValueError(f"crop must be one of {', '.join(('lesion_box', *CROPS['whole']))}, got {crop!r}")
        if not (patch_spacing_mm is None or patch_spacing_mm > 0) or not box_margin >= 1:
            raise ValueError(
                f"patch_spacing_mm must be > 0 and box_margin >= 1, got {patch_spacing_mm!r} and {box_margin!r}"
            )
        if patch_spacing_mm is None and crop in IN_MM:
            raise ValueError(
                f"crop must be fit, pad or stretch (or lesion_box) where patch_spacing_mm is null, got {crop!r}, whose"
                " size is in mm"
            )
        self.patch_size = list(patch_size)
        self.patch_spacing_mm = None if patch_spacing_mm is None else float(patch_spacing_mm)
        self.crop = crop
        self.box_margin = box_margin
        self.keep_overview = keep_overview

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Make the patch and drop the volumes.

        Raises:
            ValueError: if there is no brain in the patch.
        """
        reference = next(iter(data["volumes"].values()))
        axes = self.axes(reference, data["center_ras"], data["box_mm"], data["region"] is None)
        place, darkest = int(data["center_ras"][2]), BACKGROUND if data["has_background"] else DARKEST
        channels = [
            _cut(volume, axes, place, data["intensity_ranges"][modality], darkest, self.crop in WHOLE_BOX)
            for modality, volume in data["volumes"].items()
        ]
        if data["region"] is None and all((channel == channel.flat[0]).all() for channel in channels):
            raise ValueError(
                f"{reference.path} must show something between the intensities that become -1 and 1, got one value"
                " throughout the patch; leave the subject out, or correct intensity_mode and intensity_range"
            )
        if all((channel == BACKGROUND).all() for channel in channels):
            raise ValueError(
                f"the patch around voxel {data['center_voxel']} of {reference.path} must show the brain, got background"
                f" only; correct the {'click' if data['region'] == 'click' else 'mask'}"
            )
        affine = patch_affine(reference, axes, int(data["center_ras"][2]))
        image = MetaTensor(torch.from_numpy(np.stack(channels)), affine=torch.from_numpy(affine))
        made = {**{key: value for key, value in data.items() if key not in DROPPED}, "image": image} | {
            "modalities": list(data["volumes"]),
            "spacing_mm": None if self.patch_spacing_mm is None else axes[0].spacing_mm,
        }
        if self.keep_overview:
            made["overview"] = None if data["region"] is None else overview_of(data, axes, place)
        return made

    def problems(self, subject: Mapping[str, Any]) -> Iterator[str]:
        """Say why a subject of `cohort.json` has no such patch, before any file is read."""
        size = (subject.get("picture") or {}).get("size")
        if size and self.patch_spacing_mm is not None:
            yield "a picture has no mm; set patch_spacing_mm: null"
        if size and self.crop == "fit" and _distortion(np.array(size), self.patch_size[:2]) > DISTORTION:
            yield _does_not_fit(size, self.patch_size)

    def pixel_settings(self) -> dict[str, Any]:
        """Return what two sets of patches must share to be images of one kind, beside size and spacing."""
        return {"crop": self.crop, **({"box_margin": self.box_margin} if self.crop == "lesion_box" else {})}

    def axes(
        self, reference: Volume, center_ras: np.ndarray, box_mm: np.ndarray | None, is_whole: bool = False
    ) -> list[Axis]:
        """Return where the cells of each patch axis lie.

        Args:
            reference: volume that is cut.
            center_ras: RAS+ indices of the voxel in the middle.
            box_mm: extent of what is to be shown, (2, 3); None for a click.
            is_whole: whether that is the whole image, none of which may be lost without a word.
        """
        count = len(self.patch_size)
        if self.crop == "lesion_box":
            if box_mm is None:
                raise ValueError("crop must be 'field_of_view' for a click, got 'lesion_box', which needs a mask")
            extent, middle = (box_mm[1] - box_mm[0])[:count], box_mm.mean(axis=0)[:count]
            spacing = float((extent * self.box_margin / self.patch_size).max())
            starts = middle - np.array(self.patch_size) * spacing / 2
            return [Axis(float(start), spacing, size) for start, size in zip(starts, self.patch_size, strict=True)]
        if self.crop in WHOLE_BOX and box_mm is not None:
            return self._whole_axes(reference, box_mm[:, :count])
        if is_whole and self.crop == "field_of_view" and box_mm is not None:
            self._refuse_larger(reference, box_mm[1] - box_mm[0])
        assert self.patch_spacing_mm is not None  # a field of view is refused without it
        return [
            centered_axis(int(center), float(voxel_mm), self.patch_spacing_mm, size)
            for center, voxel_mm, size in zip(center_ras, reference.spacing_mm, self.patch_size, strict=False)
        ]

    def _refuse_larger(self, reference: Volume, extent_mm: np.ndarray) -> None:
        """Refuse an image that reaches more than a cell beyond the patch: fields of view are mixed, or it is small."""
        assert self.patch_spacing_mm is not None
        field = np.array(self.patch_size) * self.patch_spacing_mm
        if (extent_mm[: len(field)] > field + self.patch_spacing_mm).any():
            raise ValueError(
                f"{reference.path} must lie within the field of view of {_by(field)} mm, got {_by(extent_mm)} mm; raise"
                " patch_size or patch_spacing_mm, set crop_to_foreground: true where zeros surround what is shown, or"
                " set crop: center, which cuts off what lies outside, or crop: pad, which shrinks each image to fit"
            )

    def _whole_axes(self, reference: Volume, box_mm: np.ndarray) -> list[Axis]:
        extent, middle = box_mm[1] - box_mm[0], box_mm.mean(axis=0)
        if self.crop == "fit" and _distortion(extent, self.patch_size) > DISTORTION:
            raise ValueError(f"{reference.path}: {_does_not_fit(extent.tolist(), self.patch_size)}")
        spacings = extent / self.patch_size
        if self.crop == "pad":
            spacings = np.full_like(spacings, spacings.max())
        starts = middle - np.array(self.patch_size) * spacings / 2
        cells = zip(starts.tolist(), spacings.tolist(), self.patch_size, strict=True)
        return [Axis(start, spacing, size) for start, spacing, size in cells]


@dataclass(frozen=True)
class Overview:
    """The slice that a patch was cut from, whole, to show where in it the patch lies.

    Args:
        planes: modality -> (columns, rows) in [-1, 1], axes towards right and anterior.
        voxel_mm: length of a voxel along both axes, (2,).
        corner: where the patch begins, in voxels of the slice, from the edge of the first one, (2,).
        sides: of the patch, in voxels, (2,).
        center: column and row of the voxel in the middle of the patch, (2,).
    """

    planes: dict[str, np.ndarray]
    voxel_mm: np.ndarray
    corner: np.ndarray
    sides: np.ndarray
    center: np.ndarray


def overview_of(data: Mapping[Hashable, Any], axes: Sequence[Axis], place: int) -> Overview:
    """Scale the whole slice of every modality as the patch.

    Args:
        data: what `CropPatchd` takes.
        axes: cells of each patch axis.
        place: index of the slice, from inferior to superior.
    """
    voxel_mm = np.array(next(iter(data["volumes"].values())).spacing_mm[:2], dtype=float)
    planes = {}
    for modality, volume in data["volumes"].items():
        low, high = data["intensity_ranges"][modality]
        planes[modality] = scale_intensities(volume.ras[:, :, place], low, high, background=data["has_background"])
    return Overview(
        planes=planes,
        voxel_mm=voxel_mm,
        corner=np.array([axis.start_mm for axis in axes[:2]]) / voxel_mm,
        sides=np.array([axis.size * axis.spacing_mm for axis in axes[:2]]) / voxel_mm,
        center=np.array(data["center_ras"][:2], dtype=int),
    )


def _distortion(extent: np.ndarray, patch_size: Sequence[int]) -> float:
    """By how much more an image would be shrunk along one axis than along another, 0 for none."""
    spacings = extent / np.array(patch_size)
    return float(spacings.max() / spacings.min() - 1)


def _does_not_fit(size: Sequence[float], patch_size: Sequence[int]) -> str:
    return (
        f"sides of {_by(size)}, which have not the proportions of patch_size {list(patch_size)}; set crop: pad, which"
        " fills up with background, or crop: stretch, which distorts"
    )


def _by(sides: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{side:.5g}" for side in sides)


def patch_affine(reference: Volume, axes: Sequence[Axis], slice_index: int) -> np.ndarray:
    """Return the affine of a patch: cell indices -> mm of the original volume.

    Args:
        reference: volume that was cut.
        axes: cells of each patch axis; with two of them the third axis is the slice.
        slice_index: index of the slice, from inferior to superior.

    Returns:
        (4, 4) float64.
    """
    cells_to_ras = np.eye(4)
    for index, (axis, voxel_mm) in enumerate(zip(axes, reference.spacing_mm, strict=False)):
        cells_to_ras[index, index] = axis.spacing_mm / voxel_mm
        cells_to_ras[index, 3] = axis.centers_mm()[0] / voxel_mm - 0.5
    if len(axes) == 2:
        cells_to_ras[2, 3] = slice_index
    return reference.ras_affine @ cells_to_ras


def _cut(
    volume: Volume,
    axes: Sequence[Axis],
    slice_index: int,
    intensity_range: tuple[float, float],
    darkest: float,
    sharp_ends: bool,
) -> np.ndarray:
    grid = volume.ras if len(axes) == 3 else volume.ras[:, :, slice_index]
    weights = [
        axis_weights(axis, size, voxel_mm, sharp_ends)
        for axis, size, voxel_mm in zip(axes, grid.shape, volume.spacing_mm, strict=False)
    ]
    touched = grid[tuple(voxels for voxels, _ in weights)]
    scaled = scale_intensities(touched, *intensity_range, background=darkest == BACKGROUND)
    cells = weigh(scaled - BACKGROUND, [matrix for _, matrix in weights])
    # The background is 0 here, and stays exactly -1; rounding must not leave [-1, 1] either.
    return np.clip(cells + BACKGROUND, darkest, 1).astype(np.float32)
