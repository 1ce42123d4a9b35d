"""Tumor regions: what the codes of a mask mean, which region a patch is centered on, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.volumes.volume import Volume

REGIONS: dict[str, tuple[str, ...]] = {
    "enhancing": ("enhancing",),
    "core": ("necrotic", "non_enhancing", "enhancing"),
    "whole": ("necrotic", "non_enhancing", "enhancing", "edema"),
}
TISSUES = ("necrotic", "non_enhancing", "edema", "enhancing", "cavity")  # a resection cavity is no tumor


@dataclass(frozen=True)
class LabeledVoxels:
    """The voxels of a mask that are not background.

    Args:
        coordinates: voxel indices in RAS+ order, (N, 3), integers.
        codes: mask code of each voxel, (N,), integers.
        mask_codes: tissue -> code.
        voxel_volume_ml: volume of one voxel, ml.
    """

    coordinates: np.ndarray
    codes: np.ndarray
    mask_codes: Mapping[str, int]
    voxel_volume_ml: float

    def of_region(self, region: str) -> np.ndarray:
        """Return the voxel indices (RAS+) of a region, (N, 3); empty if the mask has none of its codes."""
        return self.coordinates[np.isin(self.codes, region_codes(self.mask_codes, region))]

    def volume_ml(self, region: str) -> float:
        """Return the volume of a region, ml."""
        count = int(np.isin(self.codes, region_codes(self.mask_codes, region)).sum())
        return round(count * self.voxel_volume_ml, 6)


def region_codes(mask_codes: Mapping[str, int], region: str) -> list[int]:
    """Return the mask codes that make up a region.

    Source: Baid et al. 2021, "The RSNA-ASNR-MICCAI BraTS 2021 benchmark", section 2 (sub-regions).

    Args:
        mask_codes: tissue ("necrotic", "non_enhancing", "edema", "enhancing", "cavity") -> code in the mask.
        region: "enhancing", "core" (all but edema) or "whole"; a cavity belongs to none.

    Raises:
        ValueError: if a tissue or the region is unknown, or no code makes up the region.
    """
    unknown = sorted(set(mask_codes) - set(TISSUES))
    if unknown:
        raise ValueError(f"mask_codes must name tissues of {list(TISSUES)}, got {unknown}; correct cohort.json")
    if region not in REGIONS:
        raise ValueError(f"region must be one of {list(REGIONS)}, got {region!r}")
    return [mask_codes[tissue] for tissue in REGIONS[region] if tissue in mask_codes]


def find_labeled_voxels(mask: Volume, mask_codes: Mapping[str, int]) -> LabeledVoxels:
    """Collect the voxels of a mask that are not background, in RAS+ order.

    Args:
        mask: volume of whole numbers; 0 is background.
        mask_codes: tissue -> code.

    Raises:
        ValueError: if the mask is empty, or holds a code that `mask_codes` does not name.
    """
    stored = mask.stored
    positions = np.flatnonzero(stored)
    if not positions.size:
        raise ValueError(f"{mask.path} must hold a tumor, got an empty mask; leave the subject out or correct the mask")
    codes = stored[positions]
    unknown = sorted(set(np.unique(codes).tolist()) - set(mask_codes.values()))
    if unknown:
        raise ValueError(
            f"{mask.path} must hold the codes of mask_codes {dict(mask_codes)}, got {unknown[:8]} besides;"
            " declare mask_codes for this cohort, or correct the mask"
        )
    order = np.argsort([-abs(stride) for stride in mask.data.strides], kind="stable")
    indices = np.unravel_index(positions, [mask.data.shape[axis] for axis in order])
    in_file = np.stack([indices[int(np.flatnonzero(order == axis)[0])] for axis in range(3)], axis=1)
    return LabeledVoxels(_to_ras(in_file, mask), codes.astype(np.int64), mask_codes, mask.voxel_volume_ml)


def choose_region(voxels: LabeledVoxels, chain: Sequence[str], min_et_ml: float) -> tuple[str, str | None]:
    """Take the first region of a chain that the mask holds.

    About a third of lower-grade gliomas have no enhancing tumor, and a few stray voxels of it are no lesion: the
    enhancing region counts from `min_et_ml` on, the others from their first voxel.

    Args:
        voxels: labeled voxels of the mask.
        chain: regions in the order of preference.
        min_et_ml: least volume of the enhancing region, ml.

    Returns:
        The region, and why those before it in the chain were passed over (None for the first).

    Raises:
        ValueError: if the mask holds none of the regions.
    """
    passed_over: list[str] = []
    for region in chain:
        volume = voxels.volume_ml(region)
        if volume > 0 and (region != "enhancing" or volume >= min_et_ml):
            return region, "; ".join(passed_over) or None
        least = f" (min_et_ml {min_et_ml:g})" if region == "enhancing" else ""
        passed_over.append(f"{region} {volume:.3g} ml{least}")
    codes = np.unique(voxels.codes).tolist()
    raise ValueError(
        f"the mask must hold one of the regions {list(chain)}, got the codes {codes} alone with mask_codes"
        f" {dict(voxels.mask_codes)} and min_et_ml {min_et_ml}; leave the subject out or add a region to the chain"
    )


def _to_ras(in_file: np.ndarray, volume: Volume) -> np.ndarray:
    file_to_ras = volume.file_to_ras.astype(np.int64)
    return in_file @ file_to_ras[:3, :3].T + file_to_ras[:3, 3]
