"""The autoencoder of a latent generator, and the way from patches through latents to synthetic patches and audit."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.generator.autoencoder import (
    LatentAutoencoder,
    autoencoder_record,
    check_autoencoder_path,
    generated_shape,
    load_autoencoder,
)
from scripts.generator.checks import check_autoencoder, check_autoencoder_training, check_pixel_space, check_space
from scripts.provenance.leakage import LeakageError
from scripts.provenance.record import hash_subjects, read_provenance
from scripts.running.files import read_json, write_json
from scripts.training.reconstruction_loss import check_adversary
from scripts.training.resume import Resumption
from tests.helpers import run_stage
from tests.patches import TINY_GENERATOR, write_tiny_patches
from tests.ring_or_blob import messages

NETWORK: dict[str, Any] = {
    "in_channels": 4,
    "latent_channels": 3,
    "channels": [8, 8],
    "num_res_blocks": 1,
    "norm_num_groups": 4,
    "attention": False,
    "unshuffle": 1,
}
# Latents of patches of 8 x 12 are 4 x 6.
OF_NETWORK = {f"autoencoder_{name}": value for name, value in NETWORK.items() if name != "in_channels"}
AUTOENCODER: dict[str, Any] = {
    **OF_NETWORK,
    "autoencoder_max_epochs": 2,
    "autoencoder_epoch_images": 8,
    "autoencoder_batch_size": 4,
}
LATENT = {**TINY_GENERATOR, **OF_NETWORK, "generator_space": "latent", "generator_gaussian_rank": 1}
TRAINING = {
    "generator_batch_size": 4,
    "generator_max_epochs": 1,
    "generator_epoch_images": 8,
    "generator_num_validation_draws": 4,
}


def network(spatial_dims: int = 2, **changes: Any) -> LatentAutoencoder:
    torch.manual_seed(0)
    return LatentAutoencoder(spatial_dims=spatial_dims, **{**NETWORK, **changes}).eval()


def train(folder: Path, patches: dict[str, str], **overrides: Any) -> Path:
    settings = {**TINY_GENERATOR, **AUTOENCODER, **patches, "output_dir": str(folder), **overrides}
    run_stage("train_autoencoder", **settings)
    return folder / "model.pt"


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_tiny_patches(tmp_path_factory.mktemp("patches"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, patches: dict[str, str]) -> Path:
    return train(tmp_path_factory.mktemp("autoencoder"), patches)


@pytest.mark.parametrize(("shape", "unshuffle"), [((8, 12), 1), ((8, 12), 2), ((8, 12, 16), 2)])
def test_latents_are_scaled_to_a_standard_deviation_of_1_and_decoded_to_images(shape, unshuffle):
    autoencoder = network(len(shape), unshuffle=unshuffle)
    images = torch.rand(5, 4, *shape) * 2 - 1
    with pytest.raises(ValueError, match="scale_factor of an autoencoder must be above 0, got 0"):
        autoencoder.to_latents(images)
    autoencoder.fit_scale(images.split(2))
    latents = autoencoder.to_latents(images, batch_size=3)
    assert list(latents.shape[1:]) == generated_shape("latent", 4, shape, 3, num_levels=2, unshuffle=unshuffle)
    assert float(latents.std()) == pytest.approx(1, rel=1e-5)
    # In eval mode the images come back from the means: nothing is drawn.
    expected = autoencoder(images).images.clamp(-1, 1)
    torch.testing.assert_close(autoencoder.to_images(latents, batch_size=2), expected)
    assert not torch.equal(autoencoder.train()(images).images, autoencoder(images).images)


def test_a_scale_of_latents_that_are_all_the_same_is_refused():
    autoencoder = network()
    for parameter in autoencoder.quant_conv_mu.parameters():
        torch.nn.init.zeros_(parameter)
    with pytest.raises(ValueError, match=r"latents must differ, got a standard deviation of 0\.0"):
        autoencoder.fit_scale([torch.rand(2, 4, 8, 12)])


def test_a_training_writes_weights_with_their_scale_a_report_and_whom_it_saw(patches, trained):
    state = torch.load(trained, weights_only=True)
    report = read_json(trained.parent / "reconstruction.json")
    assert float(state["scale_factor"]) == pytest.approx(report["latent"]["scale_factor"])
    assert report["latent"]["shape"] == [3, 4, 6]
    assert report["latent"]["compression"] == pytest.approx(4 * 8 * 12 / (3 * 4 * 6))
    assert report["held_out_part"] == "validation"
    assert all(-1 <= report[part]["ssim"] <= 1 for part in ("train", "selection", "held_out"))
    splits = read_json(patches["splits_path"])["folds"][0]
    record = read_provenance(trained)
    assert record["subjects"] == hash_subjects(splits["train"])
    assert record["selection_subjects"] == hash_subjects(splits["inner"])
    assert report["train"]["number"] == len(splits["train"])
    rows = read_json(trained.parent / "metrics.json")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"loss", "l1", "kl", "val_l1"} <= set(rows[0])


def test_a_killed_training_ends_with_the_same_files(tmp_path, patches, monkeypatch):
    with_adversary = {"autoencoder_adversarial_weight": 0.1, "autoencoder_adversarial_first_epoch": 1}
    settings = {**with_adversary, "autoencoder_adversarial_layers": 1, "autoencoder_adversarial_channels": 4}
    settings["autoencoder_selection"] = "validation"
    through = train(tmp_path / "through", patches, **settings)
    original = Resumption.save

    class Killed(BaseException):
        pass

    def kill(self, engine):
        original(self, engine)
        raise Killed

    monkeypatch.setattr(Resumption, "save", kill)
    with pytest.raises(Killed):
        train(tmp_path / "killed", patches, **settings)
    monkeypatch.undo()
    killed = train(tmp_path / "killed", patches, **settings)
    assert killed.read_bytes() == through.read_bytes()
    assert read_json(killed.parent / "metrics.json") == read_json(through.parent / "metrics.json")
    assert read_json(through.parent / "metrics.json")[0]["adversarial"] > 0
    report = read_json(through.parent / "reconstruction.json")
    # The validation part chose the epoch, and the test part is locked.
    assert (report["held_out"], report["held_out_part"]) == (None, None)


def test_a_latent_generator_draws_patches_that_name_all_whom_its_autoencoder_saw(tmp_path, patches, trained):
    settings = {**LATENT, **patches, "autoencoder_path": str(trained)}
    of_class = {"generator_class": "LGG", "output_dir": str(tmp_path / "generator")}
    run_stage("train_generator", **settings, **TRAINING, **of_class)
    generator_path = str(tmp_path / "generator" / "model.pt")
    record = read_provenance(generator_path)
    # A generator of one class; the autoencoder has seen both.
    assert record["subjects"] == read_provenance(trained)["subjects"]
    assert record["space"] == "latent"
    drawn = {"sampler": "ddim", "num_inference_steps": 3, "num_images": 3, "generator_path": generator_path}
    alone = {**LATENT, **drawn, "generator_class": "LGG", "fold": 0}  # without the file of the autoencoder
    run_stage("generate", **alone, **patches, output_dir=str(tmp_path / "set"))
    synthetic = read_json(tmp_path / "set" / "synthetic.json")
    assert synthetic["patch_size"] == [8, 12]
    assert synthetic["provenance"]["subjects"] == record["subjects"]
    image = np.asarray(nib.load(tmp_path / "set" / synthetic["training"][0]["image"]).dataobj)
    assert image.shape == (8, 12, 1, 4)
    assert np.abs(image).max() <= 1
    run_stage(
        "audit",
        **{**LATENT, **patches, "audit_max_shift": 0},
        synthetic_path=str(tmp_path / "set" / "synthetic.json"),
        audit_generator_path=generator_path,
        output_dir=str(tmp_path / "audit"),
    )
    audit = read_json(tmp_path / "audit" / "audit.json")["classes"]["LGG"]
    assert audit["num_synthetic"] == 3
    assert 0 <= audit["membership"]["auc"]["value"] <= 1
    refused = (
        ({"generator_space": "pixel"}, "generator_space must be 'latent', in which .* was trained, got 'pixel'"),
        ({"autoencoder_latent_channels": 2}, "must hold weights of the configured generator, got"),
    )
    for number, (changes, message) in enumerate(refused):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            run_stage("generate", **{**alone, **changes}, **patches, output_dir=str(tmp_path / f"refused{number}"))
        assert re.search(message, messages(caught.value))


def test_volumes_go_the_same_way(tmp_path):
    patches = write_tiny_patches(tmp_path / "patches", (8, 4, 8), ("t1n",), subjects_per_class=5)
    volumes = {"patch_size": [8, 4, 8], "spatial_dims": 3, "modalities": ["t1n"], "generator_channels": [8]}
    settings = {**LATENT, **volumes, "generator_attention_levels": [False]}
    autoencoder = train(tmp_path / "autoencoder", patches, **volumes)
    assert read_json(autoencoder.parent / "reconstruction.json")["latent"]["shape"] == [3, 4, 2, 4]
    path, of_class = str(tmp_path / "generator"), {"generator_class": "HGG"}
    inputs = {**patches, "autoencoder_path": str(autoencoder)}
    run_stage("train_generator", **settings, **TRAINING, **inputs, **of_class, output_dir=path)
    drawn = {"sampler": "ddim", "num_inference_steps": 2, "num_images": 1, "generator_path": f"{path}/model.pt"}
    run_stage("generate", **settings, **drawn, **of_class, output_dir=str(tmp_path / "set"))
    image = nib.load(tmp_path / "set" / read_json(tmp_path / "set" / "synthetic.json")["training"][0]["image"])
    assert image.shape == (8, 4, 8, 1)


def test_an_autoencoder_of_another_shape_or_without_scale_is_refused(tmp_path, trained):
    with pytest.raises(ValueError, match=r"weights of the configured autoencoder, got .* set autoencoder_latent_chann"):
        load_autoencoder(network(latent_channels=2), str(trained))
    state = torch.load(trained, weights_only=True)
    for scale in (None, torch.zeros(())):
        others = {name: value for name, value in state.items() if name != "scale_factor"}
        torch.save(others if scale is None else {**others, "scale_factor": scale}, tmp_path / "model.pt")
        with pytest.raises(ValueError, match="must hold the scale_factor of its latents, above 0, got"):
            load_autoencoder(network(), str(tmp_path / "model.pt"))
    load_autoencoder(network(), str(trained))


def test_an_autoencoder_that_saw_subjects_outside_the_training_part_is_refused(tmp_path, patches, trained):
    with pytest.raises(FileNotFoundError, match="configs/train_autoencoder.yaml"):
        autoencoder_record(str(tmp_path / "none.pt"), **patches, fold=0)
    with pytest.raises(LeakageError, match="must not know the subjects of validation or test of fold 1"):
        autoencoder_record(str(trained), **patches, fold=1)
    copied = shutil.copytree(trained.parent, tmp_path / "copied")
    record = read_json(copied / "provenance.json")
    write_json(copied / "provenance.json", {**record, "subjects": hash_subjects(["a stranger"])})
    with pytest.raises(ValueError, match="must be trained on the training part of fold 0 .* got 1 other subjects"):
        autoencoder_record(str(copied / "model.pt"), **patches, fold=0)
    assert autoencoder_record(str(trained), **patches, fold=0)["method"] == "autoencoder"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generated_shape("fourier", 4, [8, 8], 3, 2), "generator_space must be one of pixel, latent"),
        (lambda: generated_shape("latent", 4, [8, 10], 3, 2, 2), r"patch_size must be divisible by 4 .* got \[8, 10\]"),
        (lambda: check_space("latent", [48, 48], 2, [16, 12, 12], 3, 2), "latents must be divisible by 8, got"),
        (lambda: check_space("latent", [8, 8], 2, [4, 8, 8], 1, 1, True), "generator_augment must be false with"),
        (lambda: check_pixel_space("latent"), "must be pixel with options/mutual_information"),
        (lambda: check_autoencoder_path("latent", None), "autoencoder_path must be the model.pt of"),
        (lambda: check_autoencoder_path("pixel", "a.pt"), "must be null with generator_space pixel"),
        (lambda: check_autoencoder([8, 12], 2, **{**NETWORK, "channels": [6, 8]}), "multiples of autoencoder_norm"),
        (lambda: check_autoencoder([8, 12], 2, **{**NETWORK, "latent_channels": 0}), "autoencoder_latent_channels"),
        (lambda: check_autoencoder([8, 9], 2, **NETWORK), "patch_size must be divisible by 2"),
        (lambda: check_autoencoder_training(0, 1, 1, 0.1, 0.9, None, 1, "inner"), "autoencoder_max_epochs must be"),
        (lambda: check_autoencoder_training(1, 1, 1, 0.1, 1.0, None, 1, "inner"), "autoencoder_ema_decay must be"),
        (lambda: check_autoencoder_training(1, 1, 1, 0.1, 0.9, None, 1, "test"), "autoencoder_selection must be one"),
        (lambda: check_autoencoder_training(1, 1, 1, 0.1, 0.9, None, 1, "inner", -1), "autoencoder_max_shift must be"),
        (lambda: check_adversary(0.0, 1, 1, 1), "autoencoder_adversarial_learning_rate must be > 0, got 0"),
        (lambda: check_adversary(0.1, 1, 1, 0), "autoencoder_adversarial_layers must be >= 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_can_be_passes():
    check_space("pixel", [48, 48], 2, [4, 48, 48], 9, 2)
    check_space("latent", [48, 48], 2, [16, 12, 12], 3, 1)
    check_autoencoder([8, 12, 16], 3, **NETWORK)
    check_autoencoder([8, 12], 2, **{**NETWORK, "attention": True})
