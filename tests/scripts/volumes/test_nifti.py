"""Images as NIfTI files."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from scripts.patches.tensors import load_patch
from scripts.volumes.nifti import write_image

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.mark.parametrize("shape", [(2, 5, 4), (3, 5, 4, 6)], ids=["2d", "3d"])
def test_equal_images_give_equal_bytes_and_come_back_unchanged(tmp_path, shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_image(tmp_path / name, image, AFFINE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    stored = nib.load(tmp_path / "a.nii.gz")
    assert stored.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(stored.affine, AFFINE)
    loaded = load_patch(str(tmp_path / "a.nii.gz"), shape[0], len(shape) - 1)
    np.testing.assert_array_equal(loaded.numpy(), image)
