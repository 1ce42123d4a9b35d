"""Weights that are refused before they answer."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

from scripts.classifier.networks import FoldEnsemble
from scripts.running import files
from scripts.running.files import read_json, write_json
from tests.inference_requests import ask, make_weights
from tests.tiny_subjects import MODALITIES


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
    torch.save(FoldEnsemble("resnet10_thin", 2, 2, 4, 2).state_dict(), path)
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
        ({"bias_correction": True}, "CorrectBiasFieldd.shrink_factor", None, 4, "preprocessing (configs/patches.yaml)"),
        (
            {"region_chain": ["whole"]},
            "ChooseRegiond.chain",
            ["enhancing", "core", "whole"],
            ["whole"],
            "preprocessing (configs/patches.yaml)",
        ),
    ],
    ids=[
        "modalities",
        "classes",
        "patch_size",
        "spacing",
        "crop",
        "intensity_mode",
        "percentiles",
        "bias correction",
        "region",
    ],
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


def test_weights_are_hashed_once_for_a_patient(patient, weights, tmp_path, monkeypatch):
    """Five ResNet-152 are 1.2 GB, which the stage, the guard of provenance and the answer each asked for."""
    os.utime(weights, (1, 1))
    digest, hashed = files._digest, []
    monkeypatch.setattr(files, "_digest", lambda path: hashed.append(path.name) or digest(path))
    ask(tmp_path, weights, images=patient["images"], mask=patient["mask"])
    assert hashed.count("model.pt") == 1


def test_weights_of_all_slices_answer_for_the_largest_and_an_answer_is_about_one_slice(patient, tmp_path):
    path = make_weights(tmp_path / "models", images={"slice": "all"})
    request = {"images": patient["images"], "mask": patient["mask"]}
    assert ask(tmp_path / "out", path, **request)["crop"]["slice"] > 0
    with pytest.raises(ValueError, match="slice must be largest or centroid for one patient, got all"):
        ask(tmp_path / "all", path, **request, slice="all")
