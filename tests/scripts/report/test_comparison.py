"""The numbers and the items of the report's comparison, from predictions alone."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from scripts.evaluation.answers import group_answers
from scripts.evaluation.metrics import compute_metrics
from scripts.evaluation.primary import PrimaryEndPoint
from scripts.evaluation.subgroups import FEWEST
from scripts.provenance.study_files import SeedStudies, StudyFiles
from scripts.report.comparison import comparison_numbers, comparison_sections, write_comparisons
from scripts.running.files import read_csv, read_json, write_csv, write_json
from scripts.statistics.classification_measures import expected_calibration_error, value_of
from tests.fake_study import write_empty_set
from tests.predictions import prediction_rows

SETUPS = ("real", "ddpm", "ddpm_mi")


def numbers(rows, folder, seeds=()):
    files = StudyFiles(str(folder), ["evaluation"])
    return comparison_numbers(rows, files, SeedStudies(seeds), SETUPS, "real", num_draws=100, seed=0)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return numbers(prediction_rows(), tmp_path_factory.mktemp("study"))


def test_the_page_and_the_files_hold_the_same_numbers(found, tmp_path):
    write_comparisons(found, tmp_path)
    rows = read_csv(tmp_path / "comparisons.csv")
    assert [float(row["value"]) for row in rows] == pytest.approx([row["value"] for row in found["comparisons"]])
    content = read_json(tmp_path / "comparisons.json")
    assert set(content) == set(found)
    section = comparison_sections(found, compute_metrics(prediction_rows(), 100), prediction_rows(), SETUPS)
    (test,) = section["by_test"]
    assert [row["setup"] for row in test["rows"]] == ["ddpm", "ddpm_mi"]
    assert test["rows"][0]["auc"]["value"] == content["comparisons"][2]["value"]


def test_figures_are_drawn_for_every_test_on_another_cohort(found):
    rows = prediction_rows() + prediction_rows(role="locked_test")
    section = comparison_sections(found, compute_metrics(rows, 100), rows, SETUPS)
    assert len(section["forests"]) == 2
    assert [figure["title"] for figure in section["curves"]] == ["a → b"]
    assert all(figure[kind].startswith("<svg") for figure in section["curves"] for kind in ("roc", "reliability"))
    (test,) = section["further"]
    assert [row["setup"] for row in test["rows"]] == list(SETUPS)


def test_permutations_of_labels_stand_in_tables_and_in_no_figure(tmp_path):
    setups = ("real", "ddpm", "synthetic_shuffled=1", "synthetic_shuffled=2")
    rows = prediction_rows({"real": 1.0, "ddpm": 1.2, "synthetic_shuffled=1": 0.5, "synthetic_shuffled=2": -0.5})
    section = comparison_sections(numbers(rows, tmp_path), compute_metrics(rows, 100), rows, setups)
    (figure,) = section["curves"]
    assert list(figure["roc_panel"].keywords["curves"]) == ["Real images only", "+ DDPM"]
    (test,) = section["further"]
    assert [row["setup"] for row in test["rows"]] == list(setups)


def test_three_classes_have_a_panel_each(tmp_path):
    rows = prediction_rows(sizes=(9, 14, 20), classes=("A", "B", "C"))
    section = comparison_sections(numbers(rows, tmp_path), compute_metrics(rows, 100), rows, SETUPS)
    assert {row["class"] for row in section["volumes"]} == {"A", "B", "C"}
    (figure,) = section["curves"]
    assert figure["roc"].count('id="axes_') == 3


def test_reliability_adds_up_to_the_calibration_error(found):
    real = group_answers(prediction_rows())[0]
    bins = [one for one in found["calibration"][0]["bins"] if one["n"]]
    error = sum(one["n"] * abs(one["confidence"] - one["accuracy"]["value"]) for one in bins) / 40
    assert error == pytest.approx(value_of(expected_calibration_error, real.labels, real.probabilities))


def test_sites_add_up_to_the_cohort(found):
    rows = [row for row in found["sites"] if row["setup"] == "real"]
    assert [row["site"] for row in rows] == ["X", "Y"]
    assert sum(row["n"] for row in rows) == 40
    assert sum(row["n_by_class"]["LGG"] for row in rows) == 12


def test_groups_of_patients_add_up_to_the_cohort(report):
    rows = read_json(report / "comparisons.json")["subgroups"]
    assert {row["by"] for row in rows} == {"enhancement", "volume of the lesion"}
    for by in ("enhancement", "volume of the lesion"):
        own = [row for row in rows if (row["by"], row["setup"], row["direction"]) == (by, "real", "site_a")]
        assert sum(row["n"] for row in own) == 40
    assert {row["auc"]["value"] is None for row in rows} == {min(row["n_by_class"].values()) < FEWEST for row in rows}
    html = (report / "report.html").read_text(encoding="utf-8")
    assert "site_a → site_b, by enhancement" in html
    assert "too few" in html


def test_a_logit_that_is_the_volume_is_seen_in_every_class(tmp_path):
    rows = prediction_rows({"real": 1.0})
    for row in rows:
        row |= {"logit_LGG": "0", "logit_HGG": row["lesion_volume_ml"]}
    (row,) = numbers(rows, tmp_path)["volume_correlations"]
    assert [one["value"] for one in row["correlation"].values()] == pytest.approx([1, 1, 1])


def test_a_subject_without_volume_is_left_out_of_the_volumes_only(tmp_path):
    rows = prediction_rows()
    for row in rows[::40]:
        row["lesion_volume_ml"] = ""
    content = numbers(rows, tmp_path)
    assert (content["volumes"][0]["n"], content["volume_correlations"][0]["n"]) == (39, 39)
    assert content["comparisons"][0]["n"] == 40


def test_predictions_of_other_subjects_than_the_splits_are_refused(tmp_path):
    splits = {"cohort": "a", "test": ["s000"], "folds": [{"train": ["s1"], "inner": ["s2"], "validation": ["s3"]}]}
    write_json(tmp_path / "evaluation" / "splits.json", splits)
    with pytest.raises(ValueError, match=r"real \(a -> a, locked_test\) must be of the held-out subjects"):
        numbers(prediction_rows(role="locked_test"), tmp_path)


def study_of_seed(folder, rows, seed, **settings):
    write_csv(folder / "evaluation" / "predictions.csv", rows, list(rows[0]))
    identity = {"seed": seed, "settings": {"seed": seed, "ensemble": "mean_probability", **settings}}
    write_json(folder / "evaluation" / "stage.json", {"kind": "evaluation", "identity": identity})
    return str(folder)


def test_other_seeds_stand_beside_the_interval_of_this_one(tmp_path):
    own, *folders = [study_of_seed(tmp_path / str(seed), prediction_rows(seed=seed), seed) for seed in (0, 1, 2)]
    content = numbers(prediction_rows(), own, folders)["seeds"]
    row = next(row for row in content if row["setup"] == "ddpm" and row["measure"] == "accuracy")
    accuracies = [group_answers(prediction_rows(seed=seed))[1].right.mean() for seed in (0, 1, 2)]
    assert row["values"] == pytest.approx(accuracies)
    assert row["sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert row["low"] < accuracies[0] < row["high"]
    assert row["both_low"] < row["mean"] < row["both_high"]


def test_differences_from_the_reference_are_spread_over_the_same_seeds(tmp_path):
    own, *folders = [study_of_seed(tmp_path / str(seed), prediction_rows(seed=seed), seed) for seed in (0, 1, 2)]
    content = numbers(prediction_rows(), own, folders)
    for row in content["comparisons"]:
        names = ("setup", "reference", "measure")
        (spread,) = [one for one in content["seed_differences"] if all(one[name] == row[name] for name in names)]
        assert (spread["values"][0], spread["low"], spread["high"]) == (row["value"], row["low"], row["high"])
    accuracies = [[answers.right.mean() for answers in group_answers(prediction_rows(seed=seed))] for seed in (0, 1, 2)]
    (row,) = [row for row in content["seed_differences"] if (row["setup"], row["measure"]) == ("ddpm", "accuracy")]
    assert row["values"] == pytest.approx([setup - real for real, setup, *_ in accuracies])
    assert row["both_low"] < row["mean"] < row["both_high"]
    assert not row["needs_no_images"]


@pytest.mark.parametrize(("seeds_of_one_answer", "accuracy", "auc"), [((2,), False, False), ((0, 1, 2), True, True)])
def test_a_gain_needs_no_images_by_its_mean_or_where_every_training_gives_one_answer(
    tmp_path, seeds_of_one_answer, accuracy, auc
):
    one_answer = prediction_rows({"real": -3.0, "ddpm": 3.0}, sizes=(10, 70))
    for row in one_answer:
        if row["setup"] == "ddpm":
            row |= {"probability_LGG": "0.1", "probability_HGG": "0.9"}
    rows = prediction_rows({"real": -3.0, "ddpm": 3.0}, sizes=(10, 70))
    of_seeds = [one_answer if seed in seeds_of_one_answer else rows for seed in (0, 1, 2)]
    folders = [study_of_seed(tmp_path / str(seed), own, seed) for seed, own in enumerate(of_seeds)]
    differences = numbers(of_seeds[0], folders[0], folders[1:])["seed_differences"]
    marked = {row["measure"]: row["needs_no_images"] for row in differences}
    assert (marked["accuracy"], marked["auc"]) == (accuracy, auc)


def test_differences_of_shuffled_labels_are_no_findings(tmp_path):
    skills = {"real": 0.0, "ddpm": 3.0, "synthetic_shuffled=1": 3.0}
    rows = prediction_rows(skills, sizes=(30, 40))
    own, *others = [study_of_seed(tmp_path / str(seed), rows, seed) for seed in (0, 1, 2)]
    files = StudyFiles(own, [])
    content = comparison_numbers(rows, files, SeedStudies(others), list(skills), "real", num_draws=100, seed=0)
    arranged = comparison_sections(content, compute_metrics(rows, 100), rows, list(skills))["seed_differences"]
    assert {row["setup"]: row["differs"] for row in arranged if row["measure"] == "auc"} == {
        "ddpm": True,
        "synthetic_shuffled=1": False,
    }


def test_one_seed_has_no_rows(found):
    assert found["seeds"] == found["seed_differences"] == []


def test_a_seed_of_other_subjects_is_refused(tmp_path):
    folder = study_of_seed(tmp_path / "1", [row for row in prediction_rows() if row["subject_id"] != "s003"], 1)
    with pytest.raises(ValueError, match="other_seed_dirs must hold studies of the same subjects"):
        numbers(prediction_rows(), tmp_path, [folder])


def test_folders_that_are_no_other_seeds_of_the_study_are_refused(tmp_path):
    rows = prediction_rows()
    own, one = (study_of_seed(tmp_path / str(seed), rows, seed) for seed in (0, 1))
    same_seed = study_of_seed(tmp_path / "copy", rows, 0)
    two_of_one = study_of_seed(tmp_path / "copy1", rows, 1)
    voted = study_of_seed(tmp_path / "voted", rows, 2, ensemble="vote", batch=3)
    for folders, message in (
        ([own], rf"must be other folders .* got {own} twice"),
        ([f"{own}/../0"], rf"must be other folders .* got {own}/../0 twice"),
        ([one, one], rf"must be other folders .* got {one} twice"),
        ([same_seed], rf"must be of other seeds, got seed 0 in {own} and {same_seed};"),
        ([one, two_of_one], rf"must be of other seeds, got seed 1 in {one} and {two_of_one};"),
        ([voted], rf"the same settings, got other batch, ensemble in evaluation of {own} and {voted};"),
    ):
        with pytest.raises(ValueError, match=message):
            numbers(rows, own, folders)
    assert numbers(rows, own, [one])["seeds"]


def write_set(folder, name, method, **provenance):
    write_empty_set(folder / name, method, **provenance)
    return name


def write_classifier(folder, setup, **settings):
    write_json(
        folder / f"classifier_{setup}" / "stage.json",
        {"kind": "classifier", "identity": {"settings": {"setup": setup, **settings}}},
    )
    return f"classifier_{setup}"


def test_setups_of_diffusion_models_are_compared_with_those_of_control_generators_and_no_others(tmp_path):
    stages = [
        write_set(tmp_path, "synthetic_LGG_ddpm", "ddpm", num_inference_steps=20),
        write_set(tmp_path, "synthetic_LGG_mixed", "mixed", control="mixed"),
        write_classifier(tmp_path, "real", synthetic_method=None),
        write_classifier(tmp_path, "ddpm", synthetic_method="ddpm"),
        write_classifier(tmp_path, "twice_mixed", synthetic_method="mixed"),
        write_classifier(tmp_path, "synthetic_only", synthetic_method="ddpm", train_on_real=False),
        write_classifier(tmp_path, "shuffled", synthetic_method="ddpm", synthetic_labels="shuffled"),
    ]
    setups = ("real", "ddpm", "twice_mixed", "synthetic_only", "shuffled")
    rows = prediction_rows(dict.fromkeys(setups, 1.0))
    files = StudyFiles(str(tmp_path), stages)
    found = comparison_numbers(rows, files, SeedStudies(), setups, "real", num_draws=100, seed=0)
    assert [(row["setup"], row["control"]) for row in found["controls"]] == [("ddpm", "twice_mixed")]
    (test,) = comparison_sections(found, compute_metrics(rows, 100), rows, setups)["controls"]
    assert (test["direction"], len(test["rows"])) == ("a", 1)


def test_an_end_point_is_declared_before_only_where_the_trainings_declare_it_too(tmp_path):
    endpoint = {"setup": "ddpm", "reference": "real", "trained_on": "a", "tested_on": "b", "measure": "auc"}

    def declared_before(*declaring):
        stages = [f"{kind}_{setup}" for kind in ("classifier", "evaluation") for setup in ("real", "ddpm")]
        for stage in stages:
            kind, setup = stage.split("_")
            record = {"kind": kind, "belongs_to": {"cohort": "a", "setup": setup}, "identity": {"settings": {}}}
            write_json(tmp_path / stage / "stage.json", record)
            config = {"primary_endpoint": endpoint if stage in declaring else None}
            (tmp_path / stage / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        files = StudyFiles(str(tmp_path), stages)
        primary = PrimaryEndPoint.of(endpoint)
        options = {"num_draws": 100, "seed": 0, "primary": primary}
        return comparison_numbers(prediction_rows(), files, SeedStudies(), SETUPS, "real", **options)["primary"]

    evaluations, trainings = ["evaluation_real", "evaluation_ddpm"], ["classifier_real", "classifier_ddpm"]
    assert declared_before(*evaluations, *trainings)["is_declared_before"]
    assert not declared_before(*evaluations, trainings[0])["is_declared_before"]
    assert not declared_before(*evaluations)["is_declared_before"]
    assert not declared_before(*trainings)["is_declared_before"]


def test_setups_that_differ_in_more_than_the_method_are_not_compared_with_controls(tmp_path):
    classifiers = {
        "ddpm": {"synthetic_method": "ddpm", "synthetic_ratio": 1.0},
        "many": {"synthetic_method": "ddpm", "synthetic_ratio": 5.0},
        "augmented": {"synthetic_method": "ddpm", "synthetic_ratio": 1.0, "train": {"dataset": "augmented"}},
        "mixed": {"synthetic_method": "mixed", "synthetic_ratio": 1.0, "fold": 1},
        "many_mixed": {"synthetic_method": "mixed", "synthetic_ratio": 5.0},
    }
    stages = [write_classifier(tmp_path, setup, **{"fold": 0, **own}) for setup, own in classifiers.items()]
    stages.append(write_set(tmp_path, "synthetic_LGG_mixed", "mixed", control="mixed"))
    rows = prediction_rows(dict.fromkeys(classifiers, 1.0))
    files = StudyFiles(str(tmp_path), stages)
    found = comparison_numbers(rows, files, SeedStudies(), [*classifiers], "ddpm", num_draws=100, seed=0)
    assert {(row["setup"], row["control"]) for row in found["controls"]} == {("ddpm", "mixed"), ("many", "many_mixed")}
