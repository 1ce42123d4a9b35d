"""A site and a volume that give the class away, planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from scripts.evaluation.shortcuts import (
    find_shortcuts,
    fit_volume,
    graded_rows,
    image_markers,
    out_of_sample_auc,
    p_above_chance,
    share_by_site,
)
from scripts.statistics.roc_area import delong


def cohort_of(labels: list[int], sites: list[str | None], volumes: list[float | None]) -> dict[str, Any]:
    rows = [
        {"subject_id": f"S{index:03d}", "label": label, "site": site, "lesion_volume_ml": volume}
        for index, (label, site, volume) in enumerate(zip(labels, sites, volumes, strict=True))
    ]
    return {"name": "cohort", "labels": {"0": "LGG", "1": "HGG"}, "training": rows}


def random_cohort(seed: int, num_lgg: int = 40, num_hgg: int = 60) -> dict[str, Any]:
    """A cohort whose sites and volumes know nothing of the class."""
    random = np.random.default_rng(seed)
    count = num_lgg + num_hgg
    sites = [str(site) for site in random.choice(["A", "B", "C", "D"], count)]
    return cohort_of([0] * num_lgg + [1] * num_hgg, sites, random.lognormal(3, 1, count).tolist())


def predictor(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in found["predictors"] if item["name"] == name)


def test_a_site_of_one_class_is_named_with_numbers() -> None:
    # As in BraTS 2019, where all cases of one of 19 institutions are HGG.
    labels = [1] * 129 + [0] * 76 + [1] * 130
    others = np.random.default_rng(0).choice(["A", "B", "C", "D", "E", "F"], 206).tolist()
    found = find_shortcuts(cohort_of(labels, ["CBICA"] * 129 + others, [None] * 335))
    site = predictor(found, "site")
    assert found["one_class"] == ["CBICA"]
    assert found["sites"][0] == {"name": "CBICA", "counts": [0, 129]}
    assert site["telling"]
    assert site["n"] == 335
    # Whoever knows this site only: half of HGG is surely right, the rest is a coin.
    assert 0.65 < site["auc"]["low"] < site["auc"]["value"] < site["auc"]["high"] < 0.85
    assert [item["name"] for item in found["predictors"]] == ["site"]  # nobody's volume is known


def test_a_volume_that_differs_between_the_classes_is_named_with_numbers() -> None:
    random = np.random.default_rng(1)
    volumes = [*random.lognormal(2, 0.7, 40), *random.lognormal(3, 0.7, 60)]
    found = find_shortcuts(cohort_of([0] * 40 + [1] * 60, ["A"] * 100, volumes))
    volume = predictor(found, "lesion volume")
    # Two normals a distance of 1 / .7 standard deviations apart: AUC = Phi(1 / (.7 sqrt 2)) = .84.
    assert volume["auc"]["low"] < 0.844 < volume["auc"]["high"]
    assert volume["telling"]


def test_a_class_of_very_small_and_very_large_lesions_is_named_though_the_slope_says_nothing() -> None:
    random = np.random.default_rng(2)
    sides = random.choice([-1, 1], 60)
    volumes = [*random.lognormal(3, 0.4, 40), *np.exp(3 + 1.5 * sides + random.normal(0, 0.4, 60))]
    found = find_shortcuts(cohort_of([0] * 40 + [1] * 60, ["A"] * 100, volumes))
    assert not predictor(found, "lesion volume")["telling"]
    distance = predictor(found, "lesion volume’s distance from the median")
    assert distance["telling"]
    assert distance["auc"]["value"] > 0.95


def markers_of(cohort: dict[str, Any], seed: int, change: dict[str, float]) -> dict[str, dict[str, float | None]]:
    """Markers of an image of each subject, drawn alike but for a difference of HGG, in standard deviations."""
    random = np.random.default_rng(seed)
    names = ("mean of t1c", "mean of t2f", "noise of t1c", "background’s share")
    return {
        row["subject_id"]: {
            **{name: float(0.1 * random.normal(row["label"] * change.get(name, 0))) for name in names},
            "background’s intensity": -1.0,
        }
        for row in cohort["training"]
    }


@pytest.mark.parametrize("name", ["mean of t1c", "noise of t1c", "background’s share"])
def test_an_intensity_that_differs_between_the_classes_is_named_and_no_other(name: str) -> None:
    cohort = random_cohort(5)
    found = find_shortcuts(cohort, markers_of(cohort, 5, {name: 1.5}))
    assert [item["name"] for item in found["predictors"] if item["telling"]] == [name]
    # Two normals a distance of 1.5 standard deviations apart: AUC = Phi(1.5 / sqrt 2) = .856.
    area = predictor(found, name)["auc"]
    assert area["low"] < 0.856 < area["high"]
    assert predictor(found, "background’s intensity")["auc"]["value"] is None


def test_p_is_below_a_level_where_the_interval_of_that_level_lies_above_chance() -> None:
    random = np.random.default_rng(0)
    for shift in (0, 0.3, 0.6, 3, 20):
        positive = np.arange(50) < 20
        scores = random.normal(size=50) + shift * positive
        p = p_above_chance(positive, np.stack([-scores, scores], axis=1))
        for level in (0.5, 0.05, 0.001):
            low = delong(positive, scores, confidence=1 - level).low
            assert low is not None
            assert (p < level) == (low > 0.5)


@pytest.mark.parametrize("shape", [(64, 80), (24, 20, 28)], ids=["2d", "3d"])
def test_the_noise_of_an_image_is_its_standard_deviation_inside_the_brain(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    smooth = 0.3 * np.cos(2 * axes[0]) * axes[1]
    image = np.stack([smooth + random.normal(0, sd, shape) for sd in (0.02, 0.08)])
    brain = sum(axis**2 for axis in axes) < 0.8
    found = image_markers(np.where(brain, np.clip(image, -0.99, 1), -1), ["t1n", "t1c"])
    assert (found["noise of t1n"], found["noise of t1c"]) == pytest.approx((0.02, 0.08), rel=0.1)
    assert found["mean of t1c"] == pytest.approx(smooth[brain].mean(), abs=0.01)
    assert found["background’s intensity"] == -1
    assert found["background’s share"] == pytest.approx(1 - brain.mean())


def test_an_image_without_brain_or_without_background_has_no_such_marker() -> None:
    blank = image_markers(np.full((1, 8, 8), -1.0), ["t1c"])
    assert (blank["mean of t1c"], blank["noise of t1c"], blank["background’s share"]) == (None, None, 1)
    full = image_markers(np.array([[[0.5, -1.0], [0.2, 0.1]], [[-1.0, 0.5], [0.1, 0.2]]]), ["t1n", "t1c"])
    assert full["background’s intensity"] is None
    assert full["background’s share"] == 0


def test_a_single_site_says_exactly_nothing() -> None:
    found = find_shortcuts(cohort_of([0] * 12 + [1] * 30, [None] * 42, [1.0] * 42))
    site = predictor(found, "site")
    assert found["sites"] == [{"name": "not stated", "counts": [12, 30]}]
    assert (site["auc"]["value"], site["telling"]) == (0.5, False)


def test_without_a_shortcut_at_most_one_cohort_in_twenty_is_named() -> None:
    cohorts = [random_cohort(seed) for seed in range(12)]
    found = [find_shortcuts(cohort, markers_of(cohort, seed, {})) for seed, cohort in enumerate(cohorts)]
    assert sum(any(predictor["telling"] for predictor in item["predictors"]) for item in found) <= 1


def test_the_volume_is_judged_as_scikit_learn_does() -> None:
    cohort = random_cohort(7)
    labels = np.array([row["label"] for row in cohort["training"]])
    volumes = np.log([row["lesion_volume_ml"] for row in cohort["training"]])
    folds = StratifiedKFold(10, shuffle=True, random_state=0)
    model = LogisticRegression(class_weight="balanced")
    scores = cross_val_predict(model, volumes[:, None], labels, cv=folds, method="decision_function")
    found = out_of_sample_auc(volumes, labels.tolist(), 2, fit_volume)
    tests = [test for _, test in folds.split(volumes, labels)]
    areas = [roc_auc_score(labels[test], scores[test]) for test in tests]
    pairs = [(labels[test] == 1).sum() * (labels[test] == 0).sum() for test in tests]
    assert found.value == pytest.approx(np.average(areas, weights=pairs))


def test_a_site_that_was_never_trained_on_is_as_likely_of_every_class() -> None:
    training, labels = np.array(["A", "A", "B", "B"]), np.array([0, 0, 1, 1])
    found = share_by_site(training, labels, np.array(["A", "C"]), 2)
    assert np.allclose(found, [[0.75, 0.25], [0.5, 0.5]])


def test_three_classes_are_judged_as_two_are() -> None:
    random = np.random.default_rng(0)
    labels = [0] * 20 + [1] * 20 + [2] * 20
    cohort = cohort_of(labels, [str(label) for label in labels], random.lognormal(2, 1, 60).tolist())
    found = find_shortcuts({**cohort, "labels": {"0": "2", "1": "3", "2": "4"}})
    assert predictor(found, "site")["auc"]["value"] == 1
    assert 0.5 < predictor(found, "site")["auc"]["low"] < 1
    assert [item["name"] for item in found["predictors"] if item["telling"]] == ["site"]
    assert found["one_class"] == ["0", "1", "2"]


def test_ungraded_subjects_and_further_patches_of_a_subject_do_not_count() -> None:
    cohort = random_cohort(3)
    more = [{**row, "label": None, "subject_id": "X" + row["subject_id"]} for row in cohort["training"][:9]]
    again = {**cohort, "training": [*cohort["training"], *more, *cohort["training"]]}
    assert find_shortcuts(again) == find_shortcuts(cohort)


def test_scans_of_one_patient_are_one_row() -> None:
    rows = [
        {"subject_id": f"BraTS-GLI-{patient:05d}-00{scan}", "label": int(scan == 2)}
        for patient in range(3)
        for scan in range(3)
    ]
    kept = [row["subject_id"][-9:] for row in graded_rows({"training": [*rows, {**rows[0], "label": None}]})]
    # The first scan of each class.
    assert kept == ["00000-000", "00000-002", "00001-000", "00001-002", "00002-000", "00002-002"]
