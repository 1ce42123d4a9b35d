"""What a patch shows, and where: a tumor region, on which slice and around which voxel; a click; or the whole image."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import Transform, generate_spatial_bounding_box

from scripts.patches.subject_volumes import Subject, click_in_ras, clicked_volume
from scripts.volumes.regions import REGIONS, LabeledVoxels, choose_region, find_labeled_voxels
from scripts.volumes.volume import Volume

SLICES = ("largest", "centroid", "all")
FLAT = "leave it out (leave_out), or set spatial_dims: 2 and a patch_size of two numbers"
# What only a lesion or a click can say of a patch; null where the image is whole.
NOT_TOLD = ("region", "region_reason", "region_volume_ml", "lesion_volume_ml", "slice", "center_voxel", "center_mm")


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
        if not min_et_ml >= 0:
            raise ValueError(f"min_et_ml must be >= 0, got {min_et_ml!r}; 0 takes any enhancing voxel")
        self.chain = list(chain)
        self.min_et_ml = min_et_ml

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Choose the region.

        Raises:
            ValueError: if there is neither mask nor click, or the mask holds no region of the chain.
        """
        voxels = self._labeled_voxels(data)
        untold = ("region_reason", "region_volume_ml", "lesion_volume_ml")
        subject: Subject = {**data, "labeled_voxels": voxels} | dict.fromkeys(untold)
        if voxels is not None:
            subject["lesion_volume_ml"] = voxels.volume_ml("whole")
        if data.get("center") is not None:
            return {**subject, "region": "click"}
        if voxels is None:
            raise ValueError(
                f"{data.get('subject_id', 'the subject')} must have a mask or a center (a click in voxels), got neither"
            )
        region, reason = choose_region(voxels, self.chain, self.min_et_ml)
        return {**subject, "region": region, "region_reason": reason, "region_volume_ml": voxels.volume_ml(region)}

    def pixel_settings(self) -> dict[str, Any]:
        """Return what two sets of patches must share to be images of one kind."""
        return {"chain": self.chain, "min_et_ml": self.min_et_ml}

    @staticmethod
    def problems(subject: Mapping[str, Any]) -> Iterator[str]:
        """Say what a subject of `cohort.json` lacks, before any file is read."""
        if not subject.get("mask") and subject.get("center") is None:
            yield "no mask; segment it first, or give a center in voxels"
        if subject.get("mask") and not subject.get("mask_codes"):
            yield "no mask_codes; declare them when the cohort is scanned"

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
    first modality, or of `clicked_in`), `center_mm`, `slice` (index of the slice from inferior to superior) and
    `box_mm`, the extent of the region on the slice (None for a click).

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
        if min_tumor_voxels < 1:
            raise ValueError(f"min_tumor_voxels must be >= 1, got {min_tumor_voxels!r}; 1 takes every slice with tumor")
        self.slice = slice
        self.min_tumor_voxels = min_tumor_voxels
        self.spatial_dims = spatial_dims

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject | list[Subject]:
        """Choose slice and center.

        Raises:
            ValueError: if a click is outside the volume, or no slice holds enough tumor.
        """
        reference = clicked_volume(data)
        if data["region"] == "click":
            return _with_center(data, reference, click_in_ras(reference, data["center"]), None)
        if self.slice == "all":
            return [self._on_slice(data, reference, index) for index in self._slices_with_tumor(data, reference)]
        points = data["labeled_voxels"].of_region(data["region"])
        centroid = points.mean(axis=0)
        if self.spatial_dims == 3:
            return _with_center(data, reference, centroid, points)
        index = int(np.bincount(points[:, 2]).argmax() if self.slice == "largest" else np.floor(centroid[2] + 0.5))
        return self._on_slice(data, reference, index)

    def pixel_settings(self) -> dict[str, Any]:
        """Return what two sets of patches must share to be images of one kind."""
        least = {"min_tumor_voxels": self.min_tumor_voxels} if self.slice == "all" else {}
        return {"slice": self.slice, **least}

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
        indices = np.flatnonzero(area_mm2 >= self.min_tumor_voxels - 1e-6).tolist()
        if not indices:
            raise ValueError(
                f"{data['mask_volume'].path} must hold a slice with min_tumor_voxels {self.min_tumor_voxels} of tumor,"
                f" got at most {area_mm2.max(initial=0):.0f}; lower min_tumor_voxels or leave the subject out"
            )
        return indices


