"""The headers of a DICOM study: its series of MR images, and the files that are passed over."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
)

from bundle.dicom.files import is_dicom, walk
from scripts.running.errors import some_names

MULTI_FRAME = (EnhancedMRImageStorage, EnhancedMRColorImageStorage, LegacyConvertedEnhancedMRImageStorage)
NO_DICOM = "no DICOM"
IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")  # of type 1: there, with a value
KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("PatientID", "PatientName", "SeriesNumber", "SeriesDescription", "ProtocolName", "InstanceNumber", "ImageType"),
    *("EchoTime", "RepetitionTime", "InversionTime", "ScanningSequence", "ContrastBolusAgent"),
    *("AcquisitionDate", "AcquisitionTime", "SeriesDate", "SeriesTime", "BurnedInAnnotation"),
    *("Rows", "Columns", "SamplesPerPixel", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"),
)


@dataclass(frozen=True)
class Series:
    """The images of one SeriesInstanceUID, in the order of their files.

    Args:
        uid: SeriesInstanceUID.
        headers: of each image the elements `KEYWORDS`.
    """

    uid: str
    headers: tuple[Dataset, ...]

    @cached_property
    def number(self) -> int | None:
        """SeriesNumber; None where there is none."""
        number = self.value("SeriesNumber")
        return None if number is None else int(number)

    @cached_property
    def description(self) -> str:
        """SeriesDescription, or the name of the protocol where there is none."""
        return str(self.value("SeriesDescription") or self.value("ProtocolName") or "").strip()

    @property
    def name(self) -> str:
        """Words for messages: number and description."""
        return f"series {self.number} ({self.description or 'without a description'})"

    @cached_property
    def began(self) -> str:
        """Date and time when it was measured, as text that sorts; empty where it is not told."""
        date = self.value("AcquisitionDate") or self.value("SeriesDate")
        times = [str(header.get("AcquisitionTime") or header.get("SeriesTime") or "") for header in self.headers]
        return f"{date or ''}{min(times)}" if min(times) else ""

    def value(self, keyword: str) -> Any:
        """Value of an element in the first image; None where it is absent or empty."""
        value = self.headers[0].get(keyword)
        return None if value is None or not str(value).strip() else value

    def number_of(self, keyword: str) -> float | None:
        """Value of an element in the first image as a number; None where it is absent, empty or 0."""
        value = self.value(keyword)
        return None if value is None or isinstance(value, Sequence) else float(value) or None


@dataclass(frozen=True)
class Study:
    """One examination of one patient.

    Args:
        folder: where it lies.
        series: MR images, by number.
        passed_over: kind of any other file -> how many there are.
    """

    folder: Path
    series: tuple[Series, ...]
    passed_over: Mapping[str, int]


def read_study(folder: str | Path) -> Study:
    """Read the headers of every DICOM file in a folder and below it, no pixels.

    Args:
        folder: of one examination of one patient.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no MR images, those of several patients or examinations, an image twice, one
            without its UIDs, or a file whose header is cut short.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} must be the folder of a DICOM study, got none; check the path")
    headers, passed_over = [], Counter[str]()
    for path in walk(root):
        header = _read_header(path) if is_dicom(path) else None
        if header is None:
            passed_over[NO_DICOM] += 1
        elif header.get("SOPClassUID") == MRImageStorage:
            _require_identifiers(header)
            headers.append(header)
        elif "SOPClassUID" in header:  # not so in a directory of files (DICOMDIR)
            passed_over[UID(header.SOPClassUID).name] += 1
    study = Study(root, _group(headers), passed_over)
    if not headers:
        raise ValueError(f"{root} must hold MR images as DICOM, got none{describe_passed_over(study)}")
    # Where no identifier was given, the name tells patients apart.
    _require_one(root, "patient", [header.get("PatientID") or header.get("PatientName") for header in headers])
    _require_one(root, "examination", [header.get("StudyInstanceUID") for header in headers])
    _refuse_twins(headers)
    return study


def describe_passed_over(study: Study) -> str:
    """Say which files are passed over, and what helps where these are images; empty if there are none."""
    if not study.passed_over:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(study.passed_over.items()))
    multi_frame = {uid.name for uid in MULTI_FRAME} & set(study.passed_over)
    command = f"`dcm2niix -z y -o FOLDER {shlex.quote(str(study.folder))}`"
    way_out = f"; multi-frame images are not read: convert them with {command}, and give the NIfTI"
    return f"; passed over: {kinds}{way_out if multi_frame else ''}"


def _read_header(path: Path) -> Dataset:
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(KEYWORDS))
        if header.file_meta.MediaStorageSOPClassUID != MediaStorageDirectoryStorage and "SOPClassUID" not in header:
            raise EOFError("a header without SOPClassUID")
        header.file_meta.TransferSyntaxUID  # noqa: B018
    except (InvalidDicomError, EOFError, ValueError, AttributeError, NotImplementedError, OSError) as error:
        raise ValueError(f"{path} must be a whole DICOM file, got {error}; export it again") from error
    return header


def _require_identifiers(header: Dataset) -> None:
    if missing := [keyword for keyword in IDENTIFIERS if not header.get(keyword)]:
        raise ValueError(
            f"{header.filename} must have {', '.join(missing)}, got none; export it again with UIDs, old or new"
        )


def _group(headers: Sequence[Dataset]) -> tuple[Series, ...]:
    groups: dict[str, list[Dataset]] = {}
    for header in headers:
        groups.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    series = [Series(uid, tuple(images)) for uid, images in groups.items()]
    return tuple(sorted(series, key=lambda item: (item.number is None, item.number or 0, item.uid)))


def _require_one(folder: Path, what: str, identifiers: Sequence[Any]) -> None:
    counts = Counter(str(identifier or "") for identifier in identifiers)
    if len(counts) > 1:
        parts = [f"{name or 'one without an identifier'} ({count} images)" for name, count in counts.items()]
        raise ValueError(
            f"{folder} must hold one {what}, got {len(counts)}: {some_names(parts)}; give the folder of one {what}"
        )


def _refuse_twins(headers: Sequence[Dataset]) -> None:
    paths: dict[str, str] = {}
    for header in headers:
        uid, path = str(header.get("SOPInstanceUID", "")), str(header.filename)
        if uid in paths:
            raise ValueError(f"{path} must not be an image that {paths[uid]} is, too; leave one copy out")
        paths[uid] = path
