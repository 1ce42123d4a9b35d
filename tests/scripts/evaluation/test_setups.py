from __future__ import annotations

import pytest

from scripts.evaluation.answers import group_answers
from scripts.evaluation.setups import COMPARISON_COLUMNS, compare_setups, differs, power_rows
from scripts.statistics.paired_tests import holm, mcnemar
from scripts.statistics.power import mcnemar_power
from tests.predictions import prediction_rows


def compare(rows, reference="real"):
    return compare_setups(group_answers(rows), reference)


def test_every_setup_is_compared_with_the_reference_on_every_test():
    rows, left_out = compare(prediction_rows() + prediction_rows(role="locked_test", seed=1))
    assert left_out == []
    assert {tuple(row) for row in rows} == {COMPARISON_COLUMNS}
    found = [(row["role"], row["setup"], row["measure"]) for row in rows]
    assert len(set(found)) == len(found) == 2 * 2 * 3
    assert {row["reference"] for row in rows} == {"real"}


def test_a_difference_is_that_of_the_two_accuracies():
    groups = group_answers(prediction_rows())
    row = next(row for row in compare(prediction_rows())[0] if row["setup"] == "ddpm")
    assert row["value"] == pytest.approx(groups[1].right.mean() - groups[0].right.mean())
    gained, lost = row["only_setup_right"], row["only_reference_right"]
    assert row["value"] == pytest.approx((gained - lost) / 40)
    assert row["p"] == mcnemar(gained, lost)


def test_holm_counts_every_setup_direction_and_test_of_one_role():
    back = [{**row, "direction": "b", "cohort": "a"} for row in prediction_rows(seed=2)]
    rows, _ = compare([*prediction_rows(), *back, *prediction_rows(role="locked_test", seed=1)])
    for role, size in (("external", 8), ("locked_test", 4)):  # directions x 2 setups x McNemar's and DeLong's test
        family = [row for row in rows if row["role"] == role and row["p"] is not None]
        assert len(family) == size
        assert [row["p_holm"] for row in family] == holm([row["p"] for row in family])
        assert {row["num_tests"] for row in family} == {size}


def test_a_setup_with_images_of_a_control_generator_is_a_hypothesis():
    rows, _ = compare(prediction_rows() + prediction_rows({"pca_gaussian": 0.0}, seed=3))
    assert all(row["p_holm"] is not None for row in rows if row["setup"] == "pca_gaussian" and row["p"] is not None)
    assert {row["num_tests"] for row in rows if row["p"] is not None} == {6}


def test_only_a_p_below_the_level_after_correction_differs():
    assert [differs({"p_holm": p}) for p in (0.049, 0.05, None)] == [True, False, False]


def test_a_check_of_the_protocol_is_shown_but_is_no_hypothesis():
    setups = prediction_rows()
    check = prediction_rows({"synthetic_shuffled": 0.0}, seed=3)
    without, _ = compare(setups)
    rows, _ = compare(setups + check)
    shown = [row for row in rows if row["setup"] == "synthetic_shuffled"]
    assert [row for row in rows if row not in shown] == without
    assert [row["measure"] for row in shown] == ["accuracy", "balanced_accuracy", "auc"]
    assert all(row["value"] is not None and row["p_holm"] is None for row in shown)
    assert shown[0]["p"] == mcnemar(shown[0]["only_setup_right"], shown[0]["only_reference_right"])
    assert power_rows(rows) == power_rows(without)


def test_a_check_of_the_protocol_alone_has_a_difference_and_no_power():
    rows, left_out = compare(prediction_rows({"real": 1.0, "synthetic_shuffled": 0.0}))
    assert (len(rows), left_out, power_rows(rows)) == (3, [], [])


