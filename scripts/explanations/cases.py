"""Which cases of an evaluation are explained: the surest, the wrong and the least sure ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scripts.evaluation.answers import ROLES, class_name
from scripts.provenance.image_form import names_by_label

KINDS = ("surest", "wrong", "least_sure")


@dataclass(frozen=True)
class Case:
    """One row of `predictions.csv` that is explained.

    Args:
        kind: one of `KINDS`.
        rank: place within its kind, from 0.
        cohort: of the subject.
        subject_id: whose patches were predicted.
        fold: whose network answered; -1 is the ensemble.
        label: true class.
        answer: most probable class, which is explained.
        probabilities: (K,), sum 1.
    """

    kind: str
    rank: int
    cohort: str
    subject_id: str
    fold: int
    label: int
    answer: int
    probabilities: tuple[float, ...]

    @property
    def name(self) -> str:
        """Name of the case's files, such as "wrong_0"; an id may hold what a file's name may not."""
        return f"{self.kind}_{self.rank}"


def rows_of_role(rows: Sequence[Mapping[str, str]], roles: Sequence[str]) -> tuple[str, list[Mapping[str, str]]]:
    """Take the rows of the first role that occurs.

    Args:
        rows: of `predictions.csv`.
        roles: in the order of preference.

    Returns:
        The role and its rows.

    Raises:
        ValueError: if no row has any of the roles.
    """
    there = sorted({row["role"] for row in rows})
    for role in roles:
        if role in there:
            return role, [row for row in rows if row["role"] == role]
    raise ValueError(f"explain_roles must name a role of the predictions, {', '.join(there)}, got {list(roles)!r}")


def check_cases(roles: Sequence[str], num_cases: int, num_randomized: int) -> None:
    """Refuse cases that no evaluation has.

    Args:
        roles: `explain_roles`.
        num_cases: `explain_num_cases`, of each kind.
        num_randomized: `explain_num_randomized`, networks that each map is compared with.

    Raises:
        ValueError: naming the config key.
    """
    if not roles or set(roles) - set(ROLES):
        raise ValueError(f"explain_roles must be of {', '.join(ROLES)}, got {list(roles)!r}")
    for name, value in (("explain_num_cases", num_cases), ("explain_num_randomized", num_randomized)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}")


def choose_cases(rows: Sequence[Mapping[str, str]], classes: Mapping[str, int], num_cases: int) -> list[Case]:
    """Choose the surest right answers, the most confidently wrong ones and the least sure ones of the rest.

    Sure is the probability of the answer; least sure is the smallest lead over the second class. Equal ones are taken
    in the order of cohort and subject.

    Args:
        rows: of `predictions.csv`, of one role.
        classes: class name -> label.
        num_cases: of each kind at most; there may be fewer wrong answers.

    Returns:
        The cases, by kind and rank; no subject twice.

    Raises:
        ValueError: if `num_cases` is not positive.
    """
    if num_cases < 1:
        raise ValueError(f"explain_num_cases must be at least 1, got {num_cases!r}")
    names = names_by_label(classes)
    answers = [_answer(row, names) for row in sorted(rows, key=lambda row: (row["cohort"], row["subject_id"]))]
    sure = sorted(answers, key=lambda case: -max(case.probabilities))
    cases = [
        *_ranked([case for case in sure if case.answer == case.label], "surest", num_cases),
        *_ranked([case for case in sure if case.answer != case.label], "wrong", num_cases),
    ]
    taken = {(case.cohort, case.subject_id) for case in cases}
    rest = [case for case in answers if (case.cohort, case.subject_id) not in taken]
    return [*cases, *_ranked(sorted(rest, key=_lead), "least_sure", num_cases)]


def _answer(row: Mapping[str, str], names: Sequence[str]) -> Case:
    probabilities = tuple(float(row[f"probability_{name}"]) for name in names)
    answer = int(np.argmax(probabilities))
    label = names.index(class_name(row["label"], names))
    return Case("", 0, row["cohort"], row["subject_id"], int(row["fold"]), label, answer, probabilities)


def _lead(case: Case) -> float:
    first, second = sorted(case.probabilities, reverse=True)[:2]
    return first - second


def _ranked(cases: Sequence[Case], kind: str, count: int) -> list[Case]:
    return [replace(case, kind=kind, rank=rank) for rank, case in enumerate(cases[:count])]
