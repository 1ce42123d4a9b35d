from __future__ import annotations

import numpy as np

from scripts.evaluation.answers import group_answers
from scripts.evaluation.subgroups import FEWEST, measure_groups, subgroups, volume_thirds
from scripts.statistics.multiclass_area import auc
from tests.predictions import prediction_rows


def test_every_site_is_measured_by_itself():
    sites = ["b", "a", "a", "a", "b", "a"]
    labels, answers = np.array([1, 0, 0, 1, 1, 1]), np.array([1, 0, 1, 1, 0, 1])
    first, second = measure_groups(sites, labels, np.eye(2)[answers])
    assert (first.group, first.n, first.n_by_class) == ("a", 4, [2, 2])
    assert [estimate.value for estimate in first.sensitivities] == [0.5, 1.0]
    assert first.balanced_accuracy.value == 0.75
    assert (second.group, second.n_by_class, second.sensitivities[1].value) == ("b", [0, 2], 0.5)


def test_a_site_with_one_class_has_no_balanced_accuracy():
    (only,) = measure_groups(["a", "a"], np.array([1, 1]), np.eye(2)[[1, 0]])
    assert only.balanced_accuracy.value is None
    assert only.sensitivities[0].value is None


def test_a_group_with_enough_of_both_classes_has_the_area_of_its_patients():
    random = np.random.default_rng(0)
    labels, folds = np.tile([0, 1], 20), np.repeat([0, 1], 20)
    scores = random.random(40)
    probabilities = np.stack([1 - scores, scores], axis=1)
    groups = np.where(np.arange(40) < 2 * FEWEST - 1, "small", "large")
    large, small = measure_groups(groups.tolist(), labels, probabilities, folds)
    here = groups == "large"
    assert large.auc == auc(labels[here], probabilities[here], folds[here])
    assert large.auc.low < large.auc.value < large.auc.high
    assert small.n_by_class == [FEWEST, FEWEST - 1]
    assert small.auc.value is None


def test_thirds_are_of_the_volumes_that_are_known():
    volumes = np.array([9.0, np.nan, 1.0, 5.0, 2.0, 8.0, 4.0])
    thirds = volume_thirds(volumes)
    assert thirds[1] == "not stated"
    assert [name[0] for name in thirds] == ["3", "n", "1", "2", "1", "3", "2"]
    assert set(volume_thirds(np.array([3.0, 3.0, 4.0]))) == {"not stated"}


def test_patients_are_divided_by_what_is_recorded_and_by_nothing_that_all_share():
    (answers,) = group_answers(prediction_rows({"real": 1.0}))
    facts = {
        name: {"region": "enhancing" if index % 3 else "whole", "idh": "mutant" if index % 2 else None}
        for index, name in enumerate(answers.subject_ids)
    }
    names = subgroups(answers, facts)
    assert set(names) == {"enhancement", "volume of the lesion", "IDH"}
    assert names["enhancement"][:4] == ["not enhancing", "enhancing", "enhancing", "not enhancing"]
    assert names["IDH"][:2] == ["not stated", "mutant"]
    assert sum(row.n for row in measure_groups(names["IDH"], answers.labels, answers.probabilities)) == 40
    assert set(subgroups(answers, {})) == {"volume of the lesion"}
