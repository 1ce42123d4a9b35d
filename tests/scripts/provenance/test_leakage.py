"""The guard, proved by planting."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.provenance.leakage import (
    LeakageError,
    load_synthetic_set,
    refuse_leakage,
    seen_by_generator,
    seen_subjects,
)
from scripts.provenance.record import hash_subject
from scripts.running.files import read_json, write_json
from scripts.splits.lists import content_digest
from tests.ring_or_blob import write_synthetic


def test_a_set_that_knows_no_held_out_subject_is_loaded_with_absolute_paths(tmp_path: Path) -> None:
    content = load_synthetic_set(write_synthetic(tmp_path, 0, ["a", "b"]), ["c"], "validation")
    assert len(content["training"]) == 6
    assert all(Path(entry["image"]).is_file() for entry in content["training"])


@pytest.mark.parametrize("held_out", [["b"], ["x", "b", "a"]])
def test_a_set_that_knows_a_held_out_subject_is_refused_by_file_and_subject(
    tmp_path: Path, held_out: list[str]
) -> None:
    path = write_synthetic(tmp_path, 0, ["a", "b"])
    with pytest.raises(LeakageError, match=r"synthetic_0_0000\.nii\.gz .* validation of fold 3.* b"):
        load_synthetic_set(path, held_out, "validation of fold 3")


def test_a_subject_that_only_selected_the_generator_counts_as_seen(tmp_path: Path) -> None:
    path = write_synthetic(tmp_path, 0, ["a"], selection_subjects=["b"])
    with pytest.raises(LeakageError, match=": b;"):
        load_synthetic_set(path, ["b"], "validation")
    assert seen_subjects(read_json(path)["provenance"], path, with_selection=False) == {hash_subject("a")}


def test_a_subject_that_may_select_may_not_train(tmp_path: Path) -> None:
    path = write_synthetic(tmp_path, 0, ["a"], selection_subjects=["b"])
    load_synthetic_set(path, ["c"], "validation", only_select=["b"])
    with pytest.raises(LeakageError, match=": a;"):
        load_synthetic_set(path, ["c"], "validation", only_select=["a", "b"])


@pytest.mark.parametrize("subjects", [None, []])
def test_a_set_without_provenance_is_refused(tmp_path: Path, subjects: list[str] | None) -> None:
    path = write_synthetic(tmp_path, 0, ["a"])
    content = read_json(path)
    provenance = None if subjects is None else {**content["provenance"], "subjects": subjects}
    write_json(path, {**content, "provenance": provenance})
    with pytest.raises(LeakageError, match=r"synthetic\.json must carry the provenance"):
        load_synthetic_set(path, ["c"], "validation")


def test_a_set_written_by_hand_is_its_own_weights(tmp_path: Path) -> None:
    path = write_synthetic(tmp_path, 0, ["a"])
    content = read_json(path)
    del content["provenance"]["weights_sha256"]
    write_json(path, content)
    assert load_synthetic_set(path, ["c"], "validation")["provenance"]["weights_sha256"] == content_digest(content)


def test_many_leaked_subjects_are_counted_and_the_first_named() -> None:
    subjects = [f"s{index}" for index in range(9)]
    with pytest.raises(LeakageError, match=r"got 9 of them behind it: s0, s1, s2, s3, s4 and 4 more"):
        refuse_leakage(map(hash_subject, subjects), subjects, "model.pt", "the test part")


def test_patches_that_lack_a_subject_of_the_generator_are_refused():
    with pytest.raises(ValueError, match="without 1 of them"):
        seen_by_generator({"subjects": [hash_subject("A"), hash_subject("B")]}, [{"subject_id": "A"}])
