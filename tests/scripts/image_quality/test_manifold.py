from __future__ import annotations

import numpy as np
import pytest
import torch
from prdc import compute_prdc

from scripts.image_quality.manifold import manifold_measures, pairwise


def draw(count, length, seed, shift=0.0):
    return torch.randn(count, length, generator=torch.Generator().manual_seed(seed)) + shift


def measure(real, synthetic, nearest=5):
    return manifold_measures(pairwise(torch.cat([real, synthetic])), len(real), nearest)


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("num_real", "num_synthetic"), [(40, 40), (25, 70), (60, 9)])
def test_the_four_measures_equal_those_of_prdc(num_real, num_synthetic, shift):
    real, synthetic = draw(num_real, 8, 0), draw(num_synthetic, 8, 1, shift)
    expected = compute_prdc(real.double().numpy(), synthetic.double().numpy(), nearest_k=5)
    assert measure(real, synthetic) == {name: float(value) for name, value in expected.items()}


def test_a_far_set_has_nothing_and_an_equal_set_has_all():
    real = draw(30, 4, 2)
    assert set(measure(real, real + 1000).values()) == {0.0}
    equal = measure(real, real)
    assert (equal["precision"], equal["recall"], equal["coverage"]) == (1, 1, 1)


def test_a_generator_of_one_image_is_precise_and_covers_little():
    real = draw(60, 3, 3)
    collapsed = measure(real, real[:1] + 1e-6 * draw(60, 3, 4))
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.1
    assert collapsed["coverage"] < 0.3


def test_density_of_equal_distributions_is_one_on_average():
    values = [measure(draw(50, 3, seed), draw(50, 3, 100 + seed))["density"] for seed in range(20)]
    assert np.mean(values) == pytest.approx(1, abs=0.1)


def test_second_scans_of_the_patients_change_little():
    real, synthetic = draw(60, 3, 5), draw(60, 3, 6)
    scans = torch.cat([real, real + 1e-3 * draw(60, 3, 7)])
    table = pairwise(torch.cat([scans, synthetic]))
    patients = [*range(60), *range(60), *range(100, 160)]
    once = measure(real, synthetic, nearest=3)
    # The third nearest of other patients is the second patient: balls of two patients instead of three.
    twice = manifold_measures(table, 120, 3, patients)
    assert twice["precision"] == pytest.approx(measure(real, synthetic, nearest=2)["precision"], abs=0.02)
    assert twice["recall"] == once["recall"]
    assert manifold_measures(table, 120, 1, [*range(180)])["coverage"] < 0.1  # as if each scan were of a patient


@pytest.mark.parametrize(("num_real", "num_synthetic"), [(5, 20), (20, 5)])
def test_no_more_images_than_neighbors_are_refused(num_real, num_synthetic):
    with pytest.raises(ValueError, match="at least 5 images of other patients beside each"):
        measure(draw(num_real, 3, 0), draw(num_synthetic, 3, 1))
