"""Measures of the benchmark of samplers against torchmetrics, prdc and repeated draws."""

from __future__ import annotations

import pytest
import torch
from prdc import compute_prdc
from torchmetrics.image.kid import poly_mmd

from benchmarks.sampler_measures import (
    PixelPCA,
    coverage,
    kid,
    kid_difference,
    mean_max_pearson_of_others,
    real_floors,
)


def gaussian(count, shift=0.0, seed=0, size=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64) + shift


def test_kid_is_that_of_torchmetrics():
    features, references = gaussian(40, 0.3), gaussian(40, seed=1)
    assert kid(features, references) == pytest.approx(float(poly_mmd(features, references)), rel=1e-9)


def test_coverage_is_that_of_prdc():
    features, references = gaussian(60, 0.8), gaussian(50, seed=1)
    expected = compute_prdc(references.numpy(), features.numpy(), nearest_k=5)["coverage"]
    assert coverage(features, references) == pytest.approx(expected)


def test_a_difference_is_that_of_two_kids_and_nothing_for_equal_sets():
    features, baseline, references = gaussian(30, 0.4), gaussian(30, 0.2, seed=2), gaussian(45, seed=1)
    found = kid_difference(features, baseline, references)
    assert found.value == pytest.approx(kid(features, references) - kid(baseline, references))
    assert found.low < found.value < found.high
    assert kid_difference(features, features, references) == pytest.approx((0, 0, 0))


def test_the_interval_of_a_difference_covers_the_truth_about_as_often_as_it_says():
    far = torch.tensor([0.8, 0, 0, 0, 0, 0], dtype=torch.float64)
    truth = kid_difference(gaussian(3000) + far, gaussian(3000), gaussian(3000, seed=1)).value
    covered = 0
    for seed in range(60):
        start = gaussian(50, seed=100 + seed)
        found = kid_difference(start * 0.99 + far, start, gaussian(60, seed=500 + seed))
        covered += found.low <= truth <= found.high
    assert covered >= 50


def test_sets_of_different_number_have_no_paired_difference():
    with pytest.raises(ValueError, match="baseline must have the shape of features"):
        kid_difference(gaussian(4), gaussian(5), gaussian(6))


def test_features_of_the_reals_are_white_and_carry_their_name():
    reals = torch.randn(30, 2, 4, 5) * torch.linspace(0.1, 2, 5)
    features = PixelPCA(reals)
    assert features.name == "14 whitened pixel-PCA components"
    found = features(reals)
    torch.testing.assert_close(found.T.cov(), torch.eye(14, dtype=torch.float64))
    torch.testing.assert_close(found.mean(0), torch.zeros(14, dtype=torch.float64))


def test_floors_are_of_the_size_that_equal_distributions_differ_by():
    reals = gaussian(60, size=32).reshape(60, 2, 4, 4)
    features = PixelPCA(reals)(reals)
    floors = real_floors(features, reals, reals[:30], num_splits=50)
    shifted = kid(PixelPCA(reals)(reals + 1), features)
    assert 0 < floors.kid < shifted
    assert 0 < floors.coverage < 0.5
    assert 0 < floors.max_pearson < 0.2


def test_a_training_image_is_not_its_own_nearest():
    training = torch.eye(8)[:4].reshape(4, 1, 2, 4)
    mixed = (training[:1] + training[1:2]) / 2  # correlates with both alike
    correlation = torch.corrcoef(torch.stack([mixed.flatten(), training[0].flatten()]))[0, 1]
    assert mean_max_pearson_of_others(torch.cat([training, mixed]), training) == pytest.approx(float(correlation))


def test_too_few_images_for_two_halves_are_refused():
    few = gaussian(13, size=8).reshape(13, 1, 2, 4)
    with pytest.raises(ValueError, match="reals must be at least 14 images, got 13"):
        real_floors(PixelPCA(few)(few), few, few)
