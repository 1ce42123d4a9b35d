"""Every stage runs at full size and with every recipe: one epoch of a few images, on simulated patients."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import yaml

from scripts.running.files import read_json, write_json
from scripts.running.setups import Setup
from tests.helpers import ROOT, run_stage
from tests.zoo_bundle import write_bundle

SETUPS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "configs/study.yaml").read_text())["setups"]
# One batch of what each recipe trains on; the sizes of images and networks are the recipe's own.
ONE_STEP = {
    "generator_max_epochs": 1,
    "generator_epoch_images": 1,
    "generator_batch_size": 2,
    "generator_num_validation_draws": 1,
    "classifier_max_epochs": 1,
    "classifier_batch_size": 4,
    "classifier_epoch_images": 4,
}
# A method changes how a network trains, not the network, and the paper's is that of the defaults: one trains it.
SMALL_NETWORK = {
    "generator_channels": [32, 32],
    "generator_attention_levels": [False, True],
    "generator_num_res_blocks": 1,
    "generator_num_head_channels": 32,
}
RECIPES = [(), ("recipes/quick",), ("recipes/small",), ("recipes/paper",)]


def chosen(*names):
    """Overrides that belong to a stage; others would be refused."""
    return {key: value for key, value in ONE_STEP.items() if key.startswith(names)}


@pytest.fixture(scope="module", params=RECIPES, ids=lambda names: "".join(names) or "full_size")
def data(request, tmp_path_factory):
    """Recipe, folder and paths of patches and splits of ten simulated patients."""
    folder, recipe = tmp_path_factory.mktemp("recipe"), request.param
    phantom = {"phantom_num_subjects": 12, "phantom_matrix_size": [48, 48, 31], "phantom_lgg_fraction": 0.5}
    run_stage("phantom", *recipe, output_dir=str(folder / "cohort"), **phantom)
    cohort = {"cohort_path": str(folder / "cohort" / "cohort.json")}
    run_stage("patches", *recipe, output_dir=str(folder / "patches"), **cohort, **small_images(recipe))
    run_stage("splits", *recipe, output_dir=str(folder / "splits"), num_folds=2, **cohort)
    paths = {
        "patches_path": str(folder / "patches" / "patches.json"),
        "splits_path": str(folder / "splits" / "splits.json"),
    }
    return recipe, folder, paths


def small_images(recipe):
    """Smaller patches for the full-size networks: 96 x 96 takes minutes per step on a CPU."""
    return {"patch_size": [32, 32], "patch_spacing_mm": 3.0} if recipe in ((), ("recipes/paper",)) else {}


@pytest.fixture(scope="module")
def synthetic(data):
    """Paths of one synthetic set of each class for each method, drawn by one network told the class."""
    recipe, folder, paths = data
    common = {**paths, "fold": 0, "generator_condition": "label"}
    made = {}
    for method, overlays in {"ddpm": (), "ddpm_mi": ("options/mutual_information",)}.items():
        trained = folder / f"generator_{method}"
        repeats_full_size = small_images(recipe) and (method, recipe) != ("ddpm", ())
        network = SMALL_NETWORK if repeats_full_size else {}
        settings = {**common, **network, "generator_class": None, "output_dir": str(trained)}
        run_stage("train_generator", *overlays, *recipe, **settings, **chosen("generator"), **small_images(recipe))
        # The paper draws with all steps of DDPM: four of them here.
        few = {} if recipe == ("recipes/paper",) else {"num_inference_steps": 2}
        steps = {"num_train_timesteps": 4, **few}
        for name in ("LGG", "HGG"):
            drawn = folder / f"synthetic_{name}_{method}"
            settings = {**common, **network, "generator_class": name, "num_images": 4, "output_dir": str(drawn)}
            settings["generator_path"] = str(trained / "model.pt")
            run_stage("generate", *recipe, **settings, **steps, **small_images(recipe))
            made.setdefault(method, []).append(str(drawn / "synthetic.json"))
    return made


@pytest.mark.slow
def test_subjects_without_a_mask_are_segmented(data):
    recipe, folder, _ = data
    cohort = read_json(folder / "cohort" / "cohort.json")
    cohort["subjects"] = [{**subject, "mask": None} for subject in cohort["subjects"][:1]]
    write_json(folder / "cohort" / "unsegmented.json", cohort)
    paths = {"cohort_path": str(folder / "cohort" / "unsegmented.json"), "output_dir": str(folder / "segmented")}
    bundle = {"segmentation_bundle_dir": write_bundle(folder / "zoo"), "segmentation_spacing_mm": None}
    run_stage("segment", *recipe, **paths, **bundle)
    made = read_json(folder / "segmented" / "cohort.json")["subjects"]
    assert [subject["mask_source"] for subject in made] == ["model"]


@pytest.mark.slow
def test_generators_train_and_draw(data, synthetic):
    recipe, folder, paths = data
    for method, (path, _) in synthetic.items():
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
        assert content["provenance"]["method"] == method
        assert len(content["training"]) == 4
        audited = {"synthetic_path": path, "audit_num_pairs": 1, **paths}
        run_stage("audit", *recipe, output_dir=str(folder / f"audit_{method}"), **audited)
        measured = {"real_path": paths["patches_path"], "splits_path": paths["splits_path"], "synthetic_path": path}
        output_dir = str(folder / f"measures_{method}")
        run_stage("measure_images", *recipe, output_dir=output_dir, measure_num_permutations=20, **measured)


@pytest.mark.slow
@pytest.mark.parametrize("setup", SETUPS)
def test_classifiers_of_every_setup_train(data, synthetic, setup):
    recipe, folder, paths = data
    output_dir = folder / f"classifier_{setup}"
    training = Setup.of(setup, SETUPS[setup])
    settings = {**paths, **training.overrides(), "fold": 0, "synthetic_paths": synthetic.get(setup, [])}
    # A setup changes what is trained on, not the network: one of them trains that of the recipe, which takes longest.
    # The paper's is that of the defaults: one trains it.
    if setup != next(iter(SETUPS)) or recipe == ("recipes/paper",):
        settings["classifier_backbone"] = "resnet10_thin"
    names = ("train_classifier", *training.overlays, *recipe)
    run_stage(*names, output_dir=str(output_dir), **settings, **chosen("classifier"))
    weights = torch.load(output_dir / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in weights.values())