def test_four_classes_are_compared_as_two_are():
    rows, left_out = compare(prediction_rows({"real": 0.0, "ddpm": 3.0}, (9, 14, 20, 12), classes=tuple("ABCD")))
    assert left_out == []
    assert all(row["low"] < row["value"] < row["high"] for row in rows)
    tested = {row["measure"]: (row["test"], row["num_tests"]) for row in rows if row["p"] is not None}
    assert tested == {"accuracy": ("exact McNemar", 2), "auc": ("DeLong", 2)}
    assert all(differs(row) for row in rows if row["measure"] in tested)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (prediction_rows({"ddpm": 1.0, "ddpm_mi": 1.0}), "no evaluation of the reference 'real'"),
        (prediction_rows({"real": 1.0}), "only 'real' was evaluated"),
        (prediction_rows(sizes=(1, 20)), "needs 2 subjects of each class, got LGG 1"),
    ],
)
def test_a_test_that_cannot_be_compared_says_why(rows, reason):
    found, (left_out,) = compare(rows)
    assert found == []
    assert reason in left_out["reason"]
    assert (left_out["direction"], left_out["cohort"]) == ("a", "b")


def test_setups_of_other_subjects_are_refused():
    with pytest.raises(ValueError, match="must be tested on the same subjects, got s039"):
        compare(prediction_rows()[:-1])


def test_the_detectable_gain_is_found_with_eighty_percent():
    (row,) = power_rows(compare(prediction_rows())[0])
    assert (row["n"], row["num_tests"]) == (40, 4)
    assert mcnemar_power(40, row["discordant"], row["detectable_gain"]) == pytest.approx(0.8, abs=1e-3)
    assert row["detectable_gain_holm"] > row["detectable_gain"]
    assert mcnemar_power(row["subjects_for_paper_gain"], row["discordant"], 0.02) >= 0.8


def test_setups_that_answer_alike_can_show_no_gain():
    rows = prediction_rows({"real": 1.0})
    twin = [{**row, "setup": "ddpm"} for row in rows]
    (row,) = power_rows(compare(rows + twin)[0])
    assert row["discordant"] == 0
    assert row["detectable_gain"] is row["subjects_for_paper_gain"] is None


WITH_CLASSIFIERS = {"real~a": 1.0, "real~b": 0.2, "ddpm~a": 1.6, "ddpm~b": 1.5, "synthetic_shuffled~b": 0.0}


def test_setups_are_compared_with_the_reference_of_the_same_classifier():
    rows, left_out = compare(prediction_rows(WITH_CLASSIFIERS))
    assert left_out == []
    assert {(row["setup"], row["reference"]) for row in rows} == {
        ("ddpm~a", "real~a"),
        ("ddpm~b", "real~b"),
        ("synthetic_shuffled~b", "real~b"),
    }
    answers = {one.setup: one for one in group_answers(prediction_rows(WITH_CLASSIFIERS))}
    gains = {row["setup"]: row["value"] for row in rows if row["measure"] == "accuracy"}
    assert gains["ddpm~b"] == pytest.approx(answers["ddpm~b"].right.mean() - answers["real~b"].right.mean())


def test_holm_counts_the_tests_of_all_classifiers_and_no_check_of_the_protocol():
    rows, _ = compare(prediction_rows(WITH_CLASSIFIERS))
    family = [row for row in rows if row["p"] is not None and row["setup"].startswith("ddpm")]
    assert {row["num_tests"] for row in family} == {4}
    # Holm 1979 from its definition: the k-th smallest p counts the hypotheses that are not rejected before it.
    smallest = sorted(row["p"] for row in family)
    expected = {p: min(1.0, max(q * (4 - k) for k, q in enumerate(smallest) if q <= p)) for p in smallest}
    assert [row["p_holm"] for row in family] == pytest.approx([expected[row["p"]] for row in family])
    assert {row["p_holm"] for row in rows if row["setup"] == "synthetic_shuffled~b"} == {None}


def test_a_classifier_without_the_reference_is_named_once():
    rows, left_out = compare(prediction_rows({"real~a": 1.0, "ddpm~a": 1.0, "ddpm~b": 1.0}))
    assert {row["setup"] for row in rows} == {"ddpm~a"}
    assert [row["reason"].split(";")[0] for row in left_out] == ["no evaluation of the reference 'real~b'"]
    _, alone = compare(prediction_rows({"real~a": 1.0, "real~b": 1.0}))
    assert [row["reason"] for row in alone] == ["only 'real' was evaluated; run another setup"]
