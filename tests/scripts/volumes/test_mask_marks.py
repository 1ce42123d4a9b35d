"""The mark of a mask that a model made."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from scripts.volumes.mask_marks import model_mark, read_mask_source


@pytest.mark.parametrize(
    ("descrip", "source"),
    [(model_mark("m"), "model"), (model_mark("m" * 100), "model"), (b"", None), (b"by an expert", None)],
)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_mark_that_was_written_is_read(tmp_path, descrip, source, kind):
    image = kind(np.zeros((3, 4, 5), np.uint8), np.eye(4))
    image.header["descrip"] = descrip
    nib.save(image, tmp_path / "mask.nii.gz")
    assert read_mask_source(tmp_path / "mask.nii.gz") == source
