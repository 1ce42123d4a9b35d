"""The files of one patient, found by their names in a folder or beside one of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib

from scripts.volumes.modality_names import parse_modality

ENDINGS = (".nii.gz", ".nii")
SEPARATORS = "_. -"


def is_nifti(name: str) -> bool:
    """Tell by its ending whether a file is NIfTI."""
    return name.lower().endswith(ENDINGS)


def split_name(name: str, modalities: Sequence[str]) -> tuple[str, str | None]:
    """Split the name of a file into patient and modality.

    >>> split_name("BraTS-GLI-00001-000-t2_flair.nii.gz", ["t1n", "t1c", "t2w", "t2f"])
    ('BraTS-GLI-00001-000', 't2f')

    Args:
        name: `PATIENT_MODALITY.nii.gz` or `.nii`, with an alias of the modality as the last word or the last two.
        modalities: the project's names.

    Returns:
        (patient, modality); modality None, with the name without its ending, where no word is understood.
    """
    stem = re.sub(r"\.nii(\.gz)?$", "", name, flags=re.IGNORECASE)
    words = re.split(f"[{SEPARATORS}]", stem)
    for count in (2, 1):
        modality = parse_modality("".join(words[-count:]), modalities)
        if modality in modalities and len(words) >= count:
            return stem[: -len("_".join(words[-count:]))].rstrip(SEPARATORS), modality
    return stem, None


def find_patients(folder: Path, modalities: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """List the files of one modality each that lie in a folder.

    Args:
        folder: folder; those below it are not looked at.
        modalities: the project's names.

    Returns:
        Patient -> modality -> paths.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for path in sorted(folder.iterdir()):
        patient, modality = split_name(path.name, modalities)
        if is_nifti(path.name) and modality is not None and path.is_file():
            found.setdefault(patient, {}).setdefault(modality, []).append(str(path))
    return found


def files_of(path: str, modalities: Sequence[str]) -> dict[str, str] | None:
    """Find the files of the patient that a path stands for.

    Args:
        path: folder with the files of one patient, or one of these files, or a link to it.
        modalities: the project's names.

    Returns:
        Modality -> path of those that are there; None for a file of several channels or a name without a modality.

    Raises:
        ValueError: if the folder holds files of no patient or of several, or two files of one modality.
    """
    real = Path(path).resolve()
    if real.is_dir():
        patients = find_patients(real, modalities)
        if len(patients) != 1:
            raise ValueError(
                f"{path} must hold the files of one patient, named PATIENT_MODALITY.nii.gz, got"
                f" {', '.join(sorted(patients)) or 'none'}; give each patient a folder"
            )
        return _one_each(next(iter(patients.values())))
    patient, modality = split_name(real.name, modalities)
    if modality is None or not real.is_file() or num_channels(real) > 1:
        return None
    return _one_each(find_patients(real.parent, modalities)[patient])


def num_channels(path: Path) -> int:
    """Return the size of a NIfTI file's fourth dimension, 1 if it has none; 0 if the file cannot be read as NIfTI."""
    try:
        image: Any = nib.load(path)
        shape = image.shape
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, OSError, EOFError, ValueError):
        return 0  # whoever reads it will say why
    return shape[3] if len(shape) == 4 else 1


def _one_each(found: dict[str, list[str]]) -> dict[str, str]:
    for modality, paths in found.items():
        if len(paths) > 1:
            raise ValueError(f"images must hold one file for {modality}, got {' and '.join(paths)}; leave one out")
    return {modality: paths[0] for modality, paths in found.items()}
