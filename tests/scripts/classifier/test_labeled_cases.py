from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from bundle.flatten import flatten
from bundle.label_app.viewer_mask import write_viewer_mask
from scripts.classifier.labeled_cases import (
    COHORT,
    FoldData,
    LabelStage,
    ServedWeights,
    TrainingImages,
    label_of,
)
from scripts.classifier.networks import FoldEnsemble
from scripts.patches.tensors import LabeledImages
from scripts.provenance.record import hash_subject, read_provenance, record_path, write_provenance
from scripts.provenance.served_weights import kept_weights, replace_weights, weights_id
from scripts.provenance.state_dicts import save_tensors
from scripts.running.configs import Invocation
from scripts.running.files import sha256_file, write_json
from scripts.running.stages import run_invocation
from scripts.volumes.file_names import stem_of
from tests.helpers import ROOT, image_form
from tests.patches import write_tiny_patches
from tests.tiny_subjects import MODALITIES, make_images, make_mask, write_volume

CLASSES = {"LGG": 0, "HGG": 1}
SIZE = [16, 12]
ANSWERS = {**flatten("inference.json"), "patch_size": SIZE, "min_et_ml": 0.01}
IMAGES = ConfigParser(dict(ANSWERS)).get_parsed_content("image_facts")
NOWHERE = FoldData(patches_path="nowhere", splits_path="nowhere", fold=0, classes=CLASSES)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """`inference.json` of tiny patches."""
    path = tmp_path_factory.mktemp("configs") / "inference.json"
    path.write_text(json.dumps(ANSWERS))
    return str(path)


def write_case(folder, name, value, mask=None):
    image = write_volume(folder / f"{name}.nii.gz", np.stack(list(make_images().values()), axis=-1))
    (folder / "dataset.json").write_text(json.dumps({"modality": dict(enumerate(MODALITIES))}))
    mask = make_mask() if mask is None else mask
    return {"image": image, "label": write_volume(folder / "labels" / f"{name}.nii.gz", np.uint8(mask > 0) * value)}


def test_the_class_is_the_value_of_the_mask(tmp_path):
    for value in (1, 2):
        path = write_case(tmp_path, f"case{value}", value)["label"]
        assert label_of(path, 2) == value - 1


@pytest.mark.parametrize(("value", "found"), [(0, r"\[\]"), (3, r"\[3\]")], ids=["empty", "no class"])
def test_a_mask_of_no_class_is_refused(tmp_path, value, found):
    path = write_case(tmp_path, "case", np.uint8(value))["label"]
    with pytest.raises(ValueError, match=f"one value from 1 to 2, class index \\+ 1, .* got {found}"):
        label_of(path, 2)


def test_a_mask_of_two_classes_is_refused(tmp_path):
    path = write_volume(tmp_path / "mask.nii.gz", make_mask() % 3)
    with pytest.raises(ValueError, match=r"got \[1, 2\]"):
        label_of(path, 2)


def test_cases_are_cut_as_answers_are_and_need_no_fold(tmp_path, answers):
    cases = [write_case(tmp_path, "low", 1), write_case(tmp_path, "high", 2)]
    images = TrainingImages(cases, NOWHERE, answers)
    assert (len(images), images.num_real, images.subject_ids) == (2, 2, ["high", "low"])
    assert images.images == IMAGES
    assert (images.labels.tolist(), images.class_counts) == ([0, 1], [1, 1])
    batch = images[[0, 1]]
    assert batch["label"].tolist() == [0, 1]
    preprocessing = ConfigParser(ConfigParser.load_config_file(answers)).get_parsed_content("preprocessing")
    asked = {"subject_id": "low", "image": cases[0]["image"], "mask": cases[0]["label"]}
    expected = preprocessing({**asked, "mask_codes": {"enhancing": 1}})["image"]
    assert torch.equal(batch["image"][0], torch.as_tensor(expected).as_subclass(torch.Tensor))


@pytest.mark.parametrize("click", [[20, 16, 11], [13, 20, 7]])
def test_training_on_the_mask_of_the_viewer_shows_the_patch_that_was_answered(tmp_path, answers, click):
    case = write_case(tmp_path, "case", 2)
    preprocessing = ConfigParser(ConfigParser.load_config_file(answers)).get_parsed_content("preprocessing")
    patch = preprocessing({"subject_id": "case", "image": case["image"], "click": click})["image"]
    affine = np.asarray(patch.affine)
    write_viewer_mask(Path(case["label"]), case["image"], patch.shape[1:], affine, value=2)
    trained = TrainingImages([case], NOWHERE, answers)[[0]]
    assert torch.equal(trained["image"][0], torch.as_tensor(patch).as_subclass(torch.Tensor))