class ChooseWholed(Transform):
    """Take the image as it is, or the box of its foreground.

    Adds `center_ras` (RAS+ indices of the middle), `box_mm` (extent of what is shown) and, as null, what `NOT_TOLD`
    names.

    Args:
        crop_to_foreground: take the box around what is not exactly 0 in any channel.
        spatial_dims: 2 for pictures and volumes of one slice, 3 for volumes.
    """

    def __init__(self, crop_to_foreground: bool = False, spatial_dims: int = 2) -> None:
        self.crop_to_foreground = crop_to_foreground
        self.spatial_dims = spatial_dims

    def __call__(self, data: Mapping[Hashable, Any]) -> Subject:
        """Say where the image lies.

        Raises:
            ValueError: if a volume has more than one slice and patches have none, if it has one and patches have more,
                or all of it is 0.
        """
        volumes: Mapping[str, Volume] = data["volumes"]
        reference = next(iter(volumes.values()))
        size = reference.ras.shape
        if self.spatial_dims == 2 and size[2] != 1:
            raise ValueError(
                f"{reference.path} must have one slice where spatial_dims is 2 and cut is whole, got {size[2]}; set"
                " spatial_dims: 3, or cut: lesion, which chooses a slice"
            )
        if self.spatial_dims == 3 and min(size) == 1:
            raise ValueError(f"{reference.path} must have depth where spatial_dims is 3, got {_sides(size)}; {FLAT}")
        box = _foreground_box(volumes) if self.crop_to_foreground else np.array([[0, 0, 0], size])
        place: Subject = {"center_ras": box.sum(axis=0) // 2, "box_mm": box * reference.spacing_mm}
        return {**data, **dict.fromkeys(NOT_TOLD), **place}

    def problems(self, subject: Mapping[str, Any]) -> Iterator[str]:
        """Say why a subject of `cohort.json` has no such patch, before any file is read."""
        size = (subject.get("grid") or {}).get("size", ())
        if self.spatial_dims == 3 and subject.get("picture"):
            yield f"a picture has no depth; {FLAT}"
        if self.spatial_dims == 3 and 1 in size:
            yield f"a volume of {_sides(size)} has no depth; {FLAT}"

    def pixel_settings(self) -> dict[str, Any]:
        """Return what two sets of patches must share to be images of one kind."""
        return {"crop_to_foreground": self.crop_to_foreground}


def _with_center(
    data: Mapping[Hashable, Any], reference: Volume, center: Sequence[float] | np.ndarray, points: np.ndarray | None
) -> Subject:
    center_ras = np.floor(np.asarray(center) + 0.5)
    return {
        **data,
        "center_ras": center_ras,
        "center_voxel": reference.voxel_in_file(center_ras),
        "center_mm": (reference.ras_affine @ [*center_ras, 1])[:3].tolist(),
        "slice": int(center_ras[2]),
        "box_mm": None if points is None else np.stack([points.min(0), points.max(0) + 1]) * reference.spacing_mm,
    }


def _sides(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _foreground_box(volumes: Mapping[str, Volume]) -> np.ndarray:
    """First and one after the last index of each RAS+ axis where any volume is not 0, (2, 3)."""
    shown = np.any([volume.ras != 0 for volume in volumes.values()], axis=0)
    if not shown.any():
        raise ValueError(
            f"{next(iter(volumes.values())).path} must show something, got 0 everywhere; leave the subject out"
        )
    return np.array(generate_spatial_bounding_box(shown[None]))
