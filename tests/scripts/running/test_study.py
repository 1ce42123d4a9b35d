"""A study checks everything before any work, and hands its settings to its stages."""

from __future__ import annotations

import importlib
import shutil
from dataclasses import replace

import pytest
import torch
from monai.bundle import ConfigParser

from scripts.classifier.networks import create_backbone
from scripts.running.configs import Invocation
from scripts.running.files import write_json
from scripts.running.setups import Setup
from scripts.running.stages import invoked
from scripts.running.study import Study
from tests.helpers import ROOT, config_files


@pytest.fixture
def study(plan):
    return Study(plan, config_dir=str(ROOT / "configs"))


def test_recipes_and_known_overrides_of_the_study_reach_its_stages(study):
    invocation = Invocation(
        tuple(config_files("study", "recipes/quick")), {"seed": 7, "phantom_num_subjects": 3, "cohorts": {}}
    )
    with invoked(invocation):
        phantom, patches, *_ = (study.invocation_of(planned) for planned in study.plan.stages())
    assert phantom.config_files[-1].endswith("quick.yaml")
    assert (phantom.overrides["seed"], phantom.overrides["phantom_num_subjects"]) == (7, 3)
    assert patches.overrides["seed"] == 7
    assert not {"phantom_num_subjects", "cohorts"} & set(patches.overrides)


def test_a_misspelt_override_is_refused_before_any_work(study):
    with (
        invoked(Invocation(tuple(config_files("study", "recipes/quick")), {"generator_max_epoch": 3})),
        pytest.raises(ValueError, match="did you mean generator_max_epochs"),
    ):
        study.begin()


def test_a_misspelt_key_of_an_overlay_is_refused(study, tmp_path):
    (tmp_path / "mine.yaml").write_text("generator_max_epoch: 20\n")
    files = (*config_files("study"), str(tmp_path / "mine.yaml"))
    message = "generator_max_epoch of mine.yaml must name a key of the configs, .* did you mean generator_max_epochs"
    with invoked(Invocation(files)), pytest.raises(ValueError, match=message):
        study.begin()


def test_a_part_of_some_stages_is_refused_as_recipe_of_a_study(study):
    files = tuple(config_files("study", "options/stop_memorization"))
    message = r"stop_memorization.yaml must set whole keys in a study, got \+checks, \+train#handlers; list it"
    with invoked(Invocation(files)), pytest.raises(ValueError, match=message):
        study.begin()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train#handlerz": []}, "--train#handlerz must name a part of train, got 'handlerz'; did you mean handlers"),
        ({"classifier_max_epochs": "ten"}, "--classifier_max_epochs must be a whole number, got the text 'ten'"),
        ({"dataset_dir": "data"}, "dataset_dir must be left out of a study, whose cohorts name their folders"),
        ({"folds_together": "two"}, "--folds_together must be a whole number, got the text 'two'"),
        ({"generator_amp": "no"}, "--generator_amp must be True or False, got the text 'no'; write False"),
        ({"mi_weight": "1e-1"}, "--mi_weight must be a number, got the text '1e-1'"),
    ],
)
def test_a_value_of_another_kind_is_refused_before_any_work(study, overrides, message):
    invocation = Invocation(tuple(config_files("study", "recipes/quick")), overrides)
    with invoked(invocation), pytest.raises(ValueError, match=message):
        study.begin()


