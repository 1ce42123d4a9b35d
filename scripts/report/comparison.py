"""The part of the report that a reviewer asks for: differences with their tests, calibration, sites and shortcuts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scripts.evaluation.against_controls import compare_with_controls
from scripts.evaluation.answers import (
    GROUP,
    TEST,
    Answers,
    group_answers,
    main_role,
    merge_predictions,
    refuse_other_subjects,
)
from scripts.evaluation.figures import PANEL, draw_reliability, draw_roc
from scripts.evaluation.metrics import MEASURES, compute_metrics, is_trivial_gain, trivial_measures
from scripts.evaluation.primary import PrimaryEndPoint, as_one_of
from scripts.evaluation.seeds import holds_over_seeds, refuse_other_patients, seed_spread
from scripts.evaluation.setups import COMPARISON_COLUMNS, compare_setups, differs, is_protocol_check, power_rows
from scripts.evaluation.subgroups import FEWEST, GroupMeasures, measure_groups, subgroups
from scripts.patches.pictures import draw_intervals, draw_svg
from scripts.provenance.study_files import SeedStudies, StudyFiles
from scripts.provenance.task import GLIOMA, Task
from scripts.report.findings import primary_sentence
from scripts.report.words import (
    MEASURE_NAMES,
    ROLE_NAMES,
    name_panel,
    name_reference,
    name_setup,
    name_test,
    ordered,
)
from scripts.running.files import write_csv, write_json
from scripts.running.setups import classifier_of, permutation_of
from scripts.splits.parts import load_splits
from scripts.statistics.calibration import chance_error, reliability
from scripts.statistics.interval_coverage import coverage_beside
from scripts.statistics.intervals import Estimate
from scripts.statistics.volume_shortcut import volume_correlation, volume_difference

FILES = ("comparisons.csv", "comparisons.json")


def comparison_numbers(
    predictions: Sequence[Mapping[str, str]],
    files: StudyFiles,
    seeds: SeedStudies,
    setups: Sequence[str],
    reference: str,
    num_draws: int,
    seed: int,
    primary: PrimaryEndPoint | None = None,
) -> dict[str, Any]:
    """Compute everything of this part, as `comparisons.json` holds it.

    Args:
        predictions: what `merge_predictions` returns.
        files: what the stages left; splits and patches say who should have been tested.
        seeds: the same study with other seeds.
        setups: order of the setups; others follow.
        reference: setup that the others are compared with.
        num_draws: of the bootstrap.
        seed: of the draws.
        primary: end point that was declared; None where none was.

    Returns:
        `primary`: its result, with `is_declared_before`, or None; `one_answer`: setups and tests in which every patient
        gets one `answer`; `role` (see `main_role`); `comparisons` (a row per setup, test and measure), `not_compared`,
        `power` (a row per test), `controls` (what `compare_with_controls` returns); of the tests of that role `sites`,
        `subgroups`, `calibration`, `volumes` and `volume_correlations`; and of the tests on other cohorts `seeds`, and
        `seed_differences` from the reference.

    Raises:
        ValueError: if predictions are of other subjects than the splits', patches', or those of the other seeds, or if
            `SeedStudies.require_seeds_of` refuses.
    """
    groups = group_answers(predictions)
    names = ordered((answers.setup for answers in groups), setups)
    groups.sort(key=lambda answers: (*answers.test.values(), names.index(answers.setup)))
    _refuse_strangers(groups, files)
    seeds.require_seeds_of(files)
    end_point = None
    if primary is not None:
        end_point = primary.result(groups, files.cohort_names)
        end_point["is_declared_before"] = _is_declared_before(primary, files)
    # What was declared after the evaluations may have been chosen by them: it is corrected with all others.
    declared = end_point if end_point and end_point["is_declared_before"] else None
    comparisons, not_compared = compare_setups(groups, reference, declared)
    if end_point and not declared:
        end_point = as_one_of(end_point, comparisons)
    role = main_role(predictions)
    main = [answers for answers in groups if answers.role == role]
    facts = _facts(files)
    return {
        "primary": end_point,
        "one_answer": [
            {**{name: getattr(answers, name) for name in GROUP}, "n": answers.n, "answer": answers.only_answer}
            for answers in groups
            if answers.only_answer is not None
        ],
        "role": role,
        "comparisons": comparisons,
        "not_compared": not_compared,
        "power": power_rows(comparisons),
        "controls": compare_with_controls(groups, _controls_of_setups(files)),
        "sites": [row for answers in main for row in _sites(answers)],
        "subgroups": [row for answers in main for row in _subgroups(answers, facts.get(answers.cohort, {}))],
        "calibration": [_calibration(answers, num_draws, seed) for answers in main],
        "volumes": list(_volumes(main)),
        "volume_correlations": [_correlations(answers) for answers in main],
        **_over_seeds(_tests_of_seeds(predictions, seeds), reference, num_draws, seed),
    }


def write_comparisons(numbers: Mapping[str, Any], output_dir: Path) -> None:
    """Write `comparisons.csv` (differences and tests) and `comparisons.json` (all of this part)."""
    write_csv(output_dir / FILES[0], numbers["comparisons"], COMPARISON_COLUMNS)
    write_json(output_dir / FILES[1], numbers)


def comparison_sections(
    numbers: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    predictions: Sequence[Mapping[str, str]],
    setups: Sequence[str],
    trivial: Collection[tuple[str, ...]] = (),
    task: Task = GLIOMA,
) -> dict[str, Any]:
    """Arrange the numbers for the template `comparison.html.j2`.

    Args:
        numbers: what `comparison_numbers` returns.
        metrics: what `compute_metrics` returns.
        predictions: what `merge_predictions` returns.
        setups: order of the setups; others follow.
        trivial: what `trivial_measures` returns; no gain of it is marked.
        task: what things are called.

    Returns:
        `numbers` with comparisons by test, and `further` measures, `forests`, `curves`.
    """
    groups = [answers for answers in group_answers(predictions) if answers.role == numbers["role"]]
    names = ordered((answers.setup for answers in groups), setups)
    groups.sort(key=lambda answers: names.index(answers.setup))
    comparisons = numbers["comparisons"]
    main = [row for row in comparisons if row["role"] == numbers["role"]]
    return {
        **numbers,
        "primary_sentence": primary_sentence(numbers["primary"], trivial, task) if numbers["primary"] else "",
        "by_test": _by_test(
            [{**row, "differs": differs(row) and not is_trivial_gain(row, trivial)} for row in comparisons]
        ),
        "num_tests": {
            row["role"]: row["num_tests"] for row in comparisons if row["num_tests"] and not row["is_primary"]
        },
        "controls": _by_direction(
            [
                {**row, "needs_no_images": is_trivial_gain(row, trivial)}
                for row in numbers["controls"]
                if row["role"] == numbers["role"]
            ]
        ),
        "fewest": FEWEST,
        "references": sorted({name_reference(row["reference"]) for row in comparisons}),
        "subgroups": _by_subgroup(numbers["subgroups"]),
        "sites": [{**test, "one_site": _only_site(test["rows"])} for test in _by_direction(numbers["sites"])],
        "further": _by_direction(_further(metrics, numbers, names)),
        "forests": [figure for measure in MEASURES[:2] if (figure := _forest(main, measure))],
        "curves": list(_curves(groups)),
        "role_names": ROLE_NAMES,
        "measure_names": MEASURE_NAMES,
    }


def says_groups(numbers: Mapping[str, Any]) -> bool:
    """Tell whether anything is known by site, by another group, or by volume.

    Args:
        numbers: what `comparison_numbers` returns.
    """
    return len({row["site"] for row in numbers["sites"]}) > 1 or bool(numbers["subgroups"] or numbers["volumes"])


def _refuse_strangers(groups: Sequence[Answers], files: StudyFiles) -> None:
    splits = {content.get("cohort"): content for content in map(load_splits, files.named("splits.json"))}
    patches = {
        content["name"]: {entry["subject_id"] for entry in content["training"]} for _, content in files.lists("patches")
    }
    for answers in groups:
        refuse_other_subjects(answers, splits.get(answers.direction), patches.get(answers.cohort))


def _is_declared_before(primary: PrimaryEndPoint, files: StudyFiles) -> bool:
    """Whether the trainings and the evaluations that an end point compares were made by configs that declare it.

    An evaluation that is made again, as after a change of its code, has the config of today; the trainings behind it
    keep theirs, and so hold no declaration that came after the first results.
    """
    made_by = [
        files.configs(kind, cohort=primary.trained_on, setup=setup)
        for kind in ("classifier", "evaluation")
        for setup in (primary.setup, primary.reference)
    ]
    return all(
        configs and all(config.get("primary_endpoint") == asdict(primary) for config in configs) for configs in made_by
    )


def _controls_of_setups(files: StudyFiles) -> dict[str, list[str]]:
    """Setups that add images of diffusion models to all real ones -> those of control generators that train alike."""
    trained = {
        settings["setup"]: settings
        for record in files.records.values()
        if (settings := record.settings).get("synthetic_method") is not None
        and settings.get("train_on_real", True)
        and settings.get("synthetic_labels", "own") == "own"
    }
    controls = [setup for setup, settings in trained.items() if settings["synthetic_method"] in files.control_methods]
    return {
        setup: [control for control in controls if _common_settings(trained[control]) == _common_settings(settings)]
        for setup, settings in trained.items()
        if setup not in controls
    }


def _common_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two setups must share for a difference between them to be that of their methods."""
    common = {key: value for key, value in settings.items() if key not in ("setup", "synthetic_method", "fold")}
    return {**common, "classifier": classifier_of(settings["setup"])}


