from __future__ import annotations

from scripts.evaluation.ensembles import ENSEMBLES
from scripts.report.checklist import CHECKLISTS
from scripts.report.checklist_evidence import ENSEMBLE_NAMES, parts_that_share_subjects


def test_evidence_is_for_items_that_there_are():
    for checklist in CHECKLISTS:
        assert set(checklist.evidence) <= {number for number, _, _ in checklist.items}


def test_every_ensemble_has_a_name():
    assert set(ENSEMBLE_NAMES) == set(ENSEMBLES)


def test_a_validation_part_that_selects_is_one_part_with_the_inner_one():
    fold = {"train": ["a"], "inner": ["b"], "validation": ["b"]}
    assert parts_that_share_subjects({"test": [], "folds": [fold], "selection": "validation"}) == []
    assert parts_that_share_subjects({"test": [], "folds": [fold]}) == ["inner and validation of fold 0"]
