"""How well images come back: what is kept and what is blurred away."""

from __future__ import annotations

import math

import pytest
import torch

from scripts.training.reconstruction_loss import Reconstruction
from scripts.training.reconstruction_measures import (
    measure_reconstruction,
    radial_power,
    reconstruction_report,
    spectrum_ratio,
)


@pytest.mark.parametrize("shape", [(12, 16), (12, 16, 14)], ids=["2d", "3d"])
def test_images_that_come_back_as_they_are_are_perfect(shape):
    images = torch.rand(3, 2, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    measures = measure_reconstruction(images, images.clone())
    assert measures["ssim"] == pytest.approx(1)
    assert measures["l1"] == 0
    assert measures["spectrum_ratio"] == pytest.approx([1.0] * 8)
    assert measures["number"] == 3


def test_the_signal_to_noise_ratio_is_that_of_its_formula():
    images = torch.zeros(2, 1, 12, 12)
    measures = measure_reconstruction(images, images + 0.1)
    assert measures["psnr"] == pytest.approx(10 * math.log10(2.0**2 / 0.1**2), rel=1e-5)


def test_a_blur_takes_the_high_frequencies_and_noise_adds_to_them():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(20, 1, 32, 32, generator=generator)
    kernel = torch.tensor([0.25, 0.5, 0.25])
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="circular")
    blurred = torch.nn.functional.conv2d(padded, (kernel[:, None] * kernel)[None, None])
    ratio = spectrum_ratio(images, blurred)
    # Power of the kernel along an axis: cos^4(pi k / 32), of both axes between that of 0 and 45 degrees.
    axis = [math.cos(math.pi * k / 32) ** 4 for k in range(1, 17)]
    diagonal = [math.cos(math.pi * k / 32 / math.sqrt(2)) ** 8 for k in range(1, 17)]
    inside = [min(a, d) - 0.1 <= value <= max(a, d) + 0.1 for value, a, d in zip(ratio, axis, diagonal, strict=True)]
    assert all(inside[:13])
    assert ratio[0] > 0.9
    assert ratio[12] < 0.1
    assert spectrum_ratio(images, images + 0.5 * torch.randn(images.shape, generator=generator))[12] > 1.1


def test_a_wave_is_of_its_own_frequency_on_unequal_sides():
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    for wave, frequency in ((torch.cos(2 * math.pi * 3 * columns / 16), 3), (torch.cos(math.pi * rows / 2), 4)):
        assert int(radial_power(wave[None, None]).argmax()) + 1 == frequency


def test_blocks_of_images_have_the_measures_of_all():
    images = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    network = torch.nn.Conv2d(1, 1, 3, padding=1)

    class Blur(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = network

        def forward(self, images):
            return Reconstruction(self.layer(images), images, images)

    with torch.no_grad():
        whole = measure_reconstruction(images, network(images).clamp(-1, 1))
    report = reconstruction_report(Blur(), {"train": images.split(2)})["train"]
    assert report.pop("spectrum_ratio") == pytest.approx(whole.pop("spectrum_ratio"))
    assert report == pytest.approx(whole)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="reconstructions must have the shape of images"):
        measure_reconstruction(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 9))
