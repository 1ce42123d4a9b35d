from __future__ import annotations

import pytest

from scripts.explanations.cases import choose_cases, rows_of_role

CLASSES = {"LGG": 0, "HGG": 1}
# Subject, label, probability of HGG.
ANSWERS = [("a", 1, 0.99), ("b", 0, 0.9), ("c", 0, 0.02), ("d", 1, 0.52), ("e", 1, 0.7), ("f", 0, 0.6)]


def row(subject, label, probability, **changes):
    values = {"role": "external", "cohort": "site_b", "fold": "-1", "subject_id": subject, "label": str(label)}
    return {**values, "probability_LGG": str(1 - probability), "probability_HGG": str(probability), **changes}


ROWS = [row(*answer) for answer in ANSWERS]


def chosen(rows, num_cases):
    return [(case.kind, case.rank, case.subject_id) for case in choose_cases(rows, CLASSES, num_cases)]


def test_the_surest_right_the_most_confidently_wrong_and_the_least_sure_are_chosen():
    assert chosen(ROWS, 1) == [("surest", 0, "a"), ("wrong", 0, "b"), ("least_sure", 0, "d")]


def test_no_subject_is_chosen_twice_and_there_may_be_fewer_than_asked_for():
    assert chosen(ROWS, 3) == [
        ("surest", 0, "a"),
        ("surest", 1, "c"),
        ("surest", 2, "e"),
        ("wrong", 0, "b"),
        ("wrong", 1, "f"),
        ("least_sure", 0, "d"),
    ]


def test_the_order_of_the_rows_does_not_matter_and_equal_ones_go_by_name():
    rows = [row("z", 1, 0.9), row("y", 1, 0.9), row("x", 1, 0.9)]
    assert chosen(rows, 1) == chosen(rows[::-1], 1) == [("surest", 0, "x"), ("least_sure", 0, "y")]


def test_a_label_may_be_a_name_and_the_answer_is_the_most_probable_class():
    case = choose_cases([row("a", "LGG", 0.8)], CLASSES, 1)[0]
    assert (case.kind, case.label, case.answer, case.fold, case.name) == ("wrong", 0, 1, -1, "wrong_0")


def test_of_three_classes_the_lead_over_the_second_tells_the_least_sure():
    classes = {"A": 0, "B": 1, "C": 2}
    probabilities = {"x": (0.4, 0.39, 0.21), "y": (0.38, 0.31, 0.31), "z": (0.9, 0.1, 0.0)}
    rows = [
        {**row(subject, 0, 0), **{f"probability_{name}": str(p) for name, p in zip("ABC", values, strict=True)}}
        for subject, values in probabilities.items()
    ]
    assert [case.subject_id for case in choose_cases(rows, classes, 1)] == ["z", "x"]


def test_the_first_role_that_there_is_is_explained():
    rows = [*ROWS, row("g", 0, 0.1, role="out_of_fold")]
    assert rows_of_role(rows, ["locked_test", "out_of_fold", "external"])[0] == "out_of_fold"
    assert len(rows_of_role(rows, ["external", "out_of_fold"])[1]) == len(ROWS)


def test_a_role_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"must name a role of the predictions, external, got \['test'\]"):
        rows_of_role(ROWS, ["test"])


def test_no_case_at_all_is_refused():
    with pytest.raises(ValueError, match="explain_num_cases must be at least 1, got 0"):
        choose_cases(ROWS, CLASSES, 0)
