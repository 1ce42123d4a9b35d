"""The pieces around the diffusion network: averaged weights, loading, batches, provenance, and what the configs say."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser

from scripts.classifier.datasets import synthetic_limits
from scripts.generator.synthetic_set import default_num_images
from scripts.generator.weights import WarmEMA, checked_provenance, load_generator, place_network
from scripts.provenance.record import hash_subject, hash_subjects, read_provenance, write_provenance
from tests.helpers import config_files
from tests.patches import write_tiny_patches


@pytest.fixture
def patches(tmp_path) -> dict[str, str]:
    return write_tiny_patches(tmp_path / "patches")


def write_image(path: Path, volume: np.ndarray) -> str:
    nib.save(nib.Nifti1Image(volume.astype(np.float32), np.eye(4)), path)
    return str(path)


def test_the_overlay_changes_the_method_the_inferer_and_the_loss_only():
    plain, regularized = (ConfigParser() for _ in range(2))
    plain.read_config(config_files("train_generator"))
    regularized.read_config(config_files("train_generator", "options/mutual_information"))
    changed = {key for key in regularized.get() if plain.get().get(key) != regularized.get()[key]}
    options = {key for key in changed if key.startswith("mi_")}
    assert changed - options == {"method", "denoise_weight", "train"}
    before, after = plain.get()["train"], regularized.get()["train"]
    assert {key for key in after if before[key] != after[key]} == {"inferer", "loss_function"}


def test_the_full_size_network_is_the_one_of_the_paper():
    parser = ConfigParser()
    parser.read_config(config_files("train_generator"))
    network = parser.get_parsed_content("network_def")
    # 35.4 million: the network whose speed stands in the benchmark.
    assert sum(weights.numel() for weights in network.parameters()) == 35_354_884
    assert parser.get_parsed_content("optimizer").param_groups[0]["lr"] == 2e-4
    assert parser.get_parsed_content("generator_max_epochs") == 100
    scheduler = parser.get_parsed_content("scheduler")
    assert scheduler.num_train_timesteps == 1000
    torch.testing.assert_close(scheduler.betas[[0, -1]], torch.tensor([1e-4, 0.02]))


def test_the_average_of_constant_weights_is_exact_and_follows_the_iteration():
    network = torch.nn.Linear(1, 1, bias=False)
    ema = WarmEMA(network, decay=0.5)
    engine = Engine(lambda engine, batch: None)
    ema.attach(engine)
    torch.nn.init.zeros_(ema.ema_model.weight)
    torch.nn.init.ones_(network.weight)
    engine.run([0, 1], max_epochs=1)
    # Shares of the new weights: 9 / 11, then 9 / 12; both above 1 - decay.
    assert ema.ema_model.weight.item() == pytest.approx(1 - (2 / 11) * (3 / 12))
    engine.run([0] * 2, max_epochs=10)
    assert engine.state.ema_momentum == 0.5


@pytest.mark.parametrize("decay", [0, 1, -1])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay must be in \(0, 1\)"):
        WarmEMA(torch.nn.Linear(1, 1), decay)


def test_channels_last_gives_the_same_output():
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3))
    image = torch.randn(1, 2, 5, 6)
    expected = network(image)
    torch.testing.assert_close(place_network(network, "cpu", channels_last=True)(image), expected)


def test_weights_of_another_architecture_are_refused_by_name(tmp_path):
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"got 1 difference: weight has shape \(3, 2\) instead of \(3, 4\)"):
        load_generator(torch.nn.Linear(4, 3), str(tmp_path / "model.pt"))
    with pytest.raises(ValueError, match=r"0\.weight \(3, 2\) is missing; .*set generator_channels"):
        load_generator(torch.nn.Sequential(torch.nn.Linear(2, 3)), str(tmp_path / "model.pt"))
    with pytest.raises(FileNotFoundError, match="configs/train_generator.yaml"):
        load_generator(torch.nn.Linear(4, 3), str(tmp_path / "none.pt"))


def test_provenance_ties_hashed_subjects_to_weights(tmp_path):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    written = write_provenance(
        weights, cohorts=["a"], subjects=["s2", "s1", "s1"], simulated=True, fold=1, method="ddpm"
    )
    record = read_provenance(weights)
    assert record["subjects"] == hash_subjects(["s1", "s2"])
    assert len(record["subjects"]) == 2
    assert "s1" not in written.read_text()
    assert hash_subject("s1") in record["subjects"]
    weights.write_bytes(b"other weights")
    with pytest.raises(ValueError, match="must be about model.pt"):
        read_provenance(weights)


def test_weights_without_a_record_are_refused(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    with pytest.raises(FileNotFoundError, match="provenance.json"):
        checked_provenance(str(tmp_path / "model.pt"), "LGG")


@pytest.mark.parametrize(
    ("class_name", "ratio", "balance", "expected"),
    [("LGG", 1, True, 270), ("HGG", 1, True, 160), ("LGG", 1, False, 50), ("HGG", 0.5, True, 80), (None, 2, True, 420)],
)
def test_the_smaller_class_gets_as_many_images_as_the_largest(class_name, ratio, balance, expected):
    assert default_num_images({"LGG": 50, "HGG": 160}, class_name, ratio, balance) == expected


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("balance", [True, False])
def test_as_many_images_are_generated_as_a_classifier_takes_whatever_has_no_grade(ratio, balance):
    real = {"LGG": 50, "HGG": 160}
    taken = synthetic_limits(real, ratio, balance)
    for name in real:
        assert default_num_images({**real, "": 300}, name, ratio, balance) == taken[name][1]


@pytest.mark.parametrize("class_name", ["GBM", ""])
def test_images_of_a_class_that_is_not_there_are_refused_by_name(class_name):
    with pytest.raises(ValueError, match=f"generator_class must be one of LGG, HGG, got '{class_name}'"):
        default_num_images({"LGG": 50, "HGG": 160, "": 3}, class_name, 1.0, True)
