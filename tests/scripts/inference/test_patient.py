from __future__ import annotations

import os
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from scripts.classifier.networks import FoldEnsemble
from scripts.inference.patient import NOTICE, parse_channels, parse_images, parse_request, stored_channel_order
from scripts.provenance.image_form import describe_images
from scripts.provenance.record import write_provenance
from scripts.running.errors import root_cause
from scripts.running.files import read_json, write_json
from scripts.volumes.mask_marks import model_mark
from tests.helpers import ROOT, config_files, run_stage
from tests.tiny_subjects import AFFINE, MODALITIES, make_images, make_mask, write_subject, write_volume

TINY = {
    "classifier_backbone": "resnet10",
    "num_members": 2,
    "patch_size": [32, 32],
    "min_et_ml": 0.01,
    "device": "cpu",
    "num_threads": 1,
}


IMAGES = {
    "modalities": MODALITIES,
    "classes": {"LGG": 0, "HGG": 1},
    "patch_size": [32, 32],
    "spacing_mm": 1.0,
    "intensity_mode": "percentile",
    "intensity_percentiles": [0.5, 99.5],
    "zscore_limit": 4.0,
}


def make_weights(folder, simulated=True, images=None, **changes):
    torch.manual_seed(0)
    settings = {
        "backbone": "resnet10",
        "num_members": 2,
        "spatial_dims": 2,
        "in_channels": 4,
        "num_classes": 2,
        **changes,
    }
    folder.mkdir(parents=True)
    torch.save(FoldEnsemble(**settings).state_dict(), folder / "model.pt")
    subjects = [f"S{index}" for index in range(7)]
    trained = {"cohorts": ["site_a"], "subjects": subjects, "simulated": simulated, "fold": None, "setup": "ddpm_mi"}
    write_provenance(folder / "model.pt", **trained, images=describe_images(**{**IMAGES, **(images or {})}))
    return str(folder / "model.pt")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return make_weights(tmp_path_factory.mktemp("weights") / "models")


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    return write_subject(tmp_path_factory.mktemp("patient"))


