"""The plan of a study: who needs whom, and what an experiment changes."""

from __future__ import annotations

import pytest
from monai.bundle import ConfigParser

from scripts.running.configs import Invocation
from scripts.running.files import write_json
from scripts.running.stages import invoked
from scripts.running.study import Setup, Study, group_folds
from tests.helpers import ROOT, config_files


@pytest.fixture
def study(tmp_path):
    return Study(
        study_dir=str(tmp_path / "study"),
        cohorts={"a": {"config": "phantom", "phantom_site": "A"}, "b": {"config": "cohort", "source_path": "x"}},
        setups={"real": {}, "ddpm": {"method": "ddpm"}, "ddpm_mi": {"method": "ddpm_mi"}},
        methods={"ddpm": [], "ddpm_mi": ["options/mutual_information"]},
        classes=["LGG", "HGG"],
        num_folds=3,
        config_dir=str(ROOT / "configs"),
    )


def test_every_stage_comes_after_those_it_needs_and_before_the_report(study):
    plan = study.plan()
    done = set()
    for planned in plan:
        assert set(planned.needs) <= done, planned.name
        assert planned.name not in done
        done.add(planned.name)
    assert plan[-1].name == "report"


def test_the_plan_has_one_stage_for_each_combination(study):
    names = [planned.name for planned in study.plan()]
    count = {
        word: sum(word in name for name in names) for word in ("generator_", "synthetic_", "classifier_", "evaluation_")
    }
    assert count == {"generator_": 2 * 3 * 2 * 2, "synthetic_": 24, "classifier_": 2 * 3 * 3, "evaluation_": 2 * 3}


def test_one_conditional_generator_draws_the_sets_of_all_classes(study):
    study.condition = "label"
    plan = {planned.name: planned for planned in study.plan()}
    assert sum("generator_" in name for name in plan) == 2 * 3 * 2
    for name in ("LGG", "HGG"):
        assert plan[f"a/fold1/synthetic_{name}_ddpm"].needs[0] == "a/fold1/generator_all_ddpm"


def test_the_data_of_all_cohorts_come_before_any_training(study):
    names = [planned.name for planned in study.plan()]
    first_training = min(index for index, name in enumerate(names) if "generator_" in name)
    assert {"a/patches", "b/patches", "a/splits", "b/splits"} <= set(names[:first_training])


def test_a_classifier_reads_synthetic_images_of_its_own_fold_only(study):
    for planned in study.plan():
        if "classifier_ddpm" in planned.name:
            fold = planned.name.split("/")[1]
            assert len(planned.overrides["synthetic_paths"]) == 2
            assert all(f"/{fold}/synthetic_" in path for path in planned.overrides["synthetic_paths"])


def test_images_are_measured_in_the_features_of_the_real_classifier_of_their_fold(study):
    measured = {planned.name: planned for planned in study.plan() if "/measures_" in planned.name}
    assert len(measured) == 2 * 3 * 2 * 2
    planned = measured["a/fold1/measures_HGG_ddpm"]
    assert set(planned.needs) == {"a/fold1/synthetic_HGG_ddpm", "a/fold1/classifier_real", "a/patches", "a/splits"}
    assert planned.overrides["classifier_path"].endswith("a/fold1/classifier_real/model.pt")
    assert planned.overrides["synthetic_path"].endswith("a/fold1/synthetic_HGG_ddpm/synthetic.json")
    assert planned.overrides["fold"] == 1


def test_without_a_classifier_of_real_images_the_other_measures_are_left(study):
    del study.setups["real"]
    measures = [planned for planned in study.plan() if "/measures_" in planned.name]
    assert measures
    assert not any(planned.overrides["classifier_path"] for planned in measures)


def test_images_are_compared_in_the_features_of_the_folds_own_classifier(study):
    for planned in study.plan():
        if "/measures_" in planned.name:
            classifier = planned.name.rsplit("/", 1)[0] + "/classifier_real"
            assert classifier in planned.needs
            assert planned.overrides["classifier_path"].endswith(f"{classifier}/model.pt")


