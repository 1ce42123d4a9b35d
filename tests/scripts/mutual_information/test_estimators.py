"""Estimators of mutual information against closed forms, MONAI and scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import GlobalMutualInformationLoss
from sklearn.metrics import mutual_info_score

from scripts.mutual_information.estimators import (
    ESTIMATORS,
    NEGLIGIBLE_SHARE,
    bin_numbers,
    gaussian,
    histogram,
    mutual_information,
    nmi,
    parzen_gaussian,
    parzen_weights,
)

NUM_PIXELS = 96 * 96


def gaussian_pair(
    rho: float, std: float = 0.3, num_pixels: int = NUM_PIXELS, seed: int = 0
) -> tuple[torch.Tensor, ...]:
    """Return a pair of images (4, N) of correlation rho and standard deviation std, in float64."""
    generator = torch.Generator().manual_seed(seed)
    first, other = torch.randn(2, 4, num_pixels, generator=generator, dtype=torch.float64)
    return std * first, std * (rho * first + math.sqrt(1 - rho**2) * other)


def random_images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=dtype) * 2 - 1


@pytest.mark.parametrize("num_bins", [16, 23, 32])
@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.3, 0.6, 0.9])
def test_a_gaussian_pair_reads_its_closed_form_after_the_stated_bias(rho, num_bins):
    std, blur = 0.3, 1 / (num_bins - 1)
    blurred_rho = rho * std**2 / (std**2 + blur**2)
    expected = -math.log(1 - blurred_rho**2) / 2
    upward = (num_bins - 1) ** 2 / (2 * NUM_PIXELS)
    measured = parzen_gaussian(*gaussian_pair(rho, std), num_bins).mean().item()
    assert expected - 0.02 < measured < expected + upward + 0.02


def test_independent_images_read_less_than_the_stated_bias():
    for num_bins in (16, 23, 32, 64):
        measured = parzen_gaussian(*gaussian_pair(0.0), num_bins).mean().item()
        assert 0 < measured < (num_bins - 1) ** 2 / (2 * NUM_PIXELS)


@pytest.mark.parametrize("rho", [-0.95, 0.0, 0.5, 0.95])
def test_the_gaussian_estimator_reads_the_closed_form(rho):
    measured = gaussian(*gaussian_pair(rho)).mean().item()
    assert measured == pytest.approx(-math.log(1 - rho**2) / 2, abs=0.02)


@pytest.mark.parametrize("num_bins", [16, 23])
@pytest.mark.parametrize("shape", [(3, 1, 16, 18), (2, 4, 16, 18), (2, 1, 6, 7, 8)])
def test_parzen_gaussian_equals_monai_where_monai_is_safe(shape, num_bins):
    first = random_images(*shape)
    second = (0.7 * first + 0.3 * random_images(*shape, seed=1)).clamp(-1, 1)
    reference = GlobalMutualInformationLoss(kernel_type="gaussian", num_bins=num_bins, reduction="none")
    expected = -reference((first + 1) / 2, (second + 1) / 2).flatten()
    measured = mutual_information(first, second, channels="pooled", num_bins=num_bins)
    torch.testing.assert_close(measured, expected, rtol=1e-3, atol=1e-4)


def test_histogram_equals_scikit_learn():
    first, second = random_images(3, 500), random_images(3, 500, seed=1) ** 3
    second = (first + second) / 2
    expected = [
        mutual_info_score(a.numpy(), b.numpy())
        for a, b in zip(bin_numbers(first, 16), bin_numbers(second, 16), strict=True)
    ]
    assert histogram(first, second, 16).tolist() == pytest.approx(expected, abs=1e-9)


def test_hard_and_soft_histograms_agree_on_images_of_whole_bins():
    # Values on the centers of every third bin: the kernel reaches one bin to each side, so blurred cells never meet.
    levels = torch.linspace(-1, 1, 25, dtype=torch.float64)[::3]
    generator = torch.Generator().manual_seed(0)
    first, other = torch.randint(len(levels), (2, 1, 4000), generator=generator)
    second = torch.where(torch.rand(first.shape, generator=generator) < 0.7, first, other)
    expected = mutual_info_score(first[0].numpy(), second[0].numpy())
    assert parzen_gaussian(levels[first], levels[second], 25).item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("channels", ["per_channel", "pooled"])
def test_gradients_are_those_of_finite_differences(estimator, channels):
    first = random_images(2, 2, 3, 4, dtype=torch.float64).requires_grad_()
    second = random_images(2, 2, 3, 4, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: mutual_information(a, b, estimator, channels, 6), (first, second))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_order_of_the_two_does_not_matter(estimator):
    first, second = random_images(3, 2, 8, 9), random_images(3, 2, 8, 9, seed=1)
    forward, backward = mutual_information(first, second, estimator), mutual_information(second, first, estimator)
    torch.testing.assert_close(forward, backward)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_sign_flip_of_one_image_does_not_matter(estimator):
    first, second = random_images(3, 2, 8, 9), random_images(3, 2, 8, 9, seed=1)
    flipped = mutual_information(-first, second, estimator)
    torch.testing.assert_close(flipped, mutual_information(first, second, estimator), rtol=1e-4, atol=1e-5)


def test_the_gaussian_estimator_does_not_depend_on_scale_and_offset():
    first, second = gaussian_pair(0.7)
    scaled = gaussian(0.1 * first - 0.4, 3 * second + 2)
    torch.testing.assert_close(scaled, gaussian(first, second), rtol=1e-4, atol=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("constant", [-1.0, 0.0, 1.0, 0.037])
def test_a_constant_image_shares_nothing_and_has_finite_gradients(estimator, constant):
    image = random_images(2, 3, 8, 9)
    flat = torch.full_like(image, constant, requires_grad=True)
    for first, second in ((flat, image), (image, flat), (flat, flat)):
        measured = mutual_information(first, second, estimator)
        (gradient,) = torch.autograd.grad(measured.sum(), flat)
        assert measured.abs().max() < 1e-5
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("estimator", ["parzen_gaussian", "nmi"])
def test_one_bright_outlier_changes_only_its_own_image(estimator):
    first, second = random_images(2, 1, 16, 16), random_images(2, 1, 16, 16, seed=1)
    bright = first.clone()
    bright[0, 0, 3, 4] = 1e6
    bright.requires_grad_()
    measured, before = mutual_information(bright, second, estimator), mutual_information(first, second, estimator)
    measured.sum().backward()
    assert measured[1] == before[1]
    assert abs(measured[0] - before[0]) < 0.05
    assert torch.isfinite(bright.grad).all()


def test_equal_images_read_more_than_other_images_and_nmi_stays_within_one():
    first, second = random_images(4, 2, 24, 24), random_images(4, 2, 24, 24, seed=1)
    for estimator in ESTIMATORS:
        own, other = (mutual_information(first, image, estimator) for image in (first, second))
        assert (own > other + 0.3).all()
        assert (other >= 0).all()
    assert nmi(first.flatten(1), first.flatten(1)).max() <= 1


def test_channels_are_compared_one_by_one_or_together():
    first, second = random_images(2, 3, 16, 16), random_images(2, 3, 16, 16, seed=1)
    each = torch.stack([mutual_information(first[:, [c]], second[:, [c]]) for c in range(3)], dim=1)
    torch.testing.assert_close(mutual_information(first, second), each.mean(1))
    # Channels of different mean look alike once pooled, though none tells anything about its partner.
    offsets = torch.tensor([-0.6, 0.0, 0.6])[:, None, None]
    shifted = (0.2 * first + offsets, 0.2 * second + offsets)
    assert (mutual_information(*shifted, channels="pooled") > mutual_information(*shifted) + 0.5).all()


def test_autocast_around_it_changes_nothing():
    first, second = random_images(2, 2, 8, 8), random_images(2, 2, 8, 8, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mutual_information(first, second)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, mutual_information(first, second))


def test_shares_sum_to_one_far_outside_the_bins_too():
    weights = parzen_weights(torch.tensor([[-1e5, -1.0, 0.3, 2.0, 1e5]]), 23)
    torch.testing.assert_close(weights.sum(1), torch.ones(1, 5))
    assert weights[0, 0, 0] == 1
    assert weights[0, -1, -1] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "mine"}, "estimator must be one of parzen_gaussian, nmi, gaussian, histogram"),
        ({"channels": "mean"}, "channels must be one of per_channel, pooled"),
        ({"num_bins": 1}, "mi_num_bins must be >= 2"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mutual_information(random_images(1, 1, 4, 4), random_images(1, 1, 4, 4), **options)


def test_images_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="second must have the shape of first"):
        mutual_information(random_images(1, 1, 4, 4), random_images(1, 1, 4, 5))


def test_a_histogram_reads_but_has_no_gradient():
    first, second = random_images(2, 3, 8, 8).requires_grad_(), random_images(2, 3, 8, 8)
    information = mutual_information(first, second, "histogram")
    assert information.shape == (2,)
    assert not information.requires_grad


def test_no_share_is_near_the_least_number_of_its_type_and_the_information_is_that_of_double_precision():
    first, second = random_images(2, 1, 32, 32), random_images(2, 1, 32, 32, seed=1)
    shares = parzen_weights(first.flatten(1), 23)
    assert float(shares[shares > 0].min()) >= NEGLIGIBLE_SHARE
    exact = mutual_information(first.double(), second.double())
    torch.testing.assert_close(mutual_information(first, second).double(), exact, rtol=1e-4, atol=0)
