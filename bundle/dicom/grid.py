"""The voxel grid of a series, by the headers of its images, and what makes images no volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

from bundle.dicom.headers import Series

# What GDCM, the reader inside SimpleITK, decodes.
READABLE = (
    *(uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian),
    *(uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit),
    *(uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless),
    *(uid.JPEG2000Lossless, uid.JPEG2000),
)
ORIENTATION_TOLERANCE = 1e-3  # of a direction cosine
SAME_PLACE_MM = 0.01
GAP_TOLERANCE = 0.05  # of the distance of two images; positions are rounded
SHEAR_TOLERANCE = 0.01  # of the length of the stack: how far it may lean
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Grid:
    """Images in the order of their positions, and where they lie.

    Args:
        paths: file of each image, along the normal of the images (towards the head for axial ones).
        image_uids: SOPInstanceUID of each.
        affine: [column, row, image], counted from 0 -> mm towards right, anterior and superior, (4, 4).
    """

    paths: tuple[str, ...]
    image_uids: tuple[str, ...]
    affine: np.ndarray


def grid_of(series: Series) -> Grid:
    """Find the order of the images and the affine of the volume.

    Source: DICOM PS3.3, section C.7.6.2.1.1 (image position and orientation).

    Raises:
        ValueError: naming the series, if its images are compressed in a way that is not read here, hold burned-in
            annotations or colors, have no position, or are no volume: sizes or orientations that differ, two images at
            one place, a gap, a stack that leans.
    """
    _require_readable(series)
    _require_same(series, "size", [(header.get("Rows", 0), header.get("Columns", 0)) for header in series.headers], 0)
    _require_same(series, "pixel spacing (mm)", _numbers(series, "PixelSpacing", 2), ORIENTATION_TOLERANCE)
    cosines = _numbers(series, "ImageOrientationPatient", 6)
    _require_same(series, "orientation", cosines, ORIENTATION_TOLERANCE)
    along_row, along_column = np.array(cosines[0][:3]), np.array(cosines[0][3:])
    normal = np.cross(along_row, along_column)
    positions = np.array(_numbers(series, "ImagePositionPatient", 3))
    order = np.argsort(positions @ normal, kind="stable")
    headers, positions = [series.headers[index] for index in order], positions[order]
    step = _step(series, headers, positions, normal)
    row_mm, column_mm = _numbers(series, "PixelSpacing", 2)[0]
    to_lps = np.eye(4)
    to_lps[:3] = np.column_stack([along_row * column_mm, along_column * row_mm, step, positions[0]])
    uids = tuple(str(header.SOPInstanceUID) for header in headers)
    return Grid(tuple(str(header.filename) for header in headers), uids, LPS_TO_RAS @ to_lps)


def _require_readable(series: Series) -> None:
    for header in series.headers:
        syntax = header.file_meta.TransferSyntaxUID
        if syntax not in READABLE:
            raise ValueError(
                f"{series.name} must be compressed in a way that is read here, got {syntax.name} in {header.filename};"
                " decompress it, for example with `gdcmconv --raw`"
            )
        if str(header.get("BurnedInAnnotation", "NO")).upper() == "YES":
            raise ValueError(
                f"{series.name} must hold no burned-in annotations, got some in {header.filename} by its header; name"
                " another series"
            )
        if header.get("SamplesPerPixel", 1) != 1:
            raise ValueError(f"{series.name} must be grey, got colors in {header.filename}; name another series")


def _numbers(series: Series, keyword: str, count: int) -> list[tuple[float, ...]]:
    rows = []
    for header in series.headers:
        value = header.get(keyword)
        if value is None or isinstance(value, str) or not isinstance(value, Sequence) or len(value) != count:
            raise ValueError(
                f"{series.name} must have {keyword} of {count} numbers, got {value!r} in {header.filename}; name"
                " another series"
            )
        rows.append(tuple(float(number) for number in value))
    return rows


def _require_same(series: Series, what: str, values: Sequence[tuple], tolerance: float) -> None:
    for header, value in zip(series.headers, values, strict=True):
        if np.abs(np.subtract(value, values[0])).max() > tolerance:
            raise ValueError(
                f"{series.name} must have one {what}, got {_plain(values[0])} in {series.headers[0].filename} and"
                f" {_plain(value)} in {header.filename}; name another series, or give each stack a series of its own"
            )


def _plain(values: Sequence[float]) -> str:
    return "\\".join(f"{value:.6g}" for value in values)


def _step(series: Series, headers: Sequence[Dataset], positions: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Vector from one image to the next, mm, (3,)."""
    if len(headers) < 2:
        raise ValueError(f"{series.name} must be a volume, got a single image; name another series")
    _require_even(series, headers, np.diff(positions @ normal))
    length = positions[-1] - positions[0]
    if np.linalg.norm(length - (length @ normal) * normal) > SHEAR_TOLERANCE * np.linalg.norm(length):
        raise ValueError(
            f"{series.name} must be a stack whose images lie straight above each other, got one that leans; name"
            " another series"
        )
    return length / (len(headers) - 1)


def _require_even(series: Series, headers: Sequence[Dataset], distances: np.ndarray) -> None:
    """Refuse images at one place, and gaps; distances of neighbors, mm."""
    usual = float(np.median(distances))
    same, odd = distances < SAME_PLACE_MM, np.abs(distances - usual) > GAP_TOLERANCE * usual
    if not (same | odd).any():
        return
    index = int(np.argmax(same if same.any() else odd))
    two = f"{headers[index].filename} and {headers[index + 1].filename}"
    if same.any():
        raise ValueError(
            f"{series.name} must have one image at each place, got {two} (several echoes, phases or measurements, or a"
            " copy); name another series, or split it"
        )
    raise ValueError(
        f"{series.name} must have no gap, got {distances[index]:.4g} mm between {two}, and {usual:.4g} mm between"
        " others; export it again whole, or name another series"
    )
