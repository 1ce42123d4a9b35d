"""The CLAIM 2024 checklist, filled where the files of a run tell, and left to the author elsewhere.

Source: Tejani et al. 2024, "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update",
Radiology: Artificial Intelligence 6(4):e240300. The items are put in short words of our own under their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.provenance.study_files import StudyFiles
from scripts.report.claim_evidence import AUTHOR, EVIDENCE, PART, RUN, RunEvidence

SOURCE = "Tejani et al. 2024, Radiology: Artificial Intelligence 6(4):e240300, doi 10.1148/ryai.240300"

_TITLE, _INTRODUCTION, _DISCUSSION, _OTHER = "Title and abstract", "Introduction", "Discussion", "Other"
_DESIGN, _DATA, _REFERENCE, _PARTITIONS = "Design", "Data", "Reference standard", "Partitions"
_TESTING, _MODEL, _TRAINING, _EVALUATION = "Testing data", "Model", "Training", "Evaluation"
_RESULTS, _PERFORMANCE = "Results: data", "Results: performance"
# Item n of the checklist is the n-th.
ITEMS = (
    (_TITLE, "Names it an AI study, and the kind of technology"),
    (_TITLE, "Abstract with design, methods, results, conclusions"),
    (_INTRODUCTION, "Background, intended use and role of the AI"),
    (_INTRODUCTION, "Aims, objectives, hypotheses"),
    (_DESIGN, "Prospective or retrospective"),
    (_DESIGN, "Goal of the study"),
    (_DATA, "Sources of the data"),
    (_DATA, "Inclusion and exclusion criteria"),
    (_DATA, "Preprocessing"),
    (_DATA, "Selection of parts of the data"),
    (_DATA, "De-identification"),
    (_DATA, "Handling of missing data"),
    (_DATA, "Image acquisition protocol"),
    (_REFERENCE, "How the reference standard was obtained"),
    (_REFERENCE, "Why this reference standard"),
    (_REFERENCE, "Where its annotations come from"),
    (_REFERENCE, "Annotation of the test set"),
    (_REFERENCE, "Variability between and within raters"),
    (_PARTITIONS, "How data were assigned to partitions"),
    (_PARTITIONS, "Level at which partitions are disjoint"),
    (_TESTING, "Intended sample size"),
    (_MODEL, "Description of the model"),
    (_MODEL, "Software libraries and packages"),
    (_MODEL, "Initialization of parameters"),
    (_TRAINING, "Details of the training"),
    (_TRAINING, "How the final model was selected"),
    (_TRAINING, "Ensembles"),
    (_EVALUATION, "Measures of performance"),
    (_EVALUATION, "Significance and uncertainty"),
    (_EVALUATION, "Robustness or sensitivity analysis"),
    (_EVALUATION, "Explainability, and how it was validated"),
    (_EVALUATION, "Evaluation on internal data"),
    (_EVALUATION, "Testing on external data"),
    (_EVALUATION, "Registration of a clinical trial"),
    (_RESULTS, "Numbers included and excluded"),
    (_RESULTS, "Demographic and clinical characteristics by partition"),
    (_PERFORMANCE, "Performance with its uncertainty"),
    (_PERFORMANCE, "Diagnostic performance and its precision"),
    (_PERFORMANCE, "Analysis of wrong answers"),
    (_DISCUSSION, "Limitations"),
    (_DISCUSSION, "Implications for practice"),
    (_OTHER, "Full protocol or further technical details"),
    (_OTHER, "Availability of software, model, data"),
    (_OTHER, "Funding and role of the funders"),
)


def checklist_section(
    files: StudyFiles,
    predictions: Sequence[Mapping[str, str]],
    metrics: Sequence[Mapping[str, Any]],
    question: str,
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Fill the checklist.

    Args:
        files: what the stages left.
        predictions: what `merge_predictions` returns.
        metrics: what `compute_metrics` returns.
        question: what the study asks.
        comparisons: what `compare_setups` returns; none where no two setups were compared.

    Returns:
        Items of the template: `checklist` (44 rows of `number`, `section`, `item`, `status`, `evidence`),
        `checklist_counts` (status -> number) and `checklist_source`.
    """
    run = RunEvidence(files, predictions, metrics, question, comparisons)
    rows = []
    for number, (section, item) in enumerate(ITEMS, start=1):
        status, evidence = (EVIDENCE[number](run) if number in EVIDENCE else None) or (AUTHOR, "")
        rows.append({"number": number, "section": section, "item": item, "status": status, "evidence": evidence})
    counts = {name: sum(row["status"] == name for row in rows) for name in (RUN, PART, AUTHOR)}
    return {"checklist": rows, "checklist_counts": counts, "checklist_source": SOURCE}
