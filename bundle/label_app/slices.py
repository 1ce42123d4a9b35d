"""Slices of a study as radiologists look at them: greys of one grid, the patient's right on the left of the picture."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bundle.label_app.studies import patient_files
from bundle.request_errors import NotFoundError, RequestError
from scripts.inference.patient import ReadPatientd
from scripts.inference.requests import stored_channel_order
from scripts.patches.subject_volumes import clicked_volume
from scripts.running.files import file_state
from scripts.volumes.volume import Volume, require_one_geometry

# Plane -> axis of RAS+ order that it is across.
PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}
WINDOW = (0.5, 99.5)  # percentiles of what is not 0 that are shown black and white
KEPT = 2  # studies whose greys stay in memory, one byte for each voxel
EXPECTED = (ValueError, TypeError, FileNotFoundError)


@dataclass(frozen=True)
class ShownStudy:
    """A study to look at.

    Args:
        greys: modality -> voxels in RAS+ order, (I, J, K) uint8.
        clicked: volume in whose file clicks are voxels; its voxels themselves are not kept.
    """

    greys: Mapping[str, np.ndarray]
    clicked: Volume

    def describe(self) -> dict[str, Any]:
        """Return what a viewer must know: sizes, and where the voxels of `greys` lie in the file and in the body."""
        return {
            "modalities": list(self.greys),
            "shape": list(self.clicked.ras.shape),
            "spacing_mm": self.clicked.spacing_mm.tolist(),
            "ras_to_file": np.rint(self.clicked.ras_to_file).astype(int).tolist(),
            "ras_affine": self.clicked.ras_affine.tolist(),
            "file": Path(self.clicked.path).name,
        }

    def picture(self, modality: str, plane: str, index: int) -> bytes:
        """Draw a slice.

        Args:
            modality: one of the study.
            plane: a key of `PLANES`.
            index: of the slice, along the axis towards superior, anterior or right.

        Returns:
            PNG, a pixel for each voxel. Rows go down from anterior (of an axial slice) or superior, columns from the
            patient's right, or of a sagittal slice from anterior.

        Raises:
            NotFoundError: if there is no such slice.
        """
        if modality not in self.greys or plane not in PLANES:
            raise NotFoundError(
                f"modality must be one of {', '.join(self.greys)} and plane one of {', '.join(PLANES)}, got"
                f" {modality!r} and {plane!r}"
            )
        greys, axis = self.greys[modality], PLANES[plane]
        if not 0 <= index < greys.shape[axis]:
            raise NotFoundError(f"index of {plane} slices must be from 0 to {greys.shape[axis] - 1}, got {index}")
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(greys.take(index, axis).T[::-1, ::-1])).save(
            stream, "PNG", compress_level=1
        )
        return stream.getvalue()


class Viewer:
    """The studies that are looked at, read once.

    Args:
        modalities: the project's names.
    """

    def __init__(self, modalities: Sequence[str]) -> None:
        self._modalities = modalities
        self._read = ReadPatientd(modalities, needs_place=False)
        self._studies: OrderedDict[tuple[object, ...], ShownStudy] = OrderedDict()
        self._reading = threading.Lock()

    def study(self, path: Path, channel_order: str = "") -> ShownStudy:
        """Return a study to look at.

        Args:
            path: 4D file, or the file that stands for four.
            channel_order: of a 4D file, with commas; empty where `dataset.json` beside it tells it.

        Raises:
            RequestError: if a file cannot be used, or they lie on several grids.
        """
        with self._reading:
            try:
                key = (str(path), channel_order, *self._states(path))
                if key not in self._studies:
                    self._studies[key] = self._make(path, channel_order)
            except EXPECTED as error:
                raise RequestError(str(error)) from error
            self._studies.move_to_end(key)
            while len(self._studies) > KEPT:
                self._studies.popitem(last=False)
            return self._studies[key]

    def _states(self, path: Path) -> Iterator[tuple[object, ...]]:
        """Tell what is read and may have been replaced since: each file, and what names the channels of a 4D file."""
        files = patient_files(path, self._modalities)
        yield from ((str(file), *file_state(file)) for file in files)
        if files == [path]:
            yield tuple(stored_channel_order(str(path)) or ())

    def _make(self, path: Path, channel_order: str) -> ShownStudy:
        read = self._read({"image": str(path), "channel_order": channel_order})
        require_one_geometry(read["volumes"])
        clicked = clicked_volume(read)
        # A view of a single number: the shape without the voxels.
        empty = np.broadcast_to(np.uint8(0), clicked.data.shape)
        greys = {name: to_greys(volume.ras) for name, volume in read["volumes"].items()}
        return ShownStudy(greys, Volume(clicked.path, empty, clicked.affine))


def to_greys(voxels: np.ndarray) -> np.ndarray:
    """Return voxels as uint8: `WINDOW` of what is not 0 becomes 0 and 255, what lies outside is clipped; 0 stays 0."""
    inside = voxels[voxels != 0]
    if not inside.size:
        return np.zeros(voxels.shape, np.uint8)
    low, high = np.percentile(inside, WINDOW)
    scaled = (voxels.astype(np.float32) - low) / max(high - low, np.finfo(np.float32).tiny)
    return np.where(voxels == 0, 0, np.rint(scaled.clip(0, 1) * 255)).astype(np.uint8)
