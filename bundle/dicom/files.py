"""Which files of a folder are DICOM, by their first bytes or because they were written here, and what reads them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.inference.patient_files import find_patients

MARK, MARK_AT = b"DICM", 128  # DICOM PS3.10, section 7.1
# Written beside an answer: its report, the region, and of the pictures among its `files` a capture each.
REPORT, REGION = "report_sr.dcm", "region_seg.dcm"
PICTURES = {"picture": "explanation_sc.dcm", "place": "place_sc.dcm"}
PACKAGES = ("pydicom", "highdicom", "SimpleITK")


def is_study(path: str | Path, modalities: Sequence[str]) -> bool:
    """Tell whether a path is a folder with DICOM files, in it or below, that holds no patient's files as NIfTI.

    Args:
        path: of anything.
        modalities: the project's names, by which the files of a patient are found.
    """
    folder = Path(path)
    return folder.is_dir() and not find_patients(folder, modalities) and any(map(is_dicom, walk(folder)))


def walk(folder: Path) -> Iterator[Path]:
    """List the files of a folder and of those below it, sorted by folder and name."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(root, name) for name in sorted(names))


def is_dicom(path: Path) -> bool:
    """Tell whether a path is a file that begins as a DICOM file does; its name says nothing."""
    if not path.is_file():  # a broken link, a pipe
        return False
    with path.open("rb") as stream:
        return stream.read(MARK_AT + len(MARK))[MARK_AT:] == MARK


def remove_objects(folder: Path) -> None:
    """Remove the objects that were written about an answer, the report first: it tells of the others."""
    for name in (REPORT, REGION, *PICTURES.values()):
        (folder / name).unlink(missing_ok=True)


def require_packages() -> None:
    """Refuse to begin where a package of the extra `dicom` is not there.

    Raises:
        ImportError: naming it, and how the extra is installed.
    """
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(f"{name} must be installed for DICOM; pip install '.[dicom]'") from error
