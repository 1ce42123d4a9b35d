from __future__ import annotations

import numpy as np
import pytest

from scripts.evaluation.answers import group_answers
from scripts.evaluation.metrics import (
    ALL_AGREE,
    MEASURES,
    METRIC_COLUMNS,
    compute_metrics,
    label_permutations,
    summarize,
    swapped_labels,
    top_confusions,
    trivial_measures,
    trivial_value,
)
from scripts.statistics.classification_measures import value_of, weighted_f1
from tests.predictions import prediction_row, prediction_rows

# Subject, grade, probability of HGG; of six pairs of an LGG and an HGG one is in the wrong order.
HAND = [("a", "LGG", 0.2), ("b", "LGG", 0.7), ("c", "HGG", 0.6), ("d", "HGG", 0.8), ("e", "HGG", 0.9)]


def test_metrics_are_those_of_a_count_by_hand():
    rows = [prediction_row(subject, label, probability) for subject, label, probability in HAND]
    metrics = {metric["measure"]: metric for metric in compute_metrics(rows, 100)}
    assert metrics["accuracy"]["value"] == pytest.approx(4 / 5)
    assert metrics["balanced_accuracy"]["value"] == pytest.approx((1 / 2 + 1) / 2)
    assert metrics["auc"]["value"] == pytest.approx(5 / 6)
    assert metrics["accuracy"]["low"] < 0.8 < metrics["accuracy"]["high"]


def test_every_group_has_each_measure_once():
    rows = [prediction_row(*row, setup=setup) for setup in ("real", "ddpm") for row in HAND]
    metrics = compute_metrics(rows, 100)
    assert {tuple(metric) for metric in metrics} == {METRIC_COLUMNS}
    pairs = [(metric["setup"], metric["measure"]) for metric in metrics]
    assert len(set(pairs)) == len(pairs) == 2 * 10


def test_a_class_that_is_not_one_of_the_columns_is_refused():
    with pytest.raises(ValueError, match="label must be one of"):
        compute_metrics([prediction_row("a", "GBM", 0.5)])


def test_a_class_without_a_case_gives_no_value_instead_of_a_wrong_one() -> None:
    answer = {"label": 1, "fold": 0, "probability_LGG": 0.1, "probability_HGG": 0.9}
    rows = [{"subject_id": name, **answer} for name in "abc"]
    summary = summarize(rows, {"LGG": 0, "HGG": 1})
    assert summary["auc"]["value"] is None
    assert summary["balanced_accuracy"]["value"] is None
    assert summary["accuracy"]["value"] == 1
    assert summary["sensitivity"]["LGG"]["value"] is None


def test_of_four_classes_each_has_an_area_and_nothing_is_missing():
    rows = prediction_rows({"real": 1.5}, (12, 20, 31, 17), classes=tuple("ABCD"))
    metrics = {metric["measure"]: metric for metric in compute_metrics(rows, 100)}
    assert set(metrics) >= {"auc_A", "auc_B", "auc_C", "auc_D", "macro_f1"}
    assert all(one["low"] <= one["value"] <= one["high"] and one["reason"] is None for one in metrics.values())
    assert metrics["auc"]["value"] == pytest.approx(np.mean([metrics[f"auc_{name}"]["value"] for name in "ABCD"]))
    summary = summarize(rows, {name: label for label, name in enumerate("ABCD")})
    assert summary["auc"]["low"] == metrics["auc"]["low"]
    assert sum(count for row in summary["confusion"].values() for count in row.values()) == summary["n"] == 80
    right = sum(summary["confusion"][name][name] for name in "ABCD")
    assert metrics["accuracy"]["value"] == right / 80


def test_what_has_no_value_or_no_limits_says_why():
    rows = prediction_rows({"real": 90.0}, (12, 20, 31), classes=tuple("ABC"))
    metrics = {metric["measure"]: metric for metric in compute_metrics(rows, 100)}
    assert metrics["auc"]["low"] < metrics["auc"]["value"] == 1
    assert metrics["macro_f1"]["reason"] == ALL_AGREE
    without = [row for row in rows if row["label"] != "1"]
    metrics = {metric["measure"]: metric for metric in compute_metrics(without, 100)}
    for name in ("auc", "auc_B", "macro_f1", "balanced_accuracy", "sensitivity_B"):
        assert (metrics[name]["value"], metrics[name]["reason"]) == (None, "no patient of B")
    assert metrics["accuracy"]["reason"] is None


def test_the_worst_confusions_are_those_of_the_largest_shares():
    matrix = {"A": {"A": 90, "B": 10, "C": 0}, "B": {"A": 1, "B": 0, "C": 3}, "C": {"A": 0, "B": 2, "C": 2}}
    found = [(one["class"], one["answer"], one["count"], one["n"]) for one in top_confusions(matrix)]
    assert found == [("B", "C", 3, 4), ("C", "B", 2, 4), ("B", "A", 1, 4)]
    assert top_confusions({"A": {"A": 3, "B": 0}, "B": {"A": 0, "B": 1}}) == []


