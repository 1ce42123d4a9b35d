from __future__ import annotations

import pytest
from torch import nn

from scripts.evaluation.held_out import ENSEMBLE, HeldOutTests
from scripts.evaluation.members import Member
from scripts.provenance.leakage import LeakageError
from scripts.provenance.record import hash_subject
from scripts.running.files import read_json, write_json
from tests.ring_or_blob import write_patches, write_splits


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    other = write_patches(folder / "b", "phantom_B", counts=(3, 4), seed=5)
    content = read_json(other)
    content["training"][0]["label"] = None
    write_json(other, content)
    return write_patches(folder / "a"), write_splits(folder / "a"), other


def held_out(data, seen=("trained_on",)):
    patches, splits, other = data
    folds = read_json(splits)["folds"]
    members = [
        Member(
            f"member{fold}", {}, {"fold": fold, "subjects": [hash_subject(s) for s in seen], "selection_subjects": []}
        )
        for fold in range(len(folds))
    ]
    networks = [nn.Identity() for _ in members]
    return HeldOutTests(members, networks, patches, splits, [other], {"LGG": 0, "HGG": 1})


def test_a_fold_is_tested_by_its_own_network_and_all_else_by_the_ensemble(data):
    tests = held_out(data)
    folds = tests.fold_tests()
    assert [(test.role, test.fold, test.networks) for test in folds] == [
        ("out_of_fold", fold, [network]) for fold, network in enumerate(tests.networks)
    ]
    for test in [*tests.locked_tests(), *tests.external_tests()]:
        assert (test.fold, test.networks) == (ENSEMBLE, tests.networks)


def test_an_external_subject_without_grade_is_left_out_and_named(data):
    tests = held_out(data)
    (external,) = tests.external_tests()
    ungraded = read_json(data[2])["training"][0]["subject_id"]
    assert tests.left_out == {"phantom_B": [ungraded]}
    assert ungraded not in {item["subject_id"] for item in external.items}


def test_a_network_that_saw_a_tested_subject_stops_every_kind_of_test(data):
    splits = read_json(data[1])
    external = read_json(data[2])["training"][1]["subject_id"]
    for subject, kind in (
        (splits["folds"][0]["validation"][0], "fold_tests"),
        (splits["test"][0], "locked_tests"),
        (external, "external_tests"),
    ):
        with pytest.raises(LeakageError):
            getattr(held_out(data, [subject]), kind)()
