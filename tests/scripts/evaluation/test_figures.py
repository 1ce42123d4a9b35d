from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.metrics import auc

from scripts.evaluation.figures import PANEL, calibration_points, draw_reliability, draw_roc, mean_roc
from scripts.patches.pictures import draw_svg
from scripts.statistics.calibration import reliability
from scripts.statistics.roc_area import delong


@pytest.mark.parametrize(("classes", "panels"), [(("LGG", "HGG"), 1), (("A", "B", "C"), 3)], ids=["two", "three"])
def test_two_classes_share_a_roc_curve_and_more_have_a_panel_each(classes, panels):
    labels = np.arange(12) % len(classes)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(classes)), 12)
    curves = {"real": (labels, probabilities, np.arange(12) // 6)}
    panel = partial(draw_roc, title="a test", curves=curves, classes=classes)
    picture = draw_svg(panel, PANEL)
    assert picture.count('id="axes_') == panels
    assert picture == draw_svg(panel, PANEL)


def test_the_area_below_the_mean_curve_is_that_of_pairs_inside_the_folds():
    random = np.random.default_rng(0)
    positive, folds = random.random(60) < 0.5, np.arange(60) % 3
    scores = random.normal(positive * 1.0) + 4 * folds
    false_alarms, sensitivity = mean_roc(positive, scores, folds)
    assert auc(false_alarms, sensitivity) == pytest.approx(delong(positive, scores, folds).value, abs=1e-6)
    assert mean_roc(positive, np.ones(60), positive.astype(int)) is None


def test_a_class_without_a_case_has_no_curve_and_stops_nothing():
    probabilities = np.array([[0.2, 0.8], [0.6, 0.4]])
    curves = {"real": (np.array([1, 1]), probabilities, np.zeros(2))}
    panel = partial(draw_roc, title="a test", curves=curves, classes=("LGG", "HGG"))
    assert draw_svg(panel, PANEL).startswith("<svg")


def test_empty_bins_are_left_out_of_the_reliability():
    bins = reliability(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.3, 0.7], [0.45, 0.55]]))
    assert draw_svg(partial(draw_reliability, title="a test", bins={"real": bins}), PANEL).startswith("<svg")


def test_patients_of_about_the_same_probability_stand_together():
    probabilities = np.random.default_rng(0).permutation(np.arange(32) / 32)
    points = calibration_points(probabilities >= 0.5, probabilities)
    assert [share.value for _, share in points] == [0, 0, 1, 1]
    assert [mean for mean, _ in points] == pytest.approx([3.5 / 32, 11.5 / 32, 19.5 / 32, 27.5 / 32])
    assert len(calibration_points(np.array([True]), np.array([0.3]))) == 1
