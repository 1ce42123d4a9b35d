from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.splits.draw import load_part, load_splits, make_splits, write_splits


def cohort_of(counts: dict[tuple[str | None, str | None], int], name: str = "tiny") -> dict:
    """A cohort with so many subjects of each (grade, site)."""
    pairs = [pair for pair, count in counts.items() for _ in range(count)]
    subjects = [{"subject_id": f"S{i:03d}", "grade": grade, "site": site} for i, (grade, site) in enumerate(pairs)]
    return {"name": name, "subjects": subjects}


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
    path.write_text(json.dumps({"name": cohort["name"], "labels": {"0": "LGG", "1": "HGG"}, "training": entries}))
    return str(path)


def write_both(folder, cohort: dict, num_patches: int = 1, **options) -> tuple[str, str]:
    cohort_path = folder / "cohort.json"
    cohort_path.write_text(json.dumps(cohort))
    return write_patches(folder, cohort, num_patches), str(write_splits(cohort_path, folder, **options))


BALANCED = {("LGG", "A"): 9, ("LGG", "B"): 11, ("HGG", "A"): 25, ("HGG", "B"): 15, ("HGG", "C"): 2}

counts = st.fixed_dictionaries(
    {(grade, site): st.integers(0, 12) for grade in ("LGG", "HGG") for site in ("A", "B", None)}
    | {("LGG", "C"): st.just(12), ("HGG", "C"): st.just(14)}
)


@settings(max_examples=40, deadline=None)
@given(counts, st.integers(2, 5), st.sampled_from([0.0, 0.2, 0.3]), st.integers(0, 99), st.booleans())
def test_parts_are_disjoint_cover_the_cohort_and_hold_each_grade_evenly(sizes, num_folds, test_fraction, seed, inner):
    cohort = cohort_of(sizes)
    selection = "inner" if inner else "validation"
    splits = make_splits(cohort, num_folds, test_fraction, seed=seed, selection=selection)
    everyone = {s["subject_id"] for s in cohort["subjects"]}
    grade = {s["subject_id"]: s["grade"] for s in cohort["subjects"]}
    test = set(splits["test"])
    validated: list[str] = []
    per_fold = []
    for fold in splits["folds"]:
        train, own, validation = (set(fold[part]) for part in ("train", "inner", "validation"))
        assert train | own | validation | test == everyone
        assert not train & (own | validation)
        assert not test & (train | own | validation)
        assert own == validation if selection == "validation" else not own & validation
        assert {grade[name] for name in own} == {"LGG", "HGG"}
        validated += fold["validation"]
        per_fold.append(Counter(grade[name] for name in validation))
    assert sorted(validated) == sorted(everyone - test)
    for name in ("LGG", "HGG"):
        in_folds = [counter[name] for counter in per_fold]
        assert max(in_folds) - min(in_folds) <= 1
        if test_fraction:
            share = sum(grade[subject] == name for subject in test)
            assert abs(share - test_fraction * sum(value == name for value in grade.values())) <= 1


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 9))
def test_splits_do_not_depend_on_the_order_of_the_subjects(random, seed):
    cohort = cohort_of(BALANCED)
    shuffled = {**cohort, "subjects": random.sample(cohort["subjects"], len(cohort["subjects"]))}
    assert make_splits(cohort, seed=seed) == make_splits(shuffled, seed=seed)


def test_the_seed_decides_the_splits():
    cohort = cohort_of(BALANCED)
    assert make_splits(cohort, seed=1) == make_splits(cohort, seed=1)
    assert make_splits(cohort, seed=1)["test"] != make_splits(cohort, seed=2)["test"]


def test_each_site_of_a_grade_is_spread_within_one_over_the_folds():
    cohort = cohort_of(BALANCED)
    site = {s["subject_id"]: (s["grade"], s["site"]) for s in cohort["subjects"]}
    splits = make_splits(cohort)
    per_fold = [Counter(site[name] for name in fold["validation"]) for fold in splits["folds"]]
    for pair in BALANCED:
        in_folds = [counter[pair] for counter in per_fold]
        assert max(in_folds) - min(in_folds) <= 1
    assert splits["strata"] == "grade, then site; fewer than 5 subjects of a grade at C"


def test_sites_too_small_for_the_folds_are_left_aside_and_the_file_says_so():
    cohort = cohort_of({(grade, f"site{i}"): 1 for grade in ("LGG", "HGG") for i in range(12)})
    splits = make_splits(cohort, num_folds=3)
    assert splits["strata"].startswith("grade alone: no site has 3 subjects of a grade")


