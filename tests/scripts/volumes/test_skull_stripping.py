"""What a brain mask makes of images with a skull."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.volumes.skull_stripping import strip_skull
from scripts.volumes.volume import Volume
from tests.tiny_subjects import AFFINE, SHAPE, make_images, reoriented

BRAIN = make_images()["t1n"]


def head(background: int = 30) -> np.ndarray:
    return np.where(BRAIN == 0, background, BRAIN).astype(np.int16)


def test_a_brain_mask_of_any_axes_leaves_the_brain_alone():
    volumes = {"t1n": Volume("a", head(), AFFINE), "t1c": Volume("b", *reoriented(head(), AFFINE, "PSR"))}
    before = volumes["t1c"].data.copy()
    mask = Volume("brain", *reoriented((BRAIN != 0).astype(np.uint8), AFFINE, "LPS"))
    stripped = strip_skull(volumes, mask)
    np.testing.assert_array_equal(stripped["t1n"].data, BRAIN)
    np.testing.assert_array_equal(stripped["t1c"].ras, BRAIN)
    np.testing.assert_array_equal(volumes["t1c"].data, before)
    assert stripped["t1c"].affine is volumes["t1c"].affine


def test_a_brain_mask_that_is_empty_or_elsewhere_is_refused():
    volumes = {"t1n": Volume("a", head(), AFFINE)}
    with pytest.raises(ValueError, match="brain_mask must hold a brain, got an empty mask"):
        strip_skull(volumes, Volume("m", np.zeros(SHAPE, np.uint8), AFFINE))
    with pytest.raises(ValueError, match="brain_mask must lie on the voxel grid of t1n"):
        strip_skull(volumes, Volume("m", np.ones(SHAPE, np.uint8), np.eye(4)))