def test_ddpm_and_ddpm_mi_differ_by_one_overlay(study):
    plain, regularized = (
        next(planned for planned in study.plan() if planned.name == f"a/fold0/generator_LGG_{method}")
        for method in ("ddpm", "ddpm_mi")
    )
    assert (plain.overlays, regularized.overlays) == ((), ("options/mutual_information",))
    assert {key for key in plain.overrides if plain.overrides[key] != regularized.overrides[key]} == {"output_dir"}


def test_recipes_and_known_overrides_of_the_study_reach_its_stages(study):
    invocation = Invocation(
        tuple(config_files("study", "recipes/quick")), {"seed": 7, "phantom_num_subjects": 3, "cohorts": {}}
    )
    with invoked(invocation):
        phantom, patches, *_ = (study.invocation_of(planned) for planned in study.plan())
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
    message = r"stop_memorization.yaml must set whole keys in a study, got \+train#handlers; list it as"
    with invoked(Invocation(files)), pytest.raises(ValueError, match=message):
        study.begin()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train#handlerz": []}, "--train#handlerz must name a part of train, got 'handlerz'; did you mean handlers"),
        ({"classifier_max_epochs": "ten"}, "--classifier_max_epochs must be a whole number, got the text 'ten'"),
        ({"folds_together": "two"}, "--folds_together must be a whole number, got the text 'two'"),
        ({"generator_amp": "no"}, "--generator_amp must be True or False, got the text 'no'; write False"),
        ({"mi_weight": "1e-1"}, "--mi_weight must be a number, got the text '1e-1'"),
    ],
)
def test_a_value_of_another_kind_is_refused_before_any_work(study, overrides, message):
    invocation = Invocation(tuple(config_files("study", "recipes/quick")), overrides)
    with invoked(invocation), pytest.raises(ValueError, match=message):
        study.begin()


def test_a_part_goes_to_the_stages_that_have_it(study):
    overrides = {"train#early_stopping#patience": 3, "train#trainer#max_epochs": 1}
    with invoked(Invocation(tuple(config_files("study")), overrides)):
        study.begin()
        reached = {planned.config: set(study.invocation_of(planned).overrides) for planned in study.plan()}
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
    study.cohorts["b"] = cohort
    with invoked(Invocation(tuple(config_files("study")))), pytest.raises(ValueError, match=message):
        study.begin()


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
        assert {planned.config for planned in study.plan()} >= {"patches", "splits", "train_classifier", "report"}


def test_the_same_patients_twice_are_refused(study):
    study.cohorts["c"] = dict(study.cohorts["a"])
    with pytest.raises(ValueError, match="cohorts must differ, got the same patients as a and c"):
        study.begin()


def test_a_setup_of_an_unknown_method_is_refused(study):
    study.setups["gan"] = Setup(method="gan")
    with pytest.raises(ValueError, match=r"setups\.gan must have a method of methods \['ddpm', 'ddpm_mi'\], got 'gan'"):
        study.begin()


def test_the_evaluations_of_the_explained_setups_are_explained_with_the_patches_of_every_cohort(study):
    study.explained_setups = ["ddpm"]
    plan = {planned.name: planned for planned in study.plan()}
    assert [name for name in plan if "explain" in name] == ["a/explain_ddpm", "b/explain_ddpm"]
    stage = plan["b/explain_ddpm"]
    assert stage.needs == ("b/evaluation_ddpm", "b/patches", "a/patches")
    assert stage.overrides["weights_path"].endswith("b/evaluation_ddpm/model.pt")
    assert [path.split("/")[-3] for path in stage.overrides["explain_patches_paths"]] == ["b", "a"]
    assert "b/explain_ddpm" in plan["report"].needs


