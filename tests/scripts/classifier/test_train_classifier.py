"""The classifier's stage, in this process and tiny."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.recipes import SGD
from scripts.classifier.networks import FoldEnsemble
from scripts.provenance.record import hash_subject, read_provenance
from scripts.running.files import read_json, sha256_text
from tests.helpers import run_stage
from tests.ring_or_blob import messages, write_patches, write_splits, write_synthetic

TINY = {
    "classifier_backbone": "resnet10_thin",
    "classifier_max_epochs": 2,
    "classifier_batch_size": 8,
    "modalities": ["t1c", "t2f"],
    "patch_size": [32, 32],
    "num_threads": 1,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")
    return {"patches_path": write_patches(folder), "splits_path": write_splits(folder), "folder": folder}


def train(data: dict[str, Any], output_dir: Path, *overlays: str, **overrides: Any) -> dict[str, torch.Tensor]:
    paths = {name: data[name] for name in ("patches_path", "splits_path")}
    run_stage("train_classifier", *overlays, **{**TINY, **paths, "output_dir": str(output_dir), **overrides})
    return torch.load(output_dir / "model.pt", weights_only=True)


def test_a_training_writes_weights_curve_and_provenance(data: dict[str, Any], tmp_path: Path) -> None:
    weights = train(data, tmp_path)
    record, curve = read_provenance(tmp_path / "model.pt"), read_json(tmp_path / "metrics.json")
    fold = read_json(data["splits_path"])["folds"][0]

    assert {name.split(".")[0] for name in weights} == {"members", "stem_stride"}
    assert record["setup"] == "real"
    assert record["fold"] == 0
    assert record["simulated"]
    assert record["subjects"] == sorted(hash_subject(subject) for subject in fold["train"])
    assert record["selection_subjects"] == sorted(hash_subject(subject) for subject in fold["inner"])
    assert [row["epoch"] for row in curve] == [1, 2]
    assert {"loss", "selection_brier", "selection_loss", "learning_rate"} <= set(curve[0])


def test_a_training_learns_to_tell_a_ring_from_a_blob(tmp_path: Path) -> None:
    counts = (40, 40)
    data = {
        "patches_path": write_patches(tmp_path, counts=counts),
        "splits_path": write_splits(tmp_path, counts=counts),
    }
    wide = {"classifier_backbone": "resnet10", "classifier_max_epochs": 12, "classifier_learning_rate": 0.001}
    train(data, tmp_path / "out", **wide)
    curve = read_json(tmp_path / "out" / "metrics.json")
    assert curve[-1]["loss"] < 0.3 * curve[0]["loss"]
    assert curve[-1]["selection_accuracy"] == 1


OTHER_RECIPE = {
    "classifier_ema_decay": 0.9,
    "classifier_optimizer": SGD,
    "classifier_sampling": "balanced",
    "classifier_focal_alpha_mode": "inverse_frequency",
}


@pytest.mark.parametrize("recipe", [{}, OTHER_RECIPE], ids=["default", "other"])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: dict[str, Any]
) -> None:
    from scripts.training.curves import ClassifierCurves

    settings = {"classifier_max_epochs": 4, "classifier_patience": 2, **recipe}
    whole = train(data, tmp_path / "whole", "options/augmentation", **settings)
    write = ClassifierCurves._write

    def stop_in_third_epoch(self: ClassifierCurves, engine: Any) -> None:
        if engine.state.epoch == 3:
            raise KeyboardInterrupt
        write(self, engine)

    monkeypatch.setattr(ClassifierCurves, "_write", stop_in_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "stopped", "options/augmentation", **settings)
    monkeypatch.setattr(ClassifierCurves, "_write", write)
    resumed = train(data, tmp_path / "stopped", "options/augmentation", **settings)

    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    for name in ("model.pt", "metrics.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_a_training_stopped_by_a_full_disk_ends_as_an_uninterrupted_one(
    data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"classifier_max_epochs": 3, "classifier_patience": 3}
    whole = train(data, tmp_path / "whole", **settings)
    save = torch.save

    def run_out_of_space(content: Any, stream: Any) -> None:
        if not stream.name.endswith("epoch_2.pt"):
            return save(content, stream)
        stream.write(b"half of it")
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")  # as torch says it

    with monkeypatch.context() as full:
        full.setattr(torch, "save", run_out_of_space)
        full.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(RuntimeError) as caught:
            train(data, tmp_path / "stopped", **settings)
    assert re.search(r"no space left to write .*epoch_2\.pt; free some, then run the same", messages(caught.value))
    assert not list((tmp_path / "stopped").rglob(".partial-*"))
    assert [path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir()] == ["epoch_1.pt"]
    resumed = train(data, tmp_path / "stopped", **settings)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (tmp_path / "whole/metrics.json").read_bytes() == (tmp_path / "stopped/metrics.json").read_bytes()


def test_synthetic_images_change_the_weights_and_are_on_record(data: dict[str, Any], tmp_path: Path) -> None:
    fold = read_json(data["splits_path"])["folds"][0]
    sets = [write_synthetic(tmp_path / str(label), label, fold["train"]) for label in (0, 1)]
    real = train(data, tmp_path / "real")
    more = train(data, tmp_path / "ddpm", synthetic_method="ddpm", synthetic_paths=sets)
    record = read_provenance(tmp_path / "ddpm" / "model.pt")

    assert not torch.equal(real["members.0.conv1.weight"], more["members.0.conv1.weight"])
    assert record["num_synthetic_images"] == {"LGG": 3, "HGG": 3}
    assert record["synthetic"] == sorted(sha256_text(f"weights of {label}") for label in (0, 1))


def test_synthetic_images_alone_and_their_control_train(data: dict[str, Any], tmp_path: Path) -> None:
    fold = read_json(data["splits_path"])["folds"][0]
    sets = [write_synthetic(tmp_path / str(label), label, fold["train"]) for label in (0, 1)]
    settings = {"synthetic_paths": sets, "synthetic_method": "ddpm", "train_on_real": False, "classifier_max_epochs": 1}
    weights = []
    for labels, permutation in (("own", 0), ("shuffled", 0), ("shuffled", 1)):
        folder = tmp_path / f"{labels}{permutation}"
        own = {"synthetic_labels": labels, "synthetic_permutation": permutation}
        weights.append(train(data, folder, **own, **settings))
        record = read_provenance(folder / "model.pt")
        assert record["num_real_images"] == {"LGG": 0, "HGG": 0}
        assert record["num_synthetic_images"] == {"LGG": 3, "HGG": 3}
        assert len(record["subjects"]) == len(fold["train"])
    own, shuffled, rotated = (logits_of(state) for state in weights)
    torch.testing.assert_close(rotated, shuffled.roll(1, 1), atol=1e-3, rtol=0)
    assert (rotated - shuffled).abs().mean() > 0.01
    assert (rotated - own).abs().mean() > 0.01


def logits_of(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """Answers of a network to images of noise."""
    network = FoldEnsemble("resnet10_thin", in_channels=2)
    network.load_state_dict(weights)
    images = torch.rand(6, 2, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        return network.eval()(images)


def test_a_ratio_of_a_sweep_takes_its_part_of_the_images(data: dict[str, Any], tmp_path: Path) -> None:
    fold = read_json(data["splits_path"])["folds"][0]
    sets = [write_synthetic(tmp_path / str(k), k, fold["train"], method="ddpm_mi") for k in (0, 1)]
    settings = {"synthetic_paths": sets, "synthetic_method": "ddpm_mi", "classifier_max_epochs": 1}
    train(data, tmp_path / "out", "options/sweep_ratio", synthetic_ratio=0.5, **settings)
    assert read_provenance(tmp_path / "out" / "model.pt")["num_synthetic_images"] == {"LGG": 2, "HGG": 2}


def test_a_training_that_diverges_says_so_where_its_validation_finds_it_first(
    data: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError) as caught:
        train(data, tmp_path, classifier_optimizer=SGD, classifier_learning_rate=1e3)
    assert re.search(r"(loss|weights) must be finite, got .*; lower the learning rate", messages(caught.value))
    assert not (tmp_path / "metrics.json").exists()


def test_a_vision_transformer_trains(data: dict[str, Any], tmp_path: Path) -> None:
    weights = train(data, tmp_path, classifier_backbone="vit_tiny", classifier_max_epochs=1)
    assert weights["members.0.vit.patch_embedding.position_embeddings"].shape == (1, 4, 192)


def test_a_synthetic_set_that_knows_a_validation_subject_stops_the_run(data: dict[str, Any], tmp_path: Path) -> None:
    fold = read_json(data["splits_path"])["folds"][0]
    leak = write_synthetic(tmp_path / "leak", 0, [*fold["train"], fold["validation"][0]])
    with pytest.raises(RuntimeError) as caught:
        train(data, tmp_path / "out", synthetic_method="ddpm", synthetic_paths=[leak])
    assert re.search(f"synthetic_0_0000.*{fold['validation'][0]}", messages(caught.value))
    assert not (tmp_path / "out" / "model.pt").exists()


@pytest.mark.parametrize(
    ("size", "num_channels", "classes"),
    [((32, 32), 1, {"a": 0, "b": 1, "c": 2}), ((24, 20, 16), 1, {"a": 0, "b": 1, "c": 2})],
    ids=["2d", "3d"],
)
def test_one_channel_and_three_classes_train_in_two_and_three_dimensions(
    tmp_path: Path, size: tuple[int, ...], num_channels: int, classes: dict[str, int]
) -> None:
    counts = (9, 8, 10)
    patches = write_patches(tmp_path, counts=counts, num_channels=num_channels, size=size, classes=classes)
    data = {"patches_path": patches, "splits_path": write_splits(tmp_path, counts=counts)}
    shape = {"modalities": ["t1n"], "classes": classes, "spatial_dims": len(size), "patch_size": list(size)}
    weights = train(data, tmp_path / "out", "options/augmentation", classifier_max_epochs=1, **shape)
    assert weights["members.0.fc.weight"].shape[0] == 3
    assert weights["members.0.conv1.weight"].shape[1] == 1
