"""What the settings of patches and of masks by a model can be, told before any work and without any file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scripts.patches.crop import CROPS
from scripts.volumes.mask_codes import parse_mask_codes
from scripts.volumes.mri_preprocessing import require_hd_bet


def check_patches(
    modalities: Sequence[str],
    registration: bool,
    registration_reference: str,
    num_workers: int = 1,
    cut: str = "lesion",
    crop: str = "field_of_view",
) -> None:
    """Refuse what no transform of the patches sees when it is built.

    Args:
        modalities: of the cohort.
        registration: whether modalities are brought onto one grid.
        registration_reference: modality whose grid that is.
        num_workers: `patches_num_workers`.
        cut: what a patch shows.
        crop: how much of it.

    Raises:
        ValueError: naming the config key.
    """
    if registration and registration_reference not in modalities:
        raise ValueError(
            f"registration_reference must be one of {', '.join(modalities)}, got {registration_reference!r}"
        )
    if cut not in CROPS or crop not in CROPS[cut]:
        raise ValueError(
            f"cut must be lesion, with crop {' or '.join(CROPS['lesion'])}, or whole, with {', '.join(CROPS['whole'])};"
            f" got {cut!r} with {crop!r}"
        )
    if num_workers < 1:
        raise ValueError(f"patches_num_workers must be >= 1, got {num_workers!r}")


def check_segmentation(
    mask_codes: str | Mapping[str, int],
    spacing_mm: float | None,
    roi_size: Sequence[int] | None,
    skull_strip: bool = False,
) -> None:
    """Refuse settings by which no mask could be made.

    Args:
        mask_codes: `segmentation_mask_codes`.
        spacing_mm: `segmentation_spacing_mm`; None leaves the patient's.
        roi_size: `segmentation_roi_size`; None is the bundle's own.
        skull_strip: whether HD-BET finds the brains.

    Raises:
        ImportError: if HD-BET is needed and not installed.
        TypeError: if `mask_codes` is neither name nor mapping.
        ValueError: naming the config key and the way out.
    """
    parse_mask_codes(mask_codes, "segmentation_mask_codes")
    if spacing_mm is not None and not spacing_mm > 0:
        raise ValueError(f"segmentation_spacing_mm must be > 0, or null for the patient's own, got {spacing_mm!r}")
    if roi_size is not None and (len(roi_size) != 3 or any(size < 8 or size % 8 for size in roi_size)):
        raise ValueError(
            f"segmentation_roi_size must be three multiples of 8, got {list(roi_size)}; null is the bundle's own"
        )
    if skull_strip:
        require_hd_bet()
