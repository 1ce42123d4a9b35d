"""Leave-site-out: no hospital is on both sides, every hospital is held out, and what cannot be split is refused."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scripts.splits.draw import make_splits
from scripts.splits.sites import draw_sites, site_folds
from tests.scripts.splits.test_draw import cohort_of

SITES = {("LGG", "A"): 8, ("HGG", "A"): 20, ("LGG", "B"): 6, ("HGG", "B"): 9, ("HGG", "C"): 30, ("LGG", "D"): 4}

counts = st.dictionaries(
    st.tuples(st.sampled_from(["LGG", "HGG"]), st.sampled_from("ABCDEFGH")), st.integers(1, 9), min_size=6
)


def sites_of(cohort: dict, names: list[str]) -> set[str]:
    return {subject["site"] for subject in cohort["subjects"] if subject["subject_id"] in names}


@settings(max_examples=60, deadline=None)
@given(counts, st.integers(2, 5), st.sampled_from([0.0, 0.2, 0.5]), st.integers(0, 99))
def test_no_hospital_is_on_both_sides_of_a_fold(sizes, num_folds, test_fraction, seed):
    cohort = cohort_of(sizes)
    assume(len({site for _, site in sizes}) >= num_folds + 1 and {grade for grade, _ in sizes} == {"LGG", "HGG"})
    try:
        splits = make_splits(cohort, num_folds, test_fraction, seed=seed, hold_out="sites")
    except ValueError as error:
        assume("must train on at least 2 patients" not in str(error) and "test must hold every class" not in str(error))
        raise
    everyone = {subject["subject_id"] for subject in cohort["subjects"]}
    grade = {subject["subject_id"]: subject["grade"] for subject in cohort["subjects"]}
    test = sites_of(cohort, splits["test"])
    assert bool(test) == bool(test_fraction)
    assert {grade[name] for name in splits["test"]} == ({"LGG", "HGG"} if test_fraction else set())
    for fold, held_out in zip(splits["folds"], splits["held_out_sites"], strict=True):
        training = [*fold["train"], *fold["inner"]]
        assert sites_of(cohort, fold["validation"]) == set(held_out) != set()
        assert not sites_of(cohort, training) & (set(held_out) | test)
        assert not test & set(held_out)
        assert {*training, *fold["validation"], *splits["test"]} == everyone
        assert all({grade[name] for name in fold[part]} == {"LGG", "HGG"} for part in ("train", "inner"))
    validated = Counter(name for fold in splits["folds"] for name in fold["validation"])
    assert validated == dict.fromkeys(everyone - set(splits["test"]), 1)


def test_with_as_many_folds_as_sites_each_fold_leaves_one_out():
    splits = make_splits(cohort_of(SITES), num_folds=4, test_fraction=0, hold_out="sites")
    assert splits["held_out_sites"] == [["A"], ["B"], ["C"], ["D"]]
    assert splits["strata"] == "whole sites"


@pytest.mark.parametrize("share", [0.05, 0.2, 0.35, 0.4, 0.6, 0.75])
def test_the_test_takes_the_sites_nearest_to_its_share(share):
    cohort = cohort_of({(grade, f"{i:02d}"): 5 for grade in ("LGG", "HGG") for i in range(20)})
    splits = make_splits(cohort, num_folds=5, test_fraction=share, hold_out="sites")
    assert len(splits["test"]) == pytest.approx(share * 200)
    assert len(sites_of(cohort, splits["test"])) == pytest.approx(share * 20)


def test_the_test_leaves_a_site_for_each_fold():
    few = make_splits(cohort_of(SITES), num_folds=3, test_fraction=0.7, hold_out="sites")
    assert len(sites_of(cohort_of(SITES), few["test"])) == 1


def test_a_site_of_one_grade_is_no_test():
    mixed = {(grade, site): 9 for grade in ("LGG", "HGG") for site in "ABCD"}
    cohort = cohort_of({**mixed, ("HGG", "E"): 19})
    for seed in range(10):
        splits = make_splits(cohort, num_folds=4, seed=seed, hold_out="sites")
        assert sites_of(cohort, splits["test"]) < set("ABCD")


def test_a_patient_scanned_at_two_hospitals_is_refused_and_one_with_two_scans_at_one_stays_whole():
    cohort = cohort_of(SITES)
    cohort["subjects"] += [
        {"subject_id": f"X{scan}", "patient_id": "X", "grade": "HGG", "site": "B"} for scan in range(2)
    ]
    splits = make_splits(cohort, num_folds=4, test_fraction=0, hold_out="sites")
    assert all(({"X0", "X1"} <= set(fold[part])) == ("X0" in fold[part]) for fold in splits["folds"] for part in fold)
    for site, message in (("A", "got several for X; leave scans out"), (None, "got none for X; give it in the cohort")):
        cohort["subjects"][-1]["site"] = site
        with pytest.raises(ValueError, match=message):
            make_splits(cohort, num_folds=4, test_fraction=0, hold_out="sites")


def test_grades_are_as_even_as_whole_sites_allow():
    cohort = cohort_of({(grade, f"{i}"): 3 + i % 2 for grade in ("LGG", "HGG") for i in range(12)})
    grade = {subject["subject_id"]: subject["grade"] for subject in cohort["subjects"]}
    splits = make_splits(cohort, num_folds=4, test_fraction=0, hold_out="sites")
    shares = [sum(grade[n] == "LGG" for n in f["validation"]) / len(f["validation"]) for f in splits["folds"]]
    assert shares == pytest.approx([0.5] * 4)


def test_the_order_of_the_subjects_and_the_seed():
    cohort = cohort_of({(grade, f"{i}"): 2 for grade in ("LGG", "HGG") for i in range(9)})
    backwards = {**cohort, "subjects": cohort["subjects"][::-1]}
    assert make_splits(cohort, hold_out="sites") == make_splits(backwards, hold_out="sites")
    assert make_splits(cohort, hold_out="sites") != make_splits(cohort, hold_out="sites", seed=1)


def test_patients_held_out_name_no_sites():
    assert make_splits(cohort_of(SITES), num_folds=2)["held_out_sites"] == []


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ({("LGG", "A"): 9, ("HGG", "A"): 9}, {}, r"a site for each and one for the test, got 2 folds and 1 site \(A\)"),
        ({("LGG", "A"): 9, ("HGG", "B"): 9}, {}, r"got 2 folds and 2 sites \(A, B\); .* test_fraction 0"),
        (SITES, {"num_folds": 1}, "at least 2 folds"),
        (SITES, {"num_folds": 5, "test_fraction": 0}, r"got 5 folds and 4 sites \(A, B, C, D\)"),
        (
            {**SITES, ("LGG", None): 2},
            {},
            "site must be known for every scan .* got none for S0.., S0..; give it in the cohort",
        ),
        (SITES, {"selection": "validation"}, "a held-out site must not select the network it tests"),
        (SITES, {"stratify_by": ["grade"]}, r"splits_stratify_by \[grade, site\]"),
        (SITES, {"hold_out": "scanners"}, "splits_hold_out must be one of patients, sites, hint, got 'scanners'"),
        ({("LGG", "A"): 9, ("HGG", "B"): 9, ("HGG", "C"): 9}, {}, "test must hold every class .* of A, B, C"),
        (
            {("LGG", "A"): 9, ("HGG", "B"): 9, ("HGG", "C"): 9},
            {"num_folds": 3, "test_fraction": 0},
            "fold 0 must train on at least 2 patients of LGG .* got 0 outside of A",
        ),
    ],
)
def test_what_cannot_be_split_by_site_is_refused(sizes, options, message):
    with pytest.raises(ValueError, match=message):
        make_splits(cohort_of(sizes), **{"num_folds": 2, "hold_out": "sites", **options})


def test_a_draw_of_nothing_takes_nothing():
    patients = [{"patient_id": "a", "grade": "LGG", "site": "A"}]
    assert draw_sites(patients, 0.0, 2, ["LGG"], None) == ([], patients)
    assert site_folds(patients, 1, None) == [([], patients)]
