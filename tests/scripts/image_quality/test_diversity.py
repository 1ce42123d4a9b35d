from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure
from torchmetrics.image.inception import InceptionScore

from scripts.image_quality.diversity import (
    choose_scales,
    draw_pairs,
    inception_score,
    mean_pair_similarity,
    ms_ssim,
)


def draw(count, shape, seed=0):
    noise = torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))
    return noise * 2 - 1


def test_ms_ssim_equals_that_of_torchmetrics_with_the_same_scales():
    first, second = draw(3, (4, 96, 96), 0), draw(3, (4, 96, 96), 1)
    mixed = 0.7 * first + 0.3 * second
    weights = np.array([0.0448, 0.2856, 0.3001])
    expected = multiscale_structural_similarity_index_measure(
        (first + 1) / 2,
        (mixed + 1) / 2,
        data_range=1.0,
        betas=tuple((weights / weights.sum()).tolist()),
        reduction="none",
    )
    torch.testing.assert_close(ms_ssim(first, mixed), expected)


@pytest.mark.parametrize("shape", [(2, 20, 24, 22), (1, 45, 44, 46)])
def test_ms_ssim_of_volumes_equals_that_of_monai(shape):
    first, second = draw(2, shape, 0), draw(2, shape, 1)
    mixed = (0.7 * first + 0.3 * second).clone()
    mixed[:, :, :6] = first[:, :, :6] = -1
    scales = choose_scales(shape[1:])
    metric = MultiScaleSSIMMetric(
        3, kernel_size=scales.window, kernel_sigma=scales.sigma, weights=scales.weights, data_range=1.0
    )
    expected = metric((first + 1) / 2, (mixed + 1) / 2)[:, 0]
    torch.testing.assert_close(ms_ssim(first, mixed), expected, atol=1e-4, rtol=0)


def test_ms_ssim_does_not_depend_on_where_grey_zero_lies():
    first, second = 0.3 * draw(8, (1, 48, 48), 5), 0.3 * draw(8, (1, 48, 48), 6)
    values = [float(ms_ssim(first + grey, second + grey).mean()) for grey in (-0.5, 0.0, 0.5)]
    assert max(values) - min(values) < 0.02


@pytest.mark.parametrize("shape", [(4, 96, 96), (4, 64, 48), (4, 32, 32), (2, 20, 33), (1, 16, 12), (2, 24, 20, 28)])
def test_ms_ssim_of_equal_images_is_one_and_of_noise_is_small_at_every_size(shape):
    first, second = draw(2, shape, 2), draw(2, shape, 3)
    torch.testing.assert_close(ms_ssim(first, first), torch.ones(2))
    assert ms_ssim(first, second).max() < 0.4


def test_a_blurred_image_is_less_like_the_image_the_wider_the_blur():
    image = torch.nn.functional.avg_pool2d(draw(1, (1, 96, 96), 4), 5, 1, 2)
    values = [float(ms_ssim(image, torch.nn.functional.avg_pool2d(image, k, 1, k // 2))) for k in (1, 3, 7, 15)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(("side", "scales", "window"), [(96, 3, 11), (44, 3, 11), (43, 3, 5), (20, 3, 5), (10, 2, 5)])
def test_one_size_has_one_window(side, scales, window):
    assert choose_scales((side, 100))[:2] == (scales, window)


def test_images_of_a_few_pixels_are_refused():
    with pytest.raises(ValueError, match="at least 10 pixels along each side"):
        choose_scales((9, 30))


def test_all_pairs_are_taken_where_there_are_few_and_their_mean_is_returned():
    images = draw(4, (1, 20, 20), 5)
    expected = np.mean([float(ms_ssim(images[[i]], images[[j]])) for i, j in combinations(range(4), 2)])
    assert mean_pair_similarity(images, num_pairs=6) == pytest.approx(expected, rel=1e-5)


def test_a_set_of_equal_images_has_similarity_one():
    assert mean_pair_similarity(draw(1, (2, 20, 20)).expand(5, -1, -1, -1)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("count", "num_pairs"), [(5, 9), (40, 500), (2000, 300)])
def test_pairs_are_different_images_and_none_is_drawn_twice(count, num_pairs):
    pairs = draw_pairs(count, num_pairs, seed=1)
    assert len({frozenset(pair) for pair in pairs.tolist()}) == num_pairs == len(pairs)
    assert pairs.min() >= 0
    assert pairs.max() < count


def test_every_pair_can_be_drawn():
    drawn = {frozenset(pair) for seed in range(40) for pair in draw_pairs(6, 7, seed).tolist()}
    assert len(drawn) == 15


def test_the_inception_score_equals_that_of_torchmetrics():
    logits = draw(50, (12,), 6) * 4
    metric = InceptionScore(feature=torch.nn.Identity(), splits=1)
    metric.update(logits.double())
    assert inception_score(logits) == pytest.approx(float(metric.compute()[0]), rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "score"), [(torch.zeros(6, 5), 1), (1000 * torch.eye(5), 5), (draw(1, (9,)).expand(4, 9), 1)]
)
def test_the_inception_score_is_one_for_one_answer_and_the_number_of_classes_for_all(logits, score):
    assert inception_score(logits) == pytest.approx(score)


def test_two_images_of_a_patient_are_no_pair():
    images = draw(2, (1, 20, 20), 7)[[0, 0, 1]]
    expected = float(ms_ssim(images[:1], images[2:]))
    assert mean_pair_similarity(images, patients=["a", "a", "b"]) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="at least 2 patients, got 1"):
        mean_pair_similarity(images, patients=["a", "a", "a"])


def test_one_image_has_no_pair_and_no_score():
    with pytest.raises(ValueError, match="MS-SSIM of pairs must have at least 2 images, got 1"):
        mean_pair_similarity(draw(1, (1, 20, 20)))
    with pytest.raises(ValueError, match="inception_score must have at least 2 images, got 1"):
        inception_score(torch.zeros(1, 3))
