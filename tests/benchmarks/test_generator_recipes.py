"""The benchmark of generator recipes: its measures, and a recipe from training to images."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from monai.bundle import ConfigParser

from benchmarks.generator_recipes import (
    RECIPES,
    RECIPES_3D,
    Patients,
    draw_set,
    radial_spectrum,
    spectrum_difference,
    table,
    train_generator,
    trained_as,
    warm_average,
)
from tests.helpers import config_files


def test_the_spectrum_of_a_wave_lies_in_its_ring():
    wave = torch.cos(2 * torch.pi * 3 * torch.arange(16) / 16).expand(1, 1, 16, 16)
    assert radial_spectrum(wave)[0].argmax() == 2  # rings begin at one cycle an image


def test_twice_the_amplitude_is_a_difference_of_log_4():
    images = torch.randn(4, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    assert spectrum_difference(2 * images, images) == pytest.approx(torch.tensor(4.0).log().item(), rel=1e-4)


def test_the_average_forgets_its_start():
    average = [torch.tensor([5.0])]
    warm_average(0.99)(average, [torch.tensor([1.0])], torch.tensor(0))
    assert float(average[0]) == pytest.approx(0.1 * 5 + 0.9 * 1)


@pytest.mark.parametrize(
    ("arms", "name", "shape"),
    [
        *(
            (RECIPES, name, (4, 16, 16))
            for name in ("before", "default", "default, not unshuffled", "default, unchanged")
        ),
        (RECIPES, "latent", (4, 16, 16)),
        *((RECIPES_3D, name, (1, 8, 8, 8)) for name in ("default", "latent")),
    ],
)
def test_a_recipe_trains_within_its_time_and_draws_both_classes(arms, name, shape, tmp_path):
    recipe = dataclasses.replace(arms[name], channels=(8, 8), steps=2)
    images = torch.rand(8, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.save(train_generator(recipe, Patients(images, torch.arange(8) % 2), 0.4, seed=0), tmp_path / "weights.pt")
    trained = torch.load(tmp_path / "weights.pt", weights_only=True)
    made = draw_set(recipe, trained, shape, seed=0, count=3)
    assert made["images"].shape == (6, *shape)
    assert made["labels"].tolist() == [0, 0, 0, 1, 1, 1]
    assert min(made["steps"]) >= 1


def test_arms_that_differ_in_drawing_alone_share_their_weights():
    assert trained_as("default, guidance 4", RECIPES) == trained_as("default, DPM-Solver", RECIPES) == "default"
    assert trained_as("quick", RECIPES) == "quick"


def test_the_table_gives_the_mean_and_its_interval_over_seeds():
    names = ("kernel_distance", "precision", "recall", "density", "coverage", "label_auc", "spectrum")
    rows = [{"recipe": "v", "steps": [10], **dict.fromkeys(names, value)} for value in (0.4, 0.5, 0.6)]
    # t(2) = 4.303, and .1 / sqrt(3) = .0577.
    assert table(rows).splitlines()[-1].startswith("| v | 3 | 10 | 0.50 (0.25 to 0.75) |")


@pytest.mark.parametrize(("size", "name"), [("quick", "quick"), ("small", "default")])
def test_its_recipe_is_that_of_the_bundle(size, name):
    recipe = RECIPES[name]
    config = ConfigParser()
    config.read_config(config_files("common", "train_generator", "generate", f"recipes/{size}"))
    names = {
        "generator_parametrization": recipe.parametrization,
        "generator_channels": list(recipe.channels),
        "generator_unshuffle": recipe.unshuffle,
        "generator_batch_size": recipe.batch,
        "generator_learning_rate": recipe.rate,
        "guidance_scale": recipe.guidance,
        "sampler": recipe.sampler,
        "num_inference_steps": recipe.steps,
        "generator_gaussian_rank": recipe.gaussian_rank,
        "generator_gaussian_fade": list(recipe.fade),
        "generator_amp": recipe.amp,
        "generator_augment": True,
        "generator_flip": recipe.changes.flip,
        "generator_rotate_degrees": recipe.changes.rotate_degrees,
        "generator_scale": recipe.changes.scale,
        "generator_translate": recipe.changes.translate,
    }
    assert {name: config.get_parsed_content(name) for name in names} == names
