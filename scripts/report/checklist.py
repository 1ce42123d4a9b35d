"""The checklists CLAIM 2024 and TRIPOD+AI, filled where the files of a run tell, and left to the author elsewhere.

Sources: Tejani et al. 2024, "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update", Radiology:
Artificial Intelligence 6(4):e240300; Collins et al. 2024, "TRIPOD+AI statement: updated guidance for reporting clinical
prediction models that use regression or machine learning methods", BMJ 385:e078378. The items are put in short words of
our own under their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from scripts.provenance.study_files import StudyFiles
from scripts.provenance.task import GLIOMA, Task
from scripts.report.checklist_evidence import (
    AUTHOR,
    CLAIM_EVIDENCE,
    PART,
    RUN,
    TRIPOD_EVIDENCE,
    Evidence,
    RunEvidence,
)

_TITLE, _INTRODUCTION, _DISCUSSION, _OTHER = "Title and abstract", "Introduction", "Discussion", "Other"
_DESIGN, _DATA, _REFERENCE, _PARTITIONS = "Design", "Data", "Reference standard", "Partitions"
_TESTING, _MODEL, _TRAINING, _EVALUATION = "Testing data", "Model", "Training", "Evaluation"
_RESULTS, _PERFORMANCE = "Results: data", "Results: performance"
CLAIM = (
    ("1", _TITLE, "Names it an AI study, and the kind of technology"),
    ("2", _TITLE, "Abstract with design, methods, results, conclusions"),
    ("3", _INTRODUCTION, "Background, intended use and role of the AI"),
    ("4", _INTRODUCTION, "Aims, objectives, hypotheses"),
    ("5", _DESIGN, "Prospective or retrospective"),
    ("6", _DESIGN, "Goal of the study"),
    ("7", _DATA, "Sources of the data"),
    ("8", _DATA, "Inclusion and exclusion criteria"),
    ("9", _DATA, "Preprocessing"),
    ("10", _DATA, "Selection of parts of the data"),
    ("11", _DATA, "De-identification"),
    ("12", _DATA, "Handling of missing data"),
    ("13", _DATA, "Image acquisition protocol"),
    ("14", _REFERENCE, "How the reference standard was obtained"),
    ("15", _REFERENCE, "Why this reference standard"),
    ("16", _REFERENCE, "Where its annotations come from"),
    ("17", _REFERENCE, "Annotation of the test set"),
    ("18", _REFERENCE, "Variability between and within raters"),
    ("19", _PARTITIONS, "How data were assigned to partitions"),
    ("20", _PARTITIONS, "Level at which partitions are disjoint"),
    ("21", _TESTING, "Intended sample size"),
    ("22", _MODEL, "Description of the model"),
    ("23", _MODEL, "Software libraries and packages"),
    ("24", _MODEL, "Initialization of parameters"),
    ("25", _TRAINING, "Details of the training"),
    ("26", _TRAINING, "How the final model was selected"),
    ("27", _TRAINING, "Ensembles"),
    ("28", _EVALUATION, "Measures of performance"),
    ("29", _EVALUATION, "Significance and uncertainty"),
    ("30", _EVALUATION, "Robustness or sensitivity analysis"),
    ("31", _EVALUATION, "Explainability, and how it was validated"),
    ("32", _EVALUATION, "Evaluation on internal data"),
    ("33", _EVALUATION, "Testing on external data"),
    ("34", _EVALUATION, "Registration of a clinical trial"),
    ("35", _RESULTS, "Numbers included and excluded"),
    ("36", _RESULTS, "Demographic and clinical characteristics by partition"),
    ("37", _PERFORMANCE, "Performance with its uncertainty"),
    ("38", _PERFORMANCE, "Diagnostic performance and its precision"),
    ("39", _PERFORMANCE, "Analysis of wrong answers"),
    ("40", _DISCUSSION, "Limitations"),
    ("41", _DISCUSSION, "Implications for practice"),
    ("42", _OTHER, "Full protocol or further technical details"),
    ("43", _OTHER, "Availability of software, model, data"),
    ("44", _OTHER, "Funding and role of the funders"),
)
_METHODS, _OPEN, _DATA_OF, _OUTCOME, _PREDICTORS = "Methods", "Open science", "Methods: data", "Outcome", "Predictors"
_ANALYSIS, _RESULTS_OF, _PUBLIC = "Analysis", "Results", "Patients and public"
TRIPOD = (
    ("1", _TITLE, "Says that a prediction model is developed or evaluated, for whom, and for which outcome"),
    ("2", _TITLE, "Abstract by TRIPOD+AI for abstracts"),
    ("3a", _INTRODUCTION, "Medical context, why the model is needed, models that there are"),
    ("3b", _INTRODUCTION, "For whom it is meant, where in the care, and who would use it"),
    ("3c", _INTRODUCTION, "Known inequalities of health between groups"),
    ("4", _INTRODUCTION, "Objectives: development, evaluation, or both"),
    ("5a", _DATA_OF, "Sources of the data for development and evaluation, and whom they represent"),
    ("5b", _DATA_OF, "Dates of inclusion and of the end of follow-up"),
    ("6a", _METHODS, "Setting: number, kind and place of the centers"),
    ("6b", _METHODS, "Criteria of eligibility"),
    ("6c", _METHODS, "Treatments, and how they were dealt with"),
    ("7", _METHODS, "Preparation of the data and checks of their quality"),
    ("8a", _OUTCOME, "What is predicted, when and how it was assessed, and why"),
    ("8b", _OUTCOME, "Who assessed it, where judgment is needed"),
    ("8c", _OUTCOME, "Blinding of that assessment"),
    ("9a", _PREDICTORS, "Which predictors, and why these"),
    ("9b", _PREDICTORS, "How and when each was measured"),
    ("9c", _PREDICTORS, "Who measured them, where judgment is needed"),
    ("10", _METHODS, "How the sample size came about"),
    ("11", _METHODS, "Missing data"),
    ("12a", _ANALYSIS, "Which data served development and which evaluation"),
    ("12b", _ANALYSIS, "How predictors entered the analysis: scaling, transformation"),
    ("12c", _ANALYSIS, "Kind of model, how it was built, tuned and validated internally"),
    ("12d", _ANALYSIS, "Differences between clusters such as hospitals"),
    ("12e", _ANALYSIS, "Measures and plots of performance"),
    ("12f", _ANALYSIS, "Updating of the model after evaluation"),
    ("12g", _ANALYSIS, "How predictions were calculated"),
    ("13", _METHODS, "Handling of class imbalance"),
    ("14", _METHODS, "Fairness"),
    ("15", _METHODS, "Output of the model, and how thresholds were chosen"),
    ("16", _METHODS, "Differences between the data of development and of evaluation"),
    ("17", _METHODS, "Ethical approval and consent"),
    ("18a", _OPEN, "Funding and role of the funders"),
    ("18b", _OPEN, "Conflicts of interest"),
    ("18c", _OPEN, "Protocol"),
    ("18d", _OPEN, "Registration"),
    ("18e", _OPEN, "Availability of the data"),
    ("18f", _OPEN, "Availability of the code"),
    ("19", _PUBLIC, "Involvement of patients and the public"),
    ("20a", _RESULTS_OF, "Flow of participants, with and without the outcome"),
    ("20b", _RESULTS_OF, "Characteristics of the participants, by source of the data"),
    ("20c", _RESULTS_OF, "Predictors in the data of evaluation beside those of development"),
    ("21", _RESULTS_OF, "Participants and events in each analysis"),
    ("22", _RESULTS_OF, "The model in full, so that others can predict with it"),
    ("23a", _RESULTS_OF, "Performance with intervals, in subgroups, too"),
    ("23b", _RESULTS_OF, "Differences of performance between clusters"),
    ("24", _RESULTS_OF, "Results of updating"),
    ("25", _DISCUSSION, "Interpretation, fairness included"),
    ("26", _DISCUSSION, "Limitations"),
    ("27a", _DISCUSSION, "Poor or missing input in practice"),
    ("27b", _DISCUSSION, "What users must do and know"),
    ("27c", _DISCUSSION, "Next steps, and where the model can be applied"),
)


class Checklist(NamedTuple):
    """A checklist.

    Args:
        name: its own.
        source: where it was published.
        items: number, section and words of each.
        evidence: number of an item -> what the run says to it.
    """

    name: str
    source: str
    items: Sequence[tuple[str, str, str]]
    evidence: Mapping[str, Callable[[RunEvidence], Evidence]]


CHECKLISTS = (
    Checklist(
        "TRIPOD+AI", "Collins et al. 2024, BMJ 385:e078378, doi 10.1136/bmj-2023-078378", TRIPOD, TRIPOD_EVIDENCE
    ),
    Checklist(
        "CLAIM 2024",
        "Tejani et al. 2024, Radiology: Artificial Intelligence 6(4):e240300, doi 10.1148/ryai.240300",
        CLAIM,
        CLAIM_EVIDENCE,
    ),
)


def checklist_sections(
    files: StudyFiles,
    predictions: Sequence[Mapping[str, str]],
    metrics: Sequence[Mapping[str, Any]],
    question: str,
    numbers: Mapping[str, Any] | None = None,
    use: Mapping[str, Any] | None = None,
    task: Task = GLIOMA,
) -> dict[str, Any]:
    """Fill the checklists.

    Args:
        files: what the stages left.
        predictions: what `merge_predictions` returns.
        metrics: what `compute_metrics` returns.
        question: what the study asks.
        numbers: what `comparison_numbers` returns; None where nothing was compared.
        use: what `clinical_numbers` returns; None where it was not computed.
        task: what things are called.

    Returns:
        Item of the template, `checklists`: for each `name`, `source`, `counts` (status -> number) and `rows` of
        `number`, `section`, `item`, `status` and `evidence`.
    """
    run = RunEvidence(files, predictions, metrics, question, numbers or {}, use or {}, task)
    return {"checklists": [_filled(checklist, run) for checklist in CHECKLISTS]}


def _filled(checklist: Checklist, run: RunEvidence) -> dict[str, Any]:
    rows = []
    for number, section, item in checklist.items:
        own = checklist.evidence.get(number)
        status, evidence = (own(run) if own else None) or (AUTHOR, "")
        rows.append({"number": number, "section": section, "item": item, "status": status, "evidence": evidence})
    counts = {name: sum(row["status"] == name for row in rows) for name in (RUN, PART, AUTHOR)}
    return {"name": checklist.name, "source": checklist.source, "rows": rows, "counts": counts}