def test_all_scans_of_a_patient_share_a_part():
    cohort = cohort_of({("LGG", None): 30, ("HGG", None): 30})
    for index, subject in enumerate(cohort["subjects"]):
        subject["patient_id"] = f"P{index // 3}"
    patient = {s["subject_id"]: s["patient_id"] for s in cohort["subjects"]}
    splits = make_splits(cohort, num_folds=3)
    for fold in splits["folds"]:
        parts = [{patient[name] for name in names} for names in (*fold.values(), splits["test"])]
        assert sum(map(len, parts)) == len(set().union(*parts)) == 20


def test_a_patient_whose_glioma_progressed_counts_as_its_highest_grade():
    cohort = cohort_of({("LGG", None): 4, ("HGG", None): 5})
    cohort["subjects"].append({"subject_id": "S999", "patient_id": "S000", "grade": "HGG", "site": None})
    with pytest.raises(ValueError, match="class LGG"):
        make_splits(cohort, num_folds=4, test_fraction=0)


@pytest.mark.parametrize(
    ("sizes", "num_folds", "message"),
    [
        ({("LGG", None): 3, ("HGG", None): 30}, 5, "fold 2 .* class LGG .* 3 such patients .* fewer folds"),
        ({("HGG", None): 30}, 2, "got 30 graded patients and nobody of class LGG; it can be tested on"),
        ({(None, None): 3}, 5, "fold 2 .* without grades"),
        ({("LGG", None): 3, ("HGG", None): 30}, 2, "fold 1 .* class LGG"),
    ],
)
def test_a_class_absent_from_a_fold_is_named_with_the_fold(sizes, num_folds, message):
    with pytest.raises(ValueError, match=message):
        make_splits(cohort_of(sizes), num_folds)


def test_ungraded_subjects_are_listed_and_in_no_fold():
    cohort = cohort_of({**BALANCED, (None, "A"): 3})
    splits = make_splits(cohort)
    assert len(splits["ungraded"]) == 3
    used = {name for fold in splits["folds"] for part in fold.values() for name in part} | set(splits["test"])
    assert not used & set(splits["ungraded"])
    assert len(used) == sum(BALANCED.values())


@pytest.mark.parametrize("options", [{}, {"stratify_by": []}], ids=["all_ungraded", "not_asked_for"])
def test_an_ungraded_cohort_gets_folds(options):
    sizes = {(None, "A"): 12} if not options else {(None, "A"): 6, ("LGG", "A"): 6}
    splits = make_splits(cohort_of(sizes), num_folds=3, **options)
    validated = [name for fold in splits["folds"] for name in fold["validation"]]
    assert len(validated) + len(splits["test"]) == 12
    assert splits["classes"] == []


def test_one_fold_trains_on_everybody_but_the_inner_part():
    splits = make_splits(cohort_of({(None, None): 4}), num_folds=1, test_fraction=0.0)
    assert [len(splits["folds"][0][part]) for part in ("train", "inner", "validation")] == [3, 1, 0]


def test_more_than_two_classes_are_split_likewise():
    cohort = cohort_of({(grade, None): 10 for grade in ("2", "3", "4")})
    splits = make_splits(cohort, num_folds=2, classes=["2", "3", "4"])
    assert splits["classes"] == ["2", "3", "4"]
    assert len(splits["test"]) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_folds": 0}, "num_folds must be at least 1"),
        ({"test_fraction": 1.0}, r"test_fraction must be in \[0, 1\)"),
        ({"stratify_by": ["age"]}, "stratify_by must be"),
        ({"selection": "test"}, "selection must be one of"),
        ({"classes": ["GBM"]}, "grade must be one of the classes GBM or empty, got HGG, LGG"),
    ],
)
def test_an_argument_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_splits(cohort_of(BALANCED), **options)


def test_a_subject_twice_is_refused():
    cohort = cohort_of(BALANCED)
    cohort["subjects"].append(cohort["subjects"][0])
    with pytest.raises(ValueError, match="got S000 twice"):
        make_splits(cohort)


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


def test_splits_need_a_cohort(tmp_path):
    with pytest.raises(ValueError, match="cohort_path must be a cohort.json, got None; pass --cohort_path"):
        write_splits(None, tmp_path)


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
