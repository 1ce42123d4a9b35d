"""The end point that is declared is the one that is tested, alone; what nobody computes is refused by name."""

from __future__ import annotations

import re

import pytest

from scripts.evaluation.answers import group_answers
from scripts.evaluation.primary import PrimaryEndPoint, as_one_of, differs_in
from scripts.evaluation.setups import compare_setups
from scripts.statistics.paired_tests import holm
from tests.predictions import prediction_rows

DECLARED = {"setup": "ddpm", "reference": "real", "trained_on": "a", "tested_on": "b", "measure": "auc"}
END_POINT = PrimaryEndPoint(**DECLARED)


def test_no_end_point_is_none_and_a_mapping_is_read():
    assert PrimaryEndPoint.of(None) is None
    assert PrimaryEndPoint.of(DECLARED) == END_POINT


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("auc", "primary_endpoint must be null or have the keys setup, reference"),
        ({"setup": "ddpm"}, r"must be null or have the keys .* got \['setup'\]"),
        ({**DECLARED, "alpha": 0.1}, "must be null or have the keys"),
        ({**DECLARED, "tested_on": 3}, "primary_endpoint#tested_on must be text, got 3"),
        ({**DECLARED, "measure": "ece"}, "primary_endpoint#measure must be one of accuracy, .* got 'ece'"),
        ({**DECLARED, "reference": "ddpm"}, "must compare two setups, got 'ddpm' with itself"),
        ({**DECLARED, "setup": "synthetic_shuffled"}, "whose labels are their own, got 'synthetic_shuffled'"),
    ],
)
def test_what_is_no_end_point_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PrimaryEndPoint.of(settings)


def test_what_the_study_does_not_compute_is_refused_with_what_it_does():
    study = {"a": ["real", "ddpm"], "b": ["real", "ddpm"]}
    END_POINT.require_in(study)
    for changes, message in (
        ({"tested_on": "c"}, "tested_on must be one of the cohorts of the study (a, b), got 'c'"),
        ({"trained_on": "aa"}, "trained_on must be one of the cohorts of the study (a, b), got 'aa'; did you mean a?"),
        (
            {"setup": "ddpm_mi"},
            "setup must be one of the setups of the study (ddpm, real), got 'ddpm_mi'; did you mean",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(f"primary_endpoint#{message}")):
            PrimaryEndPoint(**{**DECLARED, **changes}).require_in(study)


def test_it_is_the_row_of_the_comparison_with_its_p_alone_and_the_others_are_corrected_without_it():
    groups = group_answers(prediction_rows())
    result = END_POINT.result(groups, {})
    rows, _ = compare_setups(groups, "real", primary=result)
    (own,) = [row for row in rows if row["is_primary"]]
    assert (own["setup"], own["measure"], own["num_tests"], own["p_holm"]) == ("ddpm", "auc", 1, own["p"])
    assert {name: own[name] for name in own if name != "is_primary"} == {
        name: result[name] for name in own if name != "is_primary"
    }
    others = [row for row in rows if row["p"] is not None and not row["is_primary"]]
    assert [row["p_holm"] for row in others] == holm([row["p"] for row in others])
    assert {row["num_tests"] for row in others} == {3}


def test_cohorts_are_named_as_the_study_names_them():
    groups = group_answers(prediction_rows())
    declared = PrimaryEndPoint(**{**DECLARED, "trained_on": "ours", "tested_on": "theirs"})
    named = declared.result(groups, {"ours": "a", "theirs": "b"})
    assert named["value"] == END_POINT.result(groups, {})["value"]
    with pytest.raises(ValueError, match=r"got 'ddpm' trained on 'ours' and tested on 'theirs'; evaluate it"):
        declared.result(groups, {})


def test_another_reference_than_that_of_the_report_may_be_declared():
    groups = group_answers(prediction_rows())
    result = PrimaryEndPoint(**{**DECLARED, "reference": "ddpm_mi"}).result(groups, {})
    rows, _ = compare_setups(groups, "ddpm_mi")
    row = next(row for row in rows if row["setup"] == "ddpm" and row["measure"] == "auc")
    assert (result["value"], result["p"]) == (row["value"], row["p"])
    assert not any(row["is_primary"] for row in compare_setups(groups, "real", primary=result)[0])


def test_inside_a_cohort_the_locked_test_comes_before_the_folds():
    rows = prediction_rows(role="out_of_fold") + prediction_rows(role="locked_test", seed=1)
    result = PrimaryEndPoint(**{**DECLARED, "tested_on": "a"}).result(group_answers(rows), {})
    assert result["role"] == "locked_test"


def test_too_few_subjects_give_a_reason_and_no_number():
    result = END_POINT.result(group_answers(prediction_rows(sizes=(1, 20))), {})
    assert result["reason"] == "a comparison needs 2 subjects of each class, got LGG 1, HGG 20"
    assert "value" not in result


def test_without_a_p_the_interval_decides():
    before = {"is_declared_before": True, "p_holm": None}
    assert differs_in({**before, "low": 0.1, "high": 0.2})
    assert not differs_in({**before, "low": -0.1, "high": 0.2})
    assert not differs_in({**before, "low": None, "high": None})
    assert not differs_in({**before, "p_holm": 0.2, "low": 0.1, "high": 0.2})


def test_an_end_point_declared_later_has_the_corrected_p_of_its_comparison_or_none():
    groups = group_answers(prediction_rows())
    rows, _ = compare_setups(groups, "real")
    own = next(row for row in rows if row["setup"] == "ddpm" and row["measure"] == "auc")
    late = as_one_of(END_POINT.result(groups, {}), rows)
    assert (late["p_holm"], late["num_tests"], late["detectable"]) == (own["p_holm"], 4, None)
    assert late["p_holm"] > late["p"]
    for changes in ({"reference": "ddpm_mi"}, {"measure": "balanced_accuracy"}):
        other = PrimaryEndPoint(**{**DECLARED, **changes}).result(groups, {})
        late = {**as_one_of(other, rows), "is_declared_before": False}
        assert late["p_holm"] is late["num_tests"] is differs_in(late) is None
    few = END_POINT.result(group_answers(prediction_rows(sizes=(1, 20))), {})
    assert as_one_of(few, rows) == few
