from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from scripts.evaluation.answers import group_answers
from scripts.evaluation.metrics import compute_metrics, trivial_measures
from scripts.evaluation.setups import compare_setups, differs
from scripts.report.page import render_part
from scripts.report.results import result_sections, summary_table
from scripts.report.words import format_number
from tests.predictions import CLASSES, prediction_rows


def sections(rows):
    comparisons, _ = compare_setups(group_answers(rows), "real")
    return result_sections(compute_metrics(rows, 100), CLASSES, rows, ("real", "ddpm"), comparisons), comparisons


def marked(section):
    return {
        (heatmap["name"], row["setup"])
        for heatmap in section["heatmaps"]
        for row in heatmap["rows"]
        for cell in row["cells"]
        if cell["differs"]
    }


def test_the_best_is_not_marked_unless_it_differs_after_correction():
    section, comparisons = sections(prediction_rows({"real": 1.0, "ddpm": 1.1}))
    assert not any(differs(row) for row in comparisons)
    assert marked(section) == set()


def test_what_differs_is_marked_in_the_measures_that_were_tested():
    section, comparisons = sections(prediction_rows({"real": 0.0, "ddpm": 3.0, "ddpm_mi": 0.1}, sizes=(30, 40)))
    assert {(row["measure"], row["setup"]) for row in comparisons if differs(row)} == {
        ("accuracy", "ddpm"),
        ("auc", "ddpm"),
    }
    assert marked(section) == {("accuracy", "ddpm"), ("AUC", "ddpm")}


def test_the_main_role_fills_the_heatmaps_and_the_summary():
    rows = prediction_rows(role="locked_test") + prediction_rows(role="out_of_fold", seed=1)
    section, _ = sections(rows)
    assert section["role"] == "locked_test"
    assert [heatmap["columns"] for heatmap in section["heatmaps"]] == [["a"]] * 4
    assert section["guess"]["a"]["accuracy"] == 28 / 40
    assert [group["role"] for group in section["results"]] == ["locked_test", "out_of_fold"]
    assert summary_table(compute_metrics(rows, 100)).splitlines()[0].strip() == "a, locked test (n = 40)"


def test_more_than_two_classes_are_shown_each_and_two_are_not(report):
    classes = ("A", "B", "C", "D")
    rows = prediction_rows({"real": 2.0, "ddpm": 1.0}, (9, 14, 20, 12), classes=classes)
    (test,) = result_sections(compute_metrics(rows, 100), classes, rows, ("real", "ddpm"))["per_class"]
    assert [row["setup"] for row in test["rows"]] == ["real", "ddpm"]
    for row, answers in zip(test["rows"], group_answers(rows), strict=True):
        assert [one["n"] for one in row["classes"]] == answers.n_by_class == [9, 14, 20, 12]
        counts = np.array([[cell["count"] for cell in one["answers"]] for one in row["classes"]])
        assert (counts == confusion_matrix(answers.labels, answers.predictions)).all()
        worst = row["confused"][0]
        assert worst["count"] == counts[classes.index(worst["class"]), classes.index(worst["answer"])]
        assert worst["count"] / worst["n"] == ((counts - np.diag(np.diag(counts))) / counts.sum(1)[:, None]).max()
        assert row["auc"]["value"] == pytest.approx(np.mean([one["auc"]["value"] for one in row["classes"]]))
    assert sections(prediction_rows())[0]["per_class"] == []
    assert "Class by class" not in (report / "report.html").read_text(encoding="utf-8")


def test_the_page_names_every_class_its_area_and_what_it_is_taken_for():
    classes = ("glioma", "meningioma", "none")
    rows = prediction_rows({"real": 1.0}, (9, 14, 20), classes=classes)
    content = result_sections(compute_metrics(rows, 100), classes, rows, ("real",))
    content["estimate"] = lambda value: format_number(value["value"])
    html = render_part("classes.html.j2", content)
    assert html.count("Answer ") == 3
    assert "Taken most often for another: " in html
    assert "Macro F1 ." in html


