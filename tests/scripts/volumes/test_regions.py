"""Tumor regions of a mask."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.volumes.regions import choose_region, find_labeled_voxels, region_codes
from scripts.volumes.volume import Volume
from tests.tiny_subjects import AFFINE, MASK_CODES, make_mask, reoriented

CHAIN = ["enhancing", "core", "whole"]


def voxels_of(mask, codes=MASK_CODES, affine=AFFINE):
    return find_labeled_voxels(Volume("seg.nii.gz", mask, affine), codes)


@pytest.mark.parametrize(
    ("codes", "core", "whole"),
    [
        ({"necrotic": 1, "edema": 2, "enhancing": 4}, {1, 4}, {1, 2, 4}),
        ({"necrotic": 1, "edema": 2, "enhancing": 3}, {1, 3}, {1, 2, 3}),
        ({"edema": 1, "non_enhancing": 2, "enhancing": 3}, {2, 3}, {1, 2, 3}),
        ({"necrotic": 1, "edema": 2, "non_enhancing": 3, "enhancing": 4}, {1, 3, 4}, {1, 2, 3, 4}),
        ({"necrotic": 1, "edema": 2, "enhancing": 3, "cavity": 4}, {1, 3}, {1, 2, 3}),
    ],
    ids=["brats_2018", "brats_2023", "decathlon", "brats_2013", "post_treatment"],
)
def test_regions_of_each_convention(codes, core, whole):
    assert set(region_codes(codes, "enhancing")) == {codes["enhancing"]}
    assert set(region_codes(codes, "core")) == core
    assert set(region_codes(codes, "whole")) == whole


def test_unknown_tissues_and_regions_are_refused():
    with pytest.raises(ValueError, match="mask_codes must name tissues"):
        region_codes({"oedema": 2}, "whole")
    with pytest.raises(ValueError, match="region must be one of"):
        region_codes(MASK_CODES, "et")


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL"])
def test_coordinates_are_those_of_the_ras_volume(codes):
    mask = make_mask()
    stored, affine = reoriented(mask, AFFINE, codes)
    for order in "CF":
        points = voxels_of(np.array(stored, order=order), affine=affine).of_region("enhancing")
        assert sorted(map(tuple, points)) == sorted(map(tuple, np.argwhere(mask == 4)))


def test_volumes_are_counts_times_voxel_volume():
    mask, affine = make_mask(), AFFINE @ np.diag([0.5, 2, 3, 1])
    assert voxels_of(mask, affine=affine).volume_ml("core") == pytest.approx(np.isin(mask, [1, 4]).sum() * 3 / 1000)


def test_the_chain_falls_back_when_enhancing_is_below_its_least_volume():
    voxels = voxels_of(make_mask())
    volume = voxels.volume_ml("enhancing")
    assert choose_region(voxels, CHAIN, volume) == ("enhancing", None)
    region, reason = choose_region(voxels, CHAIN, volume + 0.001)
    assert region == "core"
    assert "enhancing" in reason
    assert "min_et_ml" in reason


def test_without_core_the_whole_tumor_is_taken():
    mask = np.where(make_mask() == 2, 2, 0)
    assert choose_region(voxels_of(mask), CHAIN, 0.5)[0] == "whole"


def test_a_cavity_alone_is_no_tumor():
    mask = np.where(make_mask() > 0, 4, 0)
    codes = {"necrotic": 1, "edema": 2, "enhancing": 3, "cavity": 4}
    with pytest.raises(ValueError, match=r"must hold one of the regions.*codes \[4\] alone"):
        choose_region(voxels_of(mask, codes), CHAIN, 0.5)


def test_an_empty_mask_is_named():
    with pytest.raises(ValueError, match=r"seg\.nii\.gz must hold a tumor, got an empty mask"):
        voxels_of(np.zeros((4, 5, 6)))


@pytest.mark.parametrize("code", [3, 0.5])
def test_a_code_without_a_name_is_refused(code):
    mask = make_mask().astype(np.float32)
    mask[0, 0, 0] = code
    with pytest.raises(ValueError, match=rf"seg\.nii\.gz must hold the codes of mask_codes .* got \[{code}"):
        voxels_of(mask)
