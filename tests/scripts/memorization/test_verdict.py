"""The verdict follows from the figures, the gravest first."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.memorization.duplicates import Duplicate, SharedPart
from scripts.memorization.statistics import Share
from scripts.memorization.verdict import (
    COLLAPSED,
    KNOWS_HELD_OUT,
    MEMORIZES,
    NO_SIGN,
    TOO_FEW,
    UNUSABLE,
    Figures,
    Thresholds,
    judge,
)


def share(value: float, p_value: float, held_out_p_value: float = 0.5) -> Share:
    """A share among 40 training and 10 held-out subjects."""
    return Share(value, 0.8, (value - 0.8) / 0.2, p_value, (1 - value - 0.2) / 0.8, held_out_p_value)


SIZES: dict[str, Any] = {"num_synthetic": 100, "num_training_subjects": 40, "num_held_out_subjects": 10}
HONEST: dict[str, Any] = {**SIZES, "copies": {}, "num_copies": 0, "shares": {"whole image": share(0.82, 0.4)}}
COPIED = {"copies": {"whole image": 1}, "num_copies": 1}
EVERYBODY = {"shares": {"whole image": share(1.0, 0.005)}}
BLOCKS = {"shares": {"whole image": share(0.8, 0.5), "quarters": share(0.99, 0.005)}}
NEAR = {"c_t": -4.0, "auth_pct": 10.0, "held_out_auth_pct": 60.0}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, NO_SIGN),
        (COPIED, MEMORIZES),
        ({**COPIED, "unlike_share": 0.9}, MEMORIZES),
        ({**COPIED, "num_synthetic": 5}, MEMORIZES),
        ({**COPIED, "duplicates": [Duplicate("A", "B", "held out", 0.99)]}, MEMORIZES),
        ({"duplicates": [Duplicate("A", "B", "training", 0.99)]}, NO_SIGN),
        ({**COPIED, "held_out_copies": 1, "held_out_whole": 1}, KNOWS_HELD_OUT),
        ({**COPIED, "held_out_copies": 2}, KNOWS_HELD_OUT),
        # Where real images come as near as copies, some come near by chance, to 10 of 50 subjects a fifth of them.
        ({"held_out_copies": 3, "held_out_whole": 3, "are_simple": True}, KNOWS_HELD_OUT),  # .2 ** 3 = .008
        ({"held_out_copies": 2, "held_out_whole": 2, "are_simple": True}, NO_SIGN),
        ({"held_out_copies": 3, "copies": {"whole image": 3}, "num_copies": 3, "are_simple": True}, MEMORIZES),
        # More than 5 of 100 are no chance, also if training subjects are copied as often.
        (
            {"held_out_copies": 6, "copies": {"whole image": 24}, "num_copies": 24, "are_simple": True},
            KNOWS_HELD_OUT,
        ),
        # One small part of one image may be alike by chance.
        ({"held_out_copies": 1}, NO_SIGN),
        ({"shares": {"whole image": share(0.0, 1.0, held_out_p_value=0.005)}}, KNOWS_HELD_OUT),
        (EVERYBODY, MEMORIZES),
        ({**EVERYBODY, "farther": 0.99}, MEMORIZES),
        (BLOCKS, MEMORIZES),
        ({"shares": {"whole image": share(1.0, 0.02)}}, NO_SIGN),
        ({"shares": {"whole image": share(0.92, 0.005)}}, NO_SIGN),
        ({"shares": {"whole image": share(0.92, 0.005)}, **NEAR}, MEMORIZES),
        ({"shares": {"whole image": share(0.92, 0.02)}, **NEAR}, NO_SIGN),
        ({"shares": {"whole image": share(0.92, 0.005)}, **NEAR, "auth_pct": 40.0}, NO_SIGN),
        ({"unlike_share": 0.6}, UNUSABLE),
        ({"farther": 0.96}, UNUSABLE),
        ({"average": 0.96}, UNUSABLE),
        ({"average": 0.01, "farther": 0.9}, UNUSABLE),
        ({"average": 0.01, "farther": 0.6}, NO_SIGN),
        ({"farther": 0.96, "num_training_subjects": 5, "num_held_out_subjects": 2}, TOO_FEW),
        ({"repeated": 0.9}, COLLAPSED),
        ({"repeated": 0.9, "farther": 0.99}, COLLAPSED),
        ({"repeated": 0.9, "average": 0.99}, COLLAPSED),
        ({"repeated": 0.9, "average": 0.99, "smoother": 1.0}, UNUSABLE),
        ({"num_synthetic": 28}, TOO_FEW),
        ({"num_training_subjects": 4}, TOO_FEW),
        ({"num_held_out_subjects": 4}, TOO_FEW),
        ({"shares": None, "num_held_out_subjects": 0}, TOO_FEW),
    ],
    ids=str,
)
def test_the_verdict_follows_from_the_figures(changes, verdict):
    result = judge(Figures(**{**HONEST, **changes}), Thresholds())
    assert result["verdict"] == verdict
    assert all(sentence.endswith(".") for sentence in result["evidence"])


def test_a_patient_under_two_names_is_the_first_line():
    figures = Figures(**{**HONEST, **COPIED, "duplicates": [Duplicate("A", "B", "held out", 0.99)]})
    assert judge(figures, Thresholds())["evidence"][0] == (
        "B (held out) is the training subject A under another name (similarity 0.990), left out of the"
        " held-out subjects."
    )


def test_two_held_out_subjects_that_are_one_are_not_told_as_a_training_subject():
    figures = Figures(**{**HONEST, "duplicates": [Duplicate("A", "B", "both held out", 0.99)]})
    assert judge(figures, Thresholds())["evidence"][0] == (
        "A and B are one held-out subject under two names (similarity 0.990), counted once."
    )


def test_the_evidence_says_where_parts_were_not_looked_at():
    of_parts, of_whole = (
        judge(Figures(**{**HONEST, "copies": copies, "num_copies": 0}), Thresholds())["evidence"][0]
        for copies in ({"whole image": 0, "lesion": 0}, {"whole image": 0})
    )
    assert "Parts were not looked at" in of_whole
    assert "bends" not in of_whole
    assert "Parts were not looked at" not in of_parts


def test_the_evidence_names_the_parts_that_are_copies():
    copies = {"whole image": 0, "t1c": 2, "lesion": 0}
    evidence = judge(Figures(**{**HONEST, "copies": copies, "num_copies": 2}), Thresholds())["evidence"]
    assert evidence[0].startswith("2 of 100 images are copies (t1c 2): less than 0.5 times as far")
    assert "quarters 99 %" in judge(Figures(**{**HONEST, **BLOCKS}), Thresholds())["evidence"][2]


def test_the_evidence_gives_the_ratio_of_each_part_that_was_lowered():
    limits = {"t1c": 0.3, "lesion": 0.2134, "quarters": 0.1}
    figures = Figures(**{**HONEST, "copies": {"whole image": 0, **dict.fromkeys(limits, 0)}, "part_limits": limits})
    assert "0.3 times (lesion 0.21, quarters 0.1, where real images" in judge(figures, Thresholds())["evidence"][0]


def test_subjects_who_share_a_part_are_named_once_for_each_part():
    shared = [SharedPart("A", "B", "t1c", 0.012), SharedPart("C", "D", "t1c", 0.2), SharedPart("A", "B", "lesion", 0.1)]
    evidence = judge(Figures(**{**HONEST, "shared_parts": shared}), Thresholds())["evidence"]
    assert evidence[1].startswith("Real subjects share t1c: A and B (d1 / d2 0.012); C and D (d1 / d2 0.2). They lower")
    assert evidence[2].startswith("Real subjects share lesion: A and B (d1 / d2 0.1).")


def test_a_threshold_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"copy_ratio must be in \(0, 1\), got 1.5"):
        Thresholds(copy_ratio=1.5)


def test_where_real_images_are_as_near_as_copies_a_copy_must_be_nearer():
    assert Thresholds().where_real_images_reach(0.7) == Thresholds()
    lowered = Thresholds().where_real_images_reach(0.4)
    assert (lowered.copy_ratio, lowered.part_copy_ratio) == (pytest.approx(0.3), pytest.approx(0.18))
