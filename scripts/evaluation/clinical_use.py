"""What the probabilities of a setup are good for: an operating point, their calibration, and decision curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scripts.evaluation.answers import GROUP, Answers
from scripts.statistics.classification_measures import Floats
from scripts.statistics.intervals import Estimate
from scripts.statistics.logistic_calibration import calibrate
from scripts.statistics.net_benefit import THRESHOLDS, net_benefit, useful_range
from scripts.statistics.operating_point import (
    Threshold,
    check_goal,
    check_prevalence,
    choose_threshold,
    predictive_values,
    rates,
)

# Ensembles whose answer is on the scale of the networks' own, so that a threshold of these can be applied to it.
ON_ONE_SCALE = ("mean_probability", "mean_logit")


@dataclass(frozen=True)
class OperatingRule:
    """How a threshold is chosen, and for whom its answers are.

    Args:
        goal: "sensitivity" or "specificity", reached on the inner parts.
        level: at least this, in (0, 1].
        positive_class: name of the class that a positive answer means; None is the last one.
        prevalence: share of that class among those who will be asked about, in (0, 1); None is that of each cohort.
    """

    goal: str = "sensitivity"
    level: float = 0.9
    positive_class: str | None = None
    prevalence: float | None = None

    def check(self, classes: Sequence[str]) -> None:
        """Refuse what cannot be reached, asked or answered; `classes` are the names by label.

        Raises:
            ValueError: naming the key and the way out.
        """
        check_goal(self.goal, self.level)
        check_prevalence(self.prevalence)
        if self.positive_class is not None and self.positive_class not in classes:
            raise ValueError(
                f"positive_class must be one of the classes {', '.join(classes)}, got {self.positive_class!r}; null"
                " takes the last"
            )

    def label(self, classes: Sequence[str]) -> int:
        """Return the label of the positive class."""
        return len(classes) - 1 if self.positive_class is None else list(classes).index(self.positive_class)


def operating_point(
    answers: Answers, inner: Answers | None, rule: OperatingRule, ensemble: str = "mean_probability"
) -> dict[str, Any]:
    """Apply a threshold on the probability of the positive class, chosen on the inner parts, to a test.

    Out of fold, each fold's patients are answered by the threshold of its own inner part; an ensemble by one threshold
    of all inner parts together, each patient in them answered by the networks that were not trained on it.

    Args:
        answers: of a test.
        inner: of the inner parts, by the networks of the same cohort and setup; None where there is none.
        rule: how the threshold is chosen.
        ensemble: how the networks of the folds answer together.

    Returns:
        `GROUP`, `class`, `n`, `goal`, `level`, `reason` (why there is no threshold; None), `thresholds` (`fold`, -1 for
        all, and the fields of `Threshold`); with a threshold `sensitivity`, `specificity`, `prevalence`,
        `positive_predictive_value` and `negative_predictive_value`, by patients.
    """
    label = rule.label(answers.classes)
    fixed = {
        **{name: getattr(answers, name) for name in GROUP},
        **{"class": answers.classes[label], "n": answers.n, "goal": rule.goal, "level": rule.level},
    }
    positive, scores = answers.labels == label, answers.probabilities[:, label]
    reason = _why_not(answers, inner, ensemble, scores)
    if reason or inner is None:
        return {**fixed, "reason": reason, "thresholds": []}
    thresholds = {fold: _threshold(_of_fold(inner, fold), label, rule) for fold in np.unique(answers.folds).tolist()}
    rows = [{"fold": fold, **threshold._asdict()} for fold, threshold in thresholds.items()]
    missing = [f"{_part(fold)}: {one.reason}" for fold, one in thresholds.items() if one.value is None]
    if missing:
        return {**fixed, "reason": "; ".join(missing), "thresholds": rows}
    answered = scores >= np.array([thresholds[fold].value for fold in answers.folds.tolist()])
    prevalence = float(positive.mean()) if rule.prevalence is None else rule.prevalence
    return {
        **fixed,
        "reason": None,
        "thresholds": rows,
        "prevalence": prevalence,
        "is_stated": rule.prevalence is not None,
        **_measures(positive, answered, prevalence),
    }


def calibration_row(answers: Answers, rule: OperatingRule) -> dict[str, Any]:
    """Fit the outcome to the logits of the positive class: `GROUP`, `class`, `n`, `intercept`, `slope`, `reason`."""
    label = rule.label(answers.classes)
    result = calibrate(answers.labels == label, positive_logits(answers, label))
    return {
        **{name: getattr(answers, name) for name in GROUP},
        **{"class": answers.classes[label], "n": answers.n, "reason": result.reason},
        **{name: _described(getattr(result, name)) for name in ("intercept", "slope")},
    }


def decision_curve(answers: Answers, rule: OperatingRule) -> dict[str, Any]:
    """Net benefit of acting on the positive class, by threshold: `GROUP`, `class`, `n`, `points` and `useful`.

    A point has `threshold`, `value`, `low`, `high` and `of_all`; `useful` is the lowest and the highest threshold at
    which the setup beats acting on all and on none by point estimates, between which it may fail to; None where there
    is no such threshold or fewer than two patients.
    """
    label = rule.label(answers.classes)
    positive, probabilities = answers.labels == label, answers.probabilities[:, label]
    points = [net_benefit(positive, probabilities, one) for one in THRESHOLDS] if answers.n > 1 else []
    names = ("value", "low", "high")
    return {
        **{name: getattr(answers, name) for name in GROUP},
        **{"class": answers.classes[label], "n": answers.n, "useful": useful_range(points)},
        "points": [
            {"threshold": one.threshold, **{name: getattr(one.value, name) for name in names}, "of_all": one.of_all}
            for one in points
        ],
    }


def positive_logits(answers: Answers, label: int) -> Floats:
    """Log odds of a class against all others, shape (N,); infinite where a probability is 0 or 1."""
    others = np.delete(answers.probabilities, label, axis=1).sum(axis=1)
    with np.errstate(divide="ignore"):
        return np.log(answers.probabilities[:, label]) - np.log(others)


def _why_not(answers: Answers, inner: Answers | None, ensemble: str, scores: Floats) -> str | None:
    if answers.role == "validation_selected_on":
        return "the inner part is the part that is reported, so that a threshold would be fitted to it"
    if inner is None:
        return "the evaluation wrote no inner_predictions.csv; evaluate again"
    if answers.role != "out_of_fold" and ensemble not in ON_ONE_SCALE:
        return f"answers of the ensemble {ensemble} are not on the scale of the networks' own"
    if not np.isfinite(scores).all():
        return "the test holds scores that are not finite"
    return None


def _of_fold(inner: Answers, fold: int) -> Answers:
    """The inner part of a fold; of the ensemble, -1, all of them."""
    return inner if fold < 0 else replace(inner, rows=[row for row in inner.rows if int(row["fold"]) == fold])


def _part(fold: int) -> str:
    return "inner parts of all folds" if fold < 0 else f"inner part of fold {fold}"


def _threshold(inner: Answers, label: int, rule: OperatingRule) -> Threshold:
    if not inner.rows:
        return Threshold(None, "it holds nobody", 0, 0)
    return choose_threshold(inner.labels == label, inner.probabilities[:, label], rule.goal, rule.level)


def _measures(positive: np.ndarray, answered: np.ndarray, prevalence: float) -> dict[str, Any]:
    sensitivity, specificity = rates(positive, answered)
    forward, backward = predictive_values(positive, answered, prevalence)
    return {
        "sensitivity": _described(sensitivity),
        "specificity": _described(specificity),
        "positive_predictive_value": _described(forward),
        "negative_predictive_value": _described(backward),
    }


def _described(estimate: Estimate) -> dict[str, Any]:
    return {**estimate._asdict(), "coverage": None}
