"""The files of one patient, found by their names in a folder or beside one of them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from scripts.volumes.file_names import as_named, is_nifti, is_picture, stem_of
from scripts.volumes.headers import VolumeError, read_header
from scripts.volumes.modality_names import parse_modality

SEPARATORS = "_. -"
MASK_WORDS = ("seg", "autoseg", "mask")  # that end the name of a tumor mask


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
    stem = stem_of(name)
    words = re.split(f"[{SEPARATORS}]", stem)
    for count in (2, 1):
        modality = parse_modality("".join(words[-count:]), modalities)
        if modality in modalities and len(words) >= count:
            return stem[: -len("_".join(words[-count:]))].rstrip(SEPARATORS), modality
    return stem, None


def find_patients(folder: Path, modalities: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """List the files of one modality each that lie in a folder.

    Args:
        folder: folder; those below it are not looked at, nor are names that begin with a dot.
        modalities: the project's names.

    Returns:
        Patient -> modality -> paths.
    """
    files: dict[str, dict[str, list[str]]] = {}
    for path in sorted(folder.iterdir()):
        patient, modality = split_name(path.name, modalities)
        if is_nifti(path) and modality is not None and path.is_file():
            files.setdefault(patient, {}).setdefault(modality, []).append(str(path))
    return files


def files_of(path: str, modalities: Sequence[str]) -> dict[str, str] | None:
    """Find the files of the patient that a path stands for.

    Args:
        path: folder with the files of one patient, or one of these files, or a link to it. Links that lie together
            under the names of a patient's files are such files, whatever the names of what they lead to.
        modalities: the project's names.

    Returns:
        Modality -> path of those that are there; None for a file of several channels or a name without a modality.

    Raises:
        ValueError: if the folder holds files of no patient or of several, or two files of one modality.
    """
    location = Path(path)
    if location.is_dir():
        patients = find_patients(location.resolve(), modalities)
        if len(patients) != 1:
            raise ValueError(
                f"{path} must hold the files of one patient, named PATIENT_MODALITY.nii.gz, got"
                f" {', '.join(sorted(patients)) or 'none'}; give each patient a folder"
            )
        return _one_each(next(iter(patients.values())))
    if not location.is_file() or num_channels(location) > 1:
        return None
    beside = [_files_beside(step, modalities) for step in link_steps(location)]
    return _one_each(max(beside, key=len)) or None


def patient_name(path: str, modalities: Sequence[str]) -> str:
    """Name of the patient that a path stands for: of a folder its own, of a file what is before the modality.

    Of a picture it is the name without its ending, with `_` for what no name of a folder should hold.

    >>> patient_name("cases/P01_t1c.nii.gz", ["t1n", "t1c"]), patient_name("cases/P02", ["t1n", "t1c"])
    ('P01', 'P02')
    >>> patient_name("new/Covid (1).png", ["grey"])
    'Covid_1'

    Args:
        path: as in `files_of`, or a 4D file, or a picture.
        modalities: the project's names.
    """
    named = as_named(path)
    if is_picture(named):
        return re.sub(r"[^\w.+-]+", "_", named.stem).strip("_") or "_"
    return (split_name(named.name, modalities)[0] if is_nifti(named) else named.name) or named.parent.name


def mask_beside(path: str, modalities: Sequence[str]) -> str | None:
    """Find the tumor mask that lies with the files of a patient, as PATIENT_seg, PATIENT_autoseg or PATIENT_mask.

    Args:
        path: as in `files_of`, or a 4D file; or a folder with no patient's files (a DICOM study), in which PATIENT is
            the name of the folder or left out.
        modalities: the project's names.

    Returns:
        Its path; None where there is none.

    Raises:
        ValueError: if there are two.
    """
    location = as_named(path)
    folder, is_folder = (location, True) if location.is_dir() else (location.parent, False)
    if is_folder:
        owners = set(find_patients(folder, modalities)) or {"", folder.name}
    else:
        owners = {split_name(location.name, modalities)[0]}
    masks = [
        str(file)
        for file in sorted(folder.iterdir())
        if is_nifti(file) and file.is_file() and _owner_of_mask(stem_of(file)) in owners
    ]
    if len(masks) > 1:
        raise ValueError(f"mask must be one file, got {' and '.join(masks)}; say which one is meant (--mask)")
    return masks[0] if masks else None


def _owner_of_mask(stem: str) -> str | None:
    """Patient of a mask, by its name; None of another file."""
    last = re.split(f"[{SEPARATORS}]", stem)[-1]
    return stem[: len(stem) - len(last)].rstrip(SEPARATORS) if last.lower() in MASK_WORDS else None


def link_steps(path: Path) -> list[Path]:
    """List a path and where it leads, link by link; each step has a name and neighbors of its own."""
    steps = [as_named(path)]
    while steps[-1].is_symlink() and steps[-1] not in steps[:-1]:
        steps.append(as_named(steps[-1].parent / os.readlink(steps[-1])))
    return steps


def _files_beside(path: Path, modalities: Sequence[str]) -> dict[str, list[str]]:
    """Modality -> files of the patient whose file has this name; empty if the name has no modality."""
    patient, modality = split_name(path.name, modalities)
    return {} if modality is None else find_patients(path.parent, modalities).get(patient, {})


def num_channels(path: Path) -> int:
    """Return the number of a NIfTI file's channels, 1 for a 3D image; 0 if the file cannot be read as NIfTI."""
    try:
        shape = read_header(path).shape
    except (VolumeError, FileNotFoundError):
        return 0  # whoever reads it will say why
    return shape[3] if len(shape) == 4 else 1


def _one_each(files: dict[str, list[str]]) -> dict[str, str]:
    for modality, paths in files.items():
        if len(paths) > 1:
            raise ValueError(f"images must hold one file for {modality}, got {' and '.join(paths)}; leave one out")
    return {modality: paths[0] for modality, paths in files.items()}
