"""The report's section on what the answers are good for: operating points, calibration, and decision curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from scripts.evaluation.answers import GROUP, TEST, Answers, group_answers, main_role, merge_predictions
from scripts.evaluation.clinical_use import OperatingRule, calibration_row, decision_curve, operating_point
from scripts.evaluation.figures import PANEL, draw_calibration, draw_decision_curves
from scripts.patches.pictures import draw_svg
from scripts.provenance.study_files import StudyFiles
from scripts.report.words import ROLE_NAMES, name_panel, name_setup, ordered
from scripts.running.files import read_json
from scripts.running.setups import permutation_of


def clinical_numbers(
    predictions: Sequence[Mapping[str, str]], files: StudyFiles, rule: OperatingRule, setups: Sequence[str]
) -> dict[str, Any]:
    """Compute the section, as `clinical_use.json` holds it.

    Args:
        predictions: what `merge_predictions` returns.
        files: what the stages left; `inner_predictions.csv` of the evaluations among it.
        rule: how thresholds are chosen.
        setups: order of the setups; others follow.

    Returns:
        `operating_points` and `logistic_calibration` (a row per setup and test), and of the tests of the main role
        `decision_curves`; see `scripts.evaluation.clinical_use`.
    """
    groups = group_answers(predictions)
    names = ordered((answers.setup for answers in groups), setups)
    groups.sort(key=lambda answers: (list(ROLE_NAMES).index(answers.role), names.index(answers.setup)))
    inner, ensembles = _inner(files), _ensembles(files)
    role = main_role(predictions)
    return {
        "operating_points": [
            operating_point(
                answers,
                inner.get((answers.direction, answers.setup)),
                rule,
                ensembles.get((answers.direction, answers.setup), "mean_probability"),
            )
            for answers in groups
        ],
        "logistic_calibration": [calibration_row(answers, rule) for answers in groups],
        "decision_curves": [decision_curve(answers, rule) for answers in groups if answers.role == role],
    }


def clinical_sections(
    numbers: Mapping[str, Any], predictions: Sequence[Mapping[str, str]], rule: OperatingRule
) -> dict[str, Any]:
    """Arrange what `clinical_numbers` returns for the template `clinical_use.html.j2`.

    Returns:
        `tests`: those of each role, with `rows` of a setup each; `figures`: `title`, `calibration` and `curves` (SVG),
        and the `panels` of both, of each test of the main role; `class`, `other` (names of the positive class and of
        the rest), `rule`.
    """
    calibration = {tuple(row[name] for name in GROUP): row for row in numbers["logistic_calibration"]}
    useful = {tuple(row[name] for name in GROUP): row["useful"] for row in numbers["decision_curves"]}
    tests: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in numbers["operating_points"]:
        key = tuple(row[name] for name in GROUP)
        beside = {"calibration": calibration[key], "useful": useful.get(key)}
        tests.setdefault(tuple(row[name] for name in TEST), []).append({**row, **beside})
    groups = group_answers(predictions)
    classes = groups[0].classes
    return {
        "tests": [{**dict(zip(TEST, test, strict=True)), "rows": rows} for test, rows in tests.items()],
        "figures": list(_figures(groups, numbers["decision_curves"], rule)),
        "class": classes[rule.label(classes)],
        "other": " or ".join(name for name in classes if name != classes[rule.label(classes)]),
        "rule": rule,
        "role": main_role(predictions),
    }


def _figures(
    groups: Sequence[Answers], curves: Sequence[Mapping[str, Any]], rule: OperatingRule
) -> Iterator[dict[str, Any]]:
    by_key = {tuple(getattr(answers, name) for name in GROUP): answers for answers in groups}
    tests: dict[str, list[Mapping[str, Any]]] = {}
    for curve in curves:
        if curve["points"] and permutation_of(curve["setup"]) is None:
            tests.setdefault(name_panel(curve, curve["setup"]), []).append(curve)
    for title, members in sorted(tests.items()):
        answered = {}
        for curve in members:
            answers = by_key[tuple(curve[name] for name in GROUP)]
            label = rule.label(answers.classes)
            answered[name_setup(answers.setup)] = answers.labels == label, answers.probabilities[:, label]
        points = {name_setup(curve["setup"]): curve["points"] for curve in members}
        name = members[0]["class"]
        calibration = partial(draw_calibration, title=title, answers=answered, name=name)
        decisions = partial(draw_decision_curves, title=title, curves=points, name=name)
        yield {
            "title": title,
            "calibration": draw_svg(calibration, PANEL),
            "curves": draw_svg(decisions, PANEL),
            "panels": (calibration, decisions),
        }


def _inner(files: StudyFiles) -> dict[tuple[str, str], Answers]:
    """Answers to the inner parts by direction and setup."""
    paths = files.named("inner_predictions.csv")
    groups = group_answers(merge_predictions(paths)) if paths else []
    return {(answers.direction, answers.setup): answers for answers in groups}


def _ensembles(files: StudyFiles) -> dict[tuple[str, str], str]:
    contents = [read_json(path) for path in files.named("metrics.json", "evaluation")]
    return {
        (content["direction"], content["setup"]): content.get("ensemble", "mean_probability") for content in contents
    }
