"""Tiny cohorts as they lie on a disk: BraTS of two styles, the Medical Decathlon, tables."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (6, 5, 4)
KINDS = {
    "brats_2018": ("_", {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}),
    "brats_2023": ("-", {"t1n": "t1n", "t1c": "t1c", "t2w": "t2w", "t2f": "t2f"}),
}


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def image(name: str, shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Return an image that is another one for every name, with a background of 0 around."""
    array = np.zeros(shape, np.int16)
    inside = (slice(1, -1),) * 3
    array[inside] = np.random.default_rng(zlib.crc32(name.encode())).integers(1, 1000, array[inside].shape)
    return array


def mask(codes: Sequence[int]) -> np.ndarray:
    """Return a mask that holds the codes, a voxel each."""
    array = np.zeros(SHAPE, np.uint8)
    array.flat[: len(codes)] = codes
    return array


def write_brats(
    folder: Path, layout: str, names: Sequence[str], codes: Sequence[int] = (1, 2, 4), suffix: str = ".nii.gz"
) -> Path:
    """Write subjects of a BraTS layout, a folder each; a name may hold folders, such as HGG/Brats18_2013_10_1."""
    separator, kinds = KINDS[layout]
    for name in names:
        stem = folder / name / Path(name).name
        for kind in kinds.values():
            save(Path(f"{stem}{separator}{kind}{suffix}"), image(f"{name} {kind}"))
        if codes:
            save(Path(f"{stem}{separator}seg{suffix}"), mask(codes))
    return folder


def write_decathlon(
    folder: Path,
    names: Sequence[str],
    modality: Sequence[str] = ("FLAIR", "T1w", "t1gd", "T2w"),
    labels: Sequence[str] = ("background", "edema", "non-enhancing tumor", "enhancing tumour"),
) -> Path:
    """Write a task of the Medical Decathlon."""
    entries = []
    for name in names:
        save(folder / "imagesTr" / f"{name}.nii.gz", image(name, (*SHAPE, len(modality))))
        save(folder / "labelsTr" / f"{name}.nii.gz", mask([1, 2, 3]))
        entries.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    description = {
        "name": "BRATS",
        "modality": dict(enumerate(modality)),
        "labels": dict(enumerate(labels)),
        "training": entries,
        "test": ["./imagesTs/BRATS_485.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def write_table(path: Path, rows: Sequence[dict], delimiter: str = ",") -> Path:
    """Write a CSV with the columns of the first row."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def table_row(folder: Path, name: str, codes: Sequence[int] = (1, 2, 4), **more: object) -> dict:
    """Write the files of one subject and return its row, with paths relative to the folder."""
    row: dict = {"subject_id": name}
    for modality in ("t1", "T1ce", "t2", "FLAIR"):
        row[modality] = str(save(folder / name / f"{modality}.nii.gz", image(f"{name} {modality}")).relative_to(folder))
    row["mask"] = str(save(folder / name / "mask.nii.gz", mask(codes)).relative_to(folder))
    return {**row, **more}
