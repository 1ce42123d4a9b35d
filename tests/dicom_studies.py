"""Studies of a tiny patient as a scanner would send them: MR images, one file each, by pydicom."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from tests.tiny_subjects import AFFINE, SHAPE, make_images, reoriented

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
# As the sequences of a Siemens scanner call themselves, and in an order that is not that of the modalities.
SEQUENCES: dict[str, dict[str, Any]] = {
    "t2f": {"SeriesNumber": 3, "SeriesDescription": "t2_tirm_tra_dark-fluid", "TE": 94, "TR": 9000, "TI": 2500},
    "t1n": {"SeriesNumber": 4, "SeriesDescription": "t1_mprage_tra_iso", "TE": 2.9, "TR": 2300, "TI": 900},
    "t2w": {"SeriesNumber": 5, "SeriesDescription": "t2_tse_tra", "TE": 100, "TR": 6000},
    "t1c": {"SeriesNumber": 7, "SeriesDescription": "t1_mprage_tra_iso_km", "TE": 2.9, "TR": 2300, "TI": 900},
}
SMALL = (4, 3, 12)  # of studies of which only headers matter
TIMES = {"TE": "EchoTime", "TR": "RepetitionTime", "TI": "InversionTime"}


@cache
def images_of(shape: tuple[int, int, int] = SHAPE) -> dict[str, np.ndarray]:
    """Modality -> voxels of the patient; not to be changed."""
    return make_images(shape=shape)


@cache
def uid_of(*words: object) -> UID:
    """A UID that is the same for the same words."""
    return generate_uid(entropy_srcs=[str(word) for word in words])


def write_study(
    folder: Path,
    changes: Mapping[str, Mapping[str, Any] | None] | None = None,
    shape: tuple[int, int, int] = SHAPE,
    **common: Any,
) -> dict[str, list[Path]]:
    """Write the four series of a patient.

    Args:
        folder: gets a folder for each series.
        changes: modality -> elements that differ, with `codes` for the axes of its images; None leaves it out.
        shape: of the volumes.
        common: elements of every image.

    Returns:
        Modality -> files, in the order of the images.
    """
    images = images_of(shape)
    paths = {}
    for modality, sequence in SEQUENCES.items():
        change = (changes or {}).get(modality, {})
        if change is not None:
            facts = {**sequence, **common, **change}
            paths[modality] = write_series(folder / f"S{facts['SeriesNumber']}", images[modality], AFFINE, **facts)
    return paths


def write_series(
    folder: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE, codes: str = "LPS", **facts: Any
) -> list[Path]:
    """Write a volume as MR images.

    Args:
        folder: gets `000.dcm` and so on.
        voxels: whole numbers, (I, J, K).
        affine: voxel indices -> mm towards right, anterior and superior.
        codes: where columns, rows and images go, such as LPS (axial) or PIR (sagittal).
        facts: elements by keyword, or TE, TR and TI.

    Returns:
        Paths, in the order of the third axis of `codes`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    array, ordered = reoriented(voxels, affine, codes)
    return [
        write_image(folder / f"{index:03d}.dcm", array[:, :, index].T, FLIP @ ordered, index, facts)
        for index in range(array.shape[2])
    ]


def write_image(
    path: Path, pixels: np.ndarray, to_lps: np.ndarray, index: int, facts: Mapping[str, Any], **meta: Any
) -> Path:
    """Write one image, (rows, columns), that is the `index`-th of its volume."""
    spacing = np.linalg.norm(to_lps[:3, :3], axis=0)
    cosines = to_lps[:3, :3] / spacing
    series = facts.get("SeriesInstanceUID") or uid_of(facts["SeriesNumber"], facts["SeriesDescription"])
    elements = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": uid_of(series, index),
        "StudyInstanceUID": uid_of("study"),
        "SeriesInstanceUID": series,
        "FrameOfReferenceUID": uid_of("frame"),
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19700101",
        "PatientSex": "F",
        "StudyDate": "20260102",
        "StudyTime": "100000",
        "AcquisitionTime": f"10{facts['SeriesNumber']:02d}00",
        "StudyID": "1",
        "AccessionNumber": "A1",
        "ReferringPhysicianName": "",
        "Modality": "MR",
        "Manufacturer": "Nobody",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "ScanningSequence": "GR",
        "InstanceNumber": index + 1,
        "ImagePositionPatient": [float(x) for x in (to_lps @ [0, 0, index, 1])[:3]],
        "ImageOrientationPatient": [float(x) for x in cosines[:, :2].T.ravel()],
        "PixelSpacing": [float(spacing[1]), float(spacing[0])],
        "SliceThickness": float(spacing[2]),
        "PositionReferenceIndicator": "",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
    }
    if facts["SeriesDescription"].endswith("km"):
        elements["ContrastBolusAgent"] = "Gadobutrol"
    elements.update({TIMES.get(name, name): value for name, value in facts.items()})
    file_meta = FileMetaDataset()
    file_meta.MediaStorageSOPClassUID = elements["SOPClassUID"]
    file_meta.MediaStorageSOPInstanceUID = elements["SOPInstanceUID"]
    file_meta.TransferSyntaxUID = meta.get("TransferSyntaxUID", ExplicitVRLittleEndian)
    image = FileDataset(path, {}, file_meta=file_meta, preamble=b"\0" * 128)
    for keyword, value in elements.items():
        setattr(image, keyword, value)
    image.PixelData = np.ascontiguousarray(pixels, dtype="<i2").tobytes()
    image.save_as(path, enforce_file_format=True)
    return path
