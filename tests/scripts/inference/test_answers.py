"""Answers about a patient."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from scripts.classifier.networks import FoldEnsemble
from scripts.inference.requests import parse_images
from scripts.inference.weights import NOTICE
from scripts.running.files import read_json
from scripts.volumes.mask_marks import model_mark
from tests.helpers import ROOT, config_files
from tests.inference_requests import ask, make_weights
from tests.tiny_subjects import MODALITIES, make_images, write_volume

REAL = Path(os.environ.get("BRATS_REAL_DATA_DIR", "nowhere"))


@pytest.fixture(scope="module")
def by_mask(patient, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("answer")
    return folder, ask(folder, weights, images=patient["images"], mask=patient["mask"])


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
    for name in ("explanation.png", "place.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_patch_lies_over_the_original(by_mask, patient):
    folder, answer = by_mask
    patch = nibabel.load(folder / "patch.nii.gz")
    assert patch.shape == (32, 32, 1, 4)
    center_mm = nibabel.affines.apply_affine(patch.affine, [15.5, 15.5, 0])
    assert np.abs(center_mm - answer["crop"]["center_mm"]).max() <= 1.0


def test_the_probabilities_are_those_of_the_network_on_the_patch(by_mask, weights):
    folder, answer = by_mask
    network = FoldEnsemble("resnet10_thin", 2, 2, 4, 2).eval()
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


def test_a_folder_of_four_files_and_one_of_them_give_the_answer_of_four_files(by_mask, patient, weights, tmp_path):
    folder = Path(patient["images"]["t1n"]).parent
    for name, image in (("folder", folder), ("file", folder / "t2f.nii.gz")):
        answer = ask(tmp_path / name, weights, image=str(image), mask=patient["mask"])
        assert answer["probabilities"] == by_mask[1]["probabilities"]


def test_weights_of_patients_are_not_called_simulated(patient, tmp_path):
    path = make_weights(tmp_path / "models", simulated=False)
    answer = ask(tmp_path / "out", path, images=patient["images"], mask=patient["mask"], explanation="occlusion")
    assert answer["weights"]["simulated"] is False
    assert answer["weights"]["notice"] == "For research only. Not a medical device."
    assert answer["explanation"] == "occlusion"


def test_a_corrected_request_may_go_to_the_folder_of_the_failed_one(patient, weights, tmp_path):
    with pytest.raises(ValueError, match="got neither"):
        ask(tmp_path, weights, images=patient["images"])
    assert ask(tmp_path, weights, images=patient["images"], mask=patient["mask"])["crop"]["source"] == "mask"


def test_an_answer_is_not_overwritten_by_another_one(by_mask, patient, weights):
    with pytest.raises(ValueError, match="pass --overwrite True"):
        ask(by_mask[0], weights, images=patient["images"], click=[20, 15, 10])


def test_the_answer_says_that_a_model_made_the_mask(patient, by_mask, weights, tmp_path):
    mask = nibabel.load(patient["mask"])
    mask.header["descrip"] = model_mark("brats_mri_segmentation")
    nibabel.save(mask, tmp_path / "seg.nii.gz")
    answer = ask(tmp_path / "out", weights, images=patient["images"], mask=str(tmp_path / "seg.nii.gz"))
    assert (answer["mask_source"], by_mask[1]["mask_source"]) == ("model", None)
    assert answer["probabilities"] == by_mask[1]["probabilities"]


@pytest.mark.parametrize("images", [["a", "b", "c", "d"], "a.nii.gz"])
def test_files_without_the_names_of_their_modalities_are_refused_with_the_key(tmp_path, weights, images):
    with pytest.raises(TypeError, match="images must be a mapping from modality to file, got .*; write it as --images"):
        ask(tmp_path / "out", weights, images=images, click=[20, 15, 10])
    with pytest.raises(TypeError, match="images must be a mapping"):
        parse_images(images, MODALITIES)


def test_a_class_of_three_and_a_volume_of_one_channel_are_graded_too(tmp_path):
    """Nothing in the answer fixes four modalities, two classes or two dimensions."""
    grid = {"spatial_dims": 3, "patch_size": [16, 16, 12]}
    images = {"modalities": ["t1n"], "classes": {"a": 0, "b": 1, "c": 2}, **grid}
    path = make_weights(tmp_path / "models", images=images, in_channels=1, num_classes=3, spatial_dims=3, num_members=1)
    image = write_volume(tmp_path / "t1n.nii.gz", make_images()["t1n"])
    answer = ask(
        tmp_path / "out",
        path,
        modalities=["t1n"],
        classes={"a": 0, "b": 1, "c": 2},
        **grid,
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
    assert not (tmp_path / "out").exists()


def test_inference_has_the_ids_that_other_tools_look_up():
    config = ConfigParser.load_config_files(config_files("patches", "inference"))
    ids = {"bundle_root", "device", "dataset_dir", "dataset", "evaluator", "network_def", "inferer", "output_dir"}
    assert ids | {"preprocessing", "postprocessing", "handlers"} <= set(config)


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


def test_probabilities_that_are_not_finite_are_no_answer(patient, weights, tmp_path, monkeypatch):
    def overflow(network, batch):
        return torch.full((len(batch), 2), float("nan"))

    monkeypatch.setattr(FoldEnsemble, "forward", overflow)
    with pytest.raises(
        ValueError, match=r"model\.pt must give finite probabilities, got \[nan, nan\] for patient; train"
    ):
        ask(tmp_path, weights, images=patient["images"], mask=patient["mask"])
    assert not (tmp_path / "answer.json").exists()
    assert not (tmp_path / "explanation.png").exists()
