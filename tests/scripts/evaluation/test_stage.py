"""The evaluation stage on tiny classifiers, in this process."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from scripts.classifier.networks import FoldEnsemble
from scripts.classifier.training_distance import MemberDistance, read_training_distance
from scripts.evaluation.predictor import Predictor
from scripts.patches.tensors import load_patch
from scripts.provenance.image_form import image_facts
from scripts.provenance.record import hash_subject, read_provenance, write_provenance
from scripts.running.files import read_csv, read_json, sha256_file, write_json
from tests.helpers import image_form, run_stage
from tests.ring_or_blob import image_header, messages, write_patches, write_splits

TINY = {"classifier_backbone": "resnet10_thin", "modalities": ["t1c", "t2f"], "num_threads": 1, "device": "cpu"}


def write_member(folder: Path, splits_path: str, number: int, **values: Any) -> str:
    """Write an untrained classifier with the record of one that was trained on a fold."""
    torch.manual_seed(number)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(FoldEnsemble("resnet10_thin", in_channels=2).state_dict(), folder / "model.pt")
    parts = read_json(splits_path)["folds"][number]
    record = {
        "cohorts": ["phantom_A"],
        "subjects": parts["train"],
        "simulated": True,
        "fold": number,
        "setup": "real",
        "images": image_facts(image_header(), "patches.json"),
        "selection_subjects": sorted(hash_subject(subject) for subject in parts["inner"]),
        "num_real_images": {"LGG": len(parts["train"]) // 2, "HGG": len(parts["train"]) - len(parts["train"]) // 2},
    }
    write_provenance(folder / "model.pt", **{**record, **values})
    return str(folder / "model.pt")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")
    splits = write_splits(folder / "a")
    other = write_patches(folder / "b", "phantom_B", counts=(3, 4), seed=5)
    content = read_json(other)
    content["training"][0]["label"] = None
    write_json(other, content)
    return {
        "patches_path": write_patches(folder / "a"),
        "splits_path": splits,
        "external_patches_paths": [other],
        "member_paths": [write_member(folder / f"member{fold}", splits, fold) for fold in range(2)],
    }


def test_weights_that_are_not_finite_are_refused_before_any_prediction(data: dict[str, Any], tmp_path: Path) -> None:
    members = [write_member(tmp_path / f"member{fold}", data["splits_path"], fold) for fold in range(2)]
    state = torch.load(members[1], weights_only=True)
    state["members.0.fc.bias"][0] = torch.nan
    torch.save(state, members[1])
    record = Path(members[1]).with_name("provenance.json")
    write_json(record, {**read_json(record), "weights_sha256": sha256_file(members[1])})
    with pytest.raises(RuntimeError) as caught:
        evaluate({**data, "member_paths": members}, tmp_path / "out")
    expected = r"member1.model\.pt must hold finite weights, got NaN or infinity in members\.0\.fc\.bias"
    assert re.search(expected, messages(caught.value))
    assert not (tmp_path / "out" / "predictions.csv").exists()


def evaluate(data: dict[str, Any], output_dir: Path, **overrides: Any) -> list[dict[str, str]]:
    run_stage("evaluate", **{**TINY, **data, "output_dir": str(output_dir), **overrides})
    return read_csv(output_dir / "predictions.csv")


@pytest.fixture(scope="module")
def evaluated(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate(data, folder)
    return folder


def test_every_subject_has_one_row_in_each_role_it_may_have(data: dict[str, Any], evaluated: Path) -> None:
    rows, splits = read_csv(evaluated / "predictions.csv"), read_json(data["splits_path"])
    by_role = {role: [row for row in rows if row["role"] == role] for role in {row["role"] for row in rows}}

    assert set(by_role) == {"out_of_fold", "locked_test", "external"}
    for fold, parts in enumerate(splits["folds"]):
        found = [row["subject_id"] for row in by_role["out_of_fold"] if row["fold"] == str(fold)]
        assert sorted(found) == parts["validation"]
    assert [row["subject_id"] for row in by_role["locked_test"]] == splits["test"]
    assert len(by_role["external"]) == 6
    assert {row["fold"] for row in by_role["external"]} == {"-1"}
    assert {row["direction"] for row in rows} == {"phantom_A"}
    assert read_json(evaluated / "metrics.json")["left_out"] == {"phantom_B": ["phantom_B_0_000"]}


def test_the_inner_part_of_each_fold_is_answered_by_its_own_network(data: dict[str, Any], evaluated: Path) -> None:
    rows = read_csv(evaluated / "inner_predictions.csv")
    assert list(rows[0]) == list(read_csv(evaluated / "predictions.csv")[0])
    assert {row["role"] for row in rows} == {"inner"}
    for fold, parts in enumerate(read_json(data["splits_path"])["folds"]):
        assert sorted(row["subject_id"] for row in rows if row["fold"] == str(fold)) == sorted(parts["inner"])


def test_the_ensemble_answers_as_fold_ensemble_does(data: dict[str, Any], evaluated: Path) -> None:
    network = FoldEnsemble("resnet10_thin", num_members=2, in_channels=2).eval()
    network.load_state_dict(torch.load(evaluated / "model.pt", weights_only=True))
    items = [entry for entry in read_json(data["external_patches_paths"][0])["training"] if entry["label"] is not None]
    folder = Path(data["external_patches_paths"][0]).parent
    items = [{**item, "image": str(folder / item["image"])} for item in items]

    expected = Predictor(image_form(2))(network.members, items)
    from scripts.patches.tensors import LabeledImages

    with torch.no_grad():
        logits = network(LabeledImages(items, image_form(2)).images)
    assert np.allclose(torch.softmax(logits, dim=1).numpy(), expected, atol=1e-6)

    rows = [row for row in read_csv(evaluated / "predictions.csv") if row["role"] == "external"]
    assert np.allclose([float(row["logit_HGG"]) for row in rows], logits[:, 1].numpy(), atol=1e-5)


def test_predictions_are_equal_byte_for_byte_when_repeated(
    data: dict[str, Any], evaluated: Path, tmp_path: Path
) -> None:
    evaluate(data, tmp_path)
    for name in ("predictions.csv", "metrics.json", "provenance.json", "training_distance.json"):
        assert (tmp_path / name).read_bytes() == (evaluated / name).read_bytes()


def test_metrics_equal_those_of_scikit_learn(evaluated: Path) -> None:
    rows = [row for row in read_csv(evaluated / "predictions.csv") if row["role"] == "out_of_fold"]
    metrics = next(item for item in read_json(evaluated / "metrics.json")["roles"] if item["role"] == "out_of_fold")
    labels = [int(row["label"]) for row in rows]
    scores = np.array([float(row["probability_HGG"]) for row in rows])

    assert metrics["n"] == 20
    assert metrics["n_by_class"] == {"LGG": 10, "HGG": 10}
    assert metrics["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(labels, scores > 0.5))
    assert metrics["weighted_f1"]["value"] == pytest.approx(f1_score(labels, scores > 0.5, average="weighted"))
    # Both folds hold five of each class, so that their pairs weigh alike.
    by_fold = [[index for index, row in enumerate(rows) if row["fold"] == fold] for fold in ("0", "1")]
    areas = [roc_auc_score([labels[index] for index in own], scores[own]) for own in by_fold]
    assert metrics["auc"]["value"] == pytest.approx(np.mean(areas))


def test_the_record_of_the_ensemble_holds_the_subjects_of_all_members(data: dict[str, Any], evaluated: Path) -> None:
    record = read_provenance(evaluated / "model.pt")
    folds = read_json(data["splits_path"])["folds"]
    assert record["subjects"] == sorted({hash_subject(name) for fold in folds for name in fold["train"]})
    assert record["fold"] is None
    assert record["setup"] == "real"
    assert len(record["members"]) == 2
    assert record["images"] == image_facts(image_header(), "patches.json")


def test_distances_are_of_the_images_that_each_member_was_trained_on_and_was_not(
    data: dict[str, Any], evaluated: Path
) -> None:
    distance, splits = read_training_distance(evaluated / "training_distance.json"), read_json(data["splits_path"])
    assert distance.weights_sha256 == sha256_file(evaluated / "model.pt")
    for fold, parts in enumerate(splits["folds"]):
        member = FoldEnsemble("resnet10_thin", in_channels=2).eval()
        member.load_state_dict(torch.load(data["member_paths"][fold], weights_only=True))
        member.members[0].fc = torch.nn.Identity()
        seen, unseen = (_features(member, data["patches_path"], parts[part]) for part in ("train", "validation"))
        expected = MemberDistance.fit(seen, unseen).held_out
        torch.testing.assert_close(distance.members[fold].held_out, expected, rtol=0, atol=0.006)


def _features(network: FoldEnsemble, patches_path: str, subjects: list[str]) -> list[torch.Tensor]:
    folder = Path(patches_path).parent
    images = torch.stack([load_patch(str(folder / f"{subject}.nii.gz"), 2) for subject in subjects])
    with torch.no_grad():
        first = network.members[0].conv1(images).flatten(2)
        return [torch.cat([first.mean(2), first.std(2, correction=0)], dim=1), network(images)]


def test_members_of_other_images_leave_the_distances_out(data: dict[str, Any], tmp_path: Path) -> None:
    of_others = {"num_real_images": {"LGG": 0, "HGG": 0}}
    other = write_member(tmp_path / "other", data["splits_path"], 1, **of_others)
    evaluate({**data, "member_paths": [data["member_paths"][0], other]}, tmp_path / "out")
    assert (tmp_path / "out" / "model.pt").is_file()
    assert not (tmp_path / "out" / "training_distance.json").exists()


@pytest.mark.parametrize("part", ["validation", "test", "external"])
def test_a_member_that_knows_a_tested_subject_stops_the_run(data: dict[str, Any], tmp_path: Path, part: str) -> None:
    splits = read_json(data["splits_path"])
    known = {
        "validation": splits["folds"][1]["validation"][0],
        "test": splits["test"][0],
        "external": "phantom_B_1_000",
    }
    leak = write_member(tmp_path / "leak", data["splits_path"], 1, subjects=[known[part]])
    with pytest.raises(RuntimeError) as caught:
        evaluate({**data, "member_paths": [data["member_paths"][0], leak]}, tmp_path / "out")
    assert re.search(f"leak.*{known[part]}", messages(caught.value))
    assert not (tmp_path / "out" / "predictions.csv").exists()


@pytest.mark.parametrize("where", ["own", "external"])
def test_an_image_under_two_ids_stops_the_run(data: dict[str, Any], tmp_path: Path, where: str) -> None:
    folder = shutil.copytree(Path(data["patches_path"]).parent, tmp_path / "own")
    other = shutil.copytree(Path(data["external_patches_paths"][0]).parent, tmp_path / "external")
    first = read_json(data["splits_path"])["test"][0]
    copy = folder / "phantom_A_1_005.nii.gz" if where == "own" else other / "phantom_B_1_001.nii.gz"
    shutil.copyfile(folder / f"{first}.nii.gz", copy)
    moved = {"patches_path": str(folder / "patches.json"), "external_patches_paths": [str(other / "patches.json")]}
    with pytest.raises(RuntimeError) as caught:
        evaluate({**data, **moved}, tmp_path / "out")
    said = messages(caught.value)
    assert first in said
    assert copy.name.removesuffix(".nii.gz") in said
    assert not (tmp_path / "out" / "predictions.csv").exists()


def test_a_member_selected_on_validation_needs_splits_that_say_so(data: dict[str, Any], tmp_path: Path) -> None:
    validation = read_json(data["splits_path"])["folds"][0]["validation"]
    selected = {"selection_subjects": [hash_subject(validation[0])]}
    members = [write_member(tmp_path / "member", data["splits_path"], 0, **selected)]
    with pytest.raises(RuntimeError) as caught:
        evaluate({**data, "member_paths": members}, tmp_path / "inner")
    assert validation[0] in messages(caught.value)

    paper = write_splits(tmp_path, selection="validation")
    rows = evaluate({**data, "member_paths": members, "splits_path": paper}, tmp_path / "paper")
    assert {row["role"] for row in rows} == {"validation_selected_on", "locked_test", "external"}


@pytest.mark.parametrize(
    ("values", "message"),
    [({"setup": "ddpm"}, "setup 'real'"), ({"cohorts": ["other"]}, "cohort 'phantom_A'"), ({"fold": 0}, "folds")],
)
def test_members_of_something_else_are_refused(
    data: dict[str, Any], tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    other = write_member(tmp_path / "other", data["splits_path"], 1, **values)
    with pytest.raises(RuntimeError) as caught:
        evaluate({**data, "member_paths": [data["member_paths"][0], other]}, tmp_path / "out")
    assert message in messages(caught.value)


OTHERWISE = [
    ("modality", ["t2f", "t1c"], ["t1c", "t2f"], "modalities"),
    ("labels", ["HGG", "LGG"], ["LGG", "HGG"], "classes"),
    ("patch_size", [16, 64], [32, 32], "patch_size"),
    ("spacing_mm", 2.0, 1.0, "patch_spacing_mm"),
    ("intensity_mode", "zscore", "percentile", "intensity_mode"),
    ("intensity_percentiles", [1, 99], [0.5, 99.5], "intensity_percentiles"),
]


@pytest.mark.parametrize(("key", "value", "expected", "setting"), OTHERWISE, ids=[row[0] for row in OTHERWISE])
@pytest.mark.parametrize("which", ["member", "external"])
def test_members_and_external_patches_of_other_images_are_refused(
    data: dict[str, Any], tmp_path: Path, which: str, key: str, value: Any, expected: Any, setting: str
) -> None:
    if which == "member":
        images = {**image_facts(image_header(), "patches.json"), key: value}
        path = write_member(tmp_path / "other", data["splits_path"], 1, images=images)
        given = {"member_paths": [data["member_paths"][0], path]}
    else:
        path = str(tmp_path / "patches.json")
        named = dict(enumerate(value)) if key in ("modality", "labels") else value
        write_json(path, {**read_json(data["external_patches_paths"][0]), key: named})
        given = {"external_patches_paths": [path]}
    with pytest.raises(RuntimeError) as caught:
        evaluate({**data, **given}, tmp_path / "out")
    said = f"{path} must have {key} {expected!r}, as {data['patches_path']} has, got {value!r}; make both with one"
    assert f"{said} {setting}" in messages(caught.value)
    assert not (tmp_path / "out" / "predictions.csv").exists()


def test_weights_and_patches_that_do_not_tell_their_images_are_refused(data: dict[str, Any], tmp_path: Path) -> None:
    old = write_member(tmp_path / "old", data["splits_path"], 1, images=None)
    with pytest.raises(RuntimeError) as caught:
        evaluate({**data, "member_paths": [old]}, tmp_path / "out")
    assert re.search(r"old/provenance.json must say in `images` .* got None; train again", messages(caught.value))
    content = read_json(data["external_patches_paths"][0])
    write_json(tmp_path / "patches.json", {k: v for k, v in content.items() if k != "intensity_mode"})
    with pytest.raises(RuntimeError) as caught:
        evaluate({**data, "external_patches_paths": [str(tmp_path / "patches.json")]}, tmp_path / "other")
    assert re.search(r"patches.json must say .* got no intensity_mode; make it again", messages(caught.value))


def test_another_ensemble_changes_the_ensemble_only(data: dict[str, Any], evaluated: Path, tmp_path: Path) -> None:
    before = {(row["role"], row["subject_id"]): row for row in read_csv(evaluated / "predictions.csv")}
    for row in evaluate(data, tmp_path, ensemble="vote"):
        same = row["probability_HGG"] == before[row["role"], row["subject_id"]]["probability_HGG"]
        assert same == (row["role"] == "out_of_fold")
    assert read_json(tmp_path / "metrics.json")["ensemble"] == "vote"


def test_the_averaged_network_is_written_with_its_record(data: dict[str, Any], tmp_path: Path) -> None:
    rows = [row for row in evaluate(data, tmp_path, ensemble="weight_average") if row["role"] == "external"]
    network = FoldEnsemble("resnet10_thin", in_channels=2).eval()
    network.load_state_dict(torch.load(tmp_path / "weight_average" / "model.pt", weights_only=True))
    found = [str(Path(data["external_patches_paths"][0]).parent / f"{row['subject_id']}.nii.gz") for row in rows]
    expected = Predictor(image_form(2))([network], [{"image": path, "label": 0} for path in found])
    assert np.allclose([float(row["probability_HGG"]) for row in rows], expected[:, 1], atol=1e-6)
    record = read_provenance(tmp_path / "weight_average" / "model.pt")
    assert record["subjects"] == read_provenance(tmp_path / "model.pt")["subjects"]


def test_weights_are_averaged_where_one_image_is_left_for_the_last_batch(data: dict[str, Any], tmp_path: Path) -> None:
    trained_on = {name for fold in read_json(data["splits_path"])["folds"] for name in fold["train"]}
    evaluate(data, tmp_path, ensemble="weight_average", evaluation_batch_size=len(trained_on) - 1)
    assert (tmp_path / "weight_average" / "model.pt").is_file()


@pytest.fixture(scope="module")
def many_inner(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A cohort whose inner parts are large enough for a temperature: 10 subjects."""
    folder = tmp_path_factory.mktemp("many")
    splits = write_splits(folder, counts=(22, 22))
    content = read_json(splits)
    for fold in content["folds"]:
        moved = fold["train"][:3] + fold["train"][-3:]
        fold["inner"], fold["train"] = sorted(fold["inner"] + moved), sorted(set(fold["train"]) - set(moved))
    write_json(splits, content)
    members = [write_member(folder / f"member{fold}", splits, fold) for fold in range(2)]
    return {"patches_path": write_patches(folder, counts=(22, 22)), "splits_path": splits, "member_paths": members}


