"""Where a set is weak is named, and real images are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from scripts.image_quality.spectrum import (
    Spectra,
    band_edges,
    compare_spectra,
    radial_power_spectrum,
    spectral_distance,
)

SHAPES = [(24, 32), (16, 20, 12)]
IDS = ["2d", "3d"]


def draw(count, shape, seed=0, channels=1):
    """Noise that is smooth over some pixels, of another contrast in each image."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, channels, *shape, generator=generator)
    smooth = blurred(noise, 0.7)
    gain = 1 + 0.2 * torch.rand(count, generator=generator)
    return (0.5 * smooth * gain.view(-1, *[1] * (smooth.ndim - 1))).tanh()


def blurred(images, sigma):
    offsets = torch.arange(-4.0, 5.0)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    for axis in range(2, images.ndim):
        moved = images.movedim(axis, -1)
        flat = functional.pad(moved.flatten(0, -2)[:, None], (4, 4), mode="circular")
        images = functional.conv1d(flat, kernel[None, None])[:, 0].view(moved.shape).movedim(-1, axis)
    return images


def compare(synthetic, real, **settings):
    images = torch.cat([synthetic, real])
    return compare_spectra(Spectra.of(images), len(synthetic), range(len(images)), **settings)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_a_wave_has_its_power_in_the_band_of_its_frequency_whatever_its_direction_and_the_sides(shape):
    edges = band_edges(shape)
    for axis, size in enumerate(shape):
        frequency = 0.21
        positions = torch.arange(size).view([-1 if other == axis else 1 for other in range(len(shape))])
        wave = torch.cos(2 * math.pi * frequency * positions).expand(1, 1, *shape)
        (spectrum,) = radial_power_spectrum(wave)
        strongest = int(spectrum.argmax())
        width = edges[1]
        assert edges[strongest] - width <= frequency <= edges[strongest + 1] + width


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_white_noise_has_the_same_power_everywhere_and_as_much_as_its_variance(shape):
    noise = 0.3 * torch.randn(40, 2, *shape, generator=torch.Generator().manual_seed(1))
    mean = 10 ** (radial_power_spectrum(noise).mean(0) / 10)
    # The mean of logarithms lies below the logarithm of the mean where few frequencies are averaged, as in band 0.
    np.testing.assert_allclose(mean[2:], 0.09, rtol=0.15)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_a_set_blurred_by_a_pixel_is_weak_in_the_top_octave_and_said_to_be(shape):
    result = compare(blurred(draw(20, shape, 1), 1.0), draw(20, shape, 2))
    assert result["outside"][-1]["direction"] == "weak"
    assert result["outside"][-1]["high"] == 0.5
    assert "weak from" in result["sentence"]
    assert result["difference_db"][-1] < -10


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_a_set_with_noise_is_strong_at_high_frequencies(shape):
    images = draw(20, shape, 1)
    noisy = images + 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(5))
    assert compare(noisy, draw(20, shape, 2))["outside"][-1]["direction"] == "strong"


@pytest.mark.parametrize(("num_real", "highest"), [(10, 0.06), (30, 0.09)])
def test_two_real_halves_stay_in_the_band_as_often_as_it_says(num_real, highest):
    # Spectra whose bands vary together and alone, as those of patients do.
    random, edges, outside = np.random.default_rng(0), np.linspace(0, 0.5, 13), 0
    for seed in range(150):
        spectra = random.normal(size=(2 * num_real, 1)) + random.normal(size=(2 * num_real, 12))
        drawn = Spectra(torch.from_numpy(spectra), edges, None)
        outside += bool(compare_spectra(drawn, num_real, range(2 * num_real), num_draws=200, seed=seed)["outside"])
    assert outside / 150 <= highest


def test_the_images_of_one_patient_count_once():
    real, synthetic = draw(12, (16, 16), 3), draw(12, (16, 16), 4)
    names = [f"s{index}" for index in range(12)] + [f"r{index // 2}" for index in range(24)]
    twice = compare_spectra(Spectra.of(torch.cat([synthetic, real.repeat_interleave(2, 0)])), 12, names)
    once = compare(synthetic, real)
    assert twice["num_real"] == 12
    assert twice["band_db"] == once["band_db"]


def test_frequencies_are_told_in_mm_where_the_spacing_is_known():
    result = compare(draw(12, (16, 16), 1), draw(12, (16, 16), 2), spacing_mm=2.0)
    assert (result["unit"], result["edges"][-1]) == ("cycles per mm", 0.25)


def test_what_has_no_spectrum_has_a_reason():
    images = draw(12, (16, 16), 1)
    blank = torch.cat([images[:11], torch.full((1, 1, 16, 16), -1.0)])
    result = compare(blank, images)
    assert result["difference_db"] is None
    assert "1 of 24 images have a constant channel" in result["reason"]
    assert "at least 10 subjects, got 9" in compare(images, images[:9])["reason"]
    assert "at least 8 pixels" in compare(images[..., :7], images[..., :7])["reason"]


def test_the_distance_of_a_set_to_itself_is_zero():
    spectra = radial_power_spectrum(draw(6, (12, 12), 1))
    assert spectral_distance(spectra, spectra) == 0
