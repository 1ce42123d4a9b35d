"""The parts of LIME by themselves; what it says of known networks is in test_attributions.py."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from scripts.explanations.lime import left_out_fit, superpixels


def test_an_image_without_background_is_cut_as_a_whole():
    segments = superpixels(np.random.default_rng(0).uniform(-0.5, 0.5, (2, 16, 12)), 8)
    assert segments.min() == 1
    assert 6 <= segments.max() <= 12


def test_the_left_out_fit_is_that_of_fits_without_each_sample():
    random = np.random.default_rng(0)
    inputs, weights = random.integers(0, 2, (30, 6)).astype(float), random.uniform(0.1, 1, 30)
    outputs = inputs @ random.normal(size=6) + random.normal(size=30)
    predicted = []
    for left_out in range(30):
        kept = np.arange(30) != left_out
        model = Ridge(alpha=1.0).fit(inputs[kept], outputs[kept], sample_weight=weights[kept])
        predicted.append(model.predict(inputs[left_out : left_out + 1])[0])
    squares = (outputs - np.array(predicted)) ** 2, (outputs - np.average(outputs, weights=weights)) ** 2
    expected = 1 - np.sum(weights * squares[0]) / np.sum(weights * squares[1])
    assert left_out_fit(inputs, outputs, weights, 1.0) == pytest.approx(expected)
    assert left_out_fit(inputs, np.ones(30), weights, 1.0) is None


def test_a_linear_model_of_noise_foresees_nothing():
    random = np.random.default_rng(1)
    inputs = random.integers(0, 2, (60, 50)).astype(float)
    assert left_out_fit(inputs, random.normal(size=60), np.ones(60), 1.0) < 0
