from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.memorization.nearest_images import brain_pearson, nearest_by_subject, negative_l2, pearson

SHAPES = pytest.mark.parametrize("shape", [(2, 5, 6), (1, 4, 5, 6)], ids=["2d", "3d"])


def draw(count, shape, seed):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed)).tanh()


def with_background(images, seed):
    """Set a random third of the pixels to background in every channel."""
    outside = torch.rand(len(images), 1, *images.shape[2:], generator=torch.Generator().manual_seed(seed)) < 0.33
    return torch.where(outside, -1.0, images)


@SHAPES
def test_pearson_equals_numpy(shape):
    images, references = draw(4, shape, 0), draw(3, shape, 1)
    expected = np.corrcoef(images.flatten(1).numpy(), references.flatten(1).numpy())[:4, 4:]
    np.testing.assert_allclose(pearson(images, references).numpy(), expected, atol=1e-7)


@SHAPES
def test_l2_equals_numpy(shape):
    images, references = draw(4, shape, 0), draw(3, shape, 1)
    expected = np.linalg.norm((images[:, None] - references[None]).flatten(2).double().numpy(), axis=2)
    np.testing.assert_allclose(-negative_l2(images, references).numpy(), expected, atol=1e-6)


@SHAPES
def test_correlation_inside_the_brain_is_the_mean_of_numpys_over_channels(shape):
    images, references = draw(2, shape, 0), with_background(draw(2, shape, 1), 2)
    brain = (references[1] != -1).any(0)
    channels = [np.corrcoef(images[0, c][brain], references[1, c][brain])[0, 1] for c in range(shape[0])]
    assert float(brain_pearson(images, references)[0, 1]) == pytest.approx(np.mean(channels), abs=1e-5)


def test_background_that_all_patients_share_does_not_count_as_likeness():
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[3:13, 3:13] = True
    one, other = (torch.where(inside, 0.2 * draw(1, (1, 16, 16), seed), -1.0) for seed in (5, 6))
    assert float(pearson(one, other)) > 0.8
    assert abs(float(brain_pearson(one, other))) < 0.3


def test_the_nearest_image_of_each_subject_is_found_whatever_the_block():
    images, references = draw(7, (2, 4, 4), 3), draw(5, (2, 4, 4), 4)
    owners = [1, 0, 1, 2, 0]
    one, other = (nearest_by_subject(images, references, owners, pearson, size) for size in (2, 100))
    torch.testing.assert_close(one.similarities, other.similarities)
    table = pearson(images, references)
    assert torch.equal(one.images, other.images)
    for row in range(7):
        for subject in range(3):
            own = [index for index, owner in enumerate(owners) if owner == subject]
            best = max(own, key=lambda index: float(table[row, index]))
            assert int(one.images[row, subject]) == best
            assert float(one.similarities[row, subject]) == pytest.approx(float(table[row, best]))


def test_a_blank_sample_resembles_nobody_and_a_blank_patient_is_refused():
    blank, patients = torch.full((1, 2, 4, 4), -1.0), draw(2, (2, 4, 4), 0)
    assert pearson(blank, patients).abs().max() == 0
    assert brain_pearson(blank, patients).abs().max() == 0
    with pytest.raises(ValueError, match="references must not be constant"):
        pearson(patients, blank)
    with pytest.raises(ValueError, match="references must show brain"):
        brain_pearson(patients, blank)


@pytest.mark.parametrize("similarity", [pearson, negative_l2, brain_pearson])
def test_other_shapes_are_refused(similarity):
    with pytest.raises(ValueError, match="references must have the shape"):
        similarity(draw(1, (2, 4, 4), 0), draw(1, (2, 4, 5), 0))