def test_explained_setups_that_are_not_run_are_refused(study):
    study.explained_setups = ["real", "gan"]
    with pytest.raises(ValueError, match="explained_setups must be of setups .*, got gan"):
        study.begin()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"ensemble": "vote"}, r"explained_setups must be \[\] with ensemble vote .*, got \['real'\].*set expl"),
        ({"temperature_scaling": True}, r"explained_setups must be \[\] with .* temperature_scaling True"),
        ({"classifier_backbone": "vit_tiny"}, "explain_methods must be without gradcam for classifier_backbone vit_t"),
    ],
)
def test_answers_that_could_not_be_explained_are_refused_before_any_work(study, overrides, message):
    with invoked(Invocation(tuple(config_files("study", "recipes/quick")), overrides)):
        study.begin()
        study.explained_setups = ["real"]
        with pytest.raises(ValueError, match=message):
            study.begin()


def test_answers_of_the_ensemble_by_default_may_be_explained(study):
    study.explained_setups = ["real"]
    overrides = {"classifier_backbone": "vit_tiny", "explain_methods": ["lime"]}
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
    planned = next(stage for stage in study.plan() if stage.name == "a/fold0/classifier_real")
    files = (*config_files("study"), str(ROOT / "configs" / "recipes" / "quick.yaml"))
    with invoked(Invocation(files, {"num_threads": 1})):
        own = study.invocation_of(planned)
        with invoked(own):
            stage = ConfigParser(own.merged()).get_parsed_content("stage")
            identity = {**stage.chosen(), "inputs": ["old"], "code": "old"}
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
    planned = next(stage for stage in study.plan() if stage.name == "a/fold0/classifier_real")
    with invoked(Invocation((*config_files("study"), str(ROOT / "configs" / "recipes" / "quick.yaml")))):
        own = study.invocation_of(planned)
        with invoked(own):
            identity = ConfigParser(own.merged()).get_parsed_content("stage").chosen()
        elsewhere = {**identity, "device": "elsewhere"}
        write_json(study.study_dir / planned.name / "stage.json", {"identity": elsewhere, "finished": True})
        with pytest.raises(ValueError, match="differs in device, in a/fold0/classifier_real"):
            study.begin()
        study.scheduler_address = "tcp://host:8786"
        study.begin()


@pytest.mark.parametrize(("size", "sizes"), [(1, {1}), (2, {2, 1}), (3, {3}), (5, {3})])
def test_tasks_are_the_stages_of_the_plan_in_its_order_and_folds_of_one_setup_together(study, size, sizes):
    plan = study.plan()
    tasks = group_folds(plan, size)
    assert [planned for task in tasks for planned in task] == plan
    done = set()
    for task in tasks:
        assert {name for planned in task for name in planned.needs} <= done
        done |= {planned.name for planned in task}
        assert len(task) == 1 or {planned.config for planned in task} == {"train_classifier"}
        assert len({(planned.name.split("/")[0], planned.name.split("/")[-1]) for planned in task}) == 1
    assert {len(task) for task in tasks if task[0].config == "train_classifier"} == sizes


def test_how_many_folds_train_together_is_no_setting_of_a_stage(study):
    before = [study.invocation_of(planned) for planned in study.plan()]
    overrides = {"folds_together": 3}
    study.folds_together = 3
    with invoked(Invocation(tuple(config_files("study")), overrides)):
        assert [study.invocation_of(planned) for planned in study.plan()] == before


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
        invoked(Invocation(tuple(config_files("study", "recipes/quick")), overrides)),
        pytest.raises(ValueError, match=message),
    ):
        study.begin()


def test_stages_may_overwrite_but_the_commands_that_are_logged_do_not_say_so(study):
    with invoked(Invocation(tuple(config_files("study", "recipes/quick")), {"overwrite": True})):
        for planned in study.plan():
            invocation = study.invocation_of(planned)
            assert invocation.may_overwrite
            assert "--overwrite" not in invocation.command()


def test_a_dry_run_lists_the_stages_and_does_nothing(study, capsys):
    study.dry_run = True
    with invoked(Invocation(tuple(config_files("study", "recipes/quick")))):
        study.begin()
        study.run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"0 of {len(study.plan())} stages are finished, {len(study.plan())} to run"
    assert len(lines) == 1 + len(study.plan())
    assert all(line.startswith("run") and line.endswith("not begun") for line in lines[1:])
    assert not study.study_dir.exists()
