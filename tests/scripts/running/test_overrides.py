"""What replaces a value of a config is named as what is there, and of its kind."""

from __future__ import annotations

import re

import pytest
import yaml

from scripts.running.configs import Invocation
from scripts.running.overrides import ALSO_ALLOWED, Source, check_overrides, is_part, known_keys
from tests.helpers import ROOT, config_files


def check(*names, overlay=None, folder=None, **overrides):
    files = config_files(*names)
    if overlay is not None:
        (folder / "my.yaml").write_text(overlay, encoding="utf-8")
        files.append(str(folder / "my.yaml"))
    check_overrides(Invocation(tuple(files), {key.replace("__", "#"): value for key, value in overrides.items()}))


STAGES = "phantom cohort segment patches splits train_generator generate audit measure_images train_classifier evaluate"


@pytest.mark.parametrize("stage", [*STAGES.split(), "explain", "report", "study"])
def test_every_config_of_the_bundle_keeps_to_the_kinds_of_those_below_it(stage):
    for recipe in ("quick", "small", "paper"):
        check(stage, f"recipes/{recipe}")


@pytest.mark.parametrize(
    "names",
    [
        ("patches", "inference", "recipes/quick"),
        ("train_generator", "options/mutual_information", "options/mutual_information_bounded"),
        ("train_generator", "options/stop_memorization"),
        ("train_classifier", "options/augmentation"),
        ("study", "options/sweep_ratio"),
        ("study", "options/compare_synthetic_only"),
    ],
    ids=" ".join,
)
def test_every_option_keeps_to_the_kinds_of_what_it_changes(names):
    check(*names)


