"""The study as one page: every number, picture and setting that the stages left, in a self-contained HTML file."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from scripts.evaluation.answers import class_names, group_answers, merge_predictions
from scripts.evaluation.clinical_use import OperatingRule
from scripts.evaluation.figures import PANEL
from scripts.evaluation.metrics import (
    METRIC_COLUMNS,
    compute_metrics,
    label_permutations,
    swapped_labels,
    trivial_measures,
)
from scripts.evaluation.primary import PrimaryEndPoint
from scripts.explanations.wrong_cases import WrongCases
from scripts.patches.pictures import draw_strips, png_data_uri, save_sheet
from scripts.provenance.study_files import SeedStudies, StudyFiles
from scripts.provenance.task import GLIOMA, Task, with_article
from scripts.report.audit import audit_section, folder_sections
from scripts.report.checklist import checklist_sections
from scripts.report.clinical_use import clinical_numbers, clinical_sections
from scripts.report.cohorts import cohort_sections, image_sections, shortcuts_section
from scripts.report.comparison import comparison_numbers, comparison_sections, says_groups, write_comparisons
from scripts.report.explanations import explanation_sections, wrong_section
from scripts.report.findings import audit_sentence, findings, generator_findings, leakage_note, next_step
from scripts.report.image_quality import generator_table, image_figures, measure_section
from scripts.report.methods import methods_section, timeline_section
from scripts.report.published import MOSHE, publications, published_section
from scripts.report.results import result_sections, summary_table
from scripts.report.trainings import CURVES, curve_figure, regularizer_section, training_lengths
from scripts.report.words import (
    DECLARED_NAMES,
    capitalize_first,
    format_interval,
    format_number,
    format_p,
    name_kind,
    name_method,
    name_setup,
    name_test,
)
from scripts.running.files import write_csv, write_json, write_text
from scripts.running.setups import setup_of
from scripts.statistics.bootstrap import MIN_DRAWS

NO_OTHER_SEEDS = SeedStudies()
DEFAULT_RULE = OperatingRule()
# What a section says where it stands alone: of a study with classifiers.
ALONE = {"task": GLIOMA, "has_answers": True, "has_classes": True, "volumes": False}
EVALUATION = "evaluation_"  # of the folder of an evaluation, before the name of its setup


def write_report(
    files: StudyFiles,
    output_dir: str,
    title: str,
    question: str,
    setups: Sequence[str] = (),
    num_samples: int = 6,
    num_curves: int = 8,
    reference: str = "real",
    seeds: SeedStudies = NO_OTHER_SEEDS,
    num_bootstrap_draws: int = 2000,
    seed: int = 0,
    primary_endpoint: Mapping[str, str] | None = None,
    rule: OperatingRule = DEFAULT_RULE,
    pictures: bool = True,
    wrong_cases: WrongCases | None = None,
    task: Task = GLIOMA,
) -> Path:
    """Write `report.html`, `summary.txt`, and the numbers: `predictions`, `metrics`, `comparisons`, `clinical_use`.

    Of a study without classifiers the page is about its generators alone, and none of these numbers is written.

    Args:
        files: what the stages left.
        output_dir: folder to write to.
        title: heading of the page.
        question: what the study asks, a sentence or two.
        setups: order of the setups; others follow.
        num_samples: images shown of each class and method.
        num_curves: training curves drawn at most, first folds first.
        reference: setup that the others are compared with.
        seeds: the same study with other seeds.
        num_bootstrap_draws: for the measures that have no better interval.
        seed: of the bootstrap.
        primary_endpoint: fields of `scripts.evaluation.primary.PrimaryEndPoint`; None where none was declared.
        rule: how the thresholds of the operating points are chosen.
        pictures: whether the figures that people look for are written as PNG, too, into the folder `pictures`.
        wrong_cases: that are shown; None shows those of `reference`, or of the end point that was declared.
        task: what things are called.

    Returns:
        Path of the page.

    Raises:
        ValueError: if the end point is none that the study computes, or predictions are of other subjects than those
            that the splits hold out.
    """
    folder = Path(output_dir)
    content = {
        "task": task,
        "title": title,
        "question": question,
        "has_answers": bool(files.named("predictions.csv")),
        "has_classes": any(content["labels"] for _, content in files.lists("patches")),
        "declared": {name: DECLARED_NAMES.get(word, word) for name, word in files.declared_methods.items()},
        **cohort_sections(files),
        **image_sections(files, num_samples),
        **measure_section(files),
        "audit": audit_section(files),
        "curves": curve_figure(files, num_curves),
        "lengths": training_lengths(files),
        "regularizer": regularizer_section(files),
        "methods": methods_section(files),
        "timeline": timeline_section(files),
    }
    if content["has_answers"]:
        table = _add_answers(
            content, files, folder, setups, reference, seeds, num_bootstrap_draws, seed, primary_endpoint, rule,
            wrong_cases, task,
        )  # fmt: skip
    else:
        table = _add_generators(content, files, task)
    if pictures:
        write_pictures(content, folder / "pictures")
    write_text(folder / "report.html", render(content))
    words = textwrap.fill(" ".join(content["findings"]), 110)
    write_text(folder / "summary.txt", f"{words}\n\n{table}\n\nReport: {folder / 'report.html'}\n")
    return folder / "report.html"


def _add_answers(
    content: dict[str, Any],
    files: StudyFiles,
    folder: Path,
    setups: Sequence[str],
    reference: str,
    seeds: SeedStudies,
    num_bootstrap_draws: int,
    seed: int,
    primary_endpoint: Mapping[str, str] | None,
    rule: OperatingRule,
    wrong_cases: WrongCases | None,
    task: Task,
) -> str:
    """Add what classifiers answered to the content of the page, write its numbers, and return the table in text."""
    predictions = merge_predictions(files.named("predictions.csv"))
    primary = PrimaryEndPoint.of(primary_endpoint)
    numbers = comparison_numbers(predictions, files, seeds, setups, reference, num_bootstrap_draws, seed, primary)
    metrics = compute_metrics(predictions, num_bootstrap_draws, seed)
    use = clinical_numbers(predictions, files, rule, setups)
    unfinished, audited, swapped = content["unfinished"], content["audit"]["rows"], swapped_labels(metrics, reference)
    trivial, permutations = trivial_measures(metrics, group_answers(predictions)), label_permutations(metrics)
    said = [
        *findings(numbers, unfinished, files.setups_of_unknown, swapped, trivial, permutations, task),
        audit_sentence(audited),
        next_step(numbers, audited, unfinished, swapped, trivial, task),
    ]
    content |= {
        "findings": [sentence for sentence in said if sentence],
        "leakage_note": leakage_note(files.setups_of_unknown, task) if files.setups_of_unknown else "",
        **result_sections(
            metrics, class_names(predictions), predictions, setups, numbers["comparisons"], trivial, task
        ),
        "comparison": comparison_sections(numbers, metrics, predictions, setups, trivial, task),
        "by_group": task.target is not None or says_groups(numbers),
        "has_paper_gain": MOSHE in task.published,
        "use": clinical_sections(use, predictions, rule),
        "shortcuts": shortcuts_section(files),
        **wrong_section(wrong_cases or WrongCases(files, reference=reference, primary_endpoint=primary_endpoint)),
        **explanation_sections(files),
        **checklist_sections(files, predictions, metrics, content["question"], numbers, use, task),
        "published": published_section(task.published, metrics),
    }
    write_csv(folder / "predictions.csv", predictions, list(predictions[0]))
    write_csv(folder / "metrics.csv", metrics, METRIC_COLUMNS)
    write_json(folder / "metrics.json", metrics)
    write_comparisons(numbers, folder)
    write_json(folder / "clinical_use.json", use)
    return summary_table(metrics, setups)


def _add_generators(content: dict[str, Any], files: StudyFiles, task: Task) -> str:
    """Add what a study without classifiers says of its generators, and return its table in text."""
    audited, figures = content["audit"]["rows"], image_figures(files)
    content |= {
        "findings": generator_findings(figures, audited, task, files.control_methods),
        "leakage_note": "",
        "shortcuts": [],
        "measures_left_out": [item for item in content["measures_left_out"] if "classifier" not in item["network"]],
        "published": published_section(task.published, figures),
    }
    return generator_table(figures, audited)


def write_pictures(content: Mapping[str, Any], folder: Path) -> None:
    """Write figures of the page as PNG: `contact_sheet`, `roc`, `calibration`, `decision_curves`, `training_curves`.

    Args:
        content: what `render` takes.
        folder: to write to; what the study has not is not written.
    """
    classes = len(content.get("classes", ()))
    samples = [
        partial(
            draw_strips,
            title=f"{group['cohort']}, {group['class']}" if content["has_classes"] else group["cohort"],
            strips={name_method(strip["method"]): strip["pictures"] for strip in group["strips"]},
        )
        for group in content["samples"]
    ]
    pairs = [figure["panels"] for figure in content.get("use", {"figures": ()})["figures"]]
    wide = 14.0 if content["volumes"] else 6.0  # three planes of each
    most = max((len(group["strips"]) for group in content["samples"]), default=1)
    sheets = {
        "contact_sheet": (samples, (wide, 1.4 * most + 0.3), 1 if content["volumes"] else 2),
        "roc": (
            [figure["roc_panel"] for figure in content.get("comparison", {"curves": ()})["curves"]],
            (PANEL[0] * (1 if classes == 2 else classes), PANEL[1]),
            3 if classes == 2 else 1,
        ),
        "calibration": ([calibration for calibration, _ in pairs], PANEL, 3),
        "decision_curves": ([decisions for _, decisions in pairs], PANEL, 3),
        "training_curves": (content["curves"]["panels"], CURVES, 4),
    }
    for name, (panels, size, num_columns) in sheets.items():
        if panels:
            save_sheet(folder / f"{name}.png", panels, size, num_columns)


def write_audit_page(output_dir: str) -> Path:
    """Write `audit.html` beside the `audit.json` of two folders: its verdict, evidence and pairs, in one file.

    Args:
        output_dir: folder of the audit.

    Returns:
        Path of the page.
    """
    path = Path(output_dir) / "audit.html"
    write_text(path, render_part("audit_page.html.j2", {**folder_sections(output_dir), "samples": []}))
    return path


def check_report(
    reference: str,
    stage_names: Sequence[str] | None,
    num_bootstrap_draws: int,
    num_samples: int,
    num_curves: int,
    primary_endpoint: Mapping[str, str] | None = None,
    rule: OperatingRule = DEFAULT_RULE,
    classes: Sequence[str] = (),
    num_wrong_cases: int = 1,
    task: Task = GLIOMA,
) -> None:
    """Refuse a report that would compare with nothing, or draw nothing.

    Args:
        reference: `report_reference`.
        stage_names: of the study, whose evaluations end in the names of their setups; None where nobody knows them yet.
        num_bootstrap_draws: at least `MIN_DRAWS`.
        num_samples: `report_num_samples`.
        num_curves: `report_num_curves`.
        primary_endpoint: see `write_report`.
        rule: see `write_report`.
        classes: names by label.
        num_wrong_cases: `report_num_wrong_cases`.
        task: see `write_report`.

    Raises:
        ValueError: naming the config key and the way out.
    """
    setups_by_cohort = _evaluated(stage_names or ())
    setups = list(dict.fromkeys(setup_of(setup) for setups in setups_by_cohort.values() for setup in setups))
    if len(setups) > 1 and reference not in setups:
        raise ValueError(
            f"report_reference must be one of the setups {', '.join(setups)}, got {reference!r}; pass"
            f" --report_reference {setups[0]}"
        )
    rule.check(classes)
    publications(task.published)
    primary = PrimaryEndPoint.of(primary_endpoint)
    if primary is not None and setups_by_cohort:
        primary.require_in(setups_by_cohort)
    numbers = {
        "num_bootstrap_draws": (num_bootstrap_draws, MIN_DRAWS),
        "report_num_samples": (num_samples, 1),
        "report_num_curves": (num_curves, 1),
        "report_num_wrong_cases": (num_wrong_cases, 1),
    }
    for name, (number, lowest) in numbers.items():
        if number < lowest:
            raise ValueError(f"{name} must be at least {lowest}, got {number!r}")


def _evaluated(stage_names: Sequence[str]) -> dict[str, list[str]]:
    """Map each cohort of a study to the setups that are evaluated after training on it, by the names of the stages."""
    setups: dict[str, list[str]] = {}
    for cohort, _, stage in (name.rpartition("/") for name in stage_names):
        if stage.startswith(EVALUATION):
            setups.setdefault(cohort, []).append(stage.removeprefix(EVALUATION))
    return setups


def render(content: Mapping[str, Any]) -> str:
    """Fill the template `page.html.j2`; an item that the template needs and does not get is an error."""
    return render_part("page.html.j2", content)


def render_part(name: str, content: Mapping[str, Any]) -> str:
    """Fill one template of this folder, the page or a section that it includes; without `task` in the default words."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        number=format_number, p_value=format_p, interval=format_interval, sentence=capitalize_first
    )
    environment.filters["a"] = with_article
    environment.filters.update(
        png=png_data_uri, setup=name_setup, method=name_method, test_name=name_test, kind=name_kind
    )
    return environment.get_template(name).render({**ALONE, **content})
