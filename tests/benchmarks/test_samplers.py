"""The benchmark of samplers on a tiny generator: it draws, measures, and names the cheapest setting that is as good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.sampler_measures import Difference, Floors
from benchmarks.samplers import SETTINGS, configured, is_non_inferior, main
from scripts.generator.samplers import SAMPLERS
from scripts.running.files import read_json
from tests.helpers import run_stage
from tests.patches import TINY_GENERATOR, write_tiny_patches


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path, str]:
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
    main([*arguments, *settings, "--output-dir", str(folder / "out"), *overrides])
    return read_json(folder / "out" / "samplers.json"), folder / "out", str(folder / "lgg" / "model.pt")


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


def row(high: float, coverage: float = 0.8, max_pearson: float = 0.5) -> dict:
    return {"kid_difference": Difference(0.0, -high, high), "coverage": coverage, "max_pearson": max_pearson}


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [(row(0.4), True), (row(0.6), False), (row(0.4, coverage=0.6), False), (row(0.4, max_pearson=0.7), False)],
    ids=["within", "kid", "coverage", "max_pearson"],
)
def test_a_setting_is_as_good_only_if_nothing_moves_by_more_than_its_floor(candidate, expected):
    assert is_non_inferior(candidate, row(0.0), Floors(kid=1.0, coverage=0.1, max_pearson=0.1)) is expected


def test_settings_that_are_measured_by_default_are_samplers_there_are():
    assert {setting.split(":")[0] for setting in SETTINGS} <= set(SAMPLERS)


@pytest.mark.parametrize("recipe", ["quick", "small", "paper"])
def test_a_recipe_is_read_by_its_name(recipe):
    assert configured(recipe, {}).get_parsed_content("num_train_timesteps") > 0
