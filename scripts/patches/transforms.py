"""MONAI dictionary transforms from the files of one subject to its patch.

A subject comes in with `subject_id`, `images` (modality -> path) or `image` and `channel_order` (one 4D file), `mask`
and `mask_codes`, or `center` (a click). It leaves with `image`, the patch, and with what was chosen for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from scripts.volumes.n4_and_registration import correct_bias_field, register_rigidly
from scripts.volumes.reading import read_channels, read_volume
from scripts.volumes.regions import REGIONS, LabeledVoxels, choose_region, find_labeled_voxels
from scripts.volumes.resampling import Axis, axis_weights, centered_axis, weigh
from scripts.volumes.volume import Volume, geometry_difference, require_one_geometry

BACKGROUND = -1.0
SLICES = ("largest", "centroid", "all")
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
Subject = dict[Hashable, Any]


class ReadVolumesd(Transform):
    """Read the modalities and the mask of a subject, each file once.

    Adds `volumes` (modality -> Volume, in the order of `modalities`) and `mask_volume` (Volume or None).

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
        available = read_channels(data["image"], data.get("channel_order")) if data.get("image") else data["images"]
        missing = [modality for modality in self.modalities if modality not in available]
        if missing:
            raise ValueError(
                f"images must hold the modalities {self.modalities}, got {sorted(available)} without {missing};"
                " add the files, or set modalities to those you have"
            )
        found = {modality: available[modality] for modality in self.modalities}
        volumes = {key: item if isinstance(item, Volume) else read_volume(item) for key, item in found.items()}
        mask = data.get("mask")
        return {**data, "volumes": volumes, "mask_volume": read_volume(mask) if mask else None}


class CorrectBiasFieldd(Transform):
    """Divide each modality by its smooth intensity inhomogeneity (N4; needs SimpleITK, about a minute a subject).

    Args:
        shrink_factor: the field is estimated on every n-th voxel of each axis, >= 1.
    """

    def __init__(self, shrink_factor: int = 4) -> None:
        self.shrink_factor = shrink_factor

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Replace the volumes by corrected ones; background stays 0."""
        volumes = {key: correct_bias_field(volume, self.shrink_factor) for key, volume in data["volumes"].items()}
        return {**data, "volumes": volumes}


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


class RequireOneGeometryd(Transform):
    """Refuse a subject whose modalities and mask do not lie on one voxel grid (RAS+ order, affines within 1e-3)."""

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Return the subject as it is."""
        mask = data["mask_volume"]
        require_one_geometry({**data["volumes"], **({"mask": mask} if mask is not None else {})})
        return dict(data)


