"""What the configs of the generators say."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser

from tests.helpers import config_files


def test_the_overlay_changes_the_method_the_inferer_and_the_loss_only():
    plain, regularized = (ConfigParser() for _ in range(2))
    plain.read_config(config_files("train_generator"))
    regularized.read_config(config_files("train_generator", "options/mutual_information"))
    changed = {key for key in regularized.get() if plain.get().get(key) != regularized.get()[key]}
    options = {key for key in changed if key.startswith("mi_")}
    assert changed - options == {"method", "denoise_weight", "train", "checks"}
    before, after = plain.get()["train"], regularized.get()["train"]
    assert {key for key in after if before[key] != after[key]} == {"inferer", "loss_function"}


def test_the_full_size_network_is_the_one_of_the_paper():
    parser = ConfigParser()
    parser.read_config(config_files("train_generator", "recipes/paper"))
    network = parser.get_parsed_content("network_def")
    # 35.4 million: the network whose speed stands in the benchmark.
    assert sum(weights.numel() for weights in network.parameters()) == 35_354_884
    assert parser.get_parsed_content("optimizer").param_groups[0]["lr"] == 2e-4
    assert parser.get_parsed_content("generator_max_epochs") == 100
    scheduler = parser.get_parsed_content("scheduler")
    assert scheduler.num_train_timesteps == 1000
    torch.testing.assert_close(scheduler.betas[[0, -1]], torch.tensor([1e-4, 0.02]))


@pytest.mark.parametrize(("device", "of_network", "of_trainer"), [("cpu", True, False), ("cuda:0", False, True)])
def test_bf16_is_of_the_network_on_a_cpu_where_the_trainer_knows_none(device, of_network, of_trainer):
    parser = ConfigParser()
    parser.read_config(config_files("train_generator", "recipes/quick"))
    parser.update({"device": device, "generator_amp": True})
    assert parser.get_parsed_content("network_def").bf16 is of_network
    assert parser.get_parsed_content("train#trainer#amp") is of_trainer


@pytest.mark.parametrize(
    ("patch_size", "device", "expected"),
    [
        ([16, 16, 16], "cpu", False),
        ([32, 16, 16], "cpu", True),
        ([16, 16], "cpu", True),
        ([16, 16, 16], "cuda:0", True),
    ],
)
def test_bf16_is_chosen_where_its_gradients_are_right(patch_size, device, expected, monkeypatch):
    """Of 16 voxels, halved by unshuffling and at the second and third level, two are left."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    parser = ConfigParser()
    parser.read_config(config_files("train_generator"))
    parser.update({"device": device, "patch_size": patch_size, "spatial_dims": len(patch_size)})
    assert parser.get_parsed_content("generator_amp") is expected
