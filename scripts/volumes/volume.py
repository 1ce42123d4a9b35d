"""One 3D image with its place in the body, and whether several lie on one voxel grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

GEOMETRY_TOLERANCE = 1e-3  # mm (and mm per voxel) between the affines of one subject


@dataclass(frozen=True)
class Volume:
    """One 3D image as it lies in its file, and views of it in RAS+ order.

    Args:
        path: file it came from, for messages.
        data: voxels in the order of the file, (I, J, K), any real type.
        affine: voxel indices of the file -> mm, (4, 4).
    """

    path: str
    data: np.ndarray
    affine: np.ndarray

    @cached_property
    def orientation(self) -> np.ndarray:
        """Axis and direction of each file axis in RAS+, (3, 2), as nibabel's `io_orientation`."""
        return io_orientation(self.affine)

    @cached_property
    def ras(self) -> np.ndarray:
        """View of the voxels with axes towards right, anterior and superior; shares memory with `data`."""
        return apply_orientation(self.data, self.orientation)

    @cached_property
    def ras_to_file(self) -> np.ndarray:
        """Voxel indices of `ras` -> voxel indices of the file, (4, 4)."""
        return inv_ornt_aff(self.orientation, self.data.shape)

    @cached_property
    def file_to_ras(self) -> np.ndarray:
        """Voxel indices of the file -> voxel indices of `ras`, (4, 4), whole numbers."""
        return np.rint(np.linalg.inv(self.ras_to_file))

    def voxel_in_file(self, ras_voxel: np.ndarray) -> list[int]:
        """Return the indices in the file of a voxel of `ras`, (3,), as answers and lists tell it."""
        return np.rint(self.ras_to_file @ [*ras_voxel, 1])[:3].astype(int).tolist()

    @cached_property
    def ras_affine(self) -> np.ndarray:
        """Voxel indices of `ras` -> mm, (4, 4)."""
        return self.affine @ self.ras_to_file

    @cached_property
    def spacing_mm(self) -> np.ndarray:
        """Voxel size along the axes of `ras`, (3,), mm; rounded to 1e-6, below what a float32 header holds."""
        return np.round(np.linalg.norm(self.ras_affine[:3, :3], axis=0), 6)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel, ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def stored(self) -> np.ndarray:
        """All voxels in the order of memory, (N,): a view where possible, for statistics in which order is nothing."""
        return self.data.ravel(order="K")


def require_one_geometry(volumes: Mapping[str, Volume]) -> None:
    """Refuse volumes that do not lie on one voxel grid once they are in RAS+ order.

    Args:
        volumes: name -> volume; all are compared with the first.

    Raises:
        ValueError: naming the two files, if shapes differ or affines differ by more than 1e-3.
    """
    (reference_name, reference), *others = volumes.items()
    for name, volume in others:
        if difference := geometry_difference(reference, volume):
            raise ValueError(
                f"{name} must lie on the voxel grid of {reference_name}, got {difference} ({volume.path} against"
                f" {reference.path}); resample the file, or set registration: true in configs/patches.yaml"
            )


def geometry_difference(reference: Volume, volume: Volume) -> str:
    """Say in what the RAS+ grids of two volumes differ; empty if they agree within 1e-3."""
    if reference.ras.shape != volume.ras.shape:
        return f"shape {volume.ras.shape} instead of {reference.ras.shape}"
    distance = float(np.abs(reference.ras_affine - volume.ras_affine).max())
    return f"affines that differ by {distance:.4g}" if not distance <= GEOMETRY_TOLERANCE else ""
