from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.splits.draw import make_splits, write_splits


def cohort_of(counts: dict[tuple[str | None, str | None], int], name: str = "tiny") -> dict:
    """A cohort with so many subjects of each (grade, site)."""
    pairs = [pair for pair, count in counts.items() for _ in range(count)]
    subjects = [{"subject_id": f"S{i:03d}", "grade": grade, "site": site} for i, (grade, site) in enumerate(pairs)]
    return {"name": name, "simulated": True, "subjects": subjects}


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
        ({"stratify_by": ["age"]}, "splits_stratify_by must be"),
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


def test_splits_need_a_cohort(tmp_path):
    with pytest.raises(ValueError, match="cohort_path must be a cohort.json, got None; pass --cohort_path"):
        write_splits(None, tmp_path)


def test_a_share_of_each_class_trains_and_all_others_are_the_test():
    cohort = cohort_of({("LGG", None): 50, ("HGG", None): 80})
    splits = make_splits(cohort, 1, 0.8, 0.1, generator_fraction=0.2)
    (fold,) = splits["folds"]
    grade = {s["subject_id"]: s["grade"] for s in cohort["subjects"]}
    assert splits["generator_fraction"] == 0.2
    assert Counter(grade[name] for name in splits["test"]) == {"LGG": 40, "HGG": 64}
    assert Counter(grade[name] for name in fold["train"] + fold["inner"]) == {"LGG": 10, "HGG": 16}
    assert fold["validation"] == []


def test_a_share_that_trains_and_a_share_that_tests_must_be_all():
    cohort = cohort_of(BALANCED)
    with pytest.raises(ValueError, match=r"test_fraction must be 1 - generator_fraction, 0.8, .* got 0.2; set one"):
        make_splits(cohort, 1, 0.2, generator_fraction=0.2)
    with pytest.raises(ValueError, match=r"generator_fraction must be in \(0, 1\), .* got 1"):
        make_splits(cohort, 1, 0.0, generator_fraction=1)
