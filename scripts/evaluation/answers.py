"""The predictions of one setup on one test as arrays, checked against the subjects that should have been tested."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scripts.running.errors import some_names
from scripts.running.files import read_csv
from scripts.splits.patients import patient_of
from scripts.statistics.classification_measures import Floats, Labels

GROUP = ("direction", "setup", "role", "cohort")
TEST = ("direction", "role", "cohort")
# In the order in which they count: the first that a study has is what it is about.
ROLES = ("external", "locked_test", "out_of_fold", "validation_selected_on")
INNER = "inner"  # in the column `role` of inner_predictions.csv
KEY = ("direction", "setup", "role", "cohort", "fold", "subject_id")
NOT_STATED = "not stated"  # site of a subject of whom none is known


@dataclass(frozen=True)
class Answers:
    """What the classifiers of one setup say about the patients of one test.

    Scans of one patient are no independent cases: their answers are averaged, and all arrays have an entry per patient.
    A patient whose class has changed between two scans has an entry for each class.

    Args:
        direction: cohort trained on.
        setup: name of the setup.
        role: `external`, `locked_test`, `out_of_fold` or `validation_selected_on`.
        cohort: cohort tested on.
        classes: names, by label.
        rows: of `predictions.csv`, one per scan, as text.
    """

    direction: str
    setup: str
    role: str
    cohort: str
    classes: Sequence[str]
    rows: Sequence[Mapping[str, str]]

    @property
    def test(self) -> dict[str, str]:
        """What setups that are compared have in common: `direction`, `role` and `cohort`."""
        return {name: getattr(self, name) for name in TEST}

    @property
    def title(self) -> str:
        """Name of the test for a message."""
        return f"{self.direction} -> {self.cohort}, {self.role}"

    @property
    def subject_ids(self) -> list[str]:
        """Name of each scan, in the order of the rows."""
        return [row["subject_id"] for row in self.rows]

    @property
    def scan_labels(self) -> list[int]:
        """True class of each scan, in the order of the rows."""
        return [self.classes.index(class_name(row["label"], self.classes)) for row in self.rows]

    @cached_property
    def scans(self) -> list[list[Mapping[str, str]]]:
        """Rows of each patient and class, in the order of their first scan."""
        groups: dict[tuple[str, int], list[Mapping[str, str]]] = defaultdict(list)
        for row, label in zip(self.rows, self.scan_labels, strict=True):
            groups[patient_of(row), label].append(row)
        return list(groups.values())

    @property
    def n(self) -> int:
        """Number of patients, N."""
        return len(self.scans)

    @cached_property
    def sites(self) -> list[str]:
        """Site of each patient's first scan; `NOT_STATED` where none is known."""
        return [scans[0]["site"] or NOT_STATED for scans in self.scans]

    @cached_property
    def folds(self) -> Labels:
        """Fold whose classifier answered for each patient, shape (N,); all alike where the ensemble did."""
        return np.array([int(scans[0]["fold"]) for scans in self.scans], dtype=np.int64)

    @cached_property
    def labels(self) -> Labels:
        """True classes, shape (N,)."""
        names = [class_name(scans[0]["label"], self.classes) for scans in self.scans]
        return np.array([self.classes.index(name) for name in names], dtype=np.int64)

    @cached_property
    def probabilities(self) -> Floats:
        """Shape (N, K), rows sum to 1."""
        return self.table("probability")

    @cached_property
    def logits(self) -> Floats:
        """Shape (N, K), unbounded."""
        return self.table("logit")

    @cached_property
    def volumes_ml(self) -> Floats:
        """Volume of the lesion in ml, of several scans the mean, shape (N,); not a number where one is not known."""
        return np.array([np.mean([float(row["lesion_volume_ml"] or "nan") for row in scans]) for scans in self.scans])

    @property
    def predictions(self) -> Labels:
        """The most probable class, shape (N,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def right(self) -> np.ndarray:
        """Which patients are answered rightly, booleans, shape (N,)."""
        return self.predictions == self.labels

    @property
    def n_by_class(self) -> list[int]:
        """Patients of each class."""
        return np.bincount(self.labels, minlength=len(self.classes)).tolist()

    @property
    def only_answer(self) -> str | None:
        """Class that every patient is answered; None where two classes are answered, or nobody is tested."""
        answers = np.unique(self.predictions).tolist() if self.n else []
        return self.classes[answers[0]] if len(answers) == 1 else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of the scores of the first of two classes over that of the second; None where unknown."""
        if len(self.classes) != 2 or min(self.n_by_class) < 2:
            return None
        scores = self.logits @ [-1.0, 1.0]
        first, second = (float(np.std(scores[self.labels == label], ddof=1)) for label in (0, 1))
        return first / second if first > 0 < second and np.isfinite(first / second) else None

    def table(self, kind: str) -> Floats:
        """Mean over each patient's scans of the columns `<kind>_<class>`, shape (N, K)."""
        names = [f"{kind}_{name}" for name in self.classes]
        rows = [np.mean([[float(row[name]) for name in names] for row in scans], axis=0) for scans in self.scans]
        return np.array(rows).reshape(len(rows), len(names))