def test_an_empty_validation_part_takes_the_training_part_and_no_cases_at_all_are_refused(tmp_path, answers):
    training = TrainingImages([write_case(tmp_path, "case", 1)], NOWHERE, answers)
    selection = TrainingImages([], NOWHERE, answers, otherwise=training)
    assert (selection.data is training.data, selection.subject_ids) == (True, ["case"])
    with pytest.raises(ValueError, match="must hold a labeled case, got none"):
        TrainingImages([], NOWHERE, answers)


def test_images_of_a_fold_are_handed_on(tmp_path):
    paths = write_tiny_patches(tmp_path, (16, 16))
    fold = FoldData(**{key: paths[key] for key in ("patches_path", "splits_path")}, fold=0, classes=CLASSES)
    data = LabeledImages(fold.training, image_form())
    images = TrainingImages(data, fold, "nowhere")
    assert (len(images), images.num_real, images.cases) == (len(data), len(fold.real), None)
    assert images.class_counts == images.labels.bincount(minlength=2).tolist()
    assert torch.equal(images[[0, 1]]["image"], data[[0, 1]]["image"])
    with pytest.raises(AttributeError):
        _ = fold.nonsense


@pytest.fixture
def served(tmp_path):
    """Weights that are served, with their record."""
    folder = tmp_path / "models"
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(FoldEnsemble("resnet10_thin").state_dict(), folder / "model.pt")
    known = {"cohorts": ["A"], "subjects": ["one"], "simulated": True, "fold": None, "setup": "ddpm", "images": IMAGES}
    write_provenance(folder / "model.pt", **known, selection_subjects=[hash_subject("two")], members=["a", "b"])
    return folder / "model.pt"


def make_stage(tmp_path, served, cases, images=IMAGES):
    training = SimpleNamespace(cases=cases, images=images, subject_ids=[stem_of(case["image"]) for case in cases])
    options = {"seed": len(training.subject_ids[0]), "num_threads": None, "overwrite": False, "inputs": ["nowhere"]}
    return LabelStage(training, training, str(served), "ddpm", output_dir=str(tmp_path / "out"), **options)


def test_a_training_ends_with_its_weights_served_and_a_record_of_all_who_were_seen(tmp_path, served):
    before, first_bytes = read_provenance(served), served.read_bytes()
    stage = make_stage(tmp_path, served, [{"image": "three.nii.gz"}])
    stage.begin()
    save_tensors(tmp_path / "out" / "model.pt", FoldEnsemble("resnet10_thin").state_dict())
    stage.end()
    record = read_provenance(served)  # refuses a record of other weights
    assert served.read_bytes() == (tmp_path / "out" / "model.pt").read_bytes()
    assert record["started_from"] == before["weights_sha256"] != record["weights_sha256"]
    assert set(record["subjects"]) == {hash_subject("one"), hash_subject("three")}
    assert set(record["selection_subjects"]) == {hash_subject("two"), hash_subject("three")}
    assert (record["cohorts"], record["simulated"], record["num_labeled_cases"]) == (["A", COHORT], True, 1)
    assert {key: record[key] for key in ("members", "setup", "images")} == {
        key: before[key] for key in ("members", "setup", "images")
    }
    # And once more, from these.
    again = make_stage(tmp_path, served, [{"image": "four.nii.gz"}])
    again.begin()
    assert not (tmp_path / "out" / "model.pt").exists()
    save_tensors(tmp_path / "out" / "model.pt", FoldEnsemble("resnet10_thin").state_dict())
    again.end()
    assert read_provenance(served)["started_from"] == record["weights_sha256"]
    assert {hash_subject("one"), hash_subject("three")} < set(read_provenance(served)["subjects"])
    # What was served is kept, in the order of the trainings, and can be served again.
    last_bytes, last = served.read_bytes(), weights_id(served)
    kept = kept_weights(served)
    assert list(kept) == [weights["weights_sha256"][:12] for weights in (before, record)]
    replace_weights(served, kept[before["weights_sha256"][:12]])
    assert (served.read_bytes(), read_provenance(served)) == (first_bytes, before)
    assert list(kept_weights(served)) == [record["weights_sha256"][:12], last]
    assert kept_weights(served)[last].read_bytes() == last_bytes
    assert [path.name for path in served.parent.glob("*.pt")] == ["model.pt"]


def test_weights_without_their_record_replace_nothing(tmp_path, served):
    content = served.read_bytes()
    other = tmp_path / "other" / "model.pt"
    save_tensors(other, FoldEnsemble("resnet10_thin").state_dict())
    with pytest.raises(FileNotFoundError, match=r"provenance\.json"):
        replace_weights(served, other)
    write_json(record_path(other), {**read_provenance(served), "weights_sha256": "0" * 64})
    with pytest.raises(ValueError, match=r"must be about model\.pt"):
        replace_weights(served, other)
    assert served.read_bytes() == content
    assert kept_weights(served) == {}


