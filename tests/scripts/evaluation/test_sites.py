from __future__ import annotations

import numpy as np

from scripts.evaluation.sites import measure_sites


def test_every_site_is_measured_by_itself():
    sites = ["b", "a", "a", "a", "b", "a"]
    labels, answers = np.array([1, 0, 0, 1, 1, 1]), np.array([1, 0, 1, 1, 0, 1])
    first, second = measure_sites(sites, labels, answers, 2)
    assert (first.site, first.n, first.n_by_class) == ("a", 4, [2, 2])
    assert [estimate.value for estimate in first.sensitivities] == [0.5, 1.0]
    assert first.balanced_accuracy.value == 0.75
    assert (second.site, second.n_by_class, second.sensitivities[1].value) == ("b", [0, 2], 0.5)


def test_a_site_with_one_class_has_no_balanced_accuracy():
    (only,) = measure_sites(["a", "a"], np.array([1, 1]), np.array([1, 0]), 2)
    assert only.balanced_accuracy.value is None
    assert only.sensitivities[0].value is None
