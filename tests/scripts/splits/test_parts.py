from __future__ import annotations

import json
from collections import Counter

import pytest

from scripts.splits.draw import make_splits, write_splits
from scripts.splits.parts import default_held_out_part, held_out_subjects, load_part, load_splits, selecting_subjects
from tests.scripts.splits.test_draw import BALANCED, cohort_of


def write_patches(folder, cohort: dict, num_patches: int = 1) -> str:
    classes = {"LGG": 0, "HGG": 1}
    entries = [
        {
            "image": f"{s['subject_id']}_{i}.nii.gz",
            "label": classes.get(s["grade"]),
            "subject_id": s["subject_id"],
            "site": s["site"],
            "lesion_volume_ml": 3.5,
        }
        for s in cohort["subjects"]
        for i in range(num_patches)
    ]
    path = folder / "patches.json"
    facts = {"name": cohort["name"], "simulated": True, "modality": {"0": "t1n"}, "spatial_dims": 2}
    path.write_text(json.dumps({**facts, "labels": {"0": "LGG", "1": "HGG"}, "training": entries}))
    return str(path)


def write_both(folder, cohort: dict, num_patches: int = 1, **options) -> tuple[str, str]:
    cohort_path = folder / "cohort.json"
    cohort_path.write_text(json.dumps(cohort))
    return write_patches(folder, cohort, num_patches), str(write_splits(cohort_path, folder, **options))


def test_every_patch_of_a_subject_is_in_the_part_of_its_subject(tmp_path):
    cohort = cohort_of({**BALANCED, (None, "A"): 2})
    patches_path, splits_path = write_both(tmp_path, cohort, num_patches=2)
    splits = load_splits(splits_path)
    for part in ("train", "inner", "validation", "test"):
        items = load_part(patches_path, splits_path, 1, part, require_labels=True)
        names = splits["test"] if part == "test" else splits["folds"][1][part]
        assert Counter(item["subject_id"] for item in items) == dict.fromkeys(names, 2)
    assert len(load_part(patches_path, splits_path, None, "all")) == 2 * len(cohort["subjects"])
    item = items[0]
    assert item["image"] == str(tmp_path / f"{item['subject_id']}_0.nii.gz")
    assert item["lesion_volume_ml"] == 3.5


def test_a_class_can_be_asked_for_by_name(tmp_path):
    patches_path, splits_path = write_both(tmp_path, cohort_of(BALANCED))
    items = load_part(patches_path, splits_path, 0, "train", classes=["LGG"])
    assert {item["label"] for item in items} == {0}
    both = load_part(patches_path, splits_path, 0, "train", classes={"LGG": 0, "HGG": 1})
    assert both == load_part(patches_path, splits_path, 0, "train")
    with pytest.raises(ValueError, match="classes must be among those of .*patches.json"):
        load_part(patches_path, splits_path, 0, "train", classes=["GBM"])
    with pytest.raises(ValueError, match="classes must be among"):
        load_part(patches_path, splits_path, 0, "train", classes={"LGG": 1, "HGG": 0})
    with pytest.raises(TypeError, match=r"write \[LGG\]"):
        load_part(patches_path, splits_path, 0, "train", classes="LGG")


def test_a_classifier_refuses_subjects_without_grade_by_name(tmp_path):
    patches_path, splits_path = write_both(tmp_path, cohort_of({(None, None): 12}), num_folds=2)
    assert all(item["label"] is None for item in load_part(patches_path, splits_path, 0, "train"))
    with pytest.raises(ValueError, match="grade must be known .* S0"):
        load_part(patches_path, splits_path, 0, "train", require_labels=True)


def test_splits_and_patches_of_other_subjects_are_refused_by_name(tmp_path):
    patches_path, splits_path = write_both(tmp_path, cohort_of(BALANCED))
    fewer = cohort_of(BALANCED)
    fewer["subjects"] = fewer["subjects"][1:]
    write_patches(tmp_path, fewer)
    with pytest.raises(ValueError, match="S000 in .*splits.json but not in .*patches.json"):
        load_part(patches_path, splits_path, 0, "train")
    more = cohort_of(BALANCED)
    more["subjects"].append({"subject_id": "EXTRA", "grade": "LGG", "site": None})
    write_patches(tmp_path, more)
    with pytest.raises(ValueError, match="EXTRA in .*patches.json but not in .*splits.json"):
        load_part(patches_path, splits_path, 0, "train")


def test_a_cohort_that_only_tests_needs_no_splits(tmp_path):
    patches_path = write_patches(tmp_path, cohort_of(BALANCED))
    assert len(load_part(patches_path, None, None, "all")) == sum(BALANCED.values())
    with pytest.raises(ValueError, match="splits_path must be a file for part 'test'"):
        load_part(patches_path, None, None, "test")


@pytest.mark.parametrize(
    ("fold", "part", "message"),
    [
        (5, "train", "fold must be from 0 to 4"),
        (None, "inner", "fold must be from 0 to 4"),
        (0, "dev", "part must be one of train, inner, validation, test, all"),
    ],
)
def test_an_unknown_part_or_fold_is_refused(tmp_path, fold, part, message):
    patches_path, splits_path = write_both(tmp_path, cohort_of(BALANCED))
    with pytest.raises(ValueError, match=message):
        load_part(patches_path, splits_path, fold, part)


def test_a_part_without_patches_is_refused(tmp_path):
    patches_path, splits_path = write_both(tmp_path, cohort_of(BALANCED), test_fraction=0.0)
    with pytest.raises(ValueError, match="part 'test' .* at least one patch"):
        load_part(patches_path, splits_path, None, "test")


def test_a_splits_file_whose_parts_overlap_is_refused(tmp_path):
    _, splits_path = write_both(tmp_path, cohort_of(BALANCED))
    splits = load_splits(splits_path)
    leaked = splits["folds"][2]["validation"][0]
    splits["folds"][2]["train"].append(leaked)
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    with pytest.raises(ValueError, match=f"fold 2 of .* apart, got {leaked}"):
        load_splits(splits_path)


def test_held_out_are_test_and_validation_and_who_selects_is_not(tmp_path):
    _, splits_path = write_both(tmp_path, cohort_of(BALANCED))
    splits = load_splits(splits_path)
    validation = splits["folds"][0]["validation"]
    assert held_out_subjects(splits_path, 0) == {*splits["test"], *validation}
    assert selecting_subjects(splits_path, 0) == set()
    _, splits_path = write_both(tmp_path, cohort_of(BALANCED), selection="validation")
    splits = load_splits(splits_path)
    assert held_out_subjects(splits_path, 0) == set(splits["test"])
    assert selecting_subjects(splits_path, 0) == set(splits["folds"][0]["validation"])


def test_what_no_generator_has_seen_is_the_test_where_a_single_fold_validates_nothing():
    cohort = cohort_of(BALANCED)
    assert default_held_out_part(make_splits(cohort, 2)) == "validation"
    assert default_held_out_part(make_splits(cohort, 2, selection="validation")) == "test"
    assert default_held_out_part(make_splits(cohort, 1, 0.8)) == "test"
