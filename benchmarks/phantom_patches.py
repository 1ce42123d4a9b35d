"""Patches and volumes of simulated patients, made in memory by the code that makes those on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from torch import Tensor

from scripts.patches.intensities import BACKGROUND
from scripts.patches.subject_volumes import ReadVolumesd
from scripts.phantom.lesions import MASK_CODES
from scripts.phantom.patients import default_settings, make_subject
from scripts.volumes.volume import Volume

CONFIGS = Path(__file__).parents[1] / "configs"


def phantom_patches(
    count: int,
    seed: int,
    patch_size: int = 32,
    matrix_size: Sequence[int] = (80, 80, 16),
    site: str = "A",
    grade: str = "HGG",
    spatial_dims: int = 2,
    healthy_side: bool = False,
    **settings: Any,
) -> Tensor:
    """Simulate patients and cut the patch of each, as `configs/phantom.yaml` and `configs/patches.yaml` do.

    Args:
        count: number of patients.
        seed: seed of the cohort; two seeds share no patient.
        patch_size: pixels of each side; the field of view stays 96 mm.
        matrix_size: voxels of the volumes. Few slices make small volumes; the patch has the voxels of its own slice.
        site: one of the phantom's sites.
        grade: "LGG" or "HGG", of all patients.
        spatial_dims: 2, or 3 for cubes, whose volumes need as many slices.
        healthy_side: cut around the mirror image of the lesion, where a wrong click would be.
        settings: further keys of `configs/common.yaml` and `configs/patches.yaml`, such as `cut` or `modalities`.

    Returns:
        (count, C, patch_size, patch_size), with a third side in 3D, float32 in [-1, 1], background -1.
    """
    overrides = {
        "spatial_dims": spatial_dims,
        "patch_size": [patch_size] * spatial_dims,
        "patch_spacing_mm": 96 / patch_size,
        **settings,
    }
    parser = ConfigParser(ConfigParser.load_config_files([str(CONFIGS / f"{n}.yaml") for n in ("common", "patches")]))
    parser.update(overrides)
    # Nothing is read: here the volumes are in memory already.
    steps = parser.get_parsed_content("preprocessing").transforms
    chain = [step for step in steps if not isinstance(step, ReadVolumesd)]
    modalities = parser.get_parsed_content("modalities")
    fraction = float(grade == list(default_settings()["grades"])[0])
    images = []
    for index in range(count):
        subject = make_subject(site, seed, index, matrix_size, fraction)
        volumes = {
            name: Volume(name, image, subject.affine) for name, image in subject.images.items() if name in modalities
        }
        mask = Volume("mask", subject.mask[::-1] if healthy_side else subject.mask, subject.affine)
        data = {"volumes": volumes, "mask_volume": mask, "mask_codes": MASK_CODES, "brain_mask_volume": None}
        for transform in chain:
            data = transform(data)
        images.append(np.asarray(data["image"]))
    return torch.from_numpy(np.stack(images))


def phantom_volumes(count: int, seed: int, size: int = 32, modalities: Sequence[str] = ("t1n",)) -> Tensor:
    """Simulate patients and return their whole brains, which fill two thirds of each side and more.

    Args:
        count: number of patients.
        seed: seed of the cohort; two seeds share no patient.
        size: voxels of each side, at least 16.
        modalities: channels, of those of the phantom.

    Returns:
        (count, C, size, size, size) float32 in [-1, 1], background -1.
    """
    volumes = torch.full((count, len(modalities), size, size, size), BACKGROUND)
    for index in range(count):
        images = make_subject("A", seed, index, (size,) * 3).images
        for channel, name in enumerate(modalities):
            image = torch.from_numpy(images[name].astype(np.float32))
            inside = image > 0
            low, high = image[inside].quantile(torch.tensor([0.005, 0.995]))
            scaled = (2 * (image[inside] - low) / (high - low) - 1).clamp(BACKGROUND + 1e-3, 1)
            volumes[index, channel][inside] = scaled
    return volumes
