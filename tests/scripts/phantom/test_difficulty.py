"""The small version of benchmarks/phantom_difficulty.py: means and volume tell little, a network more."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.phantom_difficulty import (
    Patches,
    crop,
    logistic_balanced_accuracy,
    make_patches,
    network_balanced_accuracies,
    scale_intensity,
)

COARSE = (80, 80, 26)  # 3 mm, slices of 6 mm: patches of 32 x 32


@pytest.fixture(scope="module")
def sites() -> dict[str, Patches]:
    return {site: make_patches(site, 100, COARSE, seed=0) for site in ("A", "B")}


@pytest.mark.parametrize("site", ["A", "B"])
def test_mean_intensities_tell_little(sites, site):
    patches = sites[site]
    assert patches.images.shape == (100, 4, 32, 32)
    assert logistic_balanced_accuracy(patches.features["four patch means"], patches.labels) <= 0.70


@pytest.mark.parametrize("site", ["A", "B"])
@pytest.mark.parametrize("volume", ["lesion volume", "region volume"])
def test_volume_tells_little(sites, site, volume):
    assert logistic_balanced_accuracy(sites[site].features[volume], sites[site].labels) <= 0.60


@pytest.mark.slow
def test_network_learns_a_site_and_loses_at_the_other(sites, monkeypatch):
    # One pass over the weights of a small network instead of a dozen, which take longer than its gradients.
    monkeypatch.setattr(torch.optim, "AdamW", partial(torch.optim.AdamW, fused=True))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        inside, outside = network_balanced_accuracies(sites["A"], sites["B"], folds=2, epochs=25, seed=0)
    finally:
        torch.set_num_threads(threads)
    means = logistic_balanced_accuracy(sites["A"].features["four patch means"], sites["A"].labels)
    assert inside >= 0.70
    assert inside > means
    assert outside < inside


def test_patch_is_padded_with_background_at_the_border():
    image = np.zeros((1, 6, 7), np.float32)
    patch = crop(image, center=(0, 6), size=(4, 4))
    assert patch.shape == (1, 4, 4)
    assert (patch[0, :2] == -1).all()
    assert (patch[0, 2:, :3] == 0).all()


def test_scaled_intensities_fill_the_range_and_keep_the_background():
    image = np.arange(1000, dtype=np.int16).reshape(10, 100)
    scaled = scale_intensity(image)
    assert scaled[0, 0] == -1
    assert scaled.min() == -1
    assert scaled.max() == 1