def test_scans_of_one_patient_are_one_case_with_their_mean_answer():
    # Both scans of P1 are wrong, those of P2 right on average: counted by scan, one of five would be right.
    rows = [
        prediction_row("P1-a", "LGG", 0.9, patient_id="P1"),
        prediction_row("P1-b", "LGG", 0.8, patient_id="P1"),
        prediction_row("P2-a", "HGG", 0.3, patient_id="P2"),
        prediction_row("P2-b", "HGG", 0.4, patient_id="P2"),
        prediction_row("P2-c", "HGG", 0.95, patient_id="P2"),
    ]
    metrics = {metric["measure"]: metric for metric in compute_metrics(rows, 100)}
    assert (metrics["accuracy"]["n"], metrics["accuracy"]["value"]) == (2, 0.5)
    assert metrics["sensitivity_HGG"]["value"] == 1


def test_areas_out_of_fold_rank_patients_inside_their_fold():
    # Each fold ranks its own perfectly; one is surer than the other throughout.
    answers = [("a", "LGG", 0.1), ("b", "HGG", 0.2), ("c", "LGG", 0.8), ("d", "HGG", 0.9)]
    rows = [prediction_row(*row, role="out_of_fold", fold=str(index // 2)) for index, row in enumerate(answers)]
    metrics = {metric["measure"]: metric["value"] for metric in compute_metrics(rows, 100)}
    assert (metrics["auc"], metrics["auprc"]) == (1, 1)
    as_one = {m["measure"]: m["value"] for m in compute_metrics([{**row, "fold": "0"} for row in rows], 100)}
    assert as_one["auc"] == 0.75


def test_what_needs_no_classifier_is_trivial_and_so_is_every_figure_of_one_answer():
    rows = prediction_rows({"real": 3.0, "ddpm": 1.0, "ddpm_mi": -3.0})
    for row in rows:
        if row["setup"] == "ddpm":
            row |= {"probability_LGG": "0.1", "probability_HGG": "0.9"}
    metrics = compute_metrics(rows, 100)
    trivial = {(key[0], key[2]) for key in trivial_measures(metrics, group_answers(rows))}
    assert not {setup for _, setup in trivial} & {"real"}
    assert {(row["measure"], "ddpm") for row in metrics} <= trivial
    assert {(name, "ddpm_mi") for name in MEASURES} <= trivial
    assert ("brier", "ddpm_mi") not in trivial


def test_the_area_of_shuffled_labels_is_averaged_over_their_permutations_on_each_test_and_classifier():
    skills = {"real": 1.0, "synthetic_shuffled=1": 1.0, "synthetic_shuffled=2": -1.0, "synthetic_shuffled=1~vgg": 2.0}
    metrics = compute_metrics(prediction_rows(skills), 100)
    own, vgg = label_permutations(metrics)
    areas = [row["value"] for row in metrics if row["measure"] == "auc"][1:3]
    assert (own["setup"], own["num_permutations"], own["role"]) == ("synthetic_shuffled", 2, "external")
    assert own["value"] == pytest.approx(np.mean(areas))
    assert (own["lowest"], own["highest"]) == (min(areas), max(areas))
    assert min(areas) < 0.4
    assert max(areas) > 0.6
    assert own["is_chance"]
    assert (vgg["setup"], vgg["is_chance"]) == ("synthetic_shuffled~vgg", False)


def test_one_permutation_alone_says_nothing_of_the_protocol():
    assert label_permutations(compute_metrics(prediction_rows({"real": 1.0, "synthetic_shuffled": 0.0}), 100)) == []


def test_labels_look_swapped_only_where_the_reference_is_below_guessing_too():
    metrics = compute_metrics(prediction_rows({"real": -3.0, "ddpm": 1.0, "ddpm_mi": -3.0}), 100)
    assert [row["setup"] for row in swapped_labels(metrics, "real")] == ["real", "ddpm_mi"]
    assert swapped_labels(metrics, "ddpm") == []
    inside = prediction_rows({"real": 3.0, "ddpm_mi": -3.0}, role="locked_test")
    assert swapped_labels(compute_metrics(inside, 100), "real") == []
    assert {row["role"] for row in swapped_labels([*metrics, *compute_metrics(inside, 100)], "real")} == {"external"}


def test_the_trivial_values_are_those_of_answering_the_largest_class():
    labels = np.repeat([0, 1], [12, 28])
    probabilities = np.tile([0.4, 0.6], (40, 1))
    assert trivial_value("weighted_f1", [12, 28]) == pytest.approx(value_of(weighted_f1, labels, probabilities))
    assert trivial_value("balanced_accuracy", [12, 28]) == 0.5
    assert trivial_value("ece", [12, 28]) is None
