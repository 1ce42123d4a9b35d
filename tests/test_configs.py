"""Config files are code: each composes, has no dead key, and recipes change numbers and names of networks only."""

from __future__ import annotations

import re
from importlib import import_module
from operator import attrgetter

import pytest
import yaml
from monai.bundle import ConfigParser

from scripts.generator.controls import CONTROLS
from scripts.running.configs import Invocation, reachable, references
from scripts.running.identity import DOTTED_NAME, target_modules
from scripts.running.overrides import check_overrides, known_keys
from scripts.running.setups import Setup
from scripts.running.stages import ENTRY_POINTS
from tests.helpers import ROOT, TINY, config_files

STAGES = {
    "phantom": ("phantom",),
    "cohort": ("cohort",),
    "segment": ("segment",),
    "patches": ("patches",),
    "splits": ("splits",),
    "train_autoencoder": ("train_autoencoder",),
    "train_generator": ("train_generator",),
    "train_generator+mutual_information": ("train_generator", "options/mutual_information"),
    "train_generator+mutual_information_bounded": (
        "train_generator",
        "options/mutual_information",
        "options/mutual_information_bounded",
    ),
    "train_generator+stop_memorization": ("train_generator", "options/stop_memorization"),
    "train_generator+multi_gpu": ("train_generator", "options/multi_gpu"),
    "generate": ("generate",),
    "generate_control": ("generate_control",),
    "import_synthetic": ("import_synthetic",),
    "audit": ("audit",),
    "audit_folders": ("audit", "audit_folders"),
    "measure_images": ("measure_images",),
    "reader_study": ("reader_study",),
    "reader_results": ("reader_results",),
    "train_classifier": ("train_classifier",),
    "train_classifier+augmentation": ("train_classifier", "options/augmentation"),
    "train_classifier+multi_gpu": ("train_classifier", "options/multi_gpu_classifier"),
    "train_classifier+warmup": ("train_classifier", "options/warmup"),
    "train_classifier+cuda_graph": ("train_classifier", "options/cuda_graph"),
    "evaluate": ("evaluate",),
    "explain": ("explain",),
    "report": ("report",),
    "study": ("study",),
    "study+sweep_ratio": ("study", "options/sweep_ratio"),
    "study+latent": ("study", "options/latent"),
    "study+compare_synthetic_only": ("study", "options/compare_synthetic_only"),
    "inference": ("patches", "inference"),
}
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
RUNS = sorted((ROOT / "configs" / "runs").glob("*.yaml"))
RECIPES = (
    "recipes/quick",
    "recipes/small",
    "recipes/paper",
    "recipes/pictures",
    "recipes/volumes",
    "recipes/volumes_lesion",
)
# Looked up by name by other tools (MONAI Label, the model zoo, federated learning) and by users.
LOOKED_UP = {
    "_meta_",
    "bundle_root",
    "dataset_dir",
    "output_dir",
    *("tracking_uri", "experiment_name", "save_execute_config"),  # by --tracking
    "network_def",
    "preprocessing",
    "postprocessing",
    "inferer",
    "evaluator",
    "dataset",
    "train",
    "validate",
    "handlers",
    "displayable_configs",
    "seed",
    "overwrite",
    "num_threads",
    "study_checks",
}


def own_keys(name: str) -> set[str]:
    """Top-level keys that a config file defines itself."""
    content = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    return {re.split("#|::", key)[0].lstrip("+") for key in content}


def merged(names: tuple[str, ...], *extra: str) -> dict:
    return Invocation((*config_files(*names), *extra)).merged()


@pytest.mark.parametrize("names", STAGES.values(), ids=STAGES.keys())
def test_no_key_of_a_stage_is_dead(names):
    config = merged(names)
    read = set(reachable(config, (*ENTRY_POINTS, *LOOKED_UP)))
    defined = set().union(*(own_keys(name) for name in names)) - own_keys("common")
    # What goes on from another stage takes of its keys what it needs.
    going_on = (STAGES["inference"], STAGES["audit_folders"], STAGES["study+latent"])
    unread = own_keys(names[0]) if names in going_on else set()
    assert defined - read - LOOKED_UP - set(ENTRY_POINTS) - unread == set()


@pytest.mark.parametrize("names", STAGES.values(), ids=STAGES.keys())
def test_every_reference_of_a_stage_exists(names):
    config = merged(names)
    assert {name for value in config.values() for name in references(value)} - set(config) == set()


@pytest.mark.parametrize("names", STAGES.values(), ids=STAGES.keys())
def test_every_target_of_ours_exists(names):
    for name in set(DOTTED_NAME.findall(yaml.safe_dump(merged(names), width=float("inf")))):
        (module,) = target_modules({"target": name})
        assert callable(attrgetter(name.removeprefix(f"{module}."))(import_module(module)))


@pytest.mark.parametrize("names", STAGES.values(), ids=STAGES.keys())
def test_every_file_that_a_stage_reads_is_among_its_inputs(names):
    config = reachable(merged(names), ENTRY_POINTS)
    paths = {key for key in config if re.search(r"_paths?$", key)} - {"metadata_path"}
    stage = config.get("stage", {})
    named = references([config.get("stage_inputs", []), stage.get("weights_path", "")])
    followed = named.union(*(references(config[name]) for name in named if name in config))
    assert paths - followed == set()


