"""The benchmark of samplers on a tiny generator: it draws, measures, and names the cheapest setting that is as good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.phantom_patches import phantom_patches
from benchmarks.sampler_measures import Difference, Floors
from benchmarks.samplers import SETTINGS, all_steps, configured, is_non_inferior, main, simulated_images
from scripts.generator.diffusion_set import DiffusionSet
from scripts.generator.samplers import SAMPLERS
from scripts.running.files import read_json
from tests.helpers import run_stage
from tests.patches import TINY_GENERATOR, write_tiny_patches


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path, list[str]]:
    folder = tmp_path_factory.mktemp("samplers")
    paths = write_tiny_patches(folder / "patches", subjects_per_class=16)
    training = {
        "generator_class": "LGG",
        "generator_batch_size": 4,
        "generator_max_epochs": 1,
        "generator_epoch_images": 8,
        "generator_num_validation_draws": 2,
    }
    run_stage("train_generator", **TINY_GENERATOR, **training, **paths, output_dir=str(folder / "lgg"))
    arguments = [str(folder / "lgg" / "model.pt"), paths["patches_path"], "--class-name", "LGG", "--images", "6"]
    settings = ["--settings", "ddim:4", "ddpm:20", "dpm_solver:3", "unipc:3"]
    overrides = [
        "--set",
        *(f"{key}={json.dumps(value)}" for key, value in TINY_GENERATOR.items()),
        "generate_batch_size=4",
    ]
    command = [*arguments, *settings, "--output-dir", str(folder / "out"), *overrides]
    main(command)
    return read_json(folder / "out" / "samplers.json"), folder / "out", command


def test_every_setting_is_measured_once_after_all_steps_of_ddpm(result):
    rows = result[0]["rows"]
    assert [(row["sampler"], row["steps"]) for row in rows] == [
        ("ddpm", 20),
        ("ddim", 4),
        ("dpm_solver", 3),
        ("unipc", 3),
    ]
    assert rows[0]["kid_difference"] == [0, 0, 0]
    for row in rows[1:]:
        low, high = row["kid_difference"][1:]
        assert low < row["kid"] - rows[0]["kid"] < high
        assert 0 <= row["coverage"] <= 1
        assert 0 < row["seconds_per_image"] < rows[0]["seconds_per_image"]


def test_the_cheapest_is_non_inferior_and_none_that_is_is_cheaper(result):
    good = [row["seconds_per_image"] for row in result[0]["rows"] if row["non_inferior"]]
    assert result[0]["cheapest"]["non_inferior"]
    assert result[0]["cheapest"]["seconds_per_image"] == min(good)


def test_the_table_names_margin_number_and_features_and_the_figure_is_there(result):
    content, folder, _ = result
    text = (folder / "samplers.md").read_text(encoding="utf-8")
    assert f"Margin of the KID {content['floors']['kid'] / 2:.4f}" in text
    assert "N = 6 synthetic and 16 real images; indicative, below 2000 on a side" in text
    assert "whitened pixel-PCA components" in text
    assert "FID" not in text
    assert (folder / "samplers.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_continues_draws_nothing_anew(result, monkeypatch):
    before, folder, command = result
    monkeypatch.setattr(DiffusionSet, "draw", lambda _, numbers: torch.zeros(len(numbers)))  # the warm-up alone
    main(command)
    assert read_json(folder / "samplers.json") == before


def test_further_patients_are_simulated_once_and_are_none_of_a_study(tmp_path):
    config = configured("quick", {"patch_size": [16, 16], "phantom_matrix_size": [20, 20, 16]})
    images = simulated_images(config, "A", "HGG", 2, tmp_path)
    assert images.shape == (2, 4, 16, 16)
    assert torch.equal(images, simulated_images(config, "A", "HGG", 2, tmp_path))
    assert not torch.equal(images, phantom_patches(2, 0, 16, (20, 20, 16)))


def test_patients_for_patches_that_are_no_squares_are_refused(tmp_path):
    config = configured("quick", {"patch_size": [8, 12]})
    with pytest.raises(ValueError, match=r"patch_size must be a square.*\[8, 12\]"):
        simulated_images(config, "A", "HGG", 2, tmp_path)


def test_a_flow_is_compared_with_all_steps_of_eulers_method():
    assert all_steps(configured("small", {}).get_parsed_content("noise_scheduler")) == ("ddim", 1000)
    assert all_steps(configured("paper", {}).get_parsed_content("noise_scheduler")) == ("ddpm", 1000)


def row(high: float, coverage: float = 0.8, max_pearson: float = 0.5) -> dict:
    return {"kid_difference": Difference(0.0, -high, high), "coverage": coverage, "max_pearson": max_pearson}


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (row(0.4), True),
        (row(0.6), False),
        (row(0.4, coverage=0.6), False),
        (row(0.4, coverage=1.0), True),
        (row(0.4, max_pearson=0.7), False),
        (row(0.4, max_pearson=0.65), True),
        (row(0.4, max_pearson=0.3), True),
    ],
    ids=[
        "within",
        "kid",
        "less coverage",
        "more coverage",
        "nearer to training",
        "as near as others",
        "farther from training",
    ],
)
def test_a_setting_is_as_good_only_if_nothing_gets_worse_by_more_than_its_floor(candidate, expected):
    assert is_non_inferior(candidate, row(0.0), Floors(kid=1.0, coverage=0.1, max_pearson=0.1), 0.58) is expected


def test_settings_that_are_measured_by_default_are_samplers_there_are():
    assert {setting.split(":")[0] for setting in SETTINGS} <= set(SAMPLERS)


@pytest.mark.parametrize("recipe", ["quick", "small", "paper"])
def test_a_recipe_is_read_by_its_name(recipe):
    assert configured(recipe, {}).get_parsed_content("num_train_timesteps") > 0