def write_overlay(study, folder, text):
    """Give the method ddpm an overlay of a study's own, and return the config files of the study."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "configs" / "options" / "mine.yaml").write_text(text, encoding="utf-8")
    study.plan.methods = {**study.plan.methods, "ddpm": ["options/stop_memorization", "options/mine"]}
    study.config_dir = str(folder / "configs")
    return tuple(str(folder / "configs" / f"{name}.yaml") for name in ("common", "study"))


def merged_configs(study, method):
    stages = [planned for planned in study.plan.stages() if planned.belongs_to.get("method") == method]
    merged = {planned.config: study.invocation_of(planned).merged() for planned in stages}
    return merged["train_generator"], merged["generate"]


def test_generate_draws_with_the_network_that_the_overlays_of_its_method_train(study, tmp_path):
    overlay = (
        "generator_gaussian_rank: 0\ngenerator_unshuffle: 2\ngenerator_def#num_res_blocks: 1\n"
        "noise_scheduler#beta_end: 0.03\nnum_train_timesteps: 500\ngenerator_max_epochs: 7\nseed: 3\n"
    )
    files = write_overlay(study, tmp_path, overlay)
    with invoked(Invocation(files)):
        study.begin()
        trained, drawn = merged_configs(study, "ddpm")
        _, plain = merged_configs(study, "ddpm_mi")
    shared = ("generator_gaussian_rank", "generator_unshuffle", "noise_scheduler", "num_train_timesteps")
    assert {key: drawn[key] for key in shared} == {key: trained[key] for key in shared}
    assert (drawn["generator_gaussian_rank"], drawn["noise_scheduler"]["beta_end"]) == (0, 0.03)
    assert drawn["generator_def"]["num_res_blocks"] == 1
    assert "generator_max_epochs" not in drawn
    assert drawn["seed"] == 0
    assert plain["generator_gaussian_rank"] != 0


def test_recipes_and_command_line_come_after_the_network_of_an_overlay_in_both_stages(study, tmp_path):
    files = write_overlay(
        study, tmp_path, "generator_unshuffle: 4\ngenerator_gaussian_rank: 0\ngenerator_num_res_blocks: 3\n"
    )
    (tmp_path / "recipe.yaml").write_text("generator_gaussian_rank: 5\n", encoding="utf-8")
    with invoked(Invocation((*files, str(tmp_path / "recipe.yaml")), {"generator_unshuffle": 2})):
        trained, drawn = merged_configs(study, "ddpm")
    for config in (trained, drawn):
        assert config["generator_unshuffle"] == 2
        assert (config["generator_gaussian_rank"], config["generator_num_res_blocks"]) == (5, 3)


def test_what_no_generator_draws_with_is_refused_for_the_network_of_an_overlay(study, tmp_path):
    files = write_overlay(study, tmp_path, "generator_label_dropout: 0.0\n")
    with (
        invoked(Invocation(files)),
        pytest.raises(ValueError, match="guidance_scale must be 1 for a generator trained without label"),
    ):
        study.begin()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("generator_condition: null\n", "mine.yaml of methods.ddpm must not set generator_condition, which says what"),
        ("generator_space: latent\n", "mine.yaml of methods.ddpm must not set generator_space, which says what"),
        (
            "+generator_def: {num_res_blocks: 1}\n",
            r"mine.yaml of methods.ddpm must set .* got \+generator_def;",
        ),
        ("generator_patience: 0\n", "generator_patience must be at least 1, got 0"),
    ],
)
def test_what_an_overlay_of_a_method_cannot_set_is_refused_before_any_work(study, tmp_path, text, message):
    files = write_overlay(study, tmp_path, text)
    with invoked(Invocation(files)), pytest.raises(ValueError, match=message):
        study.begin()


def test_a_part_goes_to_the_stages_that_have_it(study):
    overrides = {"train#early_stopping#patience": 3, "train#trainer#max_epochs": 1}
    with invoked(Invocation(tuple(config_files("study")), overrides)):
        study.begin()
        reached = {planned.config: set(study.invocation_of(planned).overrides) for planned in study.plan.stages()}
    assert overrides.keys() <= reached["train_classifier"]
    assert overrides.keys() & reached["train_generator"] == {"train#trainer#max_epochs"}
    assert not overrides.keys() & reached["patches"]


@pytest.mark.parametrize(
    ("cohort", "message"),
    [
        ({"config": "cohort", "sourcepath": "x"}, "sourcepath of cohorts.b must name a key of .*mean source_path"),
        ({"config": "phantom", "phantom_num_subjects": "9"}, "phantom_num_subjects of cohorts.b must be a whole numb"),
        ({"config": "cohort", "source_path": "da#ta"}, "source_path of cohorts.b must have no #"),
        ({"config": "cohort", "leave_out": "P7"}, r"leave_out of cohorts.b must be a list .*; write \['P7'\]"),
    ],
)
def test_a_wrong_override_of_a_cohort_is_refused_by_the_cohorts_name(study, cohort, message):
    study.plan.cohorts["b"] = cohort
    with invoked(Invocation(tuple(config_files("study")))), pytest.raises(ValueError, match=message):
        study.begin()


def test_threads_that_would_end_the_process_of_a_stage_are_refused_before_any_work(study):
    own = Invocation(tuple(config_files("study")), {"num_threads": 10**9})
    with invoked(own), pytest.raises(ValueError, match="num_threads must be from 1 to 1024, got 1000000000"):
        study.begin()
    assert not study.study_dir.exists()


PHANTOM, OWN = {"config": "phantom", "phantom_site": "A"}, {"config": "cohort", "source_path": "patients.csv"}
SEGMENTED = {"config": "segment", "cohort_path": "unsegmented.json"}
REAL, DDPM = {"real": None}, {"real": {}, "ddpm": {"method": "ddpm"}}
STUDIES = {
    "phantoms": {},
    "own cohorts": {"cohorts": {"a": OWN, "b": {**OWN, "source_path": "/data/b"}}},
    "segmented cohort": {"cohorts": {"a": PHANTOM, "b": SEGMENTED}},
    "one cohort": {"cohorts": {"a": OWN}},
    "one setup": {"setups": {"ddpm": {"method": "ddpm"}}, "explained_setups": []},
    "no generator": {"setups": REAL},
    "plain generator alone": {"setups": DDPM},
}


@pytest.mark.parametrize("recipe", ["quick", "small", "paper"])
@pytest.mark.parametrize("settings", STUDIES.values(), ids=STUDIES.keys())
def test_every_recipe_fits_every_study(recipe, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    overrides = {**settings, "study_dir": str(tmp_path), "bundle_root": str(ROOT)}
    invocation = Invocation(tuple(config_files("study", f"recipes/{recipe}")), overrides)
    with invoked(invocation):
        study = ConfigParser(invocation.merged()).get_parsed_content("study")
        study.begin()
        assert {planned.config for planned in study.plan.stages()} >= {
            "patches",
            "splits",
            "train_classifier",
            "report",
        }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"ensemble": "vote"}, "ensemble must be mean_prob.* got vote and False.*set explained_setups of a study to "),
        (
            {"temperature_scaling": True},
            "temperature_scaling false where answers are explained, got mean_probability and True",
        ),
        (
            {"classifier_stem_stride": 2, "classifier_backbone": "vit_tiny"},
            "occlusion' for a VisionTransformer, .* or take gradcam out of explain_methods",
        ),
    ],
)
def test_answers_that_could_not_be_explained_are_refused_before_any_work(study, overrides, message):
    with invoked(Invocation(tuple(config_files("study", "recipes/quick")), overrides)):
        study.begin()
        study.plan.explained_setups = ["real"]
        with pytest.raises(ValueError, match=message):
            study.begin()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"patch_size": [15, 15]}, r"patch_size must be divisible by 8, got \[15, 15\]"),
        ({"crop": "foo"}, "crop must be"),
        ({"inner_fraction": 1.0}, "inner_fraction must be in"),
        (
            {"num_inference_steps": 5000},
            "num_inference_steps must be from 1 to 1000, the steps of the training, got 5000",
        ),
        ({"guidance_scale": 3.0, "generator_condition": None}, "not told the class, got 3.0"),
        ({"synthetic_ratio": 0.0}, "generated_ratio must be > 0, got 0.0; it is synthetic_ratio where it is not set"),
        ({"report_reference": "gan"}, "report_reference must be one of the setups real, ddpm, ddpm_mi, got 'gan'"),
    ],
)
def test_what_a_stage_refuses_its_study_refuses_before_any_work(study, overrides, message):
    with (
        invoked(Invocation(tuple(config_files("study", "recipes/quick")), overrides)),
        pytest.raises(ValueError, match=message),
    ):
        study.begin()
    assert not study.study_dir.exists()


@pytest.mark.parametrize(
    ("cohort", "setup", "message"),
    [
        ({"config": "phantom", "phantom_site": "Z"}, {}, "phantom_site must be one of .* got 'Z'"),
        ({"config": "phantom", "phantom_site": "B"}, {"train_on_real": False}, "train_on_real must be true where"),
    ],
    ids=["second cohort", "last setup"],
)
def test_the_checks_are_those_of_every_cohort_and_setup(study, cohort, setup, message):
    study.plan.cohorts["b"] = cohort
    study.plan.setups["mine"] = Setup.of("mine", setup)
    with (
        invoked(Invocation(tuple(config_files("study", "recipes/quick")))),
        pytest.raises(ValueError, match=message),
    ):
        study.begin()


def test_answers_of_the_ensemble_by_default_may_be_explained(study):
    study.plan.explained_setups = ["real"]
    overrides = {"classifier_stem_stride": 2, "classifier_backbone": "vit_tiny", "explain_methods": ["lime"]}
    for given in ({}, overrides):
        with invoked(Invocation(tuple(config_files("study", "recipes/quick")), given)):
            study.begin()


def test_temperatures_fitted_to_the_reported_subjects_are_refused_before_any_work(study):
    overrides = {"temperature_scaling": True, "selection": "validation"}
    with (
        invoked(Invocation(tuple(config_files("study", "recipes/quick")), overrides)),
        pytest.raises(ValueError, match="temperature_scaling must be false with selection validation"),
    ):
        study.begin()


def test_a_folder_of_a_study_of_other_settings_is_refused_and_left_alone(study):
    """What was chosen decides, not the code or the inputs, which may only be out of date."""
    planned = next(stage for stage in study.plan.stages() if stage.name == "a/fold0/classifier_real")
    files = (*config_files("study"), str(ROOT / "configs" / "recipes" / "quick.yaml"))
    with invoked(Invocation(files, {"num_threads": 1})):
        own = study.invocation_of(planned)
        with invoked(own):
            stage = ConfigParser(own.merged()).get_parsed_content("stage")
            identity = {**stage.choices(), "inputs": ["old"], "code": "old"}
        record = study.study_dir / planned.name / "stage.json"
        write_json(record, {"identity": identity, "finished": True})
        study.begin()
    before = record.read_bytes()
    with invoked(Invocation(files, {"num_threads": 1, "classifier_learning_rate": 0.5, "seed": 3})):
        message = r"study of these settings, got one that differs in classifier_learning_rate, seed, in a/fold0/classif"
        with pytest.raises(ValueError, match=message):
            study.begin()
        study.overwrite = True
        study.begin()
        assert record.read_bytes() == before
        assert [path.name for path in record.parent.iterdir()] == ["stage.json"]
        study.overwrite = False
        write_json(record, {"identity": identity, "finished": False})  # stopped before there was anything to lose
        study.begin()
        (record.parent / "checkpoints").mkdir()
        (record.parent / "checkpoints" / "epoch_1.pt").touch()
        with pytest.raises(ValueError, match=message):
            study.begin()


def test_a_client_without_gpu_continues_a_study_that_workers_with_gpus_began(study):
    planned = next(stage for stage in study.plan.stages() if stage.name == "a/fold0/classifier_real")
    with invoked(Invocation((*config_files("study"), str(ROOT / "configs" / "recipes" / "quick.yaml")))):
        own = study.invocation_of(planned)
        with invoked(own):
            identity = ConfigParser(own.merged()).get_parsed_content("stage").choices()
        elsewhere = {**identity, "device": "elsewhere"}
        write_json(study.study_dir / planned.name / "stage.json", {"identity": elsewhere, "finished": True})
        with pytest.raises(ValueError, match="differs in device, in a/fold0/classifier_real"):
            study.begin()
        study.scheduler_address = "tcp://host:8786"
        study.begin()


def test_how_many_folds_train_together_is_no_setting_of_a_stage(study):
    planned = next(stage for stage in study.plan.stages() if stage.config == "train_classifier")

    def choices(**overrides):
        with invoked(Invocation(tuple(config_files("study")), overrides)):
            own = study.invocation_of(planned)
        with invoked(own):
            return ConfigParser(own.merged()).get_parsed_content("stage").choices()

    assert choices(folds_together=3) == choices()


@pytest.mark.parametrize(
    ("together", "overrides", "message"),
    [
        (0, {}, "folds_together must be >= 1, got 0"),
        (
            2,
            {"classifier_compile": True},
            "folds_together must be 1 with classifier_compile, got 2.*cuda_graph over the setups instead",
        ),
    ],
)
def test_classifiers_that_cannot_train_so_are_refused_before_any_work(study, together, overrides, message):
    study.folds_together = together
    with (
        invoked(Invocation(tuple(config_files("study", "recipes/quick")), {"folds_together": together, **overrides})),
        pytest.raises(ValueError, match=message),
    ):
        study.begin()


def test_stages_may_overwrite_but_the_commands_that_are_logged_do_not_say_so(study):
    with invoked(Invocation(tuple(config_files("study", "recipes/quick")), {"overwrite": True})):
        for planned in study.plan.stages():
            invocation = study.invocation_of(planned)
            assert invocation.may_overwrite
            assert "--overwrite" not in invocation.command()


def test_a_dry_run_lists_the_stages_and_does_nothing(study, capsys):
    study.dry_run = True
    with invoked(Invocation(tuple(config_files("study", "recipes/quick")))):
        study.begin()
        study.run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"0 of {len(study.plan.stages())} stages are finished, {len(study.plan.stages())} to run"
    assert len(lines) == 1 + len(study.plan.stages())
    assert all(line.startswith("run") and line.endswith("not begun") for line in lines[1:])
    assert not study.study_dir.exists()


def test_an_overlay_in_another_encoding_is_refused_by_name_before_any_work(study, tmp_path):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "configs" / "options" / "mine.yaml").write_bytes("method: ddpm  # für uns\n".encode("cp1252"))
    study.plan.methods = {**study.plan.methods, "ddpm": ["options/mine"]}
    study.config_dir = str(tmp_path / "configs")
    message = (
        r"options/mine\.yaml must be text in UTF-8, got the byte 0xfc in line 1 \('ü' in cp1252\); save it as UTF-8"
    )
    files = tuple(str(tmp_path / "configs" / f"{name}.yaml") for name in ("common", "study"))
    with invoked(Invocation(files)), pytest.raises(ValueError, match=message):
        study.begin()


def test_a_file_of_the_user_may_be_called_study(study, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("seed: 7\n", encoding="utf-8")
    with invoked(Invocation((*config_files("study"), str(path)))):
        first = study.invocation_of(study.plan.stages()[0])
    assert first.config_files[-1] == str(path)
    assert first.merged()["seed"] == 7


def begin_with(study, classifiers, **overrides):
    study.plan = replace(study.plan, classifiers=classifiers)
    with invoked(Invocation(tuple(config_files("study", "recipes/quick")), overrides)):
        study.begin()


THIN = {"classifier_backbone": "resnet10_thin"}


@pytest.mark.parametrize(
    ("classifiers", "overrides", "message"),
    [
        (
            ["resnet10", "VGG16"],
            {},
            "classifier_backbone must be one of .* got 'VGG16'; did you mean torchvision_vgg16",
        ),
        (
            {"inception": {"classifier_backbone": "torchvision_inception_v3", "classifier_stem_stride": 2}},
            {},
            r"patch_size must be at least 75 a side for torchvision_inception_v3, got \[32, 32\]; choose larger",
        ),
        (["densenet121"], {}, "classifier_stem_stride must be 2 for a DenseNet, got 1"),
        ({"a": {**THIN, "classifier_epochs": 3}}, {}, "classifier_epochs of classifiers.a must name a key of"),
        ({"a": {**THIN, "classifier_patience": "ten"}}, {}, "classifier_patience of classifiers.a must be a whole num"),
        (
            {"a": {**THIN, "classifier_frozen_body": True}},
            {},
            "classifier_frozen_body must be false without classifier_pretrained_path",
        ),
        (
            {"a": {**THIN, "classifier_pretrained_path": "nowhere/thin.pth"}},
            {},
            "nowhere/thin.pth does not exist; save torchvision's state dict there",
        ),
        (
            ["resnet10"],
            {"classifier_backbone": "resnet18"},
            "classifiers must not set what .*, got classifier_backbone",
        ),
    ],
)
def test_a_classifier_that_cannot_be_is_refused_before_any_work(study, classifiers, overrides, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        begin_with(study, classifiers, **overrides)
    assert not study.study_dir.exists()


def test_weights_of_another_backbone_are_refused_before_any_work(study, tmp_path):
    weights = {"classifier_pretrained_path": str(tmp_path / "thin.pth"), "classifier_frozen_body": True}
    torch.save(create_backbone("resnet10_thin", in_channels=3).state_dict(), tmp_path / "thin.pth")
    begin_with(study, {"thin": {**THIN, **weights}, "resnet10": {}})
    with pytest.raises(
        ValueError, match="thin.pth must be a torchvision state dict of this backbone, got .*; choose the"
    ):
        begin_with(study, {"thin": {**THIN, **weights}, "resnet10": weights})


def test_a_package_that_is_missing_is_told_before_any_work(study, monkeypatch):
    installed = importlib.import_module

    def without_torchvision(name, *args):
        if name.startswith("torchvision"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return installed(name, *args)

    monkeypatch.setattr(importlib, "import_module", without_torchvision)
    mobile = {"classifier_backbone": "torchvision_mobilenet_v2", "classifier_stem_stride": 2}
    with pytest.raises(ImportError, match=r"torchvision must be installed .*pip install .*\[vision\]"):
        begin_with(study, {"mobile": mobile}, patch_size=[40, 40])
