"""Measures against scikit-learn and torchmetrics; a weighting against the subjects repeated as often."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, matthews_corrcoef
from torchmetrics.functional.classification import multiclass_calibration_error

from scripts.statistics.classification_measures import (
    average_precision,
    brier,
    confidence_bins,
    expected_calibration_error,
    macro_f1,
    matthews,
    value_of,
    weighted_f1,
)

MEASURES = (weighted_f1, macro_f1, matthews, average_precision, brier, expected_calibration_error)


def predictions(num_classes, seed=0, size=67, digits=2):
    """Labels and probabilities that follow them, rounded so that there are ties."""
    random = np.random.default_rng(seed)
    labels = random.integers(num_classes, size=size)
    labels[:num_classes] = range(num_classes)
    scores = np.exp(random.normal(size=(size, num_classes)) + 1.2 * np.eye(num_classes)[labels])
    probabilities = np.round(scores / scores.sum(axis=1, keepdims=True), digits)
    probabilities[:, -1] = 1 - probabilities[:, :-1].sum(axis=1)
    return labels, probabilities


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_measures_are_those_of_scikit_learn(num_classes, seed):
    labels, probabilities = predictions(num_classes, seed)
    answers = probabilities.argmax(axis=1)
    assert value_of(weighted_f1, labels, probabilities) == pytest.approx(f1_score(labels, answers, average="weighted"))
    assert value_of(matthews, labels, probabilities) == pytest.approx(matthews_corrcoef(labels, answers))
    expected = average_precision_score(labels == 0, probabilities[:, 0])
    assert value_of(average_precision, labels, probabilities) == pytest.approx(expected)
    assert value_of(macro_f1, labels, probabilities) == pytest.approx(f1_score(labels, answers, average="macro"))
    expected = brier_score_loss(labels, probabilities, scale_by_half=True, labels=list(range(num_classes)))
    assert value_of(brier, labels, probabilities) == pytest.approx(expected)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_calibration_error_is_that_of_torchmetrics(num_classes):
    labels, probabilities = predictions(num_classes, digits=6)
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=num_classes, n_bins=15, norm="l1"
    )
    assert value_of(expected_calibration_error, labels, probabilities) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.__name__)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_weight_counts_a_subject_as_often_as_it_says(measure, num_classes):
    labels, probabilities = predictions(num_classes)
    weights = np.random.default_rng(1).integers(0, 4, size=(5, len(labels)))
    weights[:, :num_classes] = 1
    for row, value in zip(weights, measure(labels, probabilities, weights.astype(float)), strict=True):
        repeated = np.repeat(labels, row), np.repeat(probabilities, row, axis=0)
        assert value == pytest.approx(value_of(measure, *repeated))


def test_a_class_without_case_leaves_measures_of_every_class_undefined():
    labels, probabilities = np.ones(5, dtype=int), predictions(2, size=5)[1]
    assert value_of(average_precision, labels, probabilities) is None
    assert value_of(macro_f1, labels, probabilities) is None


def test_one_answer_for_all_has_no_correlation():
    assert value_of(matthews, np.array([0, 1, 1]), np.tile([0.2, 0.8], (3, 1))) == 0


def test_an_edge_belongs_to_the_bin_below_it():
    confidence, bins = confidence_bins(np.array([[1 / 15 * 9, 0.4], [0.0, 1.0], [0.5, 0.5]]))
    assert confidence.tolist() == pytest.approx([0.6, 1.0, 0.5])
    assert bins.tolist() == [8, 14, 7]