class MeasureIntensitiesd(Transform):
    """Measure, once a volume, which intensities of the brain become -1 and 1.

    The brain is what is not exactly zero: interpolation leaves small negative values at its rim (a few in a thousand
    voxels of the TCGA cases), which "greater than zero" would take for background, together with half of a volume that
    was z-scored before. Adds `intensity_ranges` (modality -> (low, high)).

    Args:
        mode: "percentile": low and high are percentiles; "zscore": mean -+ `zscore_limit` standard deviations.
        percentiles: lower and upper, exact with linear interpolation, in [0, 100].
        zscore_limit: standard deviations that become -1 and 1, > 0.
    """

    def __init__(
        self,
        mode: str = "percentile",
        percentiles: Sequence[float] = (0.5, 99.5),
        zscore_limit: float = 4.0,
    ) -> None:
        if mode not in ("percentile", "zscore"):
            raise ValueError(f"mode must be 'percentile' or 'zscore', got {mode!r}")
        if not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ValueError(f"percentiles must be two increasing numbers in [0, 100], got {list(percentiles)!r}")
        if not zscore_limit > 0:
            raise ValueError(f"zscore_limit must be > 0, got {zscore_limit!r}")
        self.mode = mode
        self.percentiles = list(percentiles)
        self.zscore_limit = zscore_limit

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Measure the volumes.

        Raises:
            ValueError: if a volume is constant inside the brain.
        """
        return {**data, "intensity_ranges": {key: self.measure(volume) for key, volume in data["volumes"].items()}}

    def measure(self, volume: Volume) -> tuple[float, float]:
        """Return the intensities of a volume that become -1 and 1, in its own units."""
        stored = volume.stored
        brain = stored[stored != 0]
        if brain.size and self.mode == "percentile":
            low, high = np.percentile(brain, self.percentiles).tolist()
        elif brain.size:
            mean, deviation = brain.mean(dtype=np.float64), brain.std(dtype=np.float64)
            low, high = float(mean - self.zscore_limit * deviation), float(mean + self.zscore_limit * deviation)
        if not brain.size or not low < high:
            raise ValueError(
                f"{volume.path} must vary inside the brain (its non-zero voxels), got a constant volume;"
                " export the file again or leave the subject out"
            )
        return low, high


class ChooseRegiond(Transform):
    """Choose the tumor region that the patch shows: the first of a chain that is there, written down as `region`.

    With a click (`center`) nothing is chosen and the region is "click". Adds `labeled_voxels`, `region`,
    `region_reason` (why regions before it were passed over), `region_volume_ml` (of that region) and
    `lesion_volume_ml` (of the whole tumor); None where there is nothing to tell.

    Args:
        chain: regions in the order of preference, of "enhancing", "core", "whole".
        min_et_ml: least volume of the enhancing region, ml.
    """

    def __init__(self, chain: Sequence[str] = ("enhancing", "core", "whole"), min_et_ml: float = 0.5) -> None:
        if not chain or set(chain) - set(REGIONS):
            raise ValueError(f"region_chain must be a list of {list(REGIONS)}, got {list(chain)!r}")
        self.chain = list(chain)
        self.min_et_ml = min_et_ml

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Choose the region.

        Raises:
            ValueError: if there is neither mask nor click, or the mask holds no region of the chain.
        """
        voxels = self._labeled_voxels(data)
        untold = ("region_reason", "region_volume_ml", "lesion_volume_ml")
        chosen: Subject = {**data, "labeled_voxels": voxels} | dict.fromkeys(untold)
        if voxels is not None:
            chosen["lesion_volume_ml"] = voxels.volume_ml("whole")
        if data.get("center") is not None:
            return {**chosen, "region": "click"}
        if voxels is None:
            raise ValueError(
                f"{data.get('subject_id', 'the subject')} must have a mask or a center (a click in voxels), got neither"
            )
        region, reason = choose_region(voxels, self.chain, self.min_et_ml)
        return {**chosen, "region": region, "region_reason": reason, "region_volume_ml": voxels.volume_ml(region)}

    @staticmethod
    def _labeled_voxels(data: Mapping[Hashable, Any]) -> LabeledVoxels | None:
        if data["mask_volume"] is None:
            return None
        if not data.get("mask_codes"):
            raise ValueError(
                f"mask_codes must say what the codes of {data['mask_volume'].path} mean, got"
                f" {data.get('mask_codes')!r};"
                ' for example {"necrotic": 1, "edema": 2, "enhancing": 4} as in BraTS 2018'
            )
        return find_labeled_voxels(data["mask_volume"], data["mask_codes"])


