"""The explanation stage on an evaluation of tiny classifiers, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib import image as matplotlib_image

from scripts.classifier.networks import FoldEnsemble
from scripts.explanations.attributions import NO_SHARES, Attributor
from scripts.explanations.cases import KINDS
from scripts.explanations.stage import Explanations
from scripts.inference.weights import load_classifier
from scripts.patches.tensors import load_patch
from scripts.running.files import read_csv, read_json, write_csv, write_json
from scripts.running.stages import AlreadyFinished
from tests.helpers import run_stage
from tests.ring_or_blob import messages, write_patches, write_splits
from tests.scripts.evaluation.test_stage import TINY, write_member

SETTINGS = {
    **TINY,
    "num_folds": 2,
    "patch_size": [32, 32],
    "lime_num_superpixels": 6,
    "lime_num_samples": 30,
    "explain_num_randomized": 1,
    "occlusion_size": 16,
}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Return what the stage needs, of an evaluation of two untrained classifiers."""
    folder = tmp_path_factory.mktemp("evaluated")
    splits = write_splits(folder / "a")
    paths = [write_patches(folder / "a"), write_patches(folder / "b", "phantom_B", counts=(3, 4), seed=5)]
    members = [write_member(folder / f"member{fold}", splits, fold) for fold in range(2)]
    evaluation = {"patches_path": paths[0], "splits_path": splits, "external_patches_paths": paths[1:]}
    run_stage("evaluate", **TINY, **evaluation, member_paths=members, output_dir=str(folder / "evaluation"))
    return {
        "weights_path": str(folder / "evaluation" / "model.pt"),
        "predictions_path": str(folder / "evaluation" / "predictions.csv"),
        "explain_patches_paths": paths,
    }