@pytest.mark.parametrize(
    ("stage", "key", "value", "message"),
    [
        ("train_classifier", "overwrite", "no", "--overwrite must be True or False, got the text 'no'; write False"),
        ("train_classifier", "classifier_amp", "true", "must be True or False, got the text 'true'; write True"),
        ("train_generator", "generator_amp", "off", "--generator_amp must be True or False, got the text 'off'"),
        ("train_classifier", "overwrite", 1, "--overwrite must be True or False, got 1"),
        ("train_classifier", "classifier_max_epochs", "ten", "must be a whole number, got the text 'ten'"),
        ("train_classifier", "classifier_max_epochs", 5.0, "must be a whole number, got 5.0; write 5"),
        ("train_classifier", "fold", True, "--fold must be a whole number, got True"),
        (
            "train_classifier",
            "classifier_learning_rate",
            "0,001",
            "number, got the text '0,001'; write 0.001",
        ),
        ("train_classifier", "setup", 1, """--setup must be text, got 1; write --setup '"1"'"""),
        ("train_classifier", "patches_path", None, "--patches_path must be a path, got None; pass --patches_path"),
        ("patches", "intensity_percentiles", ["0.5", 99], "--intensity_percentiles#0 must be a number, got the text"),
        ("train_classifier", "classifier_optimizer", "adam", "must be a component, {_target_: ...} or null, got the"),
        ("generate", "num_images", "5", "--num_images must be null or a whole number, got the text '5'; write 5"),
        ("generate", "generated_ratio", "2", "--generated_ratio must be a number, got the text '2'; write 2"),
        ("phantom", "phantom_lgg_fraction", "x", "must be null or a number, got the text 'x'"),
        ("phantom", "phantom_sites#A#blur_mm", "1", "--phantom_sites#A#blur_mm must be a number, got the text '1'"),
        ("phantom", "phantom_lesion_volume", {"median_ml": "5"}, "volume#median_ml must be a number, got the text '5'"),
        ("patches", "patch_size", 16, re.escape('--patch_size must be a list, got 16; write "[16, 16]"')),
        ("patches", "patch_size", [16, "16"], "--patch_size#1 must be a whole number, got the text '16'; write 16"),
        ("cohort", "leave_out", "P7", r"--leave_out must be a list or a mapping, .*; write \"\['P7'\]\""),
        ("cohort", "grade_map", "LGG", "--grade_map must be a mapping, got the text 'LGG'"),
        ("study", "cohorts", ["a"], r"--cohorts must be a mapping, got \['a'\]"),
        ("study", "explained_setups", "real", r"must be a list, got the text 'real'; write \"\['real'\]\""),
        ("cohort", "source_path", "da#ta", "--source_path must have no #, .*, got 'da#ta'; rename the file or folder"),
        ("study", "cohorts", {"a": {"source_path": "x#y"}}, "--cohorts#a#source_path must have no #"),
        ("train_classifier", "train#trainer#max_epochs", "3", "--train#trainer#max_epochs must be a number, got the"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_the_key_and_the_way_out(stage, key, value, message):
    with pytest.raises(ValueError, match=message):
        check(stage, **{key: value})


@pytest.mark.parametrize(
    ("stage", "overlay", "message"),
    [
        ("train_generator", "generator_learning_rate: 1e-4", "generator_learning_rate of my.yaml must be a number, got"
         " the text '1e-4'; YAML reads 1e-4 as text, write 1.0e-4"),
        ("train_classifier", 'classifier_max_epochs: "10"', "a whole number, got the text '10'; write 10, without"),
        ("train_classifier", "seed: 1e3", "seed of my.yaml must be a whole number, .*; write 1000, without quotes"),
        ("train_classifier", "patches_path: null", "of my.yaml must be a path, got null; pass --patches_path"),
        ("train_classifier", "setup: no", r"setup of my.yaml must be text, got False; put it in quotes \(YAML reads"),
        ("train_classifier", "train#extra: 1", "train#extra of my.yaml must name a part of train, got 'extra'"),
        ("train_classifier", "classifier_max_epoch: 1", "must name a key of the configs, .*mean classifier_max_epochs"),
        ("train_classifier", "my_rate: 0.1", "a key of your own must be read by another one, as '@my_rate'"),
        ("study", "cohorts: [a]", r"cohorts of my.yaml must be a mapping, got \['a'\]"),
        ("patches", "patch_size: 16", r"patch_size of my.yaml must be a list, got 16; write \[16, 16\]"),
    ],
)  # fmt: skip
def test_an_overlay_is_held_to_the_same(stage, overlay, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        check(stage, overlay=overlay + "\n", folder=tmp_path)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("train#handlerz", "--train#handlerz must name a part of train, got 'handlerz'; did you mean handlers"),
        ("train#trainer#max_epoch", "must name a part of train#trainer, got 'max_epoch'; did you mean max_epochs"),
        ("train#trainor#max_epochs", "must name a part of train, got 'trainor'; did you mean trainer"),
        ("train#handlers#99#interval", "must name a part of train#handlers, got '99'"),
        ("trainz#trainer", "--trainz#trainer must name a key of common.yaml, train_classifier.yaml, got 'trainz'"),
        ("epochs", "--epochs must name a key of common.yaml, train_classifier.yaml, got 'epochs'"),
    ],
)
def test_a_misspelt_name_is_refused_at_every_depth(key, message):
    with pytest.raises(ValueError, match=message):
        check("train_classifier", **{key: 1})


@pytest.mark.parametrize(
    ("stage", "overrides"),
    [
        ("train_classifier", {"synthetic_ratio": 2}),
        ("train_classifier", {"classifier_ema_decay": 0.99}),
        ("train_classifier", {"classifier_focal_alpha": [0.1, 0.9]}),
        ("patches", {"intensity_percentiles": (0.9, 100)}),
        ("train_classifier", {"classifier_optimizer": {"_target_": "torch.optim.SGD", "lr": "$0.1"}}),
        ("train_classifier", {"seed": "$1 + 1", "classifier_max_epochs": "@fold"}),
        ("train_classifier", {"train#inferer": {"_target_": "SimpleInferer"}}),
        ("train_classifier", {"train#trainer#amp_kwargs": {}, "train#trainer#event_names": None}),
        ("train_generator", {"generator_class": None}),
        (
            "train_generator",
            {"generator_def#with_conditioning": False},
        ),  # it takes **kwargs
        ("cohort", {"leave_out": {"P7": "moved"}, "mask_codes": {"edema": 2}}),
        ("phantom", {"phantom_sites#A#sequences#t1n#tr_ms": 560.5}),
        ("segment", {"segmentation_spacing_mm": None, "segmentation_mask_codes": {"edema": 2}}),
    ],
)
def test_what_is_of_the_kind_passes(stage, overrides):
    check(stage, **overrides)


def test_what_a_lower_layer_allowed_stays_allowed(tmp_path):
    check("generate", "recipes/quick", num_inference_steps=None)
    check("generate", "recipes/small", overlay="generator_condition: null\n", folder=tmp_path)


def test_a_key_of_ones_own_passes_where_another_reads_it(tmp_path):
    check("train_classifier", overlay="my_rate: 0.1\nclassifier_learning_rate: '@my_rate'\n", folder=tmp_path)
    overlay = "train#mine: {_target_: Identity}\ntrain#dataset#transform: '@train#mine'\n"
    check("train_classifier", overlay=overlay, folder=tmp_path)


def test_an_overlay_may_set_keys_of_other_stages(tmp_path):
    check("patches", overlay="generator_max_epochs: 3\nlime_num_samples: 10\n", folder=tmp_path)


def test_an_override_is_checked_after_those_before_it():
    check("train_classifier", **{"train#inferer": {"_target_": "SimpleInferer", "mine": 1}, "train#inferer#mine": 2})


def test_names_of_other_configs_pass_where_they_are_known():
    with pytest.raises(ValueError, match="--lime_num_samples must name a key"):
        check("study", lime_num_samples=3)
    overrides = {"lime_num_samples": 3}
    check_overrides(Invocation(tuple(config_files("study")), overrides), known_keys(ROOT / "configs"))


def test_overrides_are_named_by_their_source():
    invocation = Invocation(tuple(config_files("cohort")), {"check_voxels": "no"})
    with pytest.raises(ValueError, match="check_voxels of cohorts.mine must be True or False, .*; write false"):
        check_overrides(invocation, source=Source("cohorts.mine"))


def test_keys_of_other_kinds_are_keys_of_the_configs():
    assert set(ALSO_ALLOWED) <= known_keys(ROOT / "configs")


def test_a_comment_that_allows_null_is_kept():
    """A key whose comment says what null means, and whose default is another, may be null."""
    for path in (ROOT / "configs").glob("*.yaml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for line in path.read_text(encoding="utf-8").splitlines():
            commented = re.match(r"(\w+): .*#.*\bnull(:| leaves| takes| is)", line)
            if commented and content[commented[1]] is not None:
                assert "null" in ALSO_ALLOWED.get(commented[1], ()), line


def test_a_part_is_there_or_an_argument_of_its_component():
    merged = Invocation(tuple(config_files("train_classifier"))).files_merged().get()
    assert is_part(merged, "train#trainer#max_epochs")
    assert is_part(merged, "train::trainer::hooks") is False
    assert is_part(merged, "train#trainer#event_names")
    assert not is_part(merged, "train#trainor")
    assert not is_part(merged, "lime_num_samples")
