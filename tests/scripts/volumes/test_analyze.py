"""Analyze pairs: read as nibabel reads them, and placed in the body as a person says."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from scripts.volumes.analyze import check_orientation
from scripts.volumes.reading import read_volume
from tests.volume_folders import SHAPE, SPACING_MM, head, write_pair


@pytest.mark.parametrize("orientation", ["RAS", "LAS", "PSR", "ASL"])
def test_the_axes_run_where_the_orientation_says(orientation, tmp_path):
    path = write_pair(tmp_path / "a.img", head("a"))
    for half in (path, path.with_suffix(".hdr")):
        volume = read_volume(half, orientation)
        assert nib.aff2axcodes(volume.affine) == tuple(orientation)
        np.testing.assert_array_equal(volume.data, np.asarray(nib.load(path).dataobj)[..., 0])
        assert sorted(volume.spacing_mm) == sorted(SPACING_MM)
        np.testing.assert_allclose(volume.affine @ [*(np.array(SHAPE) - 1) / 2, 1], [0, 0, 0, 1])


def test_las_is_what_nibabel_assumes_of_analyze(tmp_path):
    path = write_pair(tmp_path / "a.img", head("a"))
    np.testing.assert_allclose(read_volume(path, "LAS").affine, nib.load(path).affine, atol=1e-6)


@pytest.mark.parametrize("letters", ["RA", "RRS", "ras", "RAX", 3])
def test_letters_that_are_no_orientation_are_refused(letters):
    with pytest.raises(ValueError, match="orientation must be three letters, one each of L or R.* LAS is an image"):
        check_orientation(letters)


def test_a_pair_that_is_none_is_refused_with_the_way_out(tmp_path):
    path = write_pair(tmp_path / "a.img", head("a"))
    with pytest.raises(ValueError, match=r"a.img must come with an orientation.* left is; set orientation"):
        read_volume(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="must hold 3360 bytes for shape .*, got 3350; copy the file again"):
        read_volume(path, "LAS")
    path.with_suffix(".hdr").write_bytes(b"x" * 400)
    with pytest.raises(ValueError, match="a.hdr must be the header of an Analyze pair"):
        read_volume(path, "LAS")
    path.with_suffix(".hdr").unlink()
    with pytest.raises(FileNotFoundError, match=r"a.hdr does not exist.*a pair of .hdr and .img; copy both"):
        read_volume(path, "LAS")
    nib.save(nib.Nifti1Pair(head("a"), np.eye(4)), tmp_path / "b.img")
    with pytest.raises(ValueError, match="b.hdr must be of Analyze, got the .hdr of a NIfTI pair; convert it"):
        read_volume(tmp_path / "b.img", "LAS")