def test_a_setup_that_answers_one_class_is_not_marked_and_says_so():
    rows = prediction_rows({"real": -3.0, "ddpm": 3.0}, sizes=(10, 70))
    for row in rows:
        if row["setup"] == "ddpm":
            row |= {"probability_LGG": "0.1", "probability_HGG": "0.9"}
    comparisons, _ = compare_setups(group_answers(rows), "real")
    assert any(differs(row) for row in comparisons)
    metrics = compute_metrics(rows, 100)
    trivial = trivial_measures(metrics, group_answers(rows))
    section = result_sections(metrics, CLASSES, rows, ("real", "ddpm"), comparisons, trivial)
    assert marked(section) == set()
    assert [row["answer"] for row in section["results"][0]["rows"]] == [None, "HGG"]


def test_a_setup_that_is_worse_than_the_reference_keeps_its_mark_however_bad_it_is():
    rows = prediction_rows({"real": 3.0, "ddpm": -3.0}, sizes=(30, 40))
    comparisons, _ = compare_setups(group_answers(rows), "real")
    metrics = compute_metrics(rows, 100)
    trivial = trivial_measures(metrics, group_answers(rows))
    section = result_sections(metrics, CLASSES, rows, ("real", "ddpm"), comparisons, trivial)
    assert ("accuracy", "a", "ddpm", "external", "b") in trivial
    assert marked(section) == {("accuracy", "ddpm")}


WITH_CLASSIFIERS = {"real~a": 0.0, "real~b": 2.0, "ddpm~a": 3.0, "ddpm~b": 2.1, "mine~b": 0.0}


def test_setups_are_laid_out_against_the_classifiers():
    section, comparisons = sections(prediction_rows(WITH_CLASSIFIERS, sizes=(30, 40)))
    (table,) = section["classifier_tables"]
    assert table["setups"] == ["real", "ddpm", "mine"]
    assert [row["classifier"] for row in table["rows"]] == ["a", "b"]
    first, second = (row["cells"] for row in table["rows"])
    assert (first[2], first[0]["p"]) == (
        None,
        {},
    )  # mine was not trained with a; the reference is compared with nothing
    p_holm = {(row["setup"], row["measure"]): row["p_holm"] for row in comparisons if row["p"] is not None}
    assert first[1]["p"] == {name: p_holm["ddpm~a", name] for name in ("accuracy", "auc")}
    values = {row["setup"]: row for group in section["results"] for row in group["rows"]}
    for cell, setup in ((first[0], "real~a"), (second[1], "ddpm~b")):
        assert cell["auc"] == values[setup]["auc"]
        assert cell["balanced_accuracy"] == values[setup]["balanced_accuracy"]
    assert (first[1]["differs"], second[1]["differs"]) == (["auc", "accuracy"], [])


def test_the_table_of_classifiers_says_in_words_what_it_shows():
    (table,) = sections(prediction_rows(WITH_CLASSIFIERS, sizes=(30, 40)))[0]["classifier_tables"]
    ends = [format_number(row["cells"][0]["balanced_accuracy"]["value"]) for row in table["rows"]]
    assert table["sentence"] == (
        "Against “Real images only” of the same classifier, after Holm’s correction for 6 tests, in accuracy or AUC:"
        " “+ DDPM” is better with 1 (a) and worse with none of 2 classifiers; “mine” is better with none and worse with"
        f" 1 (b) of 1 classifier. The balanced accuracy of “Real images only” goes from {ends[0]} (a) to {ends[1]} (b),"
        " which is not tested."
    )
    (alone,) = sections(prediction_rows({"real~a": 1.0}))[0]["classifier_tables"]
    assert (alone["sentence"], alone["rows"][0]["cells"][0]["p"]) == ("", {})


def test_one_classifier_has_no_table_of_them(report):
    assert sections(prediction_rows())[0]["classifier_tables"] == []
    assert "every classifier" not in (report / "report.html").read_text(encoding="utf-8")