class ChooseCenterd(Transform):
    """Choose the axial slice and the center of the patch, or of several patches.

    The center is the centroid of the region on the slice (in 3D: of the whole region), or the click; it is the voxel
    that holds this point. Adds `center_ras` (voxel indices in RAS+ order), `center_voxel` (indices in the file of the
    first modality), `center_mm`, `slice` (index of the slice from inferior to superior) and `box_mm`, the extent of the
    region on the slice (None for a click).

    Args:
        slice: "largest" takes the slice with the largest area of the region (of equals the lowest), "centroid" the one
            through its centroid, "all" every slice with `min_tumor_voxels` of tumor: a list of subjects is returned.
        min_tumor_voxels: least area of the whole tumor on a slice with `slice: all`, voxels of 1 mm x 1 mm.
        spatial_dims: 2 for slices, 3 for cubes.
    """

    def __init__(self, slice: str = "largest", min_tumor_voxels: int = 100, spatial_dims: int = 2) -> None:
        if slice not in SLICES:
            raise ValueError(f"slice must be one of {list(SLICES)}, got {slice!r}")
        if spatial_dims not in (2, 3) or (spatial_dims == 3 and slice == "all"):
            raise ValueError(f"spatial_dims must be 2, or 3 with slice largest or centroid, got {spatial_dims!r}")
        self.slice = slice
        self.min_tumor_voxels = min_tumor_voxels
        self.spatial_dims = spatial_dims

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject | list[Subject]:
        """Choose slice and center.

        Raises:
            ValueError: if a click is outside the volume, or no slice holds enough tumor.
        """
        reference = next(iter(data["volumes"].values()))
        if data["region"] == "click":
            return _with_center(data, reference, _click_in_ras(reference, data["center"]), None)
        if self.slice == "all":
            return [self._on_slice(data, reference, index) for index in self._slices_with_tumor(data, reference)]
        points = data["labeled_voxels"].of_region(data["region"])
        centroid = points.mean(axis=0)
        if self.spatial_dims == 3:
            return _with_center(data, reference, centroid, points)
        index = int(np.bincount(points[:, 2]).argmax() if self.slice == "largest" else np.floor(centroid[2] + 0.5))
        return self._on_slice(data, reference, index)

    def _on_slice(self, data: Mapping[Hashable, Any], reference: Volume, index: int) -> Subject:
        voxels: LabeledVoxels = data["labeled_voxels"]
        chain = (data["region"], *[region for region in REGIONS if region != data["region"]])
        every = {region: voxels.of_region(region) for region in chain}
        on_slice = {region: points[points[:, 2] == index] for region, points in every.items()}
        if self.slice == "all":
            # The region of the volume may not reach this slice: then the patch shows, and names, the next one.
            region = next(region for region in chain if len(on_slice[region]))
            return _with_center({**data, "region": region}, reference, on_slice[region].mean(axis=0), on_slice[region])
        points = on_slice[data["region"]]
        # A ring or a horseshoe may miss the slice of its own centroid.
        center = points.mean(axis=0) if len(points) else [*every[data["region"]].mean(axis=0)[:2], index]
        return _with_center(data, reference, center, points if len(points) else every[data["region"]])

    def _slices_with_tumor(self, data: Mapping[Hashable, Any], reference: Volume) -> list[int]:
        area_mm2 = np.bincount(data["labeled_voxels"].of_region("whole")[:, 2]) * np.prod(reference.spacing_mm[:2])
        indices = np.flatnonzero(area_mm2 >= max(self.min_tumor_voxels, 1) - 1e-6).tolist()
        if not indices:
            raise ValueError(
                f"{data['mask_volume'].path} must hold a slice with min_tumor_voxels {self.min_tumor_voxels} of tumor,"
                f" got at most {area_mm2.max(initial=0):.0f}; lower min_tumor_voxels or leave the subject out"
            )
        return indices


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
        patch_spacing_mm: length of a cell, mm; ignored by `crop: lesion_box`.
        crop: "field_of_view" takes `patch_size` x `patch_spacing_mm` around the center; "lesion_box" the extent of the
            region times `box_margin`, resized to `patch_size`.
        box_margin: factor >= 1.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        patch_spacing_mm: float = 1.0,
        crop: str = "field_of_view",
        box_margin: float = 1.5,
    ) -> None:
        if len(patch_size) not in (2, 3) or min(patch_size) < 1:
            raise ValueError(f"patch_size must be two or three positive numbers, got {list(patch_size)!r}")
        if crop not in ("field_of_view", "lesion_box"):
            raise ValueError(f"crop must be 'field_of_view' or 'lesion_box', got {crop!r}")
        if not patch_spacing_mm > 0 or not box_margin >= 1:
            raise ValueError(
                f"patch_spacing_mm must be > 0 and box_margin >= 1, got {patch_spacing_mm!r} and {box_margin!r}"
            )
        self.patch_size = list(patch_size)
        self.patch_spacing_mm = float(patch_spacing_mm)
        self.crop = crop
        self.box_margin = box_margin

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Make the patch and drop the volumes."""
        reference = next(iter(data["volumes"].values()))
        axes = self.axes(reference, data["center_ras"], data["box_mm"])
        channels = [
            _cut(volume, axes, int(data["center_ras"][2]), data["intensity_ranges"][modality])
            for modality, volume in data["volumes"].items()
        ]
        affine = patch_affine(reference, axes, int(data["center_ras"][2]))
        image = MetaTensor(torch.from_numpy(np.stack(channels)), affine=torch.from_numpy(affine))
        done = {"volumes", "mask_volume", "labeled_voxels", "intensity_ranges", "center_ras", "box_mm"}
        return {**{key: value for key, value in data.items() if key not in done}, "image": image} | {
            "modalities": list(data["volumes"]),
            "spacing_mm": axes[0].spacing_mm,
        }

    def axes(self, reference: Volume, center_ras: np.ndarray, box_mm: np.ndarray | None) -> list[Axis]:
        """Return where the cells of each patch axis lie."""
        count = len(self.patch_size)
        if self.crop == "lesion_box":
            if box_mm is None:
                raise ValueError("crop must be 'field_of_view' for a click, got 'lesion_box', which needs a mask")
            extent, middle = (box_mm[1] - box_mm[0])[:count], box_mm.mean(axis=0)[:count]
            spacing = float((extent * self.box_margin / self.patch_size).max())
            starts = middle - np.array(self.patch_size) * spacing / 2
            return [Axis(float(start), spacing, size) for start, size in zip(starts, self.patch_size, strict=True)]
        return [
            centered_axis(int(center), float(voxel_mm), self.patch_spacing_mm, size)
            for center, voxel_mm, size in zip(center_ras, reference.spacing_mm, self.patch_size, strict=False)
        ]


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


def scale_intensities(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map intensities to [-1, 1], clipped, and exact zeros, the background, to exactly -1.

    Args:
        values: intensities, any shape and real type.
        low: intensity that becomes -1.
        high: intensity that becomes 1.

    Returns:
        Same shape, float64, in [-1, 1].
    """
    scaled = np.clip((values.astype(np.float64) - low) * (2 / (high - low)) - 1, -1, 1)
    return np.where(values == 0, BACKGROUND, scaled)


