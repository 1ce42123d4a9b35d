"""Tiny patches and splits for tests of the stages that follow them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from scripts.running.files import read_json, write_json
from scripts.splits.draw import write_splits
from tests.helpers import list_header

# A network for these patches that trains in a second.
TINY_GENERATOR: dict[str, Any] = {
    "device": "cpu",
    "num_threads": 1,
    "patch_size": [8, 12],
    "generator_condition": None,
    "generator_gaussian_rank": 0,
    "generator_parametrization": "v_prediction",
    "generator_unshuffle": 1,
    "generator_channels": [8, 8],
    "generator_attention_levels": [False, True],
    "generator_num_res_blocks": 1,
    "generator_num_head_channels": 8,
    "generator_norm_num_groups": 4,
    "num_train_timesteps": 20,
}


def write_tiny_patches(
    folder: Path,
    spatial_shape: tuple[int, ...] = (8, 12),
    modalities: tuple[str, ...] = ("t1n", "t1c", "t2w", "t2f"),
    classes: tuple[str, ...] = ("LGG", "HGG"),
    subjects_per_class: int = 6,
    graded: bool = True,
    seed: int = 0,
) -> dict[str, str]:
    """Write random patches, `patches.json` and `splits.json` of 2 folds; return the two paths as overrides.

    The patches are smooth but for a texture of each, without which they would be one picture with another gain.
    """
    random = np.random.default_rng(seed)
    entries = []
    for label, name in enumerate(classes):
        for index in range(subjects_per_class):
            subject = f"{name}_subject_{index}"
            _write_patch(folder / f"{subject}.nii.gz", random, spatial_shape, len(modalities))
            entry = {"image": f"{subject}.nii.gz", "label": label if graded else None, "subject_id": subject}
            entries.append({**entry, "site": "A", "lesion_volume_ml": 1.0})
    header = list_header(modalities, {name: label for label, name in enumerate(classes)}, spatial_shape)
    write_json(folder / "patches.json", {"name": "tiny", **header, "training": entries})
    grades = [(entry["subject_id"], entry["label"]) for entry in entries]
    subjects = [{"subject_id": s, "site": "A", "grade": None if g is None else classes[g]} for s, g in grades]
    write_json(folder / "cohort.json", {"name": "tiny", "simulated": True, "subjects": subjects})
    write_splits(folder / "cohort.json", folder, num_folds=2, test_fraction=0.2, inner_fraction=0.3, classes=classes)
    return {"patches_path": str(folder / "patches.json"), "splits_path": str(folder / "splits.json")}


def _write_patch(path: Path, random: np.random.Generator, spatial_shape: tuple[int, ...], num_channels: int) -> None:
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in spatial_shape], indexing="ij")
    radius = np.sqrt(sum((axis - random.uniform(-0.2, 0.2)) ** 2 for axis in axes))
    levels = random.uniform(-0.5, 0.9, num_channels)
    texture = random.spawn(1)[0].normal(0, 0.05, (*spatial_shape, num_channels)).clip(-0.1, 0.1)
    image = np.where(radius[..., None] < 0.9, levels * np.cos(radius[..., None]) + texture, -1).astype(np.float32)
    volume = image[:, :, None] if len(spatial_shape) == 2 else image
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), path)


def write_patches_of_site(
    folder: Path, package: Path, spatial_shape: tuple[int, ...], **options: Any
) -> dict[str, str]:
    """Do what `write_tiny_patches` does for a site of a federation: its images are made as those of a package."""
    lists = write_tiny_patches(folder, spatial_shape, **options)
    header = read_json(lists["patches_path"])
    images = read_json(package / "models" / "provenance.json")["images"]
    kept = {key: header[key] for key in ("modality", "labels")}
    write_json(Path(lists["patches_path"]), {**header, **images, "name": folder.name, **kept})
    return lists
