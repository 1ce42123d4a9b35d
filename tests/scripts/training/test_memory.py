"""Memory of a training: what autograd keeps, told beforehand, and kept less of."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from scripts.generator import checks
from scripts.generator.autoencoder import LatentAutoencoder
from scripts.generator.checks import check_autoencoder_memory, check_memory
from scripts.generator.conditional_unet import ClassConditionalUNet
from scripts.patches import tensors
from scripts.running.files import read_json
from scripts.training import memory
from scripts.training.memory import (
    TrainingMemory,
    checkpoint_blocks,
    control_group_limits,
    refuse_too_large,
    training_memory,
)
from scripts.training.sizes import sizes_only
from tests.helpers import run_stage
from tests.patches import TINY_GENERATOR, write_tiny_patches
from tests.ring_or_blob import messages

SIZES: dict[str, Any] = {
    "channels": [8, 16],
    "attention_levels": [False, True],
    "num_res_blocks": 1,
    "num_head_channels": 8,
    "norm_num_groups": 4,
}


def network(checkpointing: bool = False, spatial_dims: int = 3) -> ClassConditionalUNet:
    torch.manual_seed(0)
    shape = {"spatial_dims": spatial_dims, "in_channels": 1, "out_channels": 1}
    made = ClassConditionalUNet(2, 0.0, checkpointing=checkpointing, **shape, **SIZES)
    for parameter in made.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return made.train()


@pytest.mark.parametrize("shape", [(8, 12), (4, 8, 4)], ids=["2d", "3d"])
def test_checkpointed_blocks_have_the_same_gradients_and_names(shape):
    images, timesteps, labels = torch.randn(2, 1, *shape), torch.tensor([3, 5]), torch.tensor([0, 1])
    plain, checkpointed = (network(checkpointing, len(shape)) for checkpointing in (False, True))
    checkpointed.load_state_dict(plain.state_dict())
    for one in (plain, checkpointed):
        one(images, timesteps, labels).square().mean().backward()
    for expected, parameter in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=0, atol=0)
    copied = copy.deepcopy(checkpointed)
    assert copied.blocks[0].forward.__self__ is copied.blocks[0]


def kept_bytes(one: nn.Module, *inputs: torch.Tensor) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        base = tensor if tensor._base is None else tensor._base
        if not isinstance(base, nn.Parameter):
            kept[base.data_ptr()] = base.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        one(*inputs)
    return sum(kept.values())


@pytest.mark.parametrize("shape", [(2, 1, 16, 24), (1, 1, 8, 16, 8)], ids=["2d", "3d"])
def test_the_estimate_is_what_autograd_keeps(shape):
    spatial_dims = len(shape) - 2
    real = kept_bytes(network(spatial_dims=spatial_dims), torch.randn(shape), torch.tensor([3] * shape[0]))
    with sizes_only():
        meta = ClassConditionalUNet(2, 0.0, spatial_dims=spatial_dims, in_channels=1, out_channels=1, **SIZES)
        plain, checkpointed, halved = (
            training_memory(meta, meta.blocks, shape, *switches)
            for switches in ((False, False), (True, False), (False, True))
        )
    assert plain.activations == pytest.approx(real, rel=0.1)
    assert checkpointed.activations < 0.9 * plain.activations
    assert halved.activations == plain.activations // 2
    assert plain.weights == 20 * sum(parameter.numel() for parameter in meta.parameters())


def test_a_block_in_eval_mode_is_computed_once():
    class Counted(nn.Linear):
        calls = 0

        def forward(self, input):
            Counted.calls += 1
            return super().forward(input)

    block = Counted(2, 2)
    checkpoint_blocks([block])
    inputs = torch.randn(3, 2)
    block.eval()(inputs).sum().backward()
    assert Counted.calls == 1
    block.train()(inputs).sum().backward()
    assert Counted.calls == 3


def of_cells(sides, batch):
    return TrainingMemory(100, batch * sides[0] * sides[1])


@pytest.mark.parametrize(
    ("sides", "batch", "available", "way_out"),
    [
        ([16, 24], 8, 1300, "batches of 3, or less"),
        ([16, 24], 1, 300, r"patches of \[8, 16\], or less"),
        ([16, 24], 1, 101, "what would fit: less"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(sides, batch, available, way_out):
    assert refuse_too_large(of_cells, sides, batch, 8, 10**6, "less").peak == 100 + batch * 384
    with pytest.raises(ValueError, match=f"a training must fit into .* got about .* for batches of .*{way_out}"):
        refuse_too_large(of_cells, sides, batch, 8, available, "less")


def test_images_beside_the_training_count():
    assert refuse_too_large(of_cells, [16, 24], 8, 8, 4000, "less", 828).peak == 3172
    with pytest.raises(ValueError, match="batches of 7"):
        refuse_too_large(of_cells, [16, 24], 8, 8, 4000, "less", 829)
    with pytest.raises(ValueError, match=r"patches of \[8, 8\]"):  # whose images are smaller, too
        refuse_too_large(of_cells, [16, 16], 1, 8, 400, "less", 500)


@pytest.mark.parametrize(
    ("membership", "files", "limits"),
    [
        ("0::/job/step", {"job/memory.max": "500", "job/step/memory.max": "max"}, [500]),
        ("0::/", {"memory.max": "700"}, [700]),
        ("5:cpu:/\n4:memory,x:/job", {"memory/job/memory.limit_in_bytes": "300", "memory.max": "1"}, [300]),
        ("0::/unseen", {}, []),
        (None, {}, []),
    ],
    ids=["version 2", "container", "version 1", "unseen", "no Linux"],
)
def test_the_limits_of_control_groups_are_read(tmp_path, membership, files, limits):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    if membership is not None:
        (tmp_path / "own").write_text(membership + "\n")
    assert list(control_group_limits(tmp_path / "own", tmp_path)) == limits


def test_the_least_limit_counts_and_without_any_nothing_is_checked(monkeypatch):
    monkeypatch.setattr(memory, "control_group_limits", lambda: [2**20])
    assert memory.available_memory("cpu") == int(0.9 * 2**20)
    monkeypatch.setattr(memory, "control_group_limits", lambda: [])
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.available_memory("cpu") is None
    volume = {"shape": [1, 4096, 4096, 4096], "unshuffle": 1, "flash_attention": True, "bf16": False, "device": "cpu"}
    check_memory(**SIZES, **volume, batch_size=1, checkpointing=False)


@pytest.mark.parametrize("stage", ["train_generator", "train_autoencoder"])
def test_a_training_is_refused_before_its_images_are_read(stage, tmp_path, monkeypatch):
    paths = write_tiny_patches(tmp_path / "patches")
    num_images = sum(len(read_json(paths["splits_path"])["folds"][0][part]) for part in ("train", "inner"))
    counted = []

    def refuse(*arguments):
        counted.append(arguments[-1])
        raise ValueError("too large")

    monkeypatch.setattr(checks, "available_memory", lambda device: 1)
    monkeypatch.setattr(checks, "refuse_too_large", refuse)
    monkeypatch.setattr(tensors, "load_images", lambda *_: pytest.fail("images were read"))
    with pytest.raises((ValueError, RuntimeError)) as caught:
        run_stage(stage, **TINY_GENERATOR, **paths, output_dir=str(tmp_path / "out"))
    assert "too large" in messages(caught.value)
    assert counted == [num_images * 4 * 8 * 12 * 4]


def test_a_volume_of_real_size_is_told_before_any_work():
    settings = {**SIZES, "channels": [32, 64, 64], "attention_levels": [False] * 3, "norm_num_groups": 8}
    volume = {"shape": [1, 160, 192, 160], "unshuffle": 1, "flash_attention": True, "bf16": False, "device": "cpu"}
    at_once = {**settings, **volume, "batch_size": 1}
    check_memory(**at_once, checkpointing=False, available=80 * 2**30)
    with pytest.raises(
        ValueError, match=r"patches of \[\d+, \d+, \d+\], or generator_checkpointing true, or generator_"
    ):
        check_memory(**at_once, checkpointing=False, available=16 * 2**30)
    check_memory(**at_once, checkpointing=True, available=24 * 2**30)


def test_an_autoencoder_of_volumes_is_told_too_and_needs_less_with_checkpointed_blocks():
    settings = {"in_channels": 1, "latent_channels": 4, "num_res_blocks": 1, "norm_num_groups": 8, "attention": False}
    volume = {"patch_size": [64, 80, 64], "channels": [32, 64], "unshuffle": 1, "batch_size": 1, "device": "cpu"}
    check_autoencoder_memory(**settings, **volume, checkpointing=False, available=2 * 2**30)
    with pytest.raises(ValueError, match=r"patches of \[\d+, \d+, \d+\], or autoencoder_checkpointing true"):
        check_autoencoder_memory(**settings, **volume, checkpointing=False, available=3 * 2**28)
    check_autoencoder_memory(**settings, **volume, checkpointing=True, available=3 * 2**28)
    sizes = {"spatial_dims": 2, "channels": [8, 8], **settings}
    torch.manual_seed(0)
    plain, checkpointed = (LatentAutoencoder(**sizes, checkpointing=switch).train() for switch in (False, True))
    checkpointed.load_state_dict(plain.state_dict())
    for network in (plain, checkpointed):
        torch.manual_seed(1)  # of the latents that are drawn
        network(torch.ones(2, 1, 8, 12)).images.square().mean().backward()
    for expected, parameter in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=0, atol=0)
