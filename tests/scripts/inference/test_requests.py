"""Requests by the names of this bundle and of MONAI Label."""

from __future__ import annotations

import pytest

from scripts.inference.requests import parse_channels, parse_images, parse_request, stored_channel_order
from scripts.running.files import write_json
from tests.tiny_subjects import MODALITIES


def test_a_channel_order_stored_beside_a_4d_file_is_read(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    write_json(tmp_path / "dataset.json", {"modality": modality})
    image = tmp_path / "imagesTr" / "BRATS_001.nii.gz"
    image.symlink_to(tmp_path.parent / "0a1b")  # in a store of files without names
    (tmp_path / "shown").symlink_to(image)
    for path in (image, tmp_path / "shown"):
        order = stored_channel_order(str(path))
        assert parse_channels(order, "x", MODALITIES) == ["t2f", "t1n", "t1c", "t2w"]


def test_a_dataset_json_of_another_program_stores_no_order(tmp_path):
    for content in ({"channel_names": {"0": "FLAIR"}}, [1, 2]):
        write_json(tmp_path / "dataset.json", content)
        assert stored_channel_order(str(tmp_path / "a.nii.gz")) is None
    write_json(tmp_path / "dataset.json", {"modality": ["FLAIR"]})
    with pytest.raises(ValueError, match="dataset.json: modality must be a mapping from number to name"):
        stored_channel_order(str(tmp_path / "a.nii.gz"))


def test_a_request_of_monai_label_is_understood(patient):
    given = {"image": "case.nii.gz", "label": patient["mask"], "foreground": [[1, 2, 3], [4, 5, 6]], "mask_codes": ""}
    assert parse_request({**given, "channel_order": "t2f, t1n t1c,t2w", "device": "cpu"}, MODALITIES) == {
        "image": "case.nii.gz",
        "label": patient["mask"],
        "mask": patient["mask"],
        "foreground": [[1, 2, 3], [4, 5, 6]],
        "click": [4, 5, 6],
        "channel_order": ["t2f", "t1n", "t1c", "t2w"],
        "device": "cpu",
    }


@pytest.mark.parametrize("label", ["HGG", "nowhere.nii.gz"])
def test_a_label_that_names_a_segment_is_no_mask(label):
    assert "mask" not in parse_request({"label": label, "foreground": []}, MODALITIES)


def test_what_is_said_by_the_names_of_this_bundle_counts_before_those_of_monai_label(patient):
    given = {"mask": "own.nii", "label": patient["mask"], "click": [1, 1, 1], "foreground": [[2, 2, 2]]}
    parsed = parse_request(given, MODALITIES)
    assert (parsed["mask"], parsed["click"]) == ("own.nii", [1, 1, 1])


@pytest.mark.parametrize("foreground", ["here", [1, 2, 3], {"a": 1}], ids=["text", "numbers", "mapping"])
def test_clicks_that_are_no_list_of_points_are_refused(foreground):
    with pytest.raises(ValueError, match="foreground must be a list of points"):
        parse_request({"foreground": foreground}, MODALITIES)


def test_aliases_are_understood_and_put_in_order():
    images = {"FLAIR": "f", "T1ce": "c", "t2": "w", "T1": "n"}
    assert list(parse_images(images, MODALITIES).items()) == [("t1n", "n"), ("t1c", "c"), ("t2w", "w"), ("t2f", "f")]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"t1n": "a", "t1c": "b", "t2w": "c"}, "got none for t2f"),
        ({"t1n": "a", "t1c": "b", "t2w": "c", "t2f": "d", "flair": "e"}, "one file for t2f, got d and e"),
        ({"t1n": "a", "t1c": "b", "t2w": "c", "t2f": "d", "adc": "e"}, r"got 'adc' \(e\)"),
    ],
    ids=["missing", "two", "fifth"],
)
def test_other_sets_of_files_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        parse_images(images, MODALITIES)


@pytest.mark.parametrize("order", [["t1n", "t1c", "t2w"], ["t1n", "t1n", "t2w", "t2f"], ["a", "b", "c", "d"]])
def test_a_channel_order_that_is_no_order_of_the_modalities_is_refused(order):
    with pytest.raises(ValueError, match="channel_order must name each of"):
        parse_channels(order, "all.nii.gz", MODALITIES)


def test_one_file_for_two_modalities_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").touch()
    (tmp_path / "b.nii.gz").symlink_to("a.nii.gz")
    images = {"t1n": str(tmp_path / "a.nii.gz"), "t1c": str(tmp_path / "b.nii.gz"), "t2w": "c", "t2f": "d"}
    with pytest.raises(ValueError, match=r"a file of its own for each modality, got .*b\.nii\.gz for t1n and t1c"):
        parse_images(images, MODALITIES)
