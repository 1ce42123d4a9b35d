"""Every stage says what its settings cannot be, from the config alone: no file is read, no trained weights, no work."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from scripts.running.configs import Invocation, parser_of
from scripts.running.errors import root_cause
from tests.helpers import ROOT, TINY, config_files
from tests.ring_or_blob import messages
from tests.test_configs import RECIPES, STAGES, own_keys

# Of one stage each; a study makes the checks of all of them.
SINGLE = {name: names for name, names in STAGES.items() if "study" not in names[0]}
WITH_SETTINGS = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml") if path.stem not in ("common", "study"))
OF_FILES = {"fold"}  # numbers that files alone can tell to be wrong
GIVEN = {"source_path": "patients.csv", "device": "cpu"}  # what has no default that passes
NEEDED: dict[str, dict[str, Any]] = {
    "train_generator+mutual_information_bounded": {"generator_parametrization": "epsilon"},
    "train_classifier+warmup": {"classifier_warmup_epochs": 1},  # the shortest recipe trains for four
}


def make_checks(names: tuple[str, ...], *recipes: str, **overrides: Any) -> set[str]:
    """Make the checks of a stage; return the ids that were put together for them."""
    files = [
        *config_files(*names),
        *(TINY if name == TINY else str(ROOT / "configs" / f"{name}.yaml") for name in recipes),
    ]
    parser = parser_of(Invocation(tuple(files), {**GIVEN, **overrides}).merged())
    parser.get_parsed_content("checks")
    return set(parser.ref_resolver.resolved_content)


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_a_stage_with_settings_has_checks_and_makes_them_first(name):
    assert "checks" in own_keys(name)
    names = STAGES[name]
    items = Invocation(tuple(config_files(*names))).merged()["initialize"]
    made = ["@training_data"] if name.startswith("train_") else []  # which runs stages with checks of their own
    assert items[1 : 3 + len(made)] == ["@checks", *made, "$@stage.begin()"]


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_every_number_of_a_stage_is_handed_to_a_check(name):
    content = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    numbers = {key for key, value in content.items() if is_number(value)}
    assert numbers - make_checks(STAGES[name]) - OF_FILES == set()


def is_number(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(is_number(item) for item in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@pytest.mark.parametrize("name", [name for name in SINGLE if "cuda_graph" not in name])
def test_checks_build_no_network_on_the_device_and_read_no_data(name):
    built = make_checks(SINGLE[name], **NEEDED.get(name, {}))
    assert not {"network", "generator", "network_def", "data", "stage", "features", "source_listing"} & built
    assert not {part for part in built if part.startswith(("train#", "validate#"))}


WITHOUT_SENSE = {
    ("phantom", "recipes/pictures"): "modalities must be sequences of the phantom",
    ("train_classifier", "recipes/volumes"): "classes must be at least two where something is classified, got 0",
}


@pytest.mark.parametrize("recipe", [*RECIPES, TINY], ids=[*RECIPES, "tiny"])
@pytest.mark.parametrize("name", [name for name in SINGLE if "cuda_graph" not in name])
def test_every_stage_passes_with_every_recipe(name, recipe):
    if (SINGLE[name][0], recipe) in WITHOUT_SENSE:
        with pytest.raises(RuntimeError) as error:
            make_checks(SINGLE[name], recipe)
        assert WITHOUT_SENSE[SINGLE[name][0], recipe] in str(root_cause(error.value))
        return
    make_checks(SINGLE[name], recipe, **NEEDED.get(name, {}))


@pytest.mark.parametrize(
    ("stage", "overrides", "message"),
    [
        ("phantom", {"phantom_site": "Z"}, r"phantom_site must be one of \['A', 'B'\], got 'Z'"),
        ("phantom", {"phantom_num_subjects": 0}, "phantom_num_subjects must be >= 1, got 0"),
        ("phantom", {"phantom_matrix_size": [80, 80]}, "phantom_matrix_size must be three sizes"),
        ("phantom", {"phantom_lgg_fraction": 1.5}, r"phantom_lgg_fraction must be in \[0, 1\], got 1.5"),
        ("phantom", {"phantom_sites#A#field_strength_tesla": 7.0}, "field_strength_tesla must be one of"),
        (
            "phantom",
            {"phantom_sites#A#sequences#t1n#sequence": "echo"},
            "phantom_sites#A#sequences#t1n#sequence must be one of spin_echo, .* got 'echo'",
        ),
        ("phantom", {"phantom_sites#B#sequences#t2f#nulls": "bone", "phantom_site": "B"}, "nulls must be one of"),
        ("cohort", {"source_path": None}, "source_path must be a folder or a table, got None; pass --source_path"),
        ("cohort", {"cohort_layout": "dicomdir"}, "cohort_layout must be auto or one of .* got 'dicomdir'"),
        ("cohort", {"grade_map": {"astro II": "MGG"}}, "grade_map must give one of LGG, HGG or null, got 'MGG'"),
        ("cohort", {"mask_codes": "brats_1999"}, "mask_codes must be brats_2017 .* got 'brats_1999'"),
        ("cohort", {"mask_codes": {"necrotic": 0}}, "mask_codes must be integers of at least 1"),
        ("cohort", {"cohort_num_workers": 0}, "cohort_num_workers must be >= 1, got 0"),
        ("cohort", {"min_background": 1.0}, r"min_background in \[0, 1\)"),
        ("segment", {"segmentation_mask_codes": "foo"}, "segmentation_mask_codes must be brats_2017 .* got 'foo'"),
        ("segment", {"segmentation_spacing_mm": 0.0}, "segmentation_spacing_mm must be > 0, or null .* got 0.0"),
        ("segment", {"segmentation_roi_size": [96, 96, 100]}, "segmentation_roi_size must be three multiples of 8"),
        ("segment", {"segmentation_roi_size": [96, 96]}, "segmentation_roi_size must be three multiples of 8"),
        ("patches", {"crop": "foo"}, "crop must be one of .*, got 'foo'"),
        ("patches", {"box_margin": 0.5}, "box_margin >= 1, got 1.0 and 0.5"),
        ("patches", {"intensity_mode": "minmax"}, "intensity_mode must be .* or 'fixed', got 'minmax'"),
        ("patches", {"intensity_percentiles": [99.0, 1.0]}, "intensity_percentiles must be two increasing numbers"),
        ("patches", {"intensity_percentiles": [1.0]}, "intensity_percentiles must be two increasing numbers"),
        ("patches", {"zscore_limit": 0.0}, "zscore_limit must be > 0, got 0.0"),
        ("patches", {"region_chain": ["tumor"]}, r"region_chain must be a list of .* got \['tumor'\]"),
        ("patches", {"min_et_ml": -1.0}, "min_et_ml must be >= 0, got -1.0"),
        ("patches", {"slice": "middle"}, "slice must be one of .* got 'middle'"),
        ("patches", {"min_tumor_voxels": 0}, "min_tumor_voxels must be >= 1, got 0"),
        ("patches", {"spatial_dims": 3}, "patch_size must be 3 whole numbers above 0"),
        ("patches", {"bias_correction": True, "bias_shrink_factor": 0}, "bias_shrink_factor must be >= 1, got 0"),
        (
            "patches",
            {"registration": True, "registration_reference": "t1"},
            "registration_reference must be one of t1n, t1c, t2w, t2f, got 't1'",
        ),
        ("patches", {"patches_num_workers": 0}, "patches_num_workers must be >= 1, got 0"),
        ("splits", {"num_folds": 0}, "num_folds must be at least 1, got 0"),
        ("splits", {"test_fraction": 1.0}, r"test_fraction must be in \[0, 1\), got 1.0"),
        ("splits", {"inner_fraction": -0.1}, r"inner_fraction must be in \[0, 1\), got -0.1"),
        ("splits", {"splits_stratify_by": ["age"]}, r"splits_stratify_by must be .* got \['age'\]"),
        ("splits", {"splits_hold_out": "scanners"}, "splits_hold_out must be one of .*, hint, got 'scanners'"),
        ("splits", {"selection": "test"}, "selection must be one of inner, validation, got 'test'"),
        ("splits", {"num_folds": 1, "selection": "validation"}, "selection must be inner where num_folds is 1"),
        ("audit", {"audit_num_cells": 0}, "audit_num_cells must be >= 1, got 0"),
        ("audit", {"audit_num_permutations": 0}, "audit_num_permutations must be >= 1"),
        ("audit", {"audit_num_pairs": 0}, "audit_num_pairs must be >= 1, got 0"),
        ("audit", {"audit_block_size": 0}, "audit_block_size must be >= 1, got 0"),
        ("audit", {"audit_p_value": 0.0}, r"audit_p_value must be in \(0, 1\), got 0.0"),
        ("audit", {"audit_usable_effect": 0.5}, r"audit_usable_effect must be in \(0.5, 1\), got 0.5"),
        ("audit", {"audit_copy_ratio": 1.5}, r"audit_copy_ratio must be in \(0, 1\), got 1.5"),
        ("audit", {"audit_min_images": 0}, "audit_min_images must be >= 1, got 0"),
        ("audit", {"audit_max_shift": 30}, "audit_max_shift must be 0 to a quarter .*; pass --audit_max_shift 24"),
        ("audit", {"held_out_part": "train"}, "held_out_part must be one of validation, test, inner, or null, got 'tr"),
        ("measure_images", {"measure_num_splits": 0}, "measure_num_splits must be at least 1, got 0"),
        ("measure_images", {"measure_batch_size": 0}, "measure_batch_size must be at least 1, got 0"),
        ("measure_images", {"measure_real_parts": ["foo"]}, r"measure_real_parts must be .* or null, got \['foo'\]"),
        ("generate", {"generator_class": "FOO"}, "generator_class must be one of LGG, HGG, or null for all, got 'FOO'"),
        ("generate_control", {"generator_class": "FOO"}, "generator_class must be one of LGG, HGG, .* got 'FOO'"),
        ("generate_control", {"control": "gan"}, "control must be one of pca_gaussian, .* got 'gan'"),
        ("train_generator", {"num_train_timesteps": 0}, "num_train_timesteps must be >= 1, got 0"),
        ("train_classifier", {"synthetic_ratio": -1.0}, "synthetic_ratio must be >= 0, got -1.0"),
        ("train_classifier", {"train_on_real": False}, "train_on_real must be true where synthetic_method is null"),
        (
            "train_classifier",
            {"synthetic_permutation": -1},
            "synthetic_permutation must be a whole number >= 0, got -1",
        ),
        (
            "train_classifier",
            {"synthetic_permutation": 1},
            "synthetic_permutation must be 0 but for synthetic_labels sh",
        ),
        ("train_classifier", {"synthetic_labels": "none"}, "synthetic_labels must be one of own, shuffled, got 'none'"),
        ("train_classifier", {"classifier_focal_gamma": -1.0}, "classifier_focal_gamma must be >= 0, got -1.0"),
        ("train_classifier", {"classifier_checkpoint_interval": 0}, "classifier_checkpoint_interval must be >= 1"),
        (
            "train_classifier",
            {"classifier_compile": True, "folds_together": 2},
            "folds_together must be 1 with classifier_compile, got 2: .*; lay options/cuda_graph over",
        ),
        ("evaluate", {"ensemble": "median"}, "ensemble must be one of .* got 'median'"),
        ("evaluate", {"evaluation_batch_size": 0}, "evaluation_batch_size must be >= 1, got 0"),
        ("explain", {"explain_methods": ["shap"]}, "explain_methods must be of lime, occlusion, gradcam, got 'shap'"),
        ("explain", {"explain_output": "logit"}, "explain_output must be of log_odds, probability, got 'logit'"),
        ("explain", {"explain_baseline": "blur"}, "explain_baseline must be of background, mean, got 'blur'"),
        ("explain", {"lime_num_samples": 0}, "lime_num_samples must be positive, got 0"),
        ("explain", {"occlusion_size": 0}, "occlusion_size must be positive, got 0"),
        ("explain", {"explain_num_cases": 0}, "explain_num_cases must be at least 1, got 0"),
        ("explain", {"explain_num_randomized": 0}, "explain_num_randomized must be at least 1, got 0"),
        ("explain", {"explain_roles": ["train"]}, r"explain_roles must be of external, .* got \['train'\]"),
        ("explain", {"explanation_layer": "layer9"}, "explanation_layer must be a module of ResNet that .* 'layer9'"),
        ("explain", {"explanation_layer": "fc"}, "explanation_layer must be a module of ResNet that gives a map"),
        (
            "explain",
            {"classifier_backbone": "vit_tiny"},
            "for a VisionTransformer, got 'gradcam': .* take gradcam out of explain_methods",
        ),
        (
            "explain",
            {"patch_size": [4, 4], "occlusion_size": 1},
            r"for images of \(4, 4\), got .* out of explain_methods",
        ),
        ("explain", {"ensemble": "vote"}, "ensemble must be mean_probability and .* got vote and False"),
        ("explain", {"temperature_scaling": True}, "got mean_probability and True: .*; set explained_setups"),
        ("report", {"num_bootstrap_draws": 0}, "num_bootstrap_draws must be at least 100, got 0"),
        ("report", {"report_num_samples": 0}, "report_num_samples must be at least 1, got 0"),
        ("report", {"report_num_curves": 0}, "report_num_curves must be at least 1, got 0"),
        (
            "report",
            {"report_reference": "gan", "stage_names": ["a/evaluation_real", "a/evaluation_ddpm", "a/splits"]},
            "report_reference must be one of the setups real, ddpm, got 'gan'; pass --report_reference real",
        ),
        ("inference", {"explanation": "lime"}, "explanation must be one of .*, got 'lime'"),
        ("inference", {"occlusion_size": 0}, "occlusion_size must be >= 1 pixel, got 0"),
        ("inference", {"classifier_backbone": "vit_tiny"}, r"set explanation \(of configs/inference.yaml\) to occlus"),
        ("inference", {"crop": "foo"}, "crop must be"),
    ],
)
def test_what_a_stage_cannot_do_is_refused_by_its_key(stage, overrides, message):
    make_checks(STAGES[stage])
    with pytest.raises((RuntimeError, ValueError)) as caught:
        make_checks(STAGES[stage], **overrides)
    assert re.search(message, messages(caught.value), re.DOTALL)


def test_an_explanation_that_the_network_can_give_passes():
    make_checks(STAGES["explain"], classifier_backbone="vit_tiny", explain_methods=["lime", "occlusion"])
    make_checks(STAGES["explain"], explanation_layer="layer3")
    make_checks(STAGES["report"], report_reference="real", stage_names=["a/evaluation_ddpm"])  # nothing to compare
