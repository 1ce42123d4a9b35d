"""Which images the classifiers are tested on, checked against all that each of them has seen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from scripts.evaluation.answers import INNER
from scripts.evaluation.members import Member
from scripts.evaluation.predictor import Items
from scripts.provenance.identities import refuse_shared_subjects, refuse_two_names
from scripts.provenance.leakage import refuse_leakage, seen_subjects
from scripts.splits.lists import read_list
from scripts.splits.parts import load_part, load_splits, part_subjects

logger = logging.getLogger(__name__)

ENSEMBLE = -1  # in the column `fold`


@dataclass(frozen=True)
class HeldOut:
    """Images to predict: in which role, from which cohort, and by which networks (`fold` -1 is the ensemble)."""

    role: str
    cohort: str
    fold: int
    networks: list[torch.nn.Module]
    items: Items


@dataclass
class HeldOutTests:
    """What the classifiers of one cohort and setup are tested on: none of it was seen by the network that answers.

    Args:
        members: classifiers of the folds, with their provenance.
        networks: their networks, in the same order.
        patches_path: `patches.json` of the cohort trained on.
        splits_path: its `splits.json`.
        external_patches_paths: `patches.json` of cohorts to test on; their subjects without grade are left out.
        classes: class name -> label.

    Each test raises `LeakageError` if a network has seen a subject that it is to be tested on.
    """

    members: Sequence[Member]
    networks: Sequence[torch.nn.Module]
    patches_path: str
    splits_path: str
    external_patches_paths: Sequence[str]
    classes: Mapping[str, int]

    def __post_init__(self) -> None:
        self.splits = load_splits(self.splits_path)
        self.direction = str(read_list(self.patches_path, "patches")["name"])
        self.left_out: dict[str, list[str]] = {}

    def all(self) -> list[HeldOut]:
        """Every test, checked for leakage."""
        self.refuse_two_names()
        return [*self.fold_tests(), *self.locked_tests(), *self.external_tests()]

    def fold_tests(self) -> list[HeldOut]:
        """Each fold's validation part, for that fold's classifier alone."""
        selects = self.splits.get("selection", "inner") == "validation"
        role = "validation_selected_on" if selects else "out_of_fold"
        tests = []
        for index, member in enumerate(self.members):
            if part_subjects(self.splits, member.fold, "validation"):
                items = self.items("validation", member.fold)
                self._refuse_seen([member], items, f"validation of fold {member.fold}", with_selection=not selects)
                tests.append(HeldOut(role, self.direction, member.fold, [self.networks[index]], items))
        return tests

    def locked_tests(self) -> list[HeldOut]:
        """The cohort's test part, for the ensemble; none if the splits have none."""
        if not self.splits["test"]:
            return []
        items = self.items("test", None)
        self._refuse_seen(self.members, items, "the locked test part")
        return [HeldOut("locked_test", self.direction, ENSEMBLE, list(self.networks), items)]

    def external_tests(self) -> list[HeldOut]:
        """Every graded subject of each other cohort, for the ensemble."""
        tests = []
        for path in self.external_patches_paths:
            cohort = str(read_list(path, "patches")["name"])
            items = self._graded(cohort, load_part(path, None, None, "all"))
            self._refuse_seen(self.members, items, f"the external cohort {cohort}")
            if items:
                tests.append(HeldOut("external", cohort, ENSEMBLE, list(self.networks), items))
        return tests

    def inner_tests(self) -> list[HeldOut]:
        """Each fold's inner part, for that fold's classifier alone: no test, but what a threshold is chosen on."""
        tests = []
        for index, member in enumerate(self.members):
            items = self.items("inner", member.fold)
            self._refuse_seen([member], items, f"inner part of fold {member.fold}", with_selection=False)
            tests.append(HeldOut(INNER, self.direction, member.fold, [self.networks[index]], items))
        return tests

    def items(self, part: str, fold: int | None) -> Items:
        """List the images of a part of the cohort trained on."""
        return load_part(self.patches_path, self.splits_path, fold, part, self.classes, require_labels=True)

    def _graded(self, cohort: str, items: Items) -> Items:
        ungraded = sorted({item["subject_id"] for item in items if item["label"] is None})
        if ungraded:
            logger.warning(
                "left out of the external test on %s, as they have no grade: %s", cohort, ", ".join(ungraded)
            )
            self.left_out[cohort] = ungraded
        return [item for item in items if item["label"] is not None]

    def _refuse_seen(self, members: Sequence[Member], items: Items, use: str, with_selection: bool = True) -> None:
        for member in members:
            seen = seen_subjects(member.provenance, member.path, with_selection)
            refuse_leakage(seen, [item["subject_id"] for item in items], member.path, use)

    def refuse_two_names(self) -> None:
        """Refuse a person who is in two parts or in two cohorts under two names."""
        for member in self.members:
            refuse_two_names(self.patches_path, self.splits_path, member.fold)
        for path in self.external_patches_paths:
            refuse_shared_subjects(self.patches_path, path)