@pytest.fixture(scope="module")
def by_mask(patient, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("answer")
    return folder, ask(folder, weights, images=patient["images"], mask=patient["mask"])


def ask(folder, weights, **request):
    settings = {**TINY, "weights_path": weights, "output_dir": str(folder), **request}
    try:
        run_stage("patches", "inference", **settings)
    except RuntimeError as error:
        raise root_cause(error) from None
    return read_json(Path(folder) / "answer.json")


def test_an_answer_holds_the_grade_the_crop_and_what_the_weights_were_trained_on(by_mask):
    folder, answer = by_mask
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert answer["class"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert (answer["crop"]["source"], answer["crop"]["region"], answer["crop"]["size"]) == (
        "mask",
        "enhancing",
        [32, 32],
    )
    assert answer["weights"] | {"sha256": ""} == {
        "simulated": True,
        "cohorts": ["site_a"],
        "num_subjects": 7,
        "setup": "ddpm_mi",
        "fold": None,
        "num_synthetic_sets": 0,
        "sha256": "",
        "notice": NOTICE,
    }
    assert answer["bundle"]["version"] == read_json(ROOT / "configs" / "metadata.json")["version"]
    assert (folder / "explanation.png").read_bytes().startswith(b"\x89PNG")


def test_the_patch_lies_over_the_original(by_mask, patient):
    folder, answer = by_mask
    patch = nibabel.load(folder / "patch.nii.gz")
    assert patch.shape == (32, 32, 1, 4)
    center_mm = nibabel.affines.apply_affine(patch.affine, [15.5, 15.5, 0])
    assert np.abs(center_mm - answer["crop"]["center_mm"]).max() <= 1.0


def test_the_probabilities_are_those_of_the_network_on_the_patch(by_mask, weights):
    folder, answer = by_mask
    network = FoldEnsemble("resnet10", 2, 2, 4, 2).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    patch = torch.as_tensor(np.asarray(nibabel.load(folder / "patch.nii.gz").dataobj, np.float32))
    with torch.no_grad():
        expected = network(patch[:, :, 0].permute(2, 0, 1)[None]).softmax(1)[0]
    assert list(answer["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-6)


def test_a_click_on_the_center_of_the_mask_gives_the_answer_of_the_mask(by_mask, patient, weights, tmp_path):
    by_click = ask(tmp_path, weights, images=patient["images"], click=by_mask[1]["crop"]["center_voxel"])
    assert by_click["probabilities"] == by_mask[1]["probabilities"]
    assert (by_click["crop"]["source"], by_click["crop"]["region"]) == ("click", "click")
    assert (tmp_path / "patch.nii.gz").read_bytes() == (by_mask[0] / "patch.nii.gz").read_bytes()


def test_one_4d_file_in_another_order_gives_the_answer_of_four_files(by_mask, patient, weights, tmp_path):
    order = ["t2f", "t1n", "t1c", "t2w"]
    images = make_images()
    path = write_volume(tmp_path / "all.nii.gz", np.stack([images[name] for name in order], axis=-1))
    names = ["FLAIR", "T1", "T1Gd", "T2"]
    answer = ask(tmp_path / "out", weights, image=path, channel_order=names, mask=patient["mask"])
    assert answer["probabilities"] == by_mask[1]["probabilities"]


def test_a_4d_file_without_channel_order_is_refused(patient, weights, tmp_path):
    path = write_volume(tmp_path / "a" / "all.nii.gz", np.stack(list(make_images().values()), axis=-1))
    with pytest.raises(ValueError, match="channel_order must be declared"):
        ask(tmp_path / "out", weights, image=path, mask=patient["mask"])


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


def test_a_folder_of_four_files_and_one_of_them_give_the_answer_of_four_files(by_mask, patient, weights, tmp_path):
    folder = Path(patient["images"]["t1n"]).parent
    for name, image in (("folder", folder), ("file", folder / "t2f.nii.gz")):
        answer = ask(tmp_path / name, weights, image=str(image), mask=patient["mask"])
        assert answer["probabilities"] == by_mask[1]["probabilities"]


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


def test_weights_of_patients_are_not_called_simulated(patient, tmp_path):
    path = make_weights(tmp_path / "models", simulated=False)
    answer = ask(tmp_path / "out", path, images=patient["images"], mask=patient["mask"], explanation="occlusion")
    assert answer["weights"]["simulated"] is False
    assert answer["weights"]["notice"] == "For research only. Not a medical device."
    assert answer["explanation"] == "occlusion"


def test_missing_weights_name_the_path_and_the_command_that_makes_them(patient, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"nowhere/model.pt does not exist: make them with `python -m monai.bundle"
    ):
        ask(tmp_path / "out", str(tmp_path / "nowhere" / "model.pt"), images=patient["images"], mask=patient["mask"])
    assert not (tmp_path / "out" / "answer.json").exists()


def test_weights_without_a_record_of_their_training_are_refused(patient, weights, tmp_path):
    (tmp_path / "model.pt").write_bytes(Path(weights).read_bytes())
    with pytest.raises(FileNotFoundError, match="provenance.json does not exist"):
        ask(tmp_path / "out", str(tmp_path / "model.pt"), images=patient["images"], mask=patient["mask"])


def test_a_record_of_other_weights_is_refused(patient, tmp_path):
    path = make_weights(tmp_path / "models")
    torch.save(FoldEnsemble("resnet10", 2, 2, 4, 2).state_dict(), path)
    with pytest.raises(ValueError, match="must be about"):
        ask(tmp_path / "out", path, images=patient["images"], mask=patient["mask"])


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"backbone": "resnet18"}, "another backbone"),
        ({"num_members": 1}, "num_members 1"),
        ({"in_channels": 3}, "in_channels 3"),
    ],
    ids=["backbone", "members", "channels"],
)
def test_weights_of_another_architecture_are_refused(patient, tmp_path, changes, cause):
    path = make_weights(tmp_path / "models", **changes)
    with pytest.raises(ValueError, match=cause):
        ask(tmp_path / "out", path, images=patient["images"], mask=patient["mask"])


