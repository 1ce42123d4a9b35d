"""The plan of a study: who needs whom, what an experiment changes, and what does not fit together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.running.overrides import load_file
from scripts.running.plan import FOLD_PARTS, group_folds
from scripts.running.setups import NETWORK, Setup
from scripts.splits import lists
from tests.helpers import ROOT

CONFIGS = ROOT / "configs"


def test_every_stage_comes_after_those_it_needs_and_before_the_report(plan):
    stages = plan.stages()
    done = set()
    for planned in stages:
        assert set(planned.needs) <= done, planned.name
        assert planned.name not in done
        done.add(planned.name)
    assert stages[-1].name == "report"


def test_the_plan_has_one_stage_for_each_combination(plan):
    names = [planned.name for planned in plan.stages()]
    count = {
        word: sum(word in name for name in names) for word in ("generator_", "synthetic_", "classifier_", "evaluation_")
    }
    assert count == {"generator_": 2 * 3 * 2 * 2, "synthetic_": 24, "classifier_": 2 * 3 * 3, "evaluation_": 2 * 3}


def test_one_conditional_generator_draws_the_sets_of_all_classes(plan):
    plan.condition = "label"
    stages = {planned.name: planned for planned in plan.stages()}
    assert sum("generator_" in name for name in stages) == 2 * 3 * 2
    for name in ("LGG", "HGG"):
        assert stages[f"a/fold1/synthetic_{name}_ddpm"].needs[0] == "a/fold1/generator_all_ddpm"


def test_latent_generators_have_one_autoencoder_for_each_fold_which_is_trained_before_them(plan):
    plan.space = "latent"
    names = [planned.name for planned in plan.stages()]
    stages = {planned.name: planned for planned in plan.stages()}
    autoencoders = [name for name in names if name.endswith("/autoencoder")]
    assert autoencoders == [f"{cohort}/fold{fold}/autoencoder" for cohort in "ab" for fold in range(3)]
    for name, planned in stages.items():
        if planned.config == "train_generator":
            autoencoder = f"{'/'.join(name.split('/')[:2])}/autoencoder"
            assert names.index(autoencoder) < names.index(name)
            assert autoencoder in planned.needs
            assert planned.overrides["autoencoder_path"].endswith(f"{autoencoder}/model.pt")
        else:
            assert "autoencoder_path" not in planned.overrides
    assert set(autoencoders) <= set(stages["report"].needs)


def test_without_trained_generators_no_autoencoder_is_trained(plan):
    plan.space, plan.setups, plan.methods = "latent", {"real": plan.setups["real"]}, {}
    assert not any(planned.config == "train_autoencoder" for planned in plan.stages())


def test_the_data_of_all_cohorts_come_before_any_training(plan):
    names = [planned.name for planned in plan.stages()]
    first_training = min(index for index, name in enumerate(names) if "generator_" in name)
    assert {"a/patches", "b/patches", "a/splits", "b/splits"} <= set(names[:first_training])


def test_a_classifier_reads_synthetic_images_of_its_own_fold_only(plan):
    for planned in plan.stages():
        if "classifier_ddpm" in planned.name:
            fold = planned.name.split("/")[1]
            assert len(planned.overrides["synthetic_paths"]) == 2
            assert all(f"/{fold}/synthetic_" in path for path in planned.overrides["synthetic_paths"])


def test_images_are_measured_in_the_features_of_the_real_classifier_of_their_fold(plan):
    measured = {planned.name: planned for planned in plan.stages() if "/measures_" in planned.name}
    assert len(measured) == 2 * 3 * 2 * 2
    planned = measured["a/fold1/measures_HGG_ddpm"]
    sets = {"a/fold1/synthetic_HGG_ddpm", "a/fold1/synthetic_LGG_ddpm"}
    assert set(planned.needs) == {*sets, "a/fold1/classifier_real", "a/patches", "a/splits"}
    (other,) = planned.overrides["label_paths"]
    assert other.endswith("a/fold1/synthetic_LGG_ddpm/synthetic.json")
    assert planned.overrides["classifier_path"].endswith("a/fold1/classifier_real/model.pt")
    assert planned.overrides["synthetic_path"].endswith("a/fold1/synthetic_HGG_ddpm/synthetic.json")
    assert planned.overrides["fold"] == 1


def test_without_a_classifier_of_real_images_the_other_measures_are_left(plan):
    del plan.setups["real"]
    measures = [planned for planned in plan.stages() if "/measures_" in planned.name]
    assert measures
    assert not any(planned.overrides["classifier_path"] for planned in measures)


def test_images_are_compared_in_the_features_of_the_folds_own_classifier(plan):
    for planned in plan.stages():
        if "/measures_" in planned.name:
            classifier = planned.name.rsplit("/", 1)[0] + "/classifier_real"
            assert classifier in planned.needs
            assert planned.overrides["classifier_path"].endswith(f"{classifier}/model.pt")


def test_ddpm_and_ddpm_mi_differ_by_one_overlay(plan):
    plain, regularized = (
        next(planned for planned in plan.stages() if planned.name == f"a/fold0/generator_LGG_{method}")
        for method in ("ddpm", "ddpm_mi")
    )
    assert (plain.overlays, regularized.overlays) == ((), ("options/mutual_information",))
    names = {"output_dir", "stage_belongs_to", "method"}
    assert {key for key in plain.overrides if plain.overrides[key] != regularized.overrides[key]} == names


def test_a_control_is_a_method_of_one_stage_that_is_judged_and_used_as_any_other(plan):
    stages = {planned.name: planned for planned in replace(plan, controls=["mixed"]).stages()}
    drawn = stages["b/fold1/synthetic_HGG_mixed"]
    assert (drawn.config, drawn.needs) == ("generate_control", ("b/patches", "b/splits"))
    assert {"control": "mixed", "generator_class": "HGG", "fold": 1}.items() <= drawn.overrides.items()
    assert not any("generator_" in name and "mixed" in name for name in stages)
    assert {"b/fold1/audit_HGG_mixed", "b/fold1/measures_HGG_mixed", "b/evaluation_mixed"} <= set(stages)
    classifier = stages["b/fold1/classifier_mixed"]
    assert {"b/fold1/synthetic_LGG_mixed", "b/fold1/synthetic_HGG_mixed"} <= set(classifier.needs)
    assert classifier.overrides["synthetic_method"] == "mixed"
    assert all("/fold1/synthetic_" in path for path in classifier.overrides["synthetic_paths"])


def test_a_setup_may_name_a_control_in_its_own_way(plan):
    setups = {**plan.setups, "mixed": {"method": "mixed", "ratio": 0.5}, "alone": {"method": "noisy"}}
    own = replace(plan, setups=setups, controls=["mixed", "noisy"])
    own.check(CONFIGS)
    assert own.setups["mixed"] == Setup(method="mixed", ratio=0.5)
    assert {"mixed", "noisy", "alone"} <= set(own.setups)


@pytest.mark.parametrize("setups", [{"real": {}, "augmentation": {}}, {"ddpm": {"method": "ddpm"}}])
def test_a_study_without_a_diffusion_model_to_compare_has_no_controls(plan, setups):
    without = replace(plan, setups=setups, controls=["mixed"])
    without.check(CONFIGS)
    assert set(without.setups) == set(setups)
    assert not any(planned.config == "generate_control" for planned in without.stages())


def test_a_setup_of_a_control_brings_no_other_control(plan):
    own = replace(plan, setups={"real": {}, "mine": {"method": "mixed"}}, controls=["mixed", "noisy"])
    own.check(CONFIGS)
    assert list(own.setups) == ["real", "mine"]


def test_controls_of_every_cohort_and_fold_are_drawn_before_any_training(plan):
    configs = [planned.config for planned in replace(plan, controls=["mixed"]).stages()]
    drawn = [index for index, config in enumerate(configs) if config == "generate_control"]
    assert len(drawn) == 2 * 3 * 2
    assert max(drawn) < configs.index("train_generator")


def test_the_settings_of_every_control_are_checked(plan):
    kinds = replace(plan, controls=["mixed", "noisy"]).kinds()
    assert [kind.overrides["control"] for kind in kinds if kind.config == "generate_control"] == ["mixed", "noisy"]


def test_the_same_patients_twice_are_refused(plan):
    plan.cohorts["c"] = dict(plan.cohorts["a"])
    with pytest.raises(ValueError, match="cohorts must differ, got the same patients as a and c"):
        plan.check(CONFIGS)


def test_a_setup_of_an_unknown_method_is_refused(plan):
    plan.setups["gan"] = Setup(method="gan")
    with pytest.raises(ValueError, match=r"setups\.gan must have a method of methods \['ddpm', 'ddpm_mi'\], got 'gan'"):
        plan.check(CONFIGS)


def test_the_evaluations_of_the_explained_setups_are_explained_with_the_patches_of_every_cohort(plan):
    plan.explained_setups = ["ddpm"]
    stages = {planned.name: planned for planned in plan.stages()}
    assert [name for name in stages if "explain" in name] == ["a/explain_ddpm", "b/explain_ddpm"]
    stage = stages["b/explain_ddpm"]
    assert stage.needs == ("b/evaluation_ddpm", "b/patches", "a/patches")
    assert stage.overrides["weights_path"].endswith("b/evaluation_ddpm/model.pt")
    assert [path.split("/")[-3] for path in stage.overrides["explain_patches_paths"]] == ["b", "a"]
    assert "b/explain_ddpm" in stages["report"].needs


def test_explained_setups_that_are_not_run_are_refused(plan):
    plan.explained_setups = ["real", "gan"]
    with pytest.raises(ValueError, match="explained_setups must be of setups .*, got gan"):
        plan.check(CONFIGS)


@pytest.mark.parametrize(("size", "sizes"), [(1, {1}), (2, {2, 1}), (3, {3}), (5, {3})])
def test_tasks_are_the_stages_of_the_plan_in_its_order_and_folds_of_one_setup_together(plan, size, sizes):
    stages = plan.stages()
    tasks = group_folds(stages, size)
    assert [planned for task in tasks for planned in task] == stages
    done = set()
    for task in tasks:
        assert {name for planned in task for name in planned.needs} <= done
        done |= {planned.name for planned in task}
        assert len(task) == 1 or {planned.config for planned in task} == {"train_classifier"}
        assert len({(planned.name.split("/")[0], planned.name.split("/")[-1]) for planned in task}) == 1
    assert {len(task) for task in tasks if task[0].config == "train_classifier"} == sizes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cohorts": {False: {"config": "phantom"}}}, "cohorts must be named by text, got False .YAML reads no"),
        ({"cohorts": {2019: {"config": "phantom"}}}, "cohorts must be named by text, got 2019; put the name in quotes"),
        ({"cohorts": {"a/b": {"config": "phantom"}}}, "cohorts must have names of letters, .* got 'a/b'; choose"),
        ({"cohorts": {"report": {"config": "phantom"}}}, "cohorts must have names .* and not report, got 'report'"),
        ({"setups": {"..": {}}}, "setups must have names of letters, .* got '..'"),
        ({"setups": {"real~vgg": {}}}, "setups must have names of letters, .* got 'real~vgg'"),
        ({"classifiers": {"a/b": {}}}, "classifiers must have names of letters, .* got 'a/b'"),
        ({"methods": {True: []}}, "methods must be named by text, got True"),
        ({"cohorts": {"a": "phantom"}}, "cohorts.a must be a mapping such as {config: cohort, .*, got 'phantom'"),
        (
            {"cohorts": {"a": {"confg": "phantom"}}},
            r"cohorts.a must have a config \(phantom, cohort, segment\), got confg",
        ),
        ({"cohorts": {"a": {"config": "phantm"}}}, "of phantom, cohort, segment, got 'phantm'; did you mean phantom"),
        ({"methods": {"ddpm": "options/x", "ddpm_mi": []}}, r"methods.ddpm must be a list .* write \[options/x\]"),
        ({"methods": {"ddpm": ["mutual_information"], "ddpm_mi": []}}, "did you mean options/mutual_information"),
        ({"setups": {"x": {"overlays": ["mine"]}}}, "setups.x#overlays must name files .* got 'mine', .* put the file"),
        ({"controls": "mixed"}, "controls must be a list of control generators, got 'mixed'"),
        ({"controls": ["ddpm"]}, "controls must not be named as methods are, got ddpm; rename the method"),
        ({"controls": ["a/b"]}, "controls must have names of letters, .* got 'a/b'"),
        ({"num_folds": 0}, "num_folds must be >= 1, got 0"),
        (
            {"setups": {"x": {"method": "ddpm", "ratio": 2.0}}},
            "generated_ratio must be at least the ratio 2.0 that setups.x",
        ),
        ({"synthetic_ratio": 3.0}, "generated_ratio must be at least the ratio 3.0 that setups.ddpm takes, got 1.0"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_way_out(plan, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(plan, **changes).check(CONFIGS)


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        ("ddpm", r"setups.x must be a mapping such as {method: ddpm}, got 'ddpm'"),
        ({"metod": "ddpm"}, "setups.x must have keys of method, ratio, .*, got metod; did you mean method"),
        ({"method": False}, "setups.x#method must be the name of one of methods, got False"),
        ({"method": "ddpm", "ratio": "2"}, "setups.x#ratio must be a number >= 0, got '2'"),
        ({"method": "ddpm", "ratio": -1}, "setups.x#ratio must be a number >= 0, got -1"),
        ({"train_on_real": "no"}, "setups.x#train_on_real must be true or false, got 'no'"),
        ({"labels": "mixed"}, "setups.x#labels must be one of own, shuffled, got 'mixed'"),
    ],
)
def test_a_setup_of_another_kind_is_refused(setup, message):
    with pytest.raises(ValueError, match=message):
        Setup.of("x", setup)


def test_an_empty_setup_and_null_train_on_real_images_alone():
    assert Setup.of("real", None) == Setup.of("real", {}) == Setup()
    assert Setup().overrides() == {"synthetic_method": None}


def test_a_setup_reaches_its_classifiers_as_overrides(plan):
    only = {
        "method": "ddpm",
        "ratio": 0.5,
        "train_on_real": False,
        "labels": "shuffled",
        "permutations": 1,
        "overlays": ["options/warmup"],
    }
    stages = {planned.name: planned for planned in replace(plan, setups={"only": only}).stages()}
    planned = stages["b/fold2/classifier_only"]
    assert planned.overlays == ("options/warmup",)
    overrides = {"setup": "only", "synthetic_method": "ddpm", "synthetic_ratio": 0.5, "train_on_real": False}
    assert overrides.items() <= planned.overrides.items()
    assert planned.overrides["synthetic_labels"] == "shuffled"


def test_permutations_of_labels_one_per_class_are_trained_and_evaluated_apart(plan):
    control = {"method": "ddpm", "train_on_real": False, "labels": "shuffled"}
    stages = {planned.name: planned for planned in replace(plan, setups={"real": None, "control": control}).stages()}
    for number in (1, 2):
        planned = stages[f"b/fold2/classifier_control={number}"]
        assert planned.overrides["synthetic_permutation"] == number - 1
        assert planned.overrides["setup"] == f"control={number}"
        assert f"b/evaluation_control={number}" in stages
    assert "synthetic_permutation" not in stages["b/fold2/classifier_real"].overrides


def test_a_study_of_one_cohort_has_a_plan_and_tests_on_no_other(plan):
    one = replace(plan, cohorts={"a": {"config": "phantom"}})
    one.check(CONFIGS)
    evaluations = [planned for planned in one.stages() if planned.config == "evaluate"]
    assert [planned.overrides["external_patches_paths"] for planned in evaluations] == [[], [], []]


def test_the_kinds_of_a_plan_are_its_configs_with_their_overlays(plan):
    kinds = [(planned.config, planned.overlays) for planned in plan.kinds()]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == {(planned.config, planned.overlays) for planned in plan.stages()}


def test_audits_look_at_the_generators_that_were_trained(plan):
    both = replace(plan, controls=["mixed"])
    stages = {planned.name: planned for planned in both.stages()}
    audit = stages["a/fold1/audit_LGG_ddpm_mi"]
    assert audit.overrides["audit_generator_path"].endswith("a/fold1/generator_LGG_ddpm_mi/model.pt")
    assert "a/fold1/generator_LGG_ddpm_mi" in audit.needs
    assert audit.network_overlays == ("options/mutual_information",)
    assert "audit_generator_path" not in stages["a/fold1/audit_LGG_mixed"].overrides
    told = {planned.name: planned for planned in replace(both, condition="label").stages()}
    assert "a/fold1/generator_all_ddpm_mi" in told["a/fold1/audit_LGG_ddpm_mi"].needs
    without = {planned.name: planned for planned in replace(both, audit_generators=False).stages()}
    assert "audit_generator_path" not in without["a/fold1/audit_LGG_ddpm_mi"].overrides


def test_every_stage_says_what_it_belongs_to_whatever_its_folder_is_called(plan):
    places = {planned.name: planned.belongs_to for planned in plan.stages()}
    generator = {"cohort": "a", "fold": 1, "method": "ddpm_mi", "class_name": "LGG"}
    assert places["a/fold1/generator_LGG_ddpm_mi"] == places["a/fold1/audit_LGG_ddpm_mi"] == generator
    assert places["b/fold2/classifier_ddpm_mi"] == {"cohort": "b", "fold": 2, "setup": "ddpm_mi"}
    assert places["b/evaluation_real"] == {"cohort": "b", "setup": "real"}
    assert all(place.get("cohort") == name.split("/")[0] for name, place in places.items() if name != "report")


def test_generators_record_the_name_that_the_study_gives_their_method(plan):
    other = replace(plan, methods={"mine": []}, setups={"mine": {"method": "mine"}})
    methods = {planned.config: planned.overrides.get("method") for planned in other.stages()}
    assert methods["train_generator"] == "mine"
    classifiers = [planned for planned in other.stages() if planned.config == "train_classifier"]
    assert {planned.overrides["synthetic_method"] for planned in classifiers} == {"mine"}


GAN = {"images_path": "gan/{cohort}/{fold}/{class}.npy", "trained_on": "train", "value_range": [0, 1]}


def test_images_of_another_program_are_a_method_with_a_setup_of_its_name(plan):
    own = replace(plan, imported={"gan": GAN}, controls=["mixed"])
    stages = {planned.name: planned for planned in own.stages()}
    assert list(own.setups) == ["real", "ddpm", "ddpm_mi", "gan", "mixed"]
    stage = stages["b/fold1/synthetic_HGG_gan"]
    assert (stage.config, stage.needs) == ("import_synthetic", ("b/patches", "b/splits"))
    assert {"images_path": "gan/b/1/HGG.npy", "trained_on": "train", "method": "gan"}.items() <= stage.overrides.items()
    assert stage.overrides["import_ratio"] == 1.0
    assert {"b/fold1/audit_HGG_gan", "b/fold1/measures_HGG_gan", "b/evaluation_gan"} <= set(stages)
    assert all("synthetic" in path for path in stages["b/fold1/classifier_gan"].overrides["synthetic_paths"])
    configs = [planned.config for planned in own.stages()]
    assert configs.index("import_synthetic") < configs.index("train_generator")
    assert [kind.overrides["method"] for kind in own.kinds() if kind.config == "import_synthetic"] == ["gan"]


def test_a_setup_may_take_images_of_another_program_in_its_own_way(plan):
    own = replace(plan, setups={"real": {}, "few": {"method": "gan", "ratio": 0.5}}, imported={"gan": GAN})
    assert list(own.setups) == ["real", "few"]
    stages = {planned.name: planned for planned in own.stages()}
    assert stages["a/fold0/synthetic_LGG_gan"].overrides["import_ratio"] == 0.5


@pytest.mark.parametrize(
    ("imported", "message"),
    [
        ({"gan": "folder"}, "imported.gan must be a mapping with images_path, such as"),
        ({"gan": {"trained_on": "train"}}, "imported.gan must be a mapping with images_path"),
        ({"gan": {**GAN, "fold": 1}}, "imported.gan must leave fold to the study"),
        ({"gan": {**GAN, "images_path": "gan/{klass}"}}, "must name places of cohort, fold, class in braces, got 'kla"),
        ({"gan": {**GAN, "images_path": "gan"}}, "imported.gan#images_path must hold {class}"),
        ({"gan": {**GAN, "images_path": "{cohort}/{class}"}}, "must hold {fold}, since a generator .* is of one fold"),
        (
            {"gan": {**GAN, "images_path": "{fold}/{class}"}},
            "must hold {cohort}, since a generator .* is of one cohort",
        ),
        ({"ddpm": GAN}, "imported must not be named as methods are, got ddpm"),
        ({"gan": GAN}, "imported.gan#images_path must be a folder or a file of each cohort.* no gan/a/0/LGG.npy"),
    ],
)
def test_imports_that_cannot_be_made_are_refused_before_any_work(plan, imported, message):
    with pytest.raises(ValueError, match=message):
        replace(plan, imported=imported).check(CONFIGS)


def test_an_import_whose_name_is_taken_by_another_setup_is_refused_instead_of_dropped(plan, tmp_path):
    for name in plan.classes:
        (tmp_path / name).mkdir()
    web = {"images_path": f"{tmp_path}/{{class}}"}
    with pytest.raises(ValueError, match="imported must be the methods of setups, got web, whose setup takes"):
        replace(plan, setups={"real": {}, "web": {"method": "ddpm"}}, imported={"web": web}).check(CONFIGS)
    # Nothing is generated for imported images, however many are taken.
    replace(plan, setups={"real": {}, "many": {"method": "web", "ratio": 9}}, imported={"web": web}).check(CONFIGS)


def test_a_setup_of_images_whose_generator_saw_everybody_is_refused(plan, tmp_path):
    for name in plan.classes:
        (tmp_path / name).mkdir()
    everybody = {"images_path": f"{tmp_path}/{{class}}", "trained_on": "all"}
    with pytest.raises(ValueError, match="imported.gan#trained_on must leave subjects to test on where setups.gan"):
        replace(plan, imported={"gan": everybody}).check(CONFIGS)


def test_the_parts_of_a_fold_are_those_of_the_splits():
    assert FOLD_PARTS == lists.FOLD_PARTS


WEIGHTS = {"classifier_pretrained_path": "vgg.pth", "classifier_frozen_body": True}
CLASSIFIERS = {"vgg": {"classifier_backbone": "torchvision_vgg16", **WEIGHTS}, "resnet10": None}


def test_each_setup_is_trained_evaluated_and_explained_with_each_classifier(plan):
    own = replace(plan, classifiers=CLASSIFIERS, explained_setups=["real", "ddpm~vgg"])
    own.check(CONFIGS)
    stages = {planned.name: planned for planned in own.stages()}
    trained = [name for name in stages if "/classifier_" in name]
    assert len(trained) == 2 * 3 * 3 * 2
    assert "b/fold2/classifier_ddpm_mi~vgg" in trained
    assert [name for name in stages if name.startswith("a/evaluation")] == [
        f"a/evaluation_{setup}~{classifier}" for setup in plan.setups for classifier in ("vgg", "resnet10")
    ]
    assert [name for name in stages if name.startswith("a/explain")] == [
        "a/explain_real~vgg",
        "a/explain_real~resnet10",
        "a/explain_ddpm~vgg",
    ]
    members = [f"a/fold{fold}/classifier_ddpm~vgg" for fold in range(3)]
    assert set(members) <= set(stages["a/evaluation_ddpm~vgg"].needs)
    assert stages["a/evaluation_ddpm~vgg"].overrides["setup"] == "ddpm~vgg"
    place = {"cohort": "a", "setup": "ddpm~vgg", "classifier": "vgg"}
    assert stages["a/evaluation_ddpm~vgg"].belongs_to == place
    assert stages[members[1]].belongs_to == {**place, "fold": 1}
    for size, sizes in ((2, {2, 1}), (5, {3})):
        tasks = [task for task in group_folds(own.stages(), size) if task[0].config == "train_classifier"]
        assert {len(task) for task in tasks} == sizes
        assert all(len({planned.belongs_to["setup"] for planned in task}) == 1 for task in tasks)


def test_a_network_goes_to_every_stage_that_has_its_weights_and_the_rest_to_its_training(plan):
    own = replace(plan, classifiers=CLASSIFIERS, explained_setups=["real"])
    stages = {planned.name: planned.overrides for planned in own.stages()}
    backbone = {"classifier_backbone": "torchvision_vgg16"}
    trained = {key: stages["a/fold0/classifier_real~vgg"][key] for key in (*backbone, *WEIGHTS)}
    assert trained == {**backbone, **WEIGHTS}
    assert stages["a/fold0/classifier_real~resnet10"]["classifier_backbone"] == "resnet10"
    for name in ("evaluation_real~vgg", "explain_real~vgg", "fold1/measures_LGG_ddpm"):
        assert {key: value for key, value in stages[f"a/{name}"].items() if key.startswith("classifier_b")} == backbone
        assert not WEIGHTS.keys() & stages[f"a/{name}"].keys()
    # Images are measured in the features of the first classifier.
    assert stages["a/fold1/measures_LGG_ddpm"]["classifier_path"].endswith("a/fold1/classifier_real~vgg/model.pt")


@pytest.mark.parametrize("none", [None, [], {}, ()])
def test_without_classifiers_a_plan_is_as_it_was(plan, none):
    assert replace(plan, classifiers=none).stages() == plan.stages()
    assert not any("~" in planned.name for planned in plan.stages())
    assert not any("classifier_backbone" in planned.overrides for planned in plan.stages())


def test_the_network_of_a_study_is_what_common_says_of_it(plan):
    common = load_file(str(CONFIGS / "common.yaml"))
    assert {key for key, value in common.items() if key.startswith("classifier_") and key != "classifier_def"} == {
        *NETWORK
    }


def test_a_classifier_that_is_not_run_cannot_be_explained(plan):
    with pytest.raises(ValueError, match="explained_setups must be of setups .*real~vgg.*, got real~resnet18"):
        replace(plan, classifiers=CLASSIFIERS, explained_setups=["real~resnet18"]).check(CONFIGS)


def without_classes(plan, **changes):
    changes = {"classes": [], "setups": {}, "explained_setups": [], "condition": None, **changes}
    return replace(plan, **changes)


def test_a_study_without_classes_draws_and_judges_and_classifies_nothing(plan):
    own = without_classes(plan, cohorts={"a": plan.cohorts["a"]}, num_folds=1, controls=["pca_gaussian"])
    own.check(CONFIGS)
    names = [planned.name.removeprefix("a/").removeprefix("fold0/") for planned in own.stages()]
    drawn = ["pca_gaussian", *own.methods]
    assert sorted(names) == sorted(
        [
            *("cohort", "patches", "splits", "report"),
            *(f"generator_all_{method}" for method in own.methods),
            *(f"{kind}_all_{method}" for kind in ("synthetic", "audit", "measures") for method in drawn),
        ]
    )
    measured = next(planned for planned in own.stages() if "measures" in planned.name)
    assert measured.overrides["classifier_path"] is None
    assert measured.overrides["label_paths"] == []


def test_generators_of_classes_may_be_studied_without_any_classifier(plan):
    own = replace(plan, setups={}, explained_setups=[], condition="label")
    own.check(CONFIGS)
    names = [planned.name for planned in own.stages()]
    assert "a/fold0/synthetic_LGG_ddpm" in names
    assert not any("classifier" in name or "evaluation" in name for name in names)


def test_images_of_other_programs_need_no_class_where_there_is_none(plan, tmp_path):
    own = without_classes(plan, imported={"gan": {"images_path": str(tmp_path), "trained_on": "unknown"}})
    own.check(CONFIGS)
    (stage, *_) = [planned for planned in own.stages() if planned.config == "import_synthetic"]
    assert (stage.overrides["images_path"], stage.overrides["import_ratio"]) == (str(tmp_path), 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"setups": {"real": {}}},
            r"setups and explained_setups must be \{\} and \[\] where classes is \{\}, got setups real",
        ),
        ({"condition": "label"}, r"generator_condition must be null where classes is \{\}, got 'label'"),
    ],
)
def test_what_needs_classes_is_refused_without_them(plan, changes, message):
    with pytest.raises(ValueError, match=message):
        without_classes(plan, **changes).check(CONFIGS)
