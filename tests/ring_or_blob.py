"""Tiny data for the classifier: a ring is one class, a blob another, a bar a third."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from scripts.provenance.record import hash_subjects
from scripts.running.files import sha256_text, write_json
from tests.helpers import list_header

GRADES = {"LGG": 0, "HGG": 1}
MODALITIES = ("t1c", "t2f", "t1n", "t2w")


def draw(label: int, num_channels: int, size: Sequence[int], random: np.random.RandomState) -> np.ndarray:
    """Return an image (C, *size) in [-1, 1] with background exactly -1."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in size], indexing="ij"))
    center = random.uniform(-0.2, 0.2, size=(len(size), *[1] * len(size)))
    radius = np.sqrt(((grid - center) ** 2).sum(axis=0))
    outer = random.uniform(0.4, 0.7)
    shape = {
        0: radius < outer,
        1: (radius < outer) & (radius > 0.6 * outer),
        2: np.abs((grid - center)[0]) < 0.2,
    }[label]
    brain = np.sqrt((grid**2).sum(axis=0)) < 0.95
    gain = random.uniform(0.5, 1.0, size=(num_channels, *[1] * len(size)))
    image = gain * shape + random.normal(-0.3, 0.15, size=(num_channels, *size))
    return np.where(brain, np.clip(image, -0.99, 1), -1).astype(np.float32)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (C, *spatial) as the patches stage does: modality last, 2D with a third axis of one voxel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    spatial = np.moveaxis(image, 0, -1)
    nib.save(nib.Nifti1Image(spatial[:, :, None] if image.ndim == 3 else spatial, np.eye(4)), path)


def image_header(num_channels: int = 2, size: Sequence[int] = (32, 32), classes: Mapping[str, int] = GRADES) -> dict:
    """Return what a list of images says about how they are made."""
    return list_header(MODALITIES[:num_channels], classes, size)


def write_patches(
    folder: Path,
    name: str = "phantom_A",
    counts: Sequence[int] = (12, 12),
    num_channels: int = 2,
    size: Sequence[int] = (32, 32),
    classes: Mapping[str, int] = GRADES,
    seed: int = 0,
    **entry_values: Any,
) -> str:
    """Write `patches.json` with `counts[label]` subjects of each class; return its path."""
    random = np.random.RandomState(seed)
    entries = []
    for label, count in enumerate(counts):
        for index in range(count):
            subject = f"{name}_{label}_{index:03d}"
            write_image(folder / f"{subject}.nii.gz", draw(label, num_channels, size, random))
            entry = {"image": f"{subject}.nii.gz", "label": label, "subject_id": subject, "site": "A"}
            entries.append({**entry, "lesion_volume_ml": 1.0 + index, **entry_values})
    header = image_header(num_channels, size, classes)
    write_json(folder / "patches.json", {"name": name, "simulated": True, **header, "training": entries})
    return str(folder / "patches.json")


def write_splits(folder: Path, name: str = "phantom_A", counts: Sequence[int] = (12, 12), **values: Any) -> str:
    """Write `splits.json`: of each class 2 subjects test, the others validate in two folds, 2 of the rest are inner."""
    test: list[str] = []
    folds: list[dict[str, list[str]]] = [{"train": [], "inner": [], "validation": []} for _ in range(2)]
    for label, count in enumerate(counts):
        subjects = [f"{name}_{label}_{index:03d}" for index in range(count)]
        test += subjects[:2]
        for number, fold in enumerate(folds):
            validation = subjects[2 + number :: 2]
            rest = [subject for subject in subjects[2:] if subject not in validation]
            fold["validation"] += validation
            fold["inner"] += rest[:2]
            fold["train"] += rest[2:]
    content = {
        "seed": 0,
        "num_folds": 2,
        "test": sorted(test),
        "folds": [{k: sorted(v) for k, v in f.items()} for f in folds],
    }
    write_json(folder / "splits.json", {**content, **values})
    return str(folder / "splits.json")


def write_synthetic(
    folder: Path,
    label: int,
    subjects: Sequence[str],
    count: int = 6,
    num_channels: int = 2,
    size: Sequence[int] = (32, 32),
    method: str = "ddpm",
    selection_subjects: Sequence[str] = (),
) -> str:
    """Write `synthetic.json` of one class whose generator saw `subjects`; return its path."""
    random = np.random.RandomState(99 + label)
    entries = []
    for index in range(count):
        image = f"synthetic_{label}_{index:04d}.nii.gz"
        write_image(folder / image, draw(label, num_channels, size, random))
        entries.append({"image": image, "label": label, "k": index, "seed": 0})
    provenance = {
        "cohort": "phantom_A",
        "method": method,
        "fold": 0,
        "weights_sha256": sha256_text(f"weights of {label}"),
        "subjects": hash_subjects(subjects),
        "selection_subjects": hash_subjects(selection_subjects),
        "simulated": True,
    }
    header = image_header(num_channels, size)
    write_json(folder / "synthetic.json", {**header, "provenance": provenance, "training": entries})
    return str(folder / "synthetic.json")


def messages(error: BaseException) -> str:
    """Join the messages of an error and of what caused it: MONAI wraps what a config's component raises."""
    return str(error) + (" <- " + messages(error.__cause__) if error.__cause__ else "")
