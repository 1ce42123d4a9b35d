"""Intensities of the brain in [-1, 1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from monai.transforms import NormalizeIntensity, ScaleIntensityRangePercentiles

from scripts.patches.intensities import MeasureIntensitiesd, scale_intensities
from scripts.volumes.volume import Volume
from tests.tiny_subjects import (
    AFFINE,
    array_of,
    make_images,
    patch_of,
    write_subject,
    write_volume,
)


def test_brain_percentiles_are_those_of_monai(subject):
    volume = make_images()["t2f"]
    low, high = MeasureIntensitiesd().measure(Volume("a", volume, AFFINE))
    brain = volume[volume != 0].astype(np.float32)
    expected = ScaleIntensityRangePercentiles(0.5, 99.5, -1, 1, clip=True)(brain[None])[0]
    np.testing.assert_allclose(scale_intensities(brain, low, high), np.asarray(expected), atol=1e-5)


def test_zscores_are_those_of_monai_up_to_the_limit(subject):
    volume = make_images()["t2f"]
    low, high = MeasureIntensitiesd("zscore", zscore_limit=3.0).measure(Volume("a", volume, AFFINE))
    expected = np.asarray(NormalizeIntensity(nonzero=True)(volume.astype(np.float32)[None]))[0]
    found = scale_intensities(volume, low, high)
    np.testing.assert_allclose(found[volume != 0], np.clip(expected / 3, -1, 1)[volume != 0], atol=1e-5)
    assert (found[volume == 0] == -1).all()


def test_patches_do_not_depend_on_the_scale_of_the_scanner(tmp_path, subject):
    images = {key: array * np.float32(3.7) for key, array in make_images().items()}
    np.testing.assert_allclose(array_of(write_subject(tmp_path / "S", images)), array_of(subject), atol=1e-5)


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_volume_is_named(subject, value):
    array = np.where(make_images()["t1n"] != 0, value, 0).astype(np.int16)
    write_volume(Path(subject["images"]["t2w"]), array)
    with pytest.raises(ValueError, match=r"t2w\.nii\.gz must vary inside the brain"):
        patch_of(subject)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MeasureIntensitiesd("minmax"), "intensity_mode must be 'percentile', 'zscore' or 'fixed'"),
        (lambda: MeasureIntensitiesd(percentiles=[99, 1]), "intensity_percentiles must be two increasing"),
        (lambda: MeasureIntensitiesd("zscore", zscore_limit=0), "zscore_limit must be > 0"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
