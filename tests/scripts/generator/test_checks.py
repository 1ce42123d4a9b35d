"""What no generator can be is told without a file."""

from __future__ import annotations

import time
from typing import Any

import pytest

from scripts.generator import checks
from scripts.generator.checks import check_classes, check_drawing, check_network, check_training
from scripts.running.configs import Invocation
from tests.helpers import config_files, run_stage
from tests.ring_or_blob import messages

NETWORK: dict[str, Any] = {
    "patch_size": [96, 96],
    "spatial_dims": 2,
    "in_channels": 4,
    "channels": [96, 192, 384],
    "attention_levels": [False, False, True],
    "num_res_blocks": 2,
    "num_head_channels": 64,
    "norm_num_groups": 32,
}
TRAINING = {
    "max_epochs": 100,
    "val_interval": 1,
    "batch_size": 32,
    "learning_rate": 2e-4,
    "ema_decay": 0.999,
    "num_draws": 16,
}
DRAWING = {"num_images": None, "batch_size": 64, "max_draws_per_image": 2.0, "snap_tolerance": 0.1}
CLASSES = {"classes": ["LGG", "HGG"], "condition": "label", "class_name": None}


@pytest.mark.parametrize("recipe", [(), ("recipes/quick",), ("recipes/small",), ("recipes/paper",)])
def test_the_networks_of_the_recipes_pass_and_take_no_time(recipe):
    config = Invocation(tuple(config_files("train_generator", *recipe))).merged()
    settings = {name: config.get(f"generator_{name}", config.get(name)) for name in NETWORK if name != "in_channels"}
    checks._try_network.cache_clear()
    start = time.thread_time()  # of this thread alone, however busy the machine is
    check_network(in_channels=4, **settings)
    assert time.thread_time() - start < 5


def test_equal_settings_are_tried_once_and_others_anew(monkeypatch):
    checks._try_network.cache_clear()
    tried = []
    monkeypatch.setattr(checks, "ClassConditionalUNet", lambda *_, **settings: tried.append(settings) or (lambda *_: 0))
    for changes in ({}, {"channels": (96, 192, 384)}, {"num_res_blocks": 1}, {"patch_size": [48, 48]}, {}):
        check_network(**{**NETWORK, **changes})
    checks._try_network.cache_clear()
    assert [settings["num_res_blocks"] for settings in tried] == [2, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": [50, 50]}, r"patch_size must be divisible by 4, got \[50, 50\]: .*x 2\^\(levels - 1\)"),
        ({"patch_size": [96, 94]}, "patch_size must be divisible by 4"),
        ({"patch_size": [92, 96], "unshuffle": 2}, "patch_size must be divisible by 8"),
        ({"patch_size": [96]}, r"patch_size must be 2 numbers above 0 with spatial_dims 2 .*got \[96\]"),
        ({"patch_size": [96, 0]}, "patch_size must be 2 numbers above 0"),
        ({"spatial_dims": 4, "patch_size": [8] * 4}, r"spatial_dims 4 \(2 or 3\)"),
        ({"channels": [10, 20, 40]}, "generator_channels must be multiples of generator_norm_num_groups 32, got 10"),
        ({"channels": [96, 192]}, r"generator_attention_levels must be 2 switches, .*got \[False, False, True\]"),
        ({"num_head_channels": 50}, "with self-attention must be multiples of generator_num_head_channels 50, got 384"),
        ({"unshuffle": 0}, "generator_unshuffle must be >= 1, got 0"),
        ({"num_res_blocks": [1, 2]}, "generator_num_res_blocks .* must make a network"),
    ],
)
def test_a_network_that_cannot_be_is_refused_by_its_keys(changes, message):
    check_network(**NETWORK)
    with pytest.raises(ValueError, match=message):
        check_network(**{**NETWORK, **changes})


