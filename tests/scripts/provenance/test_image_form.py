"""What images are made of, and whether others are made alike."""

from __future__ import annotations

import re

import pytest
import yaml
from monai.bundle import ConfigParser
from monai.transforms import ScaleIntensityd

from scripts.provenance.image_form import ImageForm, describe_preprocessing, recorded_images, require_same_images
from tests.helpers import ROOT, config_files

# Settings of configs/patches.yaml that decide pixels -> another value, with what makes them count.
DECIDING = {
    "modalities": {"modalities": ["t1c", "t1n", "t2w", "t2f"]},
    "region_chain": {"region_chain": ["core", "whole"]},
    "min_et_ml": {"min_et_ml": 1.0},
    "slice": {"slice": "centroid"},
    "min_tumor_voxels": {"slice": "all", "min_tumor_voxels": 7},
    "bias_correction": {"bias_correction": True},
    "bias_shrink_factor": {"bias_correction": True, "bias_shrink_factor": 2},
    "intensity_mode": {"intensity_mode": "zscore"},
    "intensity_percentiles": {"intensity_percentiles": [1, 99]},
    "zscore_limit": {"intensity_mode": "zscore", "zscore_limit": 3.0},
    "patch_size": {"patch_size": [64, 64]},
    "patch_spacing_mm": {"patch_spacing_mm": 2.0},
    "crop": {"crop": "lesion_box"},
    "box_margin": {"crop": "lesion_box", "box_margin": 2.0},
    "intensity_range": {"intensity_mode": "fixed", "intensity_range": [0, 128]},
    "image_background": {"intensity_mode": "fixed", "image_background": False},
    "cut": {"cut": "whole"},
    "crop_to_foreground": {"cut": "whole", "crop_to_foreground": True},
}
# Registration brings files to what others are without it; the seed is its own; dimensions are those of patch_size; the
# limits refuse, and the overview lies beside the patch: both change nothing.
FREE = {"registration", "registration_reference", "seed", "spatial_dims", "brain_limits", "keep_overview"}


def facts(**overrides):
    parser = ConfigParser(ConfigParser.load_config_files(config_files("patches")))
    parser.update(overrides)
    return parser.get_parsed_content("image_facts")


def test_every_setting_of_the_transforms_is_known_to_decide_pixels_or_not_to():
    config = yaml.safe_load((ROOT / "configs" / "patches.yaml").read_text(encoding="utf-8"))
    named = set(re.findall(r"@(\w+)", yaml.safe_dump([config["preprocessing"], config["reader"]])))
    assert named - {"reader"} == DECIDING.keys() | FREE


@pytest.mark.parametrize("name", DECIDING)
def test_images_of_another_setting_are_refused(name):
    with_default = {key: value for key, value in DECIDING[name].items() if key != name}
    one, other = facts(**with_default), facts(**DECIDING[name])
    require_same_images(one, one, "these", "those")
    if one["preprocessing"].get("ChooseCenterd.slice") == "all":
        return  # told, but any slices are taken where every slice was seen
    with pytest.raises(ValueError, match="these must have .*, as those has, got .*; make both with one"):
        require_same_images(one, other, "these", "those")


@pytest.mark.parametrize("overrides", [{"registration": True}, {"seed": 7}, {"zscore_limit": 3.0}, {"box_margin": 3}])
def test_images_that_differ_in_nothing_seen_are_taken(overrides):
    require_same_images(facts(), facts(**overrides), "these", "those")


def test_a_network_that_saw_every_slice_takes_the_largest_and_not_the_other_way_round():
    require_same_images(facts(slice="all"), facts(slice="largest"), "these", "those")
    with pytest.raises(ValueError, match="must have ChooseCenterd.slice 'largest', as those has, got 'all'"):
        require_same_images(facts(slice="largest"), facts(slice="all"), "these", "those")


def test_a_transform_that_tells_nothing_is_told_by_its_attributes():
    one, other = (describe_preprocessing([ScaleIntensityd("image", factor=factor)]) for factor in (1.0, 2.0))
    assert one["ScaleIntensityd"] is True
    assert describe_preprocessing([ScaleIntensityd("image", factor=1.0)]) == one
    assert "ScaleIntensityd" not in describe_preprocessing([])
    assert one.keys() == other.keys()


def test_weights_of_before_a_fact_was_told_are_refused():
    images = {key: value for key, value in facts().items() if key != "preprocessing"}
    with pytest.raises(ValueError, match="models/provenance.json must say in `images` .* got no preprocessing; train"):
        recorded_images({"images": images}, "models/model.pt")


def test_the_form_is_what_lists_say_of_their_images():
    form = ImageForm(["t1n", "t2f"], {"HGG": 1, "LGG": 0}, [8, 9, 10], 2, spatial_dims=3)
    assert form.names() == {"modality": {"0": "t1n", "1": "t2f"}, "labels": {"0": "LGG", "1": "HGG"}, "spatial_dims": 3}
    assert form.facts() == {
        "modality": ["t1n", "t2f"],
        "labels": ["LGG", "HGG"],
        "patch_size": [8, 9, 10],
        "spacing_mm": 2.0,
    }
    assert facts(crop="lesion_box")["spacing_mm"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalities": ["t1n", "t1n"]}, "modalities must be different names"),
        ({"modalities": []}, "modalities must be different names"),
        ({"classes": {"LGG": 1, "HGG": 2}}, "classes must be numbered from 0"),
        ({"patch_size": [96]}, "patch_size must be 2 whole numbers above 0, as many as spatial_dims"),
        ({"patch_size": [96, 0]}, "patch_size must be 2 whole numbers above 0"),
        ({"patch_size": [96.5, 96]}, "patch_size must be 2 whole numbers above 0"),
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
        ({"spacing_mm": 0}, "patch_spacing_mm must be above 0, or null without mm, got 0"),
    ],
)
def test_a_form_that_no_image_has_is_refused(changes, message):
    settings = {"modalities": ["t1n"], "classes": {"LGG": 0, "HGG": 1}, "patch_size": [96, 96]}
    with pytest.raises(ValueError, match=message):
        ImageForm(**{**settings, **changes})
