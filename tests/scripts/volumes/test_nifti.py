"""Images as NIfTI files."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from scripts.patches.tensors import load_patch
from scripts.volumes.nifti import write_image, write_nifti

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


def test_a_name_without_gz_is_written_plain_and_the_description_stays(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for name in ("a.nii", "a.nii.gz"):
        write_nifti(tmp_path / name, array, AFFINE, b"by a model")
        assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith("gz")
        assert nib.load(tmp_path / name).header["descrip"] == b"by a model"
        np.testing.assert_array_equal(nib.load(tmp_path / name).dataobj, array)