@pytest.mark.parametrize(
    ("request_settings", "key", "expected", "got", "setting"),
    [
        ({"modalities": MODALITIES[::-1]}, "modality", MODALITIES, MODALITIES[::-1], "modalities"),
        ({"classes": {"HGG": 0, "LGG": 1}}, "labels", ["LGG", "HGG"], ["HGG", "LGG"], "classes"),
        ({"patch_size": [48, 48]}, "patch_size", [32, 32], [48, 48], "patch_size"),
        ({"patch_spacing_mm": 2.0}, "spacing_mm", 1.0, 2.0, "patch_spacing_mm and crop"),
        ({"crop": "lesion_box"}, "spacing_mm", 1.0, None, "patch_spacing_mm and crop"),
        ({"intensity_mode": "zscore"}, "intensity_mode", "percentile", "zscore", "intensity_mode"),
        (
            {"intensity_percentiles": [1, 99]},
            "intensity_percentiles",
            [0.5, 99.5],
            [1, 99],
            "intensity_percentiles",
        ),
    ],
    ids=["modalities", "classes", "patch_size", "spacing", "crop", "intensity_mode", "percentiles"],
)
def test_weights_of_other_images_are_refused(patient, weights, tmp_path, request_settings, key, expected, got, setting):
    said = f"the patch to grade must have {key} {expected!r}, as {weights} has, got {got!r}; make both with one "
    with pytest.raises(ValueError, match=re.escape(said + setting) + "$"):
        ask(tmp_path / "out", weights, images=patient["images"], mask=patient["mask"], **request_settings)
    assert not (tmp_path / "out" / "answer.json").exists()


def test_the_limit_of_z_scores_is_compared_where_they_are_used_only(patient, tmp_path):
    request = {"images": patient["images"], "mask": patient["mask"], "zscore_limit": 3.0}
    ask(tmp_path / "out", make_weights(tmp_path / "percentiles"), **request)
    path = make_weights(tmp_path / "z_scores", images={"intensity_mode": "zscore"})
    with pytest.raises(ValueError, match=r"zscore_limit 4\.0, as .* got 3\.0"):
        ask(tmp_path / "other", path, intensity_mode="zscore", **request)


def test_weights_whose_record_does_not_tell_the_images_are_refused(patient, tmp_path):
    path = Path(make_weights(tmp_path / "models"))
    record = read_json(path.parent / "provenance.json")
    del record["images"]
    write_json(path.parent / "provenance.json", record)
    with pytest.raises(ValueError, match=r"models/provenance.json must say in `images` .*got None; train again"):
        ask(tmp_path / "out", str(path), images=patient["images"], mask=patient["mask"])


def test_a_corrected_request_may_go_to_the_folder_of_the_failed_one(patient, weights, tmp_path):
    with pytest.raises(ValueError, match="got neither"):
        ask(tmp_path, weights, images=patient["images"])
    assert ask(tmp_path, weights, images=patient["images"], mask=patient["mask"])["crop"]["source"] == "mask"


def test_an_answer_is_not_overwritten_by_another_one(by_mask, patient, weights):
    with pytest.raises(ValueError, match="pass --overwrite True"):
        ask(by_mask[0], weights, images=patient["images"], click=[20, 15, 10])


def test_neither_mask_nor_click_is_refused(patient, weights, tmp_path):
    with pytest.raises(ValueError, match="got neither; give --mask"):
        ask(tmp_path, weights, images=patient["images"])


def test_files_and_a_4d_file_together_are_refused(patient, weights, tmp_path):
    with pytest.raises(ValueError, match="got both"):
        ask(tmp_path, weights, images=patient["images"], image=patient["mask"], mask=patient["mask"])


def test_the_answer_says_that_a_model_made_the_mask(patient, by_mask, weights, tmp_path):
    mask = nibabel.load(patient["mask"])
    mask.header["descrip"] = model_mark("brats_mri_segmentation")
    nibabel.save(mask, tmp_path / "seg.nii.gz")
    answer = ask(tmp_path / "out", weights, images=patient["images"], mask=str(tmp_path / "seg.nii.gz"))
    assert (answer["mask_source"], by_mask[1]["mask_source"]) == ("model", None)
    assert answer["probabilities"] == by_mask[1]["probabilities"]


def test_mask_codes_that_conventions_read_differently_must_be_declared(patient, weights, tmp_path):
    mask = make_mask()
    mask[mask == 4] = 3
    path = write_volume(tmp_path / "seg.nii.gz", mask, AFFINE)
    with pytest.raises(ValueError, match="mask_codes must be declared"):
        ask(tmp_path / "out", weights, images=patient["images"], mask=path)
    answer = ask(tmp_path / "again", weights, images=patient["images"], mask=path, mask_codes="brats_2023")
    assert answer["mask_codes"].startswith("declared as brats_2023")