def test_every_key_of_common_is_read_by_some_stage():
    read = set().union(*(reachable(merged(names), ENTRY_POINTS) for names in STAGES.values()))
    assert own_keys("common") - read - LOOKED_UP == set()


def test_every_config_file_is_part_of_a_stage_or_a_recipe():
    named = {name for names in STAGES.values() for name in names} | {"common", *RECIPES}
    parts = {path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in CONFIGS if path not in RUNS}
    assert parts == named


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_run_is_a_command_of_known_keys_and_stands_in_its_own_comment(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    name = path.relative_to(ROOT).as_posix()
    command = f"python -m monai.bundle run --args_file {name}"
    assert path.read_text(encoding="utf-8").splitlines()[1] == f"#     {command}"
    assert len(command) <= 90
    invocation = Invocation.from_command_line(["monai.bundle", *command.split()[3:]])
    check_overrides(invocation, known_keys(ROOT / "configs") if "study" in path.stem else ())
    assert invocation.overrides
    assert "run" in invocation.merged()


def test_a_run_of_one_stage_reads_what_the_runs_before_it_write():
    runs = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in RUNS}
    written = {run["output_dir"] for run in runs.values() if "output_dir" in run} | {runs["study_quick"]["study_dir"]}
    for run in runs.values():
        merged_run = {**ConfigParser.load_config_files(run["config_file"]), **run}
        for key in ("cohort_path", "patches_path", "splits_path", "generator_path", "synthetic_path", "weights_path"):
            path = merged_run.get(key)
            assert path is None or any(str(path).startswith(f"{folder}/") for folder in written), f"{key} {path}"


@pytest.mark.parametrize("recipe", [*RECIPES, TINY], ids=[*RECIPES, "tiny"])
def test_a_recipe_changes_numbers_and_names_only(recipe):
    path = recipe if recipe == TINY else ROOT / "configs" / f"{recipe}.yaml"
    with open(path, encoding="utf-8") as stream:
        changes = yaml.safe_load(stream)
    known = {key: value for names in STAGES.values() for key, value in merged(names).items()}
    for key, value in changes.items():
        assert key in known, f"{key} of {path} is no key of any stage"
        if isinstance(value, dict) and "_target_" not in {*value, *known[key]}:
            assert "$" not in str(value), f"{key} must be a mapping of names"  # as classes, or setups
            continue
        if isinstance(value, dict):
            assert "_target_" in value, f"{key} must name a part with its numbers, as that of the stage does"
            assert "_target_" in known[key], f"{key} must name a part with its numbers, as that of the stage does"
            continue
        assert value is None or isinstance(value, (int, float, str, list)), f"{key} must be a number, a name or a list"
        assert not any(
            str(item).startswith(("$", "@", "%")) for item in (value if isinstance(value, list) else [value])
        )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_file_says_in_its_first_line_what_it_is(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# {path.relative_to(ROOT).as_posix()} — "), first


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_no_program_hides_in_a_string(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        expression = re.search(r"'\$(.*)'", line)
        if expression:
            assert not re.search(r"\b(lambda|for|print|glob|import os|open)\b", expression[1]), line
            assert len(expression[1]) <= 90, line


@pytest.mark.parametrize("names", [names for names in STAGES.values() if names[0] == "study"], ids=" ".join)
def test_the_setups_of_a_study_are_overrides_of_a_classifier(names):
    content, training = merged(names), merged(("train_classifier",))
    for name, settings in content["setups"].items():
        setup = Setup.of(name, settings)
        assert set(setup.overrides()) <= set(training)
        assert setup.method is None or setup.method in (*content["methods"], *content["controls"])
        assert all((ROOT / "configs" / f"{overlay}.yaml").is_file() for overlay in setup.overlays)


def test_a_sweep_generates_as_many_images_as_its_largest_ratio_takes():
    content = merged(("study", "options/sweep_ratio"))
    ratios = {setup.get("ratio") for setup in content["setups"].values()}
    assert ratios == {None, 0.5, 1.0, 2.0, 5.0}
    assert content["generated_ratio"] == 5.0
    assert merged(("generate",))["generation"]["ratio"] == "@generated_ratio"


def test_as_many_synthetic_images_are_generated_as_a_training_takes():
    common = merged(())
    assert common["generated_ratio"] == "@synthetic_ratio"
    assert merged(("train_classifier",))["data"]["synthetic_ratio"] == "@synthetic_ratio"
    for stage, reader, key in (
        ("generate", "generation", "balance"),
        ("train_classifier", "data", "synthetic_balance"),
    ):
        assert merged((stage,))[reader][key] == "@synthetic_balance"


def test_the_report_lists_the_setups_that_there_are():
    listed = merged(("report",))["report_setups"]
    studies = [merged(names) for names in STAGES.values() if names[0] == "study"]
    assert set(listed) == {setup for study in studies for setup in study["setups"]} | set(CONTROLS)