@pytest.fixture
def other(tmp_path, served):
    """Other weights, with their record."""
    path = tmp_path / "other" / "model.pt"
    save_tensors(path, FoldEnsemble("resnet10_thin").state_dict())
    write_json(record_path(path), {**read_provenance(served), "weights_sha256": sha256_file(path)})
    return path


@pytest.mark.parametrize("name", ["model.pt", "provenance.json"])
def test_a_disk_that_is_full_before_both_are_copied_leaves_what_is_served(served, other, monkeypatch, name):
    before, copy = read_provenance(served), shutil.copyfile

    def cut(source, target):
        copy(source, target)
        if Path(source) == other.with_name(name):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", cut)
    with pytest.raises(OSError, match="no space left to write"):
        replace_weights(served, other)
    assert read_provenance(served) == before
    assert sorted(path.name for path in served.parent.iterdir()) == ["kept", "model.pt", "provenance.json"]


def test_a_stop_between_record_and_weights_leaves_a_way_back(served, other, monkeypatch):
    before, content, rename = read_provenance(served), served.read_bytes(), os.replace

    def stop(source, target):
        if target == served:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        replace_weights(served, other)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"must be about model\.pt"):
        read_provenance(served)
    (served.parent / ".partial-1-model.pt").write_bytes(b"a copy that was killed")
    kept = kept_weights(served)
    assert list(kept) == [before["weights_sha256"][:12]]
    replace_weights(served, kept[before["weights_sha256"][:12]])
    assert (read_provenance(served), served.read_bytes()) == (before, content)
    assert kept_weights(served) == {}
    assert sorted(path.name for path in served.parent.iterdir()) == ["kept", "model.pt", "provenance.json"]


def test_weights_beside_a_record_of_others_are_kept_though_they_cannot_be_served(served, other):
    content = b"weights that somebody put there"
    served.write_bytes(content)
    replace_weights(served, other)
    assert read_provenance(served)["weights_sha256"] == sha256_file(other)
    assert kept_weights(served) == {}
    assert [path.read_bytes() for path in served.parent.glob("kept/*/model.pt")] == [content]


@pytest.mark.parametrize("name", ["notes.txt", "model.pt"])
def test_a_file_that_no_training_on_cases_wrote_is_never_deleted(tmp_path, served, name):
    (tmp_path / "out" / "events").mkdir(parents=True)
    (tmp_path / "out" / name).write_text("mine")
    stage = make_stage(tmp_path, served, [{"image": "three.nii.gz"}])
    with pytest.raises(ValueError, match=rf"must hold nothing but its run .* got also {name}; move these files"):
        stage.begin()
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_the_training_of_a_fold_is_not_deleted_for_labeled_cases(tmp_path, served):
    record = {"finished": True, "identity": {"settings": {}}, "outputs": {}}
    write_json(tmp_path / "out" / "stage.json", record)
    with pytest.raises(ValueError, match="must be without the training of a fold .* set another output_dir"):
        make_stage(tmp_path, served, [{"image": "three.nii.gz"}]).begin()
    assert (tmp_path / "out" / "stage.json").is_file()


def test_a_training_of_a_fold_ends_with_its_own_record_and_leaves_what_is_served(tmp_path):
    settings = {"output_dir": str(tmp_path / "out"), "bundle_root": str(tmp_path), "device": "cpu", "num_threads": 1}
    tiny = {"classifier_backbone": "resnet10_thin", "train#trainer#max_epochs": 1, "classifier_batch_size": 4}
    paths = write_tiny_patches(tmp_path / "patches", (32, 32))
    file = str(ROOT / "configs" / "train.json")
    run_invocation(Invocation((file,), {**settings, **tiny, **paths, "patch_size": [32, 32]}))
    record = read_provenance(tmp_path / "out" / "model.pt")
    assert (record["fold"], record["cohorts"]) == (0, ["tiny"])
    assert "num_labeled_cases" not in record
    assert not (tmp_path / "models").exists()


def test_cases_of_other_patches_than_the_served_weights_are_refused(tmp_path, served):
    stage = make_stage(tmp_path, served, [{"image": "three.nii.gz"}], {**IMAGES, "patch_size": [32, 32]})
    with pytest.raises(ValueError, match=r"the labeled cases must have patch_size \[16, 12\]"):
        stage.begin()


@pytest.mark.parametrize(("cases", "expected"), [([{"image": "a.nii"}], True), (None, False)], ids=["cases", "fold"])
def test_labeled_cases_go_on_from_what_is_served_and_folds_do_not(served, cases, expected):
    networks = [FoldEnsemble("resnet10_thin"), FoldEnsemble("resnet10_thin")]
    ServedWeights(networks, SimpleNamespace(cases=cases), str(served))(SimpleNamespace())
    weights = torch.load(served, weights_only=True)
    for network in networks:
        assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items()) is expected