def test_a_mask_of_fractions_is_refused_and_not_rounded(patient, weights, tmp_path):
    mask = make_mask().astype(np.float32)
    mask[tuple(np.argwhere(mask)[0])] = 0.5
    path = write_volume(tmp_path / "seg.nii.gz", mask, AFFINE)
    with pytest.raises(ValueError, match=r"seg.nii.gz must hold whole codes of at least 0, got 0\.5"):
        ask(tmp_path / "out", weights, images=patient["images"], mask=path)


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


@pytest.mark.parametrize("images", [["a", "b", "c", "d"], "a.nii.gz"])
def test_files_without_the_names_of_their_modalities_are_refused_with_the_key(tmp_path, weights, images):
    with pytest.raises(TypeError, match="images must be a mapping from modality to file, got .*; write it as --images"):
        ask(tmp_path / "out", weights, images=images, click=[20, 15, 10])
    with pytest.raises(TypeError, match="images must be a mapping"):
        parse_images(images, MODALITIES)


@pytest.mark.parametrize("order", [["t1n", "t1c", "t2w"], ["t1n", "t1n", "t2w", "t2f"], ["a", "b", "c", "d"]])
def test_a_channel_order_that_is_no_order_of_the_modalities_is_refused(order):
    with pytest.raises(ValueError, match="channel_order must name each of"):
        parse_channels(order, "all.nii.gz", MODALITIES)


def test_a_class_of_three_and_a_volume_of_one_channel_are_graded_too(tmp_path):
    """Nothing in the answer fixes four modalities, two classes or two dimensions."""
    images = {"modalities": ["t1n"], "classes": {"a": 0, "b": 1, "c": 2}, "patch_size": [16, 16, 12]}
    path = make_weights(tmp_path / "models", images=images, in_channels=1, num_classes=3, spatial_dims=3, num_members=1)
    image = write_volume(tmp_path / "t1n.nii.gz", make_images()["t1n"])
    answer = ask(
        tmp_path / "out",
        path,
        modalities=["t1n"],
        classes={"a": 0, "b": 1, "c": 2},
        spatial_dims=3,
        patch_size=[16, 16, 12],
        num_members=1,
        images={"t1n": image},
        click=[20, 15, 10],
        explanation="occlusion",
    )
    assert list(answer["probabilities"]) == ["a", "b", "c"]
    assert nibabel.load(tmp_path / "out" / "patch.nii.gz").shape[:3] == (16, 16, 12)


def test_a_vision_transformer_says_that_occlusion_explains_it(patient, tmp_path):
    path = make_weights(tmp_path / "models", backbone="vit_tiny", image_size=(32, 32), num_members=1)
    request = {"images": patient["images"], "mask": patient["mask"], "classifier_backbone": "vit_tiny"}
    with pytest.raises(ValueError, match="got 'gradcam'.*set explanation .of configs/inference.yaml. to occlusion"):
        ask(tmp_path / "out", path, **request, num_members=1)
    assert not (tmp_path / "out" / "answer.json").exists()


def test_inference_has_the_ids_that_other_tools_look_up():
    config = ConfigParser.load_config_files(config_files("patches", "inference"))
    ids = {"bundle_root", "device", "dataset_dir", "dataset", "evaluator", "network_def", "inferer", "output_dir"}
    assert ids | {"preprocessing", "postprocessing", "handlers"} <= set(config)


REAL = Path(os.environ.get("BRATS_REAL_DATA_DIR", "nowhere"))


@pytest.mark.skipif(not REAL.is_dir(), reason="BRATS_REAL_DATA_DIR does not name the folder of real cases")
def test_on_a_real_case_mask_and_click_agree(weights, tmp_path):
    case = REAL / "TCGA-FG-6692"
    kinds = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}
    images = {name: str(case / f"{case.name}_{kind}.nii.gz") for name, kind in kinds.items()}
    mask = str(case / f"{case.name}_autoseg.nii.gz")
    one = ask(tmp_path / "mask", weights, images=images, mask=mask)
    other = ask(tmp_path / "click", weights, images=images, click=one["crop"]["center_voxel"])
    assert one["probabilities"] == other["probabilities"]
    assert (tmp_path / "mask" / "patch.nii.gz").read_bytes() == (tmp_path / "click" / "patch.nii.gz").read_bytes()
