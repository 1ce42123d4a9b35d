"""Masks that a client sends as labels: of one study, and of one class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bundle.request_errors import RequestError
from scripts.volumes.headers import Header, VolumeError, read_header
from scripts.volumes.nifti import write_nifti
from scripts.volumes.reading import read_volume
from scripts.volumes.volume import GEOMETRY_TOLERANCE, Volume


def segment_names(label_info: Any) -> list[str] | None:
    """Return what the values 1, 2, ... of a mask are, as 3D Slicer tells it: segments in order, those gone left out.

    Args:
        label_info: [{"name": segment}, ...], or None.

    Returns:
        Names, the first for the value 1; None where nothing is told.

    Raises:
        RequestError: if it is something else.
    """
    if not label_info:
        return None
    if not isinstance(label_info, list) or not all(isinstance(row, dict) and "name" in row for row in label_info):
        raise RequestError(f'label_info must be a list of {{"name": segment}}, got {label_info!r}')
    return [str(row["name"]) for row in label_info]


def check_label(path: Path, image_path: str, classes: Mapping[str, int], segments: Sequence[str] | None = None) -> None:
    """Check a label before it is kept, and give it the value class index + 1.

    Args:
        path: mask, NIfTI; written anew where its value was another.
        image_path: image that it is a label of.
        classes: class name -> index.
        segments: names of the values 1, 2, ...; None where they are class index + 1 already.

    Raises:
        RequestError: if it lies on another voxel grid than the image, or is not of one class.
    """
    mask, image = _read(path), _header(Path(image_path))
    shape, values = image.shape[:3], mask.data
    if values.shape != shape or not np.allclose(mask.affine, image.affine, atol=GEOMETRY_TOLERANCE):
        raise RequestError(
            f"{path.name} must have the voxel grid of the image, shape {shape}, got {values.shape} with the affine"
            f" {mask.affine.tolist()}; save it on the image's grid"
        )
    labels = {value: _label(value, classes, segments) for value in np.unique(values[values != 0]).tolist()}
    if len(labels) != 1 or None in labels.values():
        raise RequestError(
            f"{path.name} must mark the lesion with one class, {_meanings(classes, segments)}, got the values"
            f" [{', '.join(f'{value:g}' for value in sorted(labels))}]; empty the segments of other classes"
        )
    label = next(iter(labels.values())) or 0
    write_nifti(path, np.where(values != 0, label, 0).astype(np.uint8), mask.affine)


def _read(path: Path) -> Volume:
    with named_for_clients(path):
        return read_volume(path)


def _header(path: Path) -> Header:
    with named_for_clients(path):
        return read_header(path)


@contextmanager
def named_for_clients(path: Path) -> Iterator[None]:
    """Tell the client what is wrong with a file, by its name without the server's folders.

    Args:
        path: of the file.

    Raises:
        RequestError: in place of the reader's error.
    """
    try:
        yield
    except (VolumeError, FileNotFoundError) as error:
        raise RequestError(str(error).replace(str(path), path.name)) from error


def _label(value: float, classes: Mapping[str, int], segments: Sequence[str] | None) -> int | None:
    names = {index + 1: name for name, index in classes.items()}
    if segments is not None:
        names = {index + 1: name for index, name in enumerate(segments) if name in classes}
    return classes[names[int(value)]] + 1 if value in names else None


def _meanings(classes: Mapping[str, int], segments: Sequence[str] | None) -> str:
    if segments is not None:
        return f"a segment called {' or '.join(classes)}"
    return " or ".join(f"{index + 1} ({name})" for name, index in classes.items())
