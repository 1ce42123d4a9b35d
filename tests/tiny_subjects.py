"""Tiny volumes of unequal sides with a brain and a lesion, written as NIfTI, and the patches of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.bundle import ConfigParser
from monai.transforms import Compose
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy.ndimage import gaussian_filter

from scripts.running.configs import parser_of
from scripts.running.errors import root_cause
from scripts.running.files import write_json
from tests.helpers import config_files

MODALITIES = ["t1n", "t1c", "t2w", "t2f"]
MASK_CODES = {"necrotic": 1, "edema": 2, "enhancing": 4}
SHAPE = (40, 33, 22)
AFFINE = np.array([[1.0, 0, 0, -17], [0, 1, 0, -11], [0, 0, 1, -6], [0, 0, 0, 1]])


def make_images(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> dict[str, np.ndarray]:
    """Return int16 textures inside an ellipsoidal brain, one per modality, with a few negative voxels at the rim."""
    rng = np.random.default_rng(seed)
    brain = _ellipsoid(shape, (0.5, 0.5, 0.5), (0.45, 0.42, 0.46))
    images = {}
    for modality in MODALITIES:
        texture = 500 + 2000 * gaussian_filter(rng.standard_normal(shape), 1.5)
        image = np.where(brain, np.maximum(texture, 1), 0).astype(np.int16)
        rim = np.flatnonzero(brain)[:3]
        image.flat[rim] = -7
        images[modality] = image
    return images


def make_mask(shape: tuple[int, int, int] = SHAPE, center: tuple[float, float, float] = (0.6, 0.4, 0.55)) -> np.ndarray:
    """Return a mask of edema around enhancing around necrotic tumor, with the codes of BraTS 2018, uint8."""
    mask = np.zeros(shape, np.uint8)
    for code, radius in ((2, 0.3), (4, 0.2), (1, 0.1)):
        mask[_ellipsoid(shape, center, (radius, radius * 0.8, radius * 1.1))] = code
    return mask


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    """Write a NIfTI file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return str(path)


def write_subject(
    folder: Path,
    images: Mapping[str, np.ndarray] | None = None,
    mask: np.ndarray | None = None,
    affine: np.ndarray = AFFINE,
    **more: Any,
) -> dict[str, Any]:
    """Write modalities and mask of one subject and return what `cohort.json` says of it."""
    images = make_images() if images is None else images
    mask = make_mask() if mask is None else mask
    paths = {key: write_volume(folder / f"{key}.nii.gz", array, affine) for key, array in images.items()}
    mask_path = write_volume(folder / "seg.nii.gz", mask, affine)
    subject = {"subject_id": folder.name, "site": "A", "grade": "HGG", "images": paths, "mask": mask_path}
    return {**subject, "mask_codes": MASK_CODES, **more}


def write_cohort(folder: Path, num_subjects: int = 10) -> Path:
    """Write a folder with subjects of both grades in turn and their `cohort.json`, as the phantom does; return it."""
    grades = [("LGG", "HGG")[index % 2] for index in range(num_subjects)]
    subjects = [
        write_subject(folder / f"S{index}", make_images(index), grade=grade) for index, grade in enumerate(grades)
    ]
    content = {"name": "tiny", "simulated": True, "modalities": MODALITIES, "mask_codes": MASK_CODES}
    write_json(folder / "cohort.json", {**content, "subjects": subjects, "left_out": []})
    return folder


def reoriented(array: np.ndarray, affine: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
    """Store the same anatomy with other axes ("LPS", "SAR", ...): flipped and permuted voxels, matching affine."""
    change = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    return np.ascontiguousarray(apply_orientation(array, change)), affine @ inv_ornt_aff(change, array.shape)


def chain(**overrides: Any) -> Compose:
    """Return the `preprocessing` of configs/patches.yaml at 16 x 14 cells."""
    parser = parser_of(ConfigParser.load_config_files(config_files("patches")))
    parser.update({"patch_size": [16, 14], "min_et_ml": 0.05, **overrides})
    return parser.get_parsed_content("preprocessing")


def patch_of(subject: Mapping[str, Any], **overrides: Any) -> Any:
    """Return what `preprocessing` makes of a subject; an error is the one that it raised, not MONAI's around it."""
    try:
        return chain(**overrides)(dict(subject))
    except RuntimeError as error:
        raise root_cause(error) from error


def array_of(subject: Mapping[str, Any], **overrides: Any) -> np.ndarray:
    """Return the cells of the patch, (C, *spatial)."""
    return np.asarray(patch_of(subject, **overrides)["image"])


def _ellipsoid(
    shape: tuple[int, ...], center: tuple[float, float, float], radius: tuple[float, float, float]
) -> np.ndarray:
    axes = [(np.arange(size) / size - at) / r for size, at, r in zip(shape, center, radius, strict=True)]
    return sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) <= 1