def test_temperatures_change_how_sure_answers_are_and_stand_in_the_metrics(
    many_inner: dict[str, Any], tmp_path: Path
) -> None:
    rows = [row for row in evaluate(many_inner, tmp_path, temperature_scaling=True) if row["role"] == "out_of_fold"]
    metrics = read_json(tmp_path / "metrics.json")
    assert set(metrics["temperatures"]) == {"0", "1"}
    for row in rows:
        odds = [np.log(float(row[f"{kind}_HGG"]) / float(row[f"{kind}_LGG"])) for kind in ("unscaled", "probability")]
        assert odds[0] / metrics["temperatures"][row["fold"]] == pytest.approx(odds[1], rel=1e-4, abs=1e-6)
    found = next(item for item in metrics["roles"] if item["role"] == "out_of_fold")
    labels = np.array([int(row["label"]) for row in rows])
    for key, kind in {"before_scaling": "unscaled", "after_scaling": "probability"}.items():
        expected = np.mean((np.array([float(row[f"{kind}_HGG"]) for row in rows]) - labels) ** 2)
        assert found[key]["brier"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ensemble": "median"}, "ensemble must be one of mean_probability, mean_logit, vote, weight_average"),
        ({"ensemble": "weight_average", "temperature_scaling": True}, "temperature_scaling must be false"),
        ({"temperature_scaling": True}, "inner part of fold 0 must hold at least 10 subjects"),
    ],
)
def test_impossible_ensembles_are_refused_before_anything_is_written(
    data: dict[str, Any], tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(RuntimeError) as caught:
        evaluate(data, tmp_path / "out", **settings)
    assert message in messages(caught.value)
    assert not (tmp_path / "out" / "predictions.csv").exists()


def test_temperatures_are_not_fitted_to_the_reported_subjects(many_inner: dict[str, Any], tmp_path: Path) -> None:
    content = read_json(many_inner["splits_path"])
    folds = [{**fold, "inner": fold["validation"]} for fold in content["folds"]]
    write_json(tmp_path / "splits.json", {**content, "folds": folds, "selection": "validation"})
    given = {**many_inner, "splits_path": str(tmp_path / "splits.json")}
    with pytest.raises(RuntimeError) as caught:
        evaluate(given, tmp_path / "out", temperature_scaling=True)
    assert "temperature_scaling must be false with selection validation" in messages(caught.value)
    assert not (tmp_path / "out" / "predictions.csv").exists()
