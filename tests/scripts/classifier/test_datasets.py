"""What a classifier is given: items, tensors and batches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from scripts.classifier.datasets import (
    ClassifierData,
    choose_synthetic,
    even_batches,
    ordered_batches,
    shuffle_labels,
    training_batches,
)
from scripts.patches.class_balance import synthetic_limits
from scripts.patches.tensors import LabeledImages
from scripts.provenance.image_form import image_facts
from scripts.provenance.leakage import LeakageError, seen_subjects
from scripts.provenance.record import hash_subjects, read_provenance
from scripts.running.files import read_json, write_json
from tests.helpers import image_form
from tests.ring_or_blob import GRADES, image_header, write_patches, write_splits, write_synthetic


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Any]:
    return {"patches_path": write_patches(tmp_path), "splits_path": write_splits(tmp_path)}


def data(paths: dict[str, Any], **values: Any) -> ClassifierData:
    return ClassifierData(**{**paths, "fold": 0, "classes": GRADES, **values})


def test_training_and_selection_are_those_of_the_splits(paths: dict[str, Any]) -> None:
    fold, splits = data(paths), read_json(paths["splits_path"])
    assert sorted(item["subject_id"] for item in fold.real) == splits["folds"][0]["train"]
    assert sorted(item["subject_id"] for item in fold.selection) == splits["folds"][0]["inner"]


def test_a_subject_without_grade_is_refused_by_name(paths: dict[str, Any]) -> None:
    patches = read_json(paths["patches_path"])
    subject = read_json(paths["splits_path"])["folds"][0]["train"][0]
    for entry in patches["training"]:
        entry["label"] = None if entry["subject_id"] == subject else entry["label"]
    write_json(paths["patches_path"], patches)
    with pytest.raises(ValueError, match=subject):
        data(paths)


def test_a_class_without_training_image_is_refused_by_name(paths: dict[str, Any]) -> None:
    splits = read_json(paths["splits_path"])
    fold = splits["folds"][0]
    moved = [subject for subject in fold["train"] if "_1_" in subject]
    fold["train"] = [subject for subject in fold["train"] if subject not in moved]
    fold["inner"] += moved
    write_json(paths["splits_path"], splits)
    with pytest.raises(ValueError, match="no patch of HGG"):
        data(paths)


def test_a_generator_of_subjects_who_are_none_of_its_cohort_is_refused(paths: dict[str, Any], tmp_path: Path) -> None:
    train = read_json(paths["splits_path"])["folds"][0]["train"]
    synthetic = write_synthetic(tmp_path / "s", 0, [*train, "nobody"])
    with pytest.raises(ValueError, match=rf"patches must hold all .* subjects behind {synthetic}, got .* without 1"):
        data(paths, synthetic_paths=[synthetic], synthetic_method="ddpm")
    content = read_json(synthetic)
    write_json(synthetic, {**content, "provenance": {**content["provenance"], "cohort": "elsewhere"}})
    assert data(paths, synthetic_paths=[synthetic], synthetic_method="ddpm", synthetic_ratio=0).synthetic_sets


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_generator_that_saw_a_held_out_subject_is_refused(paths: dict[str, Any], tmp_path: Path, part: str) -> None:
    splits = read_json(paths["splits_path"])
    known = splits["test"][0] if part == "test" else splits["folds"][0]["validation"][0]
    synthetic = write_synthetic(tmp_path / "s", 0, [splits["folds"][0]["train"][0], known])
    with pytest.raises(LeakageError, match=re.escape(known)):
        data(paths, synthetic_paths=[synthetic], synthetic_method="ddpm")


def test_a_generator_may_know_training_and_inner_subjects(paths: dict[str, Any], tmp_path: Path) -> None:
    fold = read_json(paths["splits_path"])["folds"][0]
    sets = [write_synthetic(tmp_path / str(label), label, fold["train"] + fold["inner"]) for label in (0, 1)]
    assert len(data(paths, synthetic_paths=sets, synthetic_method="ddpm").training) == 12


def test_a_set_that_is_given_twice_is_refused_also_by_another_name(paths: dict[str, Any], tmp_path: Path) -> None:
    train = read_json(paths["splits_path"])["folds"][0]["train"]
    synthetic = write_synthetic(tmp_path / "s", 0, train)
    other = write_synthetic(tmp_path / "t", 1, train)
    (tmp_path / "again").symlink_to(tmp_path / "s")
    again = str(tmp_path / "again" / Path(synthetic).name)
    message = f"synthetic_paths must list each set once, got {again} twice"
    with pytest.raises(ValueError, match=re.escape(message)):
        data(paths, synthetic_paths=[synthetic, other, again], synthetic_method="ddpm")


def test_splits_that_select_on_validation_still_refuse_a_generator_trained_on_it(
    paths: dict[str, Any], tmp_path: Path
) -> None:
    splits = read_json(paths["splits_path"])
    fold = splits["folds"][0]
    fold["inner"] = fold["validation"]
    write_json(paths["splits_path"], {**splits, "selection": "validation"})
    values = {"synthetic_method": "ddpm", "synthetic_ratio": 0}
    selected = write_synthetic(tmp_path / "s", 0, fold["train"], selection_subjects=fold["validation"])
    data(paths, synthetic_paths=[selected], **values)
    trained = write_synthetic(tmp_path / "t", 0, [fold["train"][0], fold["validation"][0]])
    with pytest.raises(LeakageError, match=re.escape(fold["validation"][0])):
        data(paths, synthetic_paths=[trained], **values)


def test_subjects_that_selected_a_generator_stay_on_the_record_of_the_classifier(
    paths: dict[str, Any], tmp_path: Path
) -> None:
    fold = read_json(paths["splits_path"])["folds"][0]
    own, others = fold["train"][0], fold["train"][1:3]
    synthetic = write_synthetic(tmp_path / "s", 0, [own], selection_subjects=others)
    (tmp_path / "model.pt").write_bytes(b"weights")
    values = {"synthetic_paths": [synthetic], "synthetic_method": "ddpm", "synthetic_ratio": 0}
    data(paths, **values).record(str(tmp_path / "model.pt"), "ddpm")
    record = read_provenance(tmp_path / "model.pt")
    assert record["selection_subjects"] == hash_subjects([*fold["inner"], *others])
    assert record["images"] == image_facts(image_header(), "patches.json")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("modality", {"0": "t2f", "1": "t1c"}, "modality ['t1c', 't2f'], as {} has, got ['t2f', 't1c']"),
        ("labels", {"0": "HGG", "1": "LGG"}, "labels ['LGG', 'HGG'], as {} has, got ['HGG', 'LGG']"),
        ("patch_size", [16, 64], "patch_size [32, 32], as {} has, got [16, 64]"),
        ("spacing_mm", 2.0, "spacing_mm 1.0, as {} has, got 2.0"),
        ("intensity_mode", "zscore", "intensity_mode 'percentile', as {} has, got 'zscore'"),
    ],
)
def test_synthetic_images_that_are_made_otherwise_than_the_patches_are_refused(
    paths: dict[str, Any], tmp_path: Path, key: str, value: Any, message: str
) -> None:
    synthetic = write_synthetic(tmp_path / "s", 0, read_json(paths["splits_path"])["folds"][0]["train"])
    write_json(synthetic, {**read_json(synthetic), key: value})
    said = f"{synthetic} must have {message.format(paths['patches_path'])}; make both with one "
    with pytest.raises(ValueError, match=re.escape(said)):
        data(paths, synthetic_paths=[synthetic], synthetic_method="ddpm")


def test_patches_without_a_common_spacing_take_synthetic_images_of_any(paths: dict[str, Any], tmp_path: Path) -> None:
    write_json(paths["patches_path"], {**read_json(paths["patches_path"]), "spacing_mm": None})
    train = read_json(paths["splits_path"])["folds"][0]["train"]
    sets = [write_synthetic(tmp_path / str(label), label, train) for label in (0, 1)]
    assert data(paths, synthetic_paths=sets, synthetic_method="ddpm").images["spacing_mm"] is None


def test_patches_that_do_not_say_how_they_were_made_are_refused(paths: dict[str, Any]) -> None:
    content = read_json(paths["patches_path"])
    write_json(paths["patches_path"], {key: value for key, value in content.items() if key != "intensity_mode"})
    with pytest.raises(ValueError, match=r"patches.json must say .*got no intensity_mode; make it again"):
        data(paths)


def test_synthetic_images_of_another_method_than_the_setup_are_refused(paths: dict[str, Any], tmp_path: Path) -> None:
    fold = read_json(paths["splits_path"])["folds"][0]
    sets = [write_synthetic(tmp_path / str(label), label, fold["train"]) for label in (0, 1)]
    for values in (
        {"synthetic_paths": sets, "synthetic_method": "ddpm_mi"},
        {"synthetic_paths": sets},
        {"synthetic_method": "ddpm"},
    ):
        with pytest.raises(ValueError, match="synthetic_paths must be of method"):
            data(paths, **values)


def test_more_synthetic_images_of_the_small_class_are_used_up_to_balance() -> None:
    limits = synthetic_limits({"LGG": 4, "HGG": 10}, ratio=1.0, balance=True)
    assert limits == {"LGG": (4, 16), "HGG": (10, 10)}
    pool = [{"training": [{"image": f"{label}{k}", "label": label} for label in (0, 1) for k in range(12)]}]
    chosen = [entry["label"] for entry in choose_synthetic(pool, GRADES, limits)]
    assert (chosen.count(0), chosen.count(1)) == (12, 10)


def test_too_few_synthetic_images_and_unlabeled_ones_are_refused() -> None:
    few = [{"training": [{"image": "a", "label": 0}, {"image": "b", "label": 1}]}]
    with pytest.raises(ValueError, match="at least 2 images of LGG, got 1"):
        choose_synthetic(few, GRADES, {"LGG": (2, 2), "HGG": (1, 1)})
    with pytest.raises(ValueError, match="got None for c"):
        choose_synthetic([{"training": [{"image": "c", "label": None}]}], GRADES, {"LGG": (0, 1)})


def test_an_epoch_has_as_many_full_batches_with_a_larger_pool(paths: dict[str, Any]) -> None:
    real = LabeledImages(data(paths).training, image_form(2))
    larger = LabeledImages(data(paths).training * 3, image_form(2))
    lengths = [[len(batch["label"]) for batch in training_batches(each, 4, len(real))] for each in (real, larger)]
    assert lengths == [[4, 4], [4, 4]]


def test_balanced_sampling_draws_every_class_alike_in_full_batches(tmp_path: Path) -> None:
    items = read_json(write_patches(tmp_path, counts=(3, 27)))["training"]
    dataset = LabeledImages([{**item, "image": str(tmp_path / item["image"])} for item in items], image_form(2))
    torch.manual_seed(0)
    batches = [batch["label"] for batch in training_batches(dataset, 8, 1000, "balanced")]
    assert {len(batch) for batch in batches} == {8}
    assert len(batches) == 125
    # 1000 draws of a fair coin: three standard deviations are 47.
    assert abs(int((torch.cat(batches) == 0).sum()) - 500) < 48
    with pytest.raises(ValueError, match="classifier_sampling must be one of shuffled, balanced, got 'even'"):
        training_batches(dataset, 8, 30, "even")


def synthetic_only(paths: dict[str, Any], folder: Path, **values: Any) -> ClassifierData:
    fold = read_json(paths["splits_path"])["folds"][0]
    sets = [write_synthetic(folder / str(label), label, fold["train"]) for label in (0, 1)]
    return data(paths, synthetic_paths=sets, synthetic_method="ddpm", train_on_real=False, **values)


def test_synthetic_images_alone_train_and_real_ones_select(paths: dict[str, Any], tmp_path: Path) -> None:
    found = synthetic_only(paths, tmp_path)
    assert all("synthetic_" in item["image"] for item in found.training)
    assert found.class_counts == [3, 3]
    assert {item["subject_id"] for item in found.selection} == {*read_json(paths["splits_path"])["folds"][0]["inner"]}
    (tmp_path / "model.pt").write_bytes(b"weights")
    found.record(str(tmp_path / "model.pt"), "synthetic_only")
    record = read_provenance(tmp_path / "model.pt")
    # The subjects behind the generators are behind the classifier, too.
    assert record["subjects"] == hash_subjects(read_json(paths["splits_path"])["folds"][0]["train"])
    assert record["num_real_images"] == {"LGG": 0, "HGG": 0}
    assert record["num_synthetic_images"] == {"LGG": 3, "HGG": 3}


@pytest.mark.parametrize("trained_on", ["others", "unknown"])
def test_weights_of_images_whose_generator_saw_nobody_here_can_be_tested(
    paths: dict[str, Any], tmp_path: Path, trained_on: str
) -> None:
    sets = [write_synthetic(tmp_path / str(label), label, []) for label in (0, 1)]
    for path in sets:
        content = read_json(path)
        content["provenance"]["trained_on"] = trained_on
        write_json(path, content)
    own = data(paths, synthetic_paths=sets, synthetic_method="ddpm", train_on_real=False)
    (tmp_path / "model.pt").write_bytes(b"weights")
    own.record(str(tmp_path / "model.pt"), "synthetic_only")
    record = read_provenance(tmp_path / "model.pt")
    assert (record["subjects"], record["trained_on"]) == ([], trained_on)
    assert seen_subjects(record, "model.pt", with_selection=False) == set()


def test_the_control_has_the_same_images_with_labels_of_others(paths: dict[str, Any], tmp_path: Path) -> None:
    own = synthetic_only(paths, tmp_path).training
    shuffled = synthetic_only(paths, tmp_path, synthetic_labels="shuffled", seed=1).training
    assert [item["image"] for item in own] == [item["image"] for item in shuffled]
    assert [item["label"] for item in own] != [item["label"] for item in shuffled]
    assert sorted(item["label"] for item in own) == sorted(item["label"] for item in shuffled)
    assert shuffled == synthetic_only(paths, tmp_path, synthetic_labels="shuffled", seed=1).training


def test_true_labels_do_not_choose_the_epoch_of_a_control_that_knows_nothing(paths, tmp_path) -> None:
    """Of epochs whose answers are random, they would choose those that are right by chance."""
    own = synthetic_only(paths, tmp_path).selection
    drawn = [synthetic_only(paths, tmp_path, synthetic_labels="shuffled", seed=seed).selection for seed in range(12)]
    assert all([item["image"] for item in own] == [item["image"] for item in shuffled] for shuffled in drawn)
    labels = [item["label"] for item in own]
    assert any([item["label"] for item in shuffled] != labels for shuffled in drawn)
    assert all(sorted(item["label"] for item in shuffled) == sorted(labels) for shuffled in drawn)


@pytest.mark.parametrize("counts", [(10, 30), (7, 7), (5, 11, 20)])
def test_images_of_every_class_get_equal_shares_of_the_shuffled_labels(counts: tuple[int, ...]) -> None:
    own = [label for label, count in enumerate(counts) for _ in range(count)]
    for seed in range(20):
        shuffled = [item["label"] for item in shuffle_labels([{"label": label} for label in own], seed)]
        assert sorted(shuffled) == own
        for name, size in enumerate(counts):
            for label, count in enumerate(counts):
                given = sum(new == label for old, new in zip(own, shuffled, strict=True) if old == name)
                assert abs(given - size * count / len(own)) < len(counts) - 1


@pytest.mark.parametrize("counts", [(10, 30), (7, 7), (5, 11, 20)])
def test_permutations_in_a_row_are_rotations_of_one(counts: tuple[int, ...]) -> None:
    own = [{"label": label} for label, count in enumerate(counts) for _ in range(count)]
    drawn = [[item["label"] for item in shuffle_labels(own, 1, permutation)] for permutation in range(2 * len(counts))]
    for number, labels in enumerate(drawn):
        first, rotation = drawn[number - number % len(counts)], number % len(counts)
        assert labels == [(label + rotation) % len(counts) for label in first]
    assert drawn[0] != drawn[len(counts)]
    assert drawn[0] == [item["label"] for item in shuffle_labels(own, 1)]


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_the_mean_area_over_the_rotations_of_any_answers_is_one_half(num_classes: int) -> None:
    """What `shuffle_labels` stands on, whatever a network took the classes for."""
    random = np.random.default_rng(num_classes)
    labels = np.repeat(np.arange(num_classes), 12)
    answers = random.normal(size=(len(labels), num_classes)) + 3 * random.normal(size=(num_classes,) * 2)[labels]
    areas = [
        roc_auc_score(labels == name, np.roll(answers, rotation, 1)[:, name])
        for rotation in range(num_classes)
        for name in range(num_classes)
    ]
    assert np.mean(areas) == pytest.approx(0.5)
    assert np.ptp([np.mean(areas[first : first + num_classes]) for first in range(0, len(areas), num_classes)]) > 0.05


def test_a_training_on_nothing_is_refused(paths: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train_on_real must be true where synthetic_method is null"):
        data(paths, train_on_real=False)
    with pytest.raises(ValueError, match="synthetic_ratio must be above 0 where train_on_real is false"):
        synthetic_only(paths, tmp_path, synthetic_ratio=0)
    with pytest.raises(ValueError, match="synthetic_labels must be one of own, shuffled"):
        data(paths, synthetic_labels="wrong")


def test_no_batch_has_one_image_only(paths: dict[str, Any]) -> None:
    dataset = LabeledImages(data(paths).training[:5], image_form(2))
    assert [len(batch["label"]) for batch in training_batches(dataset, 4, 5)] == [4, 4]
    with pytest.raises(ValueError, match="at least 2 for BatchNorm"):
        training_batches(dataset, 1, 5)


def test_ordered_batches_keep_the_order_and_lose_nothing(paths: dict[str, Any]) -> None:
    dataset = LabeledImages(data(paths).training, image_form(2))
    images = torch.cat([batch["image"] for batch in ordered_batches(dataset, 4)])
    assert torch.equal(images, dataset.images)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(9, 4, [3, 3, 3]), (9, 8, [5, 4]), (8, 8, [8]), (5, 1, [3, 2]), (1, 4, [1]), (64, 7, [7, 7, 7, 7, *[6] * 6])],
)
def test_even_batches_hold_no_image_alone_and_lose_none(count: int, batch_size: int, sizes: list[int]) -> None:
    found = list(even_batches(torch.arange(count), batch_size))  # type: ignore[arg-type]
    assert [len(part) for part in found] == sizes
    assert [int(value) for part in found for value in part] == list(range(count))