def _facts(files: StudyFiles) -> dict[str, dict[str, dict[str, Any]]]:
    """What `cohort.json` and `patches.json` record of each subject, by the name of the cohort."""
    facts: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, key in (("cohort", "subjects"), ("patches", "training")):
        for _, content in files.lists(kind):
            own = facts.setdefault(content["name"], {})
            for entry in content[key]:
                own.setdefault(entry["subject_id"], {}).update(entry)
    return facts


def _sites(answers: Answers) -> Iterator[dict[str, Any]]:
    for row in measure_groups(answers.sites, answers.labels, answers.probabilities, answers.folds):
        yield {"site": row.group, **_measured(answers, row)}


def _subgroups(answers: Answers, facts: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for by, names in subgroups(answers, facts).items():
        for row in measure_groups(names, answers.labels, answers.probabilities, answers.folds):
            yield {"by": by, "group": row.group, **_measured(answers, row)}


def _measured(answers: Answers, row: GroupMeasures) -> dict[str, Any]:
    sensitivities = zip(answers.classes, row.sensitivities, strict=True)
    return {
        **{name: getattr(answers, name) for name in GROUP},
        "n": row.n,
        "n_by_class": dict(zip(answers.classes, row.n_by_class, strict=True)),
        "sensitivity": {
            name: _with_coverage(estimate, f"sensitivity_{name}", row.n_by_class) for name, estimate in sensitivities
        },
        "balanced_accuracy": _with_coverage(row.balanced_accuracy, "balanced_accuracy", row.n_by_class),
        "auc": {**row.auc._asdict(), "coverage": _coverage_of_area(row)},
    }


def _coverage_of_area(row: GroupMeasures) -> float | None:
    return None if row.auc.low is None else coverage_beside("auc", row.n_by_class, row.auc.value)


def _by_subgroup(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One item per test and what patients are divided by: the names of the test, `by` and `rows`."""
    tests: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        tests.setdefault((*(row[name] for name in TEST), row["by"]), []).append(row)
    return [{**dict(zip((*TEST, "by"), test, strict=True)), "rows": members} for test, members in tests.items()]


def _calibration(answers: Answers, num_draws: int, seed: int) -> dict[str, Any]:
    bins = reliability(answers.labels, answers.probabilities)
    return {
        **{name: getattr(answers, name) for name in GROUP},
        "chance_error": chance_error(answers.probabilities, num_draws, seed),
        "bins": [{**row._asdict(), "accuracy": _with_coverage(row.accuracy)} for row in bins],
    }


def _volumes(groups: Sequence[Answers]) -> Iterator[dict[str, Any]]:
    """Compare the volumes of each class with those of the others, once a cohort; of two classes once."""
    for answers in {answers.cohort: answers for answers in groups}.values():
        known = np.isfinite(answers.volumes_ml)
        labels = range(1, 2) if len(answers.classes) == 2 else range(len(answers.classes))
        for label in labels:
            positive = answers.labels[known] == label
            fixed = {"cohort": answers.cohort, "class": answers.classes[label], "n": int(known.sum())}
            if len(set(positive.tolist())) == 2:
                difference = volume_difference(positive, answers.volumes_ml[known])
                yield {
                    **fixed,
                    **difference._asdict(),
                    "area": _with_coverage(difference.area, "auc", [positive.sum(), (~positive).sum()]),
                }


def _correlations(answers: Answers) -> dict[str, Any]:
    """Correlate the logit of the last class, less the others' mean, with the volume: over all, and in each class."""
    logits = answers.logits[:, -1] - answers.logits[:, :-1].mean(axis=1)
    known = np.isfinite(answers.volumes_ml) & np.isfinite(logits)
    groups = {"all": known, **{name: known & (answers.labels == k) for k, name in enumerate(answers.classes)}}
    correlations = {name: volume_correlation(logits[who], answers.volumes_ml[who]) for name, who in groups.items()}
    return {
        **{name: getattr(answers, name) for name in GROUP},
        "n": int(known.sum()),
        "correlation": {name: {**_with_coverage(estimate), "p": p} for name, (estimate, p) in correlations.items()},
    }


def _tests_of_seeds(predictions: Sequence[Mapping[str, str]], seeds: SeedStudies) -> list[Sequence[Mapping[str, str]]]:
    """Predictions on other cohorts, of this study first; none where there is no other study, or no such test."""
    others = {name: merge_predictions(paths) for name, paths in seeds.predictions().items()}
    studies: dict[str, Sequence[Mapping[str, str]]] = {"this study": predictions, **others}
    # Another seed splits the patients otherwise: of one subject in two studies, only the tests on other cohorts tell.
    tests = {name: [row for row in rows if row["role"] == "external"] for name, rows in studies.items()}
    if len(studies) == 1 or not tests["this study"]:
        return []
    tested = {
        name: {
            f"{row['direction']}/{row['setup']}/{row['cohort']}/{row['subject_id']}": (
                row["label"],
                row["lesion_volume_ml"],
            )
            for row in rows
        }
        for name, rows in tests.items()
    }
    refuse_other_patients(tested)
    return list(tests.values())


def _over_seeds(
    studies: Sequence[Sequence[Mapping[str, str]]], reference: str, num_draws: int, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """Spread of each measure between seeds, and of its difference from the reference.

    A difference `needs_no_images` where it is a gain and the figure of the setup, its mean over seeds, is no better
    than an answer without a look at the images, or every training of the setup gives all subjects one answer. It
    `differs` where 0 lies outside its interval, and neither this nor shuffled labels say that it is no finding.
    """
    groups = [group_answers(rows) for rows in studies]
    # Of one setup and test the last counts: one that tells subjects apart, if any does.
    answers = sorted((one for own in groups for one in own), key=lambda one: one.only_answer is None)
    means = _spread((compute_metrics(rows, num_draws, seed) for rows in studies), (*GROUP, "measure"))
    trivial = trivial_measures(({**row, "value": row["mean"]} for row in means), answers)
    compared = (compare_setups(own, reference)[0] for own in groups)
    differences = _spread(compared, (*GROUP, "reference", "measure"), lowest=-1.0)
    for row in differences:
        is_trivial = is_trivial_gain({**row, "value": row["mean"]}, trivial)
        is_finding = not (is_trivial or is_protocol_check(row["setup"]))
        row |= {"needs_no_images": is_trivial, "differs": is_finding and holds_over_seeds(row)}
    return {"seeds": means, "seed_differences": differences}


def _spread(
    studies: Iterable[Iterable[Mapping[str, Any]]], names: Sequence[str], lowest: float = 0.0
) -> list[dict[str, Any]]:
    """Put the values of a measure in each study side by side: the names of the row, and `SeedSpread`."""
    estimates: dict[tuple[str, ...], list[Estimate]] = {}
    for rows in studies:
        for row in rows:
            if row["measure"] in MEASURES and row["value"] is not None:
                key = tuple(row[name] for name in names)
                estimates.setdefault(key, []).append(Estimate(row["value"], row["low"], row["high"]))
    return [
        {**dict(zip(names, key, strict=True)), **seed_spread(own, lowest)._asdict()} for key, own in estimates.items()
    ]


def _by_test(comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One item per test: its names, `n`, and `rows` with the three measures of a setup side by side."""
    tests: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for row in comparisons:
        setup = tests.setdefault(tuple(row[name] for name in TEST), {}).setdefault(row["setup"], {})
        setup[row["measure"]] = row
    return [
        {
            **dict(zip(TEST, test, strict=True)),
            "rows": [
                {"setup": setup, "n": measures["accuracy"]["n"], **measures} for setup, measures in setups.items()
            ],
        }
        for test, setups in sorted(tests.items(), key=lambda item: list(ROLE_NAMES).index(item[0][1]))
    ]


def _by_direction(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    tests: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        tests.setdefault(tuple(row[name] for name in TEST), []).append(row)
    return [{**dict(zip(TEST, test, strict=True)), "rows": members} for test, members in tests.items()]


def _only_site(rows: Sequence[Mapping[str, Any]]) -> str | None:
    sites = {row["site"] for row in rows}
    return str(sites.pop()) if len(sites) == 1 else None


def _further(
    metrics: Sequence[Mapping[str, Any]], numbers: Mapping[str, Any], setups: Sequence[str]
) -> list[dict[str, Any]]:
    """One row per setup and test of the main role: the measures that are not in the main table."""
    chance = {tuple(row[name] for name in GROUP): row["chance_error"] for row in numbers["calibration"]}
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for metric in metrics:
        if metric["role"] == numbers["role"] and metric["measure"] not in MEASURES:
            group = tuple(metric[name] for name in GROUP)
            row = rows.setdefault(group, {**dict(zip(GROUP, group, strict=True)), "chance_error": chance[group]})
            row[metric["measure"]] = metric
    return sorted(rows.values(), key=lambda row: (row["direction"], row["cohort"], setups.index(row["setup"])))


def _forest(comparisons: Sequence[Mapping[str, Any]], measure: str) -> dict[str, str] | None:
    rows = [
        {**row, "name": name_setup(row["setup"]), "group": name_test(row)}
        for row in comparisons
        if row["measure"] == measure and row["low"] is not None and permutation_of(row["setup"]) is None
    ]
    if not rows:
        return None
    label = f"difference of {MEASURE_NAMES[measure]} to {name_reference(rows[0]['reference'])}"
    return {"name": MEASURE_NAMES[measure], "svg": draw_intervals(rows, label, reference=0.0)}


def _curves(groups: Sequence[Answers]) -> Iterator[dict[str, Any]]:
    tests: dict[str, list[Answers]] = {}
    for answers in groups:
        if permutation_of(answers.setup) is None:  # the curve of one says nothing, their mean AUC stands in words
            tests.setdefault(name_panel(answers.test, answers.setup), []).append(answers)
    for title, members in sorted(tests.items()):
        curves = {name_setup(a.setup): (a.labels, a.probabilities, a.folds) for a in members}
        classes = members[0].classes
        roc = partial(draw_roc, title=title, curves=curves, classes=classes)
        bins = {name_setup(a.setup): reliability(a.labels, a.probabilities) for a in members}
        width = 1 if len(classes) == 2 else len(classes)
        yield {
            "title": title,
            "roc": draw_svg(roc, (width * PANEL[0], PANEL[1])),
            "roc_panel": roc,
            "reliability": draw_svg(partial(draw_reliability, title=title, bins=bins), PANEL),
        }


def _with_coverage(estimate: Estimate, measure: str = "", n_by_class: Sequence[int] = ()) -> dict[str, Any]:
    return {**estimate._asdict(), "coverage": coverage_beside(measure, n_by_class) if n_by_class else None}