def _cut(volume: Volume, axes: Sequence[Axis], slice_index: int, intensity_range: tuple[float, float]) -> np.ndarray:
    grid = volume.ras if len(axes) == 3 else volume.ras[:, :, slice_index]
    found = [
        axis_weights(axis, size, voxel_mm)
        for axis, size, voxel_mm in zip(axes, grid.shape, volume.spacing_mm, strict=False)
    ]
    touched = grid[tuple(voxels for voxels, _ in found)]
    cells = weigh(scale_intensities(touched, *intensity_range) - BACKGROUND, [matrix for _, matrix in found])
    # The background is 0 here, and stays exactly -1; rounding must not leave [-1, 1] either.
    return np.clip(cells + BACKGROUND, -1, 1).astype(np.float32)


def _click_in_ras(reference: Volume, center: Sequence[float]) -> np.ndarray:
    click = np.asarray(center, dtype=np.float64)
    if click.shape != (3,) or (click != np.rint(click)).any():
        raise ValueError(f"center must be three whole voxel indices [i, j, k], got {center!r}")
    if (click < 0).any() or (click >= reference.data.shape).any():
        raise ValueError(
            f"center must lie inside {reference.path} of shape {reference.data.shape}, got"
            f" {click.astype(int).tolist()}; give zero-based voxel indices of that file"
        )
    return np.rint(np.linalg.inv(reference.ras_to_file) @ [*click, 1])[:3]


def _with_center(
    data: Mapping[Hashable, Any], reference: Volume, center: Sequence[float] | np.ndarray, points: np.ndarray | None
) -> Subject:
    center_ras = np.floor(np.asarray(center) + 0.5)
    return {
        **data,
        "center_ras": center_ras,
        "center_voxel": np.rint(reference.ras_to_file @ [*center_ras, 1])[:3].astype(int).tolist(),
        "center_mm": (reference.ras_affine @ [*center_ras, 1])[:3].tolist(),
        "slice": int(center_ras[2]),
        "box_mm": None if points is None else np.stack([points.min(0), points.max(0) + 1]) * reference.spacing_mm,
    }
