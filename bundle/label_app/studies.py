"""The studies that are served: patients found by the names of their files, each shown to MONAI Label as one image."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bundle.label_app.limits import resolve_inside
from bundle.request_errors import RequestError
from scripts.inference.patient_files import files_of, find_patients, num_channels, split_name
from scripts.volumes.file_names import as_named, is_nifti, stem_of

MOST_ENDINGS = 5  # that are told of a folder without studies

logger = logging.getLogger(__name__)


def find_studies(root: Path, modalities: Sequence[str], skip: Path | None = None) -> dict[str, Path]:
    """Find the patients in a folder and in the folders right below it.

    Args:
        root: folder of the studies.
        modalities: modalities that a patient must have, the project's names.
        skip: folder below `root` that holds no studies.

    Returns:
        Id -> file that stands for the patient: the 4D file, or of four files that of t1c (else the first modality).
        The id is what the names of the files have in common; where that is nothing, or there twice, the folder's name.

    Raises:
        ValueError: if two patients would have one id.
    """
    studies: dict[str, Path] = {}
    for folder in [root, *sorted(path for path in root.iterdir() if path.is_dir() and path != skip)]:
        for name, files in _studies_in(folder, modalities):
            outside = [path for path in files if not path.resolve().is_relative_to(root.resolve())]
            if outside:
                logger.warning("%s is not served: %s leads out of %s", name, outside[0], root)
                continue
            if name in studies:
                raise ValueError(f"{files[0]} and {studies[name]} must not both be {name!r}; rename the files of one")
            studies[name] = files[0]
    return studies


def patient_files(path: Path, modalities: Sequence[str]) -> list[Path]:
    """List the files that are read of a patient: one of each modality, or the 4D file.

    Args:
        path: that stands for the patient.
        modalities: the project's names.

    Raises:
        ValueError: if the files there are those of several patients.
    """
    files = files_of(str(path), modalities)
    return [path] if files is None else [Path(file) for file in files.values()]


def resolve_patient(path: str, roots: Iterable[Path], modalities: Sequence[str]) -> Path:
    """Return a patient's path of a client, with links followed, if all that is read of it lies in one of the folders.

    Raises:
        NotFoundError: if a file does not, or nothing is there.
        RequestError: if the files there are those of several patients.
    """
    roots = list(roots)
    real = resolve_inside(path, roots)
    try:
        files = patient_files(real, modalities)
    except ValueError as error:
        raise RequestError(str(error)) from error
    for file in files:
        resolve_inside(str(file), roots)
    return real


def no_study(root: Path, modalities: Sequence[str], skip: Path | None = None) -> str:
    """Say what was looked for in a folder without studies, and what lies there instead.

    Args:
        root: folder of the studies.
        modalities: modalities that a patient must have.
        skip: folder that is not looked at.
    """
    folders = [root, *(path for path in root.iterdir() if path.is_dir() and path != skip)]
    files = [path.name for folder in folders for path in folder.iterdir() if path.is_file()]
    endings = Counter("".join(Path(name).suffixes[-2:]).lower() or "without an ending" for name in files)
    there = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(MOST_ENDINGS)) or "none"
    names = ", ".join(f"PATIENT_{modality}.nii.gz" for modality in modalities)
    dicom = any(ending == ".dcm" or ending == "without an ending" for ending in endings)
    convert = "; `python -m bundle dicom STUDY --out FOLDER` makes NIfTI of DICOM" if dicom else ""
    return (
        f"{root} must hold studies, in it or in the folders right below: {names} of each patient, or one 4D NIfTI file"
        f" of {len(modalities)} channels; got no such patient among the files there ({there}){convert}"
    )


def link_studies(studies: dict[str, Path], view: Path) -> None:
    """Fill a folder with one link for each study, named by its id, and remove links of studies that are gone.

    Args:
        studies: from `find_studies`.
        view: folder for the links.
    """
    view.mkdir(parents=True, exist_ok=True)
    for old in view.iterdir():
        if old.is_symlink():
            old.unlink()
    for name, path in studies.items():
        ending = path.name[len(stem_of(path)) :].lower()
        (view / f"{name}{ending}").symlink_to(as_named(path))


def _studies_in(folder: Path, modalities: Sequence[str]) -> Iterator[tuple[str, list[Path]]]:
    """Yield patients and their files, first the one that stands for them."""
    stands_for = "t1c" if "t1c" in modalities else modalities[0]
    for patient, files in find_patients(folder, modalities).items():
        if set(files) == set(modalities):
            first = files[stands_for][0]
            others = [path for paths in files.values() for path in paths if path != first]
            yield patient or folder.name, [Path(first), *map(Path, others)]
    for path in sorted(folder.iterdir()):
        name, modality = split_name(path.name, modalities)
        is_image = path.is_file() and is_nifti(path) and modality is None
        if is_image and num_channels(path) == len(modalities) > 1:
            yield name, [path]