@pytest.mark.parametrize(
    ("check", "settings", "changes", "message"),
    [
        (check_training, TRAINING, {"max_epochs": 0}, "generator_max_epochs must be >= 1, got 0"),
        (check_training, TRAINING, {"val_interval": 101}, "generator_val_interval must be at most .* 100, got 101"),
        (check_training, TRAINING, {"batch_size": 0}, "generator_batch_size must be >= 1"),
        (check_training, TRAINING, {"learning_rate": 0.0}, "generator_learning_rate must be > 0"),
        (check_training, TRAINING, {"learning_rate": float("nan")}, "generator_learning_rate must be > 0, got nan"),
        (check_training, TRAINING, {"ema_decay": 1}, r"generator_ema_decay must be in \(0, 1\), got 1"),
        (check_training, TRAINING, {"num_draws": 0}, "generator_num_validation_draws must be >= 1"),
        (check_training, TRAINING, {"epoch_images": 0}, "generator_epoch_images must be >= 1, got 0"),
        (check_training, TRAINING, {"checkpoint_interval": 0}, "generator_checkpoint_interval must be >= 1, got 0"),
        (
            check_training,
            TRAINING,
            {"selection": "test"},
            "generator_selection must be one of inner, validation, train",
        ),
        (check_classes, CLASSES, {"condition": "class"}, "generator_condition must be label or null, got 'class'"),
        (
            check_classes,
            CLASSES,
            {"class_name": "MGG"},
            "generator_class must be one of LGG, HGG, or null .* got 'MGG'",
        ),
        (check_drawing, DRAWING, {"num_images": 0}, "num_images must be >= 1, got 0"),
        (check_drawing, DRAWING, {"batch_size": 0}, "generate_batch_size must be >= 1"),
        (check_drawing, DRAWING, {"max_draws_per_image": 0.5}, "max_draws_per_image must be >= 1, got 0.5"),
        (check_drawing, DRAWING, {"snap_tolerance": 1}, r"snap_tolerance must be in \[0, 1\), got 1"),
        (check_drawing, DRAWING, {"ratio": -1}, "generated_ratio must be > 0, got -1"),
        (check_drawing, DRAWING, {"ratio": 0}, "generated_ratio must be > 0, got 0; it is synthetic_ratio where"),
        (check_drawing, DRAWING, {"ratio": float("nan")}, "generated_ratio must be > 0, got nan"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_their_keys(check, settings, changes, message):
    check(**settings)
    with pytest.raises(ValueError, match=message):
        check(**{**settings, **changes})


@pytest.mark.parametrize(
    ("stage", "overrides", "message"),
    [
        (("train_generator",), {"patch_size": [50, 50]}, "patch_size must be divisible by 8, got [50, 50]"),
        (("train_generator",), {"generator_gaussian_rank": -1}, "generator_gaussian_rank must be >= 0, got -1"),
        (("train_generator",), {"generator_ema_decay": 1.5}, "generator_ema_decay must be in (0, 1), got 1.5"),
        (("train_generator", "options/mutual_information"), {"mi_pair": "foo"}, "mi_pair must be one of"),
        (("generate",), {"sampler": "foo"}, "sampler must be one of ddpm, ddim"),
        (("generate",), {"num_inference_steps": 5000}, "num_inference_steps must be from"),
        (("train_generator",), {"generator_parametrization": "foo"}, "generator_parametrization must be one of"),
        (("train_generator",), {"generator_unshuffle": 5}, "patch_size must be divisible by 20, got [96, 96]"),
        (("train_generator",), {"generator_class": "MGG"}, "generator_class must be one of LGG, HGG, or null"),
        (
            ("train_generator",),
            {"spatial_dims": 3, "patch_size": [16, 16, 16], "generator_amp": True, "device": "cpu"},
            "generator_amp must be false on a CPU for volumes of [16, 16, 16] with 3 levels of generator_channels:"
            " level 3 has two voxels along the first axis",
        ),
        (
            ("generate",),
            {"generator_parametrization": "flow", "sampler": "ddpm", "num_inference_steps": None},
            "sampler must be one of ddim, dpm_solver, unipc for generator_parametrization flow",
        ),
        (
            ("generate",),
            {"generator_label_dropout": 0.0},
            "guidance_scale must be 1 for a generator trained without label",
        ),
        (
            ("generate",),
            {"generator_condition": None, "guidance_scale": 3.0},
            "guidance_scale must be 1 for a generator that is not told the class, got 3.0",
        ),
        (("generate",), {"generator_class": "MGG"}, "generator_class must be one of LGG, HGG, or null"),
        (("generate",), {"synthetic_ratio": -1.0}, "generated_ratio must be > 0, got -1.0; it is synthetic_ratio"),
        (("generate_control",), {"generated_ratio": 0}, "generated_ratio must be > 0, got 0; it is synthetic_ratio"),
        (
            ("generate",),
            {"reject_copies": True, "patches_path": None},
            "patches_path must be given where reject_copies",
        ),
        (
            ("generate",),
            {"reject_copies": True, "audit_copy_ratio": 1.5},
            "audit_copy_ratio must be in (0, 1), got 1.5",
        ),
        (("generate",), {"reject_copies": True, "audit_max_shift": 25}, "--audit_max_shift 24"),
        (("generate",), {"max_draws_per_image": 0.5}, "max_draws_per_image must be >= 1, got 0.5"),
        (("train_classifier",), {"classifier_backbone": "resnet51"}, "classifier_backbone must be one of"),
        (("train_classifier",), {"classifier_batch_size": 1}, "classifier_batch_size must be >= 2, got 1"),
        (("train_classifier",), {"classifier_focal_alpha_mode": "foo"}, "classifier_focal_alpha_mode must be one of"),
        (("train_classifier", "options/cuda_graph"), {"device": "cpu"}, "device must be a CUDA device"),
    ],
)
def test_a_stage_is_refused_before_it_reads_or_writes_a_file(tmp_path, stage, overrides, message):
    nowhere = str(tmp_path / "nowhere")
    paths = {"patches_path": nowhere, "splits_path": nowhere, "output_dir": str(tmp_path / "out")}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        run_stage(*stage, **{**paths, **overrides})
    assert message in messages(caught.value)
    assert list(tmp_path.iterdir()) == []