@pytest.fixture(scope="module")
def explained(evaluated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained")
    run_stage("explain", **SETTINGS, **evaluated, output_dir=str(folder))
    return folder


def test_every_case_has_its_maps_shares_sanity_check_and_picture(explained):
    content = read_json(explained / "explanations.json")
    assert (content["direction"], content["setup"], content["role"]) == ("phantom_A", "real", "external")
    assert content["no_shares"] == {"gradcam": NO_SHARES}
    assert {case["kind"] for case in content["cases"]} | set(content["kinds_without_case"]) == set(KINDS)
    for case in content["cases"]:
        assert list(case["methods"]) == ["lime", "occlusion", "gradcam"]
        for method in ("lime", "occlusion"):
            assert list(case["methods"][method]["shares"]) == ["t1c", "t2f"]
            assert sum(case["methods"][method]["shares"].values()) == pytest.approx(1)
        assert case["methods"]["gradcam"]["shares"] is None
        assert case["methods"]["lime"]["fit"] <= 1
        assert case["methods"]["occlusion"]["fit"] is None
        assert matplotlib_image.imread(explained / case["picture"]).ndim == 3
    for method in ("lime", "occlusion"):
        assert content["sanity"][method]["num_compared"] == len(content["cases"])
        assert "random" in content["sanity"][method]["sentence"]


def test_cases_are_those_of_the_predictions(evaluated, explained):
    rows = {row["subject_id"]: row for row in read_csv(evaluated["predictions_path"]) if row["role"] == "external"}
    for case in read_json(explained / "explanations.json")["cases"]:
        row = rows[case["subject_id"]]
        assert case["label"] == ["LGG", "HGG"][int(row["label"])]
        assert case["probabilities"]["HGG"] == float(row["probability_HGG"])
        assert (case["kind"] == "wrong") == (case["label"] != case["answer"]) or case["kind"] == "least_sure"


def test_the_same_command_again_has_nothing_to_do(evaluated, explained):
    with pytest.raises(AlreadyFinished):
        run_stage("explain", **SETTINGS, **evaluated, output_dir=str(explained))


def test_a_stopped_stage_continues_to_the_same_bytes(evaluated, explained, tmp_path, monkeypatch):
    whole, calls = Explanations.explain_case, []

    def stop_at_second(self, case):
        calls.append(case.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, case)

    monkeypatch.setattr(Explanations, "explain_case", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        run_stage("explain", **SETTINGS, **evaluated, output_dir=str(tmp_path))
    run_stage("explain", **SETTINGS, **evaluated, output_dir=str(tmp_path))
    assert calls.count(calls[0]) == 1
    for path in sorted(explained.glob("*.png")) + [explained / "explanations.json"]:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert not (tmp_path / "checkpoints").exists()


def test_an_out_of_fold_answer_is_explained_by_the_network_of_its_fold(evaluated, tmp_path):
    only = {"explain_roles": ["out_of_fold"], "explain_methods": ["occlusion"]}
    run_stage("explain", **SETTINGS, **evaluated, **only, output_dir=str(tmp_path))
    content = read_json(tmp_path / "explanations.json")
    assert content["role"] == "out_of_fold"
    assert all(case["fold"] in (0, 1) and case["cohort"] == "phantom_A" for case in content["cases"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability_LGG": "0.1", "probability_HGG": "0.9"}, "must give the stored prediction"),
        ({"probability_LGG": "0.2", "probability_HGG": "0.8"}, "with ensemble mean_probability and temperature_scal"),
        ({"subject_id": "nobody"}, "must hold subject nobody"),
        ({"cohort": "phantom_C"}, "must hold the patches of cohort 'phantom_C'"),
        ({"fold": "7"}, "must be below 2"),
        ({"setup": "ddpm"}, "weights_path must be of setup 'ddpm'"),
        ({"role": "guess"}, "explain_roles must name a role"),
    ],
)
def test_predictions_of_something_else_are_refused(evaluated, tmp_path, change, message):
    rows = [{**row, **change} for row in read_csv(evaluated["predictions_path"]) if row["role"] == "external"]
    write_csv(tmp_path / "predictions.csv", rows, list(rows[0]))
    given = {**evaluated, "predictions_path": str(tmp_path / "predictions.csv")}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        run_stage("explain", **SETTINGS, **given, output_dir=str(tmp_path / "out"))
    assert message in messages(caught.value)
    assert not (tmp_path / "out" / "explanations.json").exists()


def test_patches_made_otherwise_than_those_behind_the_weights_are_refused(evaluated, tmp_path):
    own, other = evaluated["explain_patches_paths"]
    content = read_json(other)
    images = [{**entry, "image": str(Path(other).parent / entry["image"])} for entry in content["training"]]
    write_json(tmp_path / "patches.json", {**content, "training": images, "intensity_mode": "another"})
    given = {**evaluated, "explain_patches_paths": [own, str(tmp_path / "patches.json")]}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        run_stage("explain", **SETTINGS, **given, output_dir=str(tmp_path / "out"))
    assert "must have intensity_mode" in messages(caught.value)


def test_of_several_patches_the_one_nearest_to_the_mean_answer_is_explained(evaluated, tmp_path):
    network = load_classifier(FoldEnsemble("resnet10_thin", 2, in_channels=2), evaluated["weights_path"])
    content = read_json(evaluated["explain_patches_paths"][1])
    folder = Path(evaluated["explain_patches_paths"][1]).parent
    first, second = (str(folder / entry["image"]) for entry in content["training"][:2])
    one = {**content["training"][0], "subject_id": "three_patches"}
    entries = [{**one, "image": first}, {**one, "image": second}, {**one, "image": second}]
    write_json(tmp_path / "patches.json", {**content, "training": entries})

    images = torch.stack([load_patch(path, 2) for path in (first, second, second)])
    mean = network(images).softmax(dim=1).mean(dim=0).tolist()
    row = {**read_csv(evaluated["predictions_path"])[0], "role": "external", "cohort": "phantom_B", "fold": "-1"}
    row |= {"subject_id": "three_patches", "probability_LGG": mean[0], "probability_HGG": mean[1]}
    write_csv(tmp_path / "predictions.csv", [row], list(row))
    given = {"explain_patches_paths": [str(tmp_path / "patches.json")], "explain_methods": ["occlusion"]}
    given |= {"predictions_path": str(tmp_path / "predictions.csv"), "weights_path": evaluated["weights_path"]}
    explained = {}

    def keep(self, network, image, label):
        explained.setdefault("image", image)
        return whole(self, network, image, label)

    whole = Attributor.__call__
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Attributor, "__call__", keep)
        run_stage("explain", **SETTINGS, **given, output_dir=str(tmp_path / "out"))
    assert torch.equal(explained["image"], images[1])
    assert not torch.equal(images[0], images[1])
