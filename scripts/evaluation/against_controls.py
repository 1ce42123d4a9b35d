"""Whether images of a diffusion model help a classifier more than those of every control generator."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from scripts.evaluation.answers import TEST, Answers, aligned
from scripts.evaluation.setups import MIN_SUBJECTS, area_difference, area_situation
from scripts.statistics.interval_coverage import coverage_beside
from scripts.statistics.paired_tests import holm
from scripts.statistics.power import ALPHA


def compare_with_controls(groups: Sequence[Answers], controls: Mapping[str, Collection[str]]) -> list[dict[str, Any]]:
    """Compare setups with images of diffusion models with those with images of control generators, by AUC.

    To beat every control is to be better than each of them, so the p of a setup on a test is the largest of its p
    against them (an intersection-union test: Berger 1982, "Multiparameter hypothesis testing and acceptance
    sampling"), 1 where a control is not worse. These are corrected by Holm over the setups and tests of a role.

    Args:
        groups: what `group_answers` returns.
        controls: name of each setup with images of a diffusion model -> names of the setups with images of control
            generators that it is compared with.

    Returns:
        A row per test, setup and control: `direction`, `role`, `cohort`, `setup`, `control`, `measure` ("auc"), `n`,
        `value` (positive where the setup is better), `low`, `high`, `interval`, `coverage`, `p`; and of the setup
        against all controls of the test `p_holm`, `num_tests` and `beats_all`. Tests with fewer than two subjects of a
        class are left out.

    Raises:
        ValueError: if two setups were tested on other subjects.
    """
    rows: list[dict[str, Any]] = []
    for own in (answers for answers in groups if answers.setup in controls and min(answers.n_by_class) >= MIN_SUBJECTS):
        against = [answers for answers in groups if answers.setup in controls[own.setup] and answers.test == own.test]
        for control in against:
            estimate, p = area_difference(own, aligned(control, own))
            names = {"setup": own.setup, "control": control.setup, "measure": "auc"}
            fixed = {**own.test, **names, "n": own.n}
            coverage = coverage_beside("auc_difference", own.n_by_class, *area_situation(own, control))
            rows.append({**fixed, **estimate._asdict(), "coverage": coverage, "p": p})
    for role in dict.fromkeys(row["role"] for row in rows):
        _judge([row for row in rows if row["role"] == role])
    return rows


def _judge(rows: Sequence[dict[str, Any]]) -> None:
    """Write into the rows of one role whether their setup beats all controls of their test."""
    families: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        families.setdefault((row["setup"], *(row[name] for name in TEST)), []).append(row)
    worst = [max(_p_of_better(row) for row in family) for family in families.values()]
    for family, p in zip(families.values(), holm(worst), strict=True):
        for row in family:
            row |= {"p_holm": p, "num_tests": len(worst), "beats_all": p < ALPHA}


def _p_of_better(row: dict[str, Any]) -> float:
    return row["p"] if row["p"] is not None and row["value"] is not None and row["value"] > 0 else 1.0
