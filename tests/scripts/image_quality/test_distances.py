from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist, pdist
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from scripts.image_quality.distances import (
    discrepancy_interval,
    discrepancy_p_value,
    frechet_distance,
    linear_kernel,
    polynomial_kernel,
    rbf_kernel,
    squared_discrepancy,
)


def draw(count, length=6, seed=0, shift=0.0):
    return torch.randn(count, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def kid(first, second):
    return squared_discrepancy(polynomial_kernel(torch.cat([first, second])), len(first))


def unbiased(kernel, first, second):
    """The sums of Gretton et al. 2012, lemma 6, written out."""
    n, m = len(first), len(second)
    within_first = sum(kernel(first[i], first[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_second = sum(kernel(second[i], second[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_first + within_second - 2 * np.mean([kernel(x, y) for x, y in product(first, second)])


def cubic(x, y):
    return (float(x @ y) / len(x) + 1) ** 3


def update_and_compute(metric, real, fake):
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric.compute()


def test_at_equal_covariance_the_frechet_distance_is_the_squared_distance_of_the_means():
    features = draw(50)
    shift = torch.tensor([1.0, 0, -2, 0, 0, 3])
    assert frechet_distance(features, features + shift) == pytest.approx(14, rel=1e-9)


def test_of_one_feature_the_frechet_distance_is_that_of_means_and_deviations():
    first, second = draw(40, 1, seed=1), 3 * draw(60, 1, seed=2) + 1
    expected = (first.mean() - second.mean()) ** 2 + (first.std() - second.std()) ** 2
    assert frechet_distance(first, second) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(80, 120), (300, 41)])
def test_the_frechet_distance_equals_that_of_scipys_root(n, m):
    first, second = draw(n, 16, seed=3), draw(m, 16, seed=4) @ torch.diag(torch.linspace(0.5, 2, 16).double()) + 0.3
    means, covariances = zip(
        *((f.mean(0).numpy(), np.cov(f.numpy(), rowvar=False)) for f in (first, second)), strict=True
    )
    root = np.trace(sqrtm(covariances[0] @ covariances[1]).real)
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("count", "tolerance"), [(200, 1e-6), (20, 1e-5)], ids=["more images", "fewer images"])
def test_the_frechet_distance_equals_that_of_torchmetrics(count, tolerance):
    first, second = draw(count, 48, seed=5), draw(count, 48, seed=6, shift=0.2)
    metric = FrechetInceptionDistance(feature=Features(48))
    assert frechet_distance(first, second) == pytest.approx(
        float(update_and_compute(metric, first, second)), rel=tolerance
    )


class Features(torch.nn.Module):
    """Features that are the images."""

    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features

    def forward(self, images):
        return images.flatten(1)[:, : self.num_features]


def test_fewer_images_than_features_give_no_distance_to_themselves():
    features = draw(10, 300)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features, features.flip(0)) == pytest.approx(0, abs=1e-9)


def test_kid_equals_the_sums_of_its_definition():
    first, second = draw(5, seed=7), draw(7, seed=8, shift=0.4)
    assert kid(first, second) == pytest.approx(unbiased(cubic, first.numpy(), second.numpy()), rel=1e-9)


def test_kid_over_all_images_is_the_mean_over_all_subsets():
    first, second = draw(5, seed=9), draw(6, seed=10, shift=0.3)
    subsets = product(combinations(range(5), 3), combinations(range(6), 3))
    values = [kid(first[list(one)], second[list(other)]) for one, other in subsets]
    assert kid(first, second) == pytest.approx(np.mean(values), rel=1e-9)


def test_kid_equals_that_of_torchmetrics_on_the_same_subset():
    first, second = draw(30, 12, seed=11), draw(30, 12, seed=12, shift=0.5)
    metric = KernelInceptionDistance(feature=Features(12), subsets=2, subset_size=30)
    mean, spread = update_and_compute(metric, first, second)
    assert kid(first, second) == pytest.approx(float(mean), rel=1e-6)
    assert float(spread) == pytest.approx(0, abs=1e-9)


def test_mmd_equals_the_sums_of_its_definition_at_the_median_width():
    first, second = draw(6, seed=13), draw(4, seed=14, shift=1.0)
    both = torch.cat([first, second])
    kernel, width = rbf_kernel(both)
    distances = np.sort(pdist(both.numpy()))
    assert width == pytest.approx(distances[(len(distances) - 1) // 2])

    def gaussian(x, y):
        return np.exp(-float(cdist(x[None], y[None], "sqeuclidean")[0, 0]) / (2 * width**2))

    assert squared_discrepancy(kernel, 6) == pytest.approx(unbiased(gaussian, first.numpy(), second.numpy()), rel=1e-9)


def test_the_discrepancy_of_the_mean_kernel_is_the_mean_of_the_discrepancies():
    views = [polynomial_kernel(draw(12, 5, seed)) for seed in (15, 16)]
    mean = squared_discrepancy((views[0] + views[1]) / 2, 7)
    assert mean == pytest.approx(np.mean([squared_discrepancy(kernel, 7) for kernel in views]))


def test_equal_sets_have_a_kid_of_about_zero_on_average_and_shifted_ones_have_not():
    equal = [kid(draw(40, seed=seed), draw(40, seed=1000 + seed)) for seed in range(60)]
    assert abs(np.mean(equal)) < 3 * np.std(equal) / np.sqrt(60)
    assert kid(draw(40, seed=1), draw(40, seed=2, shift=0.7)) > 5 * np.std(equal)


def test_the_interval_equals_a_jackknife_that_leaves_out_image_by_image():
    first, second = draw(6, seed=17), draw(8, seed=18, shift=0.5)
    left_out = [
        np.array([kid(first[[j for j in range(6) if j != i]], second) for i in range(6)]),
        np.array([kid(first, second[[j for j in range(8) if j != i]]) for i in range(8)]),
    ]
    error = np.sqrt(sum((len(v) - 1) / len(v) * ((v - v.mean()) ** 2).sum() for v in left_out))
    low, high = discrepancy_interval(polynomial_kernel(torch.cat([first, second])), 6)
    assert (high - low) / 2 == pytest.approx(1.959964 * error, rel=1e-6)
    assert (high + low) / 2 == pytest.approx(kid(first, second))


def test_the_interval_covers_zero_for_equal_distributions_and_not_for_a_large_shift():
    kernels = [polynomial_kernel(torch.cat([draw(30, seed=s), draw(50, seed=500 + s)])) for s in range(60)]
    covered = [low <= 0 <= high for low, high in (discrepancy_interval(kernel, 30) for kernel in kernels)]
    assert sum(covered) >= 54
    shifted = polynomial_kernel(torch.cat([draw(30, seed=1), draw(50, seed=2, shift=1.0)]))
    assert discrepancy_interval(shifted, 30).low > 0


def test_under_one_distribution_p_is_spread_over_zero_to_one():
    values = np.array(
        [
            discrepancy_p_value(
                polynomial_kernel(torch.cat([draw(15, seed=s), draw(25, seed=900 + s)])),
                15,
                num_permutations=99,
                seed=s,
            )
            for s in range(80)
        ]
    )
    assert 0.35 < values.mean() < 0.65
    assert (values <= 0.05).mean() < 0.15
    assert (values > 0.5).mean() > 0.3


def test_a_shift_has_the_smallest_p_there_is():
    kernel = polynomial_kernel(torch.cat([draw(20, seed=19), draw(20, seed=20, shift=1.0)]))
    assert discrepancy_p_value(kernel, 20, num_permutations=199) == pytest.approx(1 / 200)


def test_permutations_equal_discrepancies_of_the_exchanged_sets():
    features = draw(9, seed=21)
    kernel, observed = polynomial_kernel(features), kid(features[:4], features[4:])
    every = [list(c) for c in combinations(range(9), 4)]
    exact = np.mean(
        [kid(features[c], features[[i for i in range(9) if i not in c]]) >= observed - 1e-12 for c in every]
    )
    assert discrepancy_p_value(kernel, 4, num_permutations=4000) == pytest.approx(exact, abs=0.03)


def scans(num_patients, num_scans, correlation, seed, shift=0.0):
    """Scans of patients, each of the same distribution as `draw`, and correlated with the others of the patient."""
    own = draw(num_patients, seed=seed).repeat_interleave(num_scans, dim=0)
    others = draw(num_patients * num_scans, seed=10_000 + seed)
    return correlation**0.5 * own + (1 - correlation) ** 0.5 * others + shift


def names_of(num_singles, num_patients, num_scans):
    return [f"single {i}" for i in range(num_singles)] + [
        f"patient {i // num_scans}" for i in range(num_patients * num_scans)
    ]


def test_two_images_of_a_patient_are_no_pair():
    first, second = draw(3, seed=22), scans(3, 2, 0.8, 23)
    kernel = polynomial_kernel(torch.cat([first, second]))
    pairs = [(i, j) for i in range(6) for j in range(6) if i // 2 != j // 2]
    within = np.mean([cubic(second[i].numpy(), second[j].numpy()) for i, j in pairs])
    within_first = np.mean([cubic(first[i].numpy(), first[j].numpy()) for i in range(3) for j in range(3) if i != j])
    across = np.mean([cubic(x, y) for x, y in product(first.numpy(), second.numpy())])
    value = squared_discrepancy(kernel, 3, names_of(3, 3, 2))
    assert value == pytest.approx(within_first + within - 2 * across, rel=1e-9)


def test_the_interval_of_several_scans_leaves_out_whole_patients():
    first, second = draw(5, seed=24), scans(4, 3, 0.8, 25, shift=0.5)
    names, both = names_of(5, 4, 3), torch.cat([first, second])

    def without(name):
        kept = [i for i, own in enumerate(names) if own != name]
        left = [names[i] for i in kept]
        return squared_discrepancy(polynomial_kernel(both[kept]), sum("single" in own for own in left), left)

    left_out = [
        np.array([without(f"{kind} {i}") for i in range(count)]) for kind, count in (("single", 5), ("patient", 4))
    ]
    error = np.sqrt(sum((len(v) - 1) / len(v) * ((v - v.mean()) ** 2).sum() for v in left_out))
    low, high = discrepancy_interval(polynomial_kernel(both), 5, names)
    assert (high - low) / 2 == pytest.approx(1.959964 * error, rel=1e-6)


@pytest.mark.parametrize(("num_patients", "num_scans"), [(60, 2), (30, 5)])
def test_correlated_scans_of_patients_are_no_difference(num_patients, num_scans):
    # Taken as independent images, these sets were told apart at p .05 in 39 and 95 of 100 draws.
    names = names_of(60, num_patients, num_scans)
    p_values, covered = [], []
    for seed in range(150):
        both = torch.cat([draw(60, seed=seed), scans(num_patients, num_scans, 0.8, 500 + seed)])
        kernel = polynomial_kernel(both)
        p_values.append(discrepancy_p_value(kernel, 60, names, num_permutations=99, seed=seed))
        low, high = discrepancy_interval(kernel, 60, names)
        covered.append(low <= 0 <= high)
    assert 0 < np.mean(np.array(p_values) <= 0.05) < 0.05 + 3 * (0.05 * 0.95 / 150) ** 0.5
    assert np.mean(covered) > 0.94
    assert abs(np.mean(np.array(p_values)) - 0.5) < 0.1


def test_a_shift_of_correlated_scans_has_a_small_p():
    kernel = polynomial_kernel(torch.cat([draw(60, seed=26), scans(30, 5, 0.8, 27, shift=1.0)]))
    assert discrepancy_p_value(kernel, 60, names_of(60, 30, 5), num_permutations=199) == pytest.approx(1 / 200)


def test_scans_of_the_same_patients_in_both_sets_are_no_difference():
    p_values = []
    for seed in range(60):
        both = scans(20, 4, 0.9, seed)
        order = [i for part in ((0, 1), (2, 3)) for i in range(80) if i % 4 in part]
        names = [i // 4 for i in order]
        p_values.append(discrepancy_p_value(polynomial_kernel(both[order]), 40, names, num_permutations=99, seed=seed))
    assert np.mean(np.array(p_values) <= 0.05) < 0.15


def test_a_name_must_be_given_for_each_image():
    with pytest.raises(ValueError, match="patients must name one for each of 6 images, got 5"):
        squared_discrepancy(polynomial_kernel(draw(6)), 3, list("abcde"))


def test_too_few_images_are_refused_by_name():
    with pytest.raises(ValueError, match="frechet_distance must have at least 2 images in each set, got 1 and 5"):
        frechet_distance(draw(1), draw(5))
    with pytest.raises(ValueError, match="at least 2 patients in each set, got 1 and 4"):
        kid(draw(1), draw(4))
    with pytest.raises(ValueError, match="at least 3 patients in each set, got 2 and 4"):
        discrepancy_interval(polynomial_kernel(draw(6)), 2)


def test_features_of_two_networks_are_refused():
    with pytest.raises(ValueError, match="features of one network"):
        frechet_distance(draw(5, 3), draw(5, 4))


def test_images_that_are_all_equal_are_refused():
    with pytest.raises(ValueError, match="median distance of 0"):
        rbf_kernel(torch.ones(4, 3))


def test_features_that_are_no_numbers_give_no_small_p():
    kernel = torch.eye(8, dtype=torch.float64)
    kernel[2, 3] = kernel[3, 2] = torch.nan
    with pytest.raises(ValueError, match="kernel must be finite, got NaN or infinity"):
        discrepancy_p_value(kernel, 4)


def test_features_that_do_not_fit_into_memory_at_once_give_the_same_kernels(monkeypatch):
    features = torch.randn(7, 50, generator=torch.Generator().manual_seed(3))
    expected = rbf_kernel(features), linear_kernel(features)
    monkeypatch.setattr("scripts.image_quality.distances.MAX_VALUES", 7 * 12)
    kernel, width = rbf_kernel(features)
    torch.testing.assert_close(kernel, expected[0][0])
    assert width == pytest.approx(expected[0][1])
    torch.testing.assert_close(linear_kernel(features), expected[1])