def merge_predictions(predictions_paths: Sequence[str | Path]) -> list[dict[str, str]]:
    """Read the predictions of several evaluations into one sorted list.

    Args:
        predictions_paths: `predictions.csv` files of one set of classes.

    Returns:
        Rows as they were written, text untouched, sorted by `KEY`: the same files in any order give the same list.

    Raises:
        ValueError: if a file has no rows, the columns differ, or two rows predict the same subject in the same role.
    """
    if not predictions_paths:
        raise ValueError(
            "predictions_paths must name at least one predictions.csv, got none; run configs/evaluate.yaml"
        )
    rows: list[dict[str, str]] = []
    for path in predictions_paths:
        new = read_csv(path)
        if not new:
            raise ValueError(f"{path} must hold a row for each subject, got none; run configs/evaluate.yaml again")
        if rows and list(new[0]) != list(rows[0]):
            raise ValueError(f"{path} must have the columns {list(rows[0])}, got {list(new[0])}; evaluate it again")
        rows += new
    rows.sort(key=lambda row: tuple(row[name] for name in KEY))
    for before, after in zip(rows, rows[1:], strict=False):
        if all(before[name] == after[name] for name in KEY):
            raise ValueError(
                f"predictions_paths must predict a subject once in each role, got {after['subject_id']!r} twice for"
                f" {after['direction']}, {after['setup']}, {after['role']}; give each evaluation once"
            )
    return rows


def group_answers(rows: Sequence[Mapping[str, str]]) -> list[Answers]:
    """Put the rows of `predictions.csv` together by direction, setup, role and cohort, in the order of the rows."""
    classes = class_names(rows)
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in GROUP)].append(row)
    groups_by_name = [(dict(zip(GROUP, group, strict=True)), members) for group, members in groups.items()]
    return [Answers(**names, classes=classes, rows=members) for names, members in groups_by_name]


def main_role(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the role that a study is about: other cohorts, else the locked test, else the validation parts.

    Args:
        rows: each with a `role`, at least one.

    >>> main_role([{"role": "out_of_fold"}, {"role": "locked_test"}])
    'locked_test'
    """
    return min({str(row["role"]) for row in rows}, key=ROLES.index)


def class_names(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the classes in the order of the columns `probability_<class>`."""
    return [name.removeprefix("probability_") for name in rows[0] if name.startswith("probability_")]


def class_name(label: str, names: Sequence[str]) -> str:
    """Return the name of a class that a row gives by name or by index.

    Raises:
        ValueError: if it is neither.
    """
    if label in names:
        return label
    if label.isdigit() and int(label) < len(names):
        return names[int(label)]
    raise ValueError(f"label must be one of {list(names)} or an index of them, got {label!r}; evaluate again")


def aligned(answers: Answers, reference: Answers) -> Answers:
    """Order the answers of a setup as those of the setup it is compared with.

    Raises:
        ValueError: if the two are of other subjects, or give a subject other classes.
    """
    strange = set(answers.subject_ids) ^ set(reference.subject_ids)
    if strange:
        raise ValueError(
            f"setups that are compared must be tested on the same subjects, got {some_names(strange)} in only one of"
            f" {answers.setup} and {reference.setup} ({answers.title}); evaluate both again with the same patches.json"
            " and splits.json"
        )
    by_subject = {row["subject_id"]: row for row in answers.rows}
    rows = [by_subject[name] for name in reference.subject_ids]
    ordered = Answers(**answers.test, setup=answers.setup, classes=answers.classes, rows=rows)
    scans = zip(rows, reference.rows, strict=True)
    renamed = [row["subject_id"] for row, other in scans if patient_of(row) != patient_of(other)]
    if renamed:
        raise ValueError(
            f"setups that are compared must agree on who is one patient, got another patient_id in {answers.setup} and"
            f" {reference.setup} for {some_names(renamed)} ({answers.title}); evaluate both again with the same"
            " patches.json"
        )
    pairs = zip(reference.subject_ids, ordered.scan_labels, reference.scan_labels, strict=True)
    changed = [name for name, own, other in pairs if own != other]
    if changed:
        names = some_names(changed)
        raise ValueError(
            f"setups that are compared must agree on the classes, got other ones in {answers.setup} and"
            f" {reference.setup} for {names} ({answers.title}); evaluate both again with the same patches.json"
        )
    return ordered


def refuse_other_subjects(
    answers: Answers, splits: Mapping[str, Any] | None, cohort_subjects: Collection[str] | None
) -> None:
    """Refuse predictions of subjects that the splits did not hold out of their fold, or that are not of the cohort.

    Args:
        answers: of one setup and test.
        splits: content of `splits.json` of the cohort trained on; None if the study has none.
        cohort_subjects: everybody in `patches.json` of the cohort tested on; None if the study has none.

    Raises:
        ValueError: naming the subjects.
    """
    tested = set(answers.subject_ids)
    if answers.role == "external":
        known = tested if cohort_subjects is None else set(cohort_subjects)
        _refuse(tested - known, "must be of subjects of patches.json", answers, "too many")
        return
    if splits is None:
        return
    for fold in sorted({int(row["fold"]) for row in answers.rows}):
        own = {row["subject_id"] for row in answers.rows if int(row["fold"]) == fold}
        where = "splits.json" if answers.role == "locked_test" else f"fold {fold} of splits.json"
        held_out = set(splits["test"]) if answers.role == "locked_test" else _validated(answers, splits, fold)
        _refuse(own - held_out, f"must be of the held-out subjects of {where}", answers, "too many")
        _refuse(held_out - own, f"must be of all held-out subjects of {where}", answers, "missing")


def _validated(answers: Answers, splits: Mapping[str, Any], fold: int) -> set[str]:
    if not 0 <= fold < len(splits["folds"]):
        raise ValueError(
            f"predictions of {answers.setup} ({answers.title}) must be of the folds of splits.json, got fold"
            f" {fold} of {len(splits['folds'])}; run configs/evaluate.yaml with the splits of this study"
        )
    return set(splits["folds"][fold]["validation"])


def _refuse(subjects: Collection[str], constraint: str, answers: Answers, word: str) -> None:
    if subjects:
        raise ValueError(
            f"predictions of {answers.setup} ({answers.title}) {constraint}, got {word}: {some_names(subjects)};"
            " run configs/evaluate.yaml again with the splits and patches of this study"
        )
