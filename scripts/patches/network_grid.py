"""From the voxel grid of a patient to that of a network that learned from BraTS, and back."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from nibabel.affines import rescale_affine
from nibabel.orientations import inv_ornt_aff
from nibabel.processing import resample_from_to

from scripts.volumes.volume import Volume

RAS_TO_LPS = np.array([[0, -1], [1, -1], [2, 1]])  # BraTS files run towards left, posterior, superior
SPACING_TOLERANCE = 1e-3  # mm; closer voxels are taken as they are


class NetworkGrid:
    """The grid on which a network sees a patient: axes as in BraTS files, cubic voxels of one size.

    Args:
        reference: volume of the patient, on whose grid masks come back.
        spacing_mm: size of the network's voxels, mm, > 0; None for those of the patient.
    """

    def __init__(self, reference: Volume, spacing_mm: float | None) -> None:
        if spacing_mm is not None and not spacing_mm > 0:
            raise ValueError(f"segmentation_spacing_mm must be > 0, or None for the patient's own, got {spacing_mm!r}")
        self.reference = reference
        self.own_shape = reference.ras.shape
        self.own_affine = reference.ras_affine @ inv_ornt_aff(RAS_TO_LPS, self.own_shape)
        self.shape, self.affine = self.own_shape, self.own_affine
        wanted = reference.spacing_mm if spacing_mm is None else np.full(3, spacing_mm)
        self.resampled = bool((np.abs(reference.spacing_mm - wanted) > SPACING_TOLERANCE).any())
        if self.resampled:
            size_mm = np.multiply(self.own_shape, reference.spacing_mm)
            self.shape = tuple(int(size) for size in np.ceil(size_mm / wanted))
            self.affine = rescale_affine(self.own_affine, self.own_shape, wanted, self.shape)

    def image_of(self, volume: Volume) -> nib.Nifti1Image:
        """Bring a volume of the patient, whatever the order of its axes, to the grid (linear where it resamples).

        Args:
            volume: on the RAS+ grid of the reference.

        Returns:
            float32 image; background that is 0 stays 0.
        """
        image = nib.Nifti1Image(np.asarray(volume.ras[::-1, ::-1], np.float32), self.own_affine)
        return resample_from_to(image, (self.shape, self.affine), order=1) if self.resampled else image

    def to_reference(self, codes: np.ndarray) -> np.ndarray:
        """Bring mask codes back to the voxels of the reference's file (nearest neighbor where it resamples).

        Args:
            codes: on the grid, whole numbers.

        Returns:
            Codes of the shape of the reference's file, uint8.

        Raises:
            ValueError: if `codes` is of another shape.
        """
        if codes.shape != tuple(self.shape):
            raise ValueError(f"codes must have the shape {tuple(self.shape)} of the network's grid, got {codes.shape}")
        image = nib.Nifti1Image(codes.astype(np.uint8), self.affine)
        if self.resampled:
            image = resample_from_to(image, (self.own_shape, self.own_affine), order=0, mode="nearest")
        in_file = np.zeros(self.reference.data.shape, np.uint8)
        # A view of the file's voxels in RAS+ order: what is written to it lands in the order of the file.
        Volume("mask", in_file, self.reference.affine).ras[:] = np.asarray(image.dataobj)[::-1, ::-1]
        return in_file
