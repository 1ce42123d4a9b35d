"""The primary end point: the one comparison that a study declares before its evaluations are made."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any

from scripts.evaluation.answers import ROLES, Answers, aligned
from scripts.evaluation.setups import END_POINT, MIN_SUBJECTS, compare_pair, is_protocol_check
from scripts.running.errors import some_names
from scripts.statistics.power import ALPHA, detectable_difference, detectable_gain

MEASURES = ("accuracy", "balanced_accuracy", "auc")
EXAMPLE = "{setup: ddpm_mi, reference: real, trained_on: site_a, tested_on: site_b, measure: auc}"


@dataclass(frozen=True)
class PrimaryEndPoint:
    """The comparison that a study is about; every other one is secondary.

    Source: ICH E9, "Statistical principles for clinical trials", section 2.2.2, for why there is one and when it is
    named.

    Args:
        setup: name of the setup.
        reference: setup that it is compared with.
        trained_on: cohort that both train on, as the study names it.
        tested_on: cohort that both are tested on; the same one means its locked test, or its folds where it has none.
        measure: one of `MEASURES`.
    """

    setup: str
    reference: str
    trained_on: str
    tested_on: str
    measure: str

    @classmethod
    def of(cls, settings: Any) -> PrimaryEndPoint | None:
        """Read the end point of a config; None for null.

        Raises:
            ValueError: if a key is missing or unknown, a value is no text, the measure is none that is compared, a
                setup is compared with itself, or its labels are shuffled.
        """
        if settings is None or isinstance(settings, cls):
            return settings
        names = [field.name for field in fields(cls)]
        if not isinstance(settings, Mapping) or set(settings) != set(names):
            keys = list(settings) if isinstance(settings, Mapping) else settings
            raise ValueError(
                f"primary_endpoint must be null or have the keys {', '.join(names)}, got {keys!r}; write it as"
                f" {EXAMPLE}"
            )
        words = [name for name in names if not isinstance(settings[name], str)]
        if words:
            raise ValueError(
                f"primary_endpoint#{words[0]} must be text, got {settings[words[0]]!r}; write it as {EXAMPLE}"
            )
        endpoint = cls(**settings)
        if endpoint.measure not in MEASURES:
            raise ValueError(
                f"primary_endpoint#measure must be one of {', '.join(MEASURES)}, which are compared, got"
                f" {endpoint.measure!r}"
            )
        if endpoint.setup == endpoint.reference:
            raise ValueError(
                f"primary_endpoint must compare two setups, got {endpoint.setup!r} with itself; name another reference"
            )
        checks = [name for name in (endpoint.setup, endpoint.reference) if is_protocol_check(name)]
        if checks:
            raise ValueError(
                f"primary_endpoint must compare setups whose labels are their own, got {checks[0]!r}, which checks the"
                " protocol and is no hypothesis"
            )
        return endpoint

    def require_in(self, setups_by_cohort: Mapping[str, Collection[str]]) -> None:
        """Refuse an end point that a study does not compute.

        Args:
            setups_by_cohort: cohort, as the study names it -> setups that are evaluated after training on it.

        Raises:
            ValueError: naming the part that the study has not, and what it has.
        """
        for name in ("trained_on", "tested_on"):
            _require(name, getattr(self, name), list(setups_by_cohort), "cohorts")
        for name in ("setup", "reference"):
            _require(name, getattr(self, name), list(setups_by_cohort[self.trained_on]), "setups")

    def result(self, groups: Sequence[Answers], cohort_names: Mapping[str, str]) -> dict[str, Any]:
        """Compute the end point.

        Args:
            groups: what `group_answers` returns.
            cohort_names: cohort, as the study names it -> name in the predictions; those that are not in it are one.

        Returns:
            Its declaration; the row of `compare_setups` with p alone, since it is the only test of its family
            (`p_holm` is p, `num_tests` 1); and `detectable`, the smallest true difference that is found with a power
            of 80 %. Or, where a comparison needs more subjects, the names of the test and the `reason`.

        Raises:
            ValueError: if there is no test of one of the setups, or two setups were tested on other subjects.
        """
        direction, cohort = (cohort_names.get(name, name) for name in (self.trained_on, self.tested_on))
        pairs = {answers.setup: answers for answers in _in_order(groups, direction, cohort)}
        missing = [name for name in (self.setup, self.reference) if name not in pairs]
        if missing:
            raise ValueError(
                f"primary_endpoint must be of an evaluation of the study, got {missing[0]!r} trained on"
                f" {self.trained_on!r} and tested on {self.tested_on!r}; evaluate it, or pass --primary_endpoint null"
            )
        reference = pairs[self.reference]
        own = aligned(pairs[self.setup], reference)
        declared = {**asdict(self), **own.test, "n": own.n}
        if min(own.n_by_class) < MIN_SUBJECTS:
            counts = ", ".join(f"{name} {n}" for name, n in zip(own.classes, own.n_by_class, strict=True))
            return {**declared, "reason": f"a comparison needs {MIN_SUBJECTS} subjects of each class, got {counts}"}
        row = next(row for row in compare_pair(own, reference) if row["measure"] == self.measure)
        alone = {"p_holm": row["p"], "num_tests": None if row["p"] is None else 1}
        return {**declared, **row, **alone, "detectable": _detectable(row), "alpha": ALPHA}


def as_one_of(end_point: Mapping[str, Any], comparisons: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Correct an end point that was declared after the evaluations, and so may have been chosen by its result.

    Args:
        end_point: what `PrimaryEndPoint.result` returns.
        comparisons: what `compare_setups` returns of the same answers, without a primary end point.

    Returns:
        The end point with `p_holm` and `num_tests` of the comparison that it is, both None where it is none of them or
        one without p; without `detectable`, which is that of a single test.
    """
    if "reason" in end_point:
        return dict(end_point)
    row = next((row for row in comparisons if all(row[name] == end_point[name] for name in END_POINT)), None)
    corrected = {name: None if row is None else row[name] for name in ("p_holm", "num_tests")}
    return {**end_point, **corrected, "detectable": None}


def differs_in(end_point: Mapping[str, Any]) -> bool | None:
    """Tell whether an end point shows a difference: corrected p below .05, or where it has no p, an interval without 0.

    Args:
        end_point: what `PrimaryEndPoint.result` or `as_one_of` returns, with `is_declared_before`.

    Returns:
        None where nothing can tell: of an end point that was declared after the evaluations, no interval is corrected.
    """
    if end_point["p_holm"] is not None:
        return bool(end_point["p_holm"] < ALPHA)
    if not end_point["is_declared_before"]:
        return None
    return end_point["low"] is not None and (end_point["low"] > 0 or end_point["high"] < 0)


def _in_order(groups: Sequence[Answers], direction: str, cohort: str) -> list[Answers]:
    """Answers of a direction and cohort in the first of its roles that there is."""
    own = [answers for answers in groups if (answers.direction, answers.cohort) == (direction, cohort)]
    role = min((answers.role for answers in own), key=ROLES.index, default=None)
    return [answers for answers in own if answers.role == role]


def _detectable(row: Mapping[str, Any]) -> float | None:
    if row["measure"] != "accuracy":
        return detectable_difference(row["low"], row["high"])
    share = (row["only_setup_right"] + row["only_reference_right"]) / row["n"]
    return detectable_gain(row["n"], share) if share else None


def _require(key: str, value: str, known: Sequence[str], what: str) -> None:
    if value in known:
        return
    near = get_close_matches(value, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"primary_endpoint#{key} must be one of the {what} of the study ({some_names(known, limit=12)}), got"
        f" {value!r}{hint}"
    )
