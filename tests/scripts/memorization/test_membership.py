from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from scripts.generator.validation import DenoisingLosses
from scripts.memorization.statistics import infer_membership, membership_in_words
from scripts.patches.image_sets import ImageSet


class Memory(torch.nn.Module):
    """Predict the noise that leads to the nearest image of a list: what learning by heart is."""

    def __init__(self, images, scheduler):
        super().__init__()
        self.images = torch.nn.Parameter(images)
        self.scheduler = scheduler

    def forward(self, x, timesteps, context=None):
        scale = self.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        distances = (x[:, None] - scale[:, None].sqrt() * self.images).flatten(2).square().sum(2)
        nearest = self.images[distances.argmin(1)]
        return (x - scale.sqrt() * nearest) / (1 - scale).sqrt()


@pytest.fixture(scope="module")
def images():
    return torch.randn(24, 2, 6, 6, generator=torch.Generator().manual_seed(0)).tanh()


def sets(images):
    names = [f"P{index}" for index in range(len(images))]
    return ImageSet(images[:12], names[:12]), ImageSet(images[12:], names[12:])


def test_a_generator_that_learned_its_images_by_heart_is_told_by_its_loss(images):
    scheduler = DDPMScheduler(100)
    losses = DenoisingLosses(Memory(images[:12], scheduler), scheduler, num_levels=5, num_draws=2)
    result = infer_membership(losses, *sets(images))
    assert result["auc"]["value"] == 1
    assert len(result["auc_by_level"]) == 5
    assert "with an AUC of 1.00" in membership_in_words(result)[0]


def test_a_generator_that_learned_nobody_tells_nobody(images):
    scheduler = DDPMScheduler(100)
    others = torch.randn(6, 2, 6, 6, generator=torch.Generator().manual_seed(1)).tanh()
    losses = DenoisingLosses(Memory(others, scheduler), scheduler, num_levels=5, num_draws=2)
    auc = infer_membership(losses, *sets(images))["auc"]
    assert auc["low"] < 0.5 < auc["high"]


def test_losses_are_those_of_the_prediction_whatever_the_batch(images):
    scheduler = DDPMScheduler(100)
    network = Memory(images[:1], scheduler)
    one, other = (DenoisingLosses(network, scheduler, batch_size=size)(images[:5]) for size in (2, 64))
    torch.testing.assert_close(one, other)
    # The only image that the network knows has no loss at all.
    assert float(one[0].max()) == pytest.approx(0, abs=1e-6)
    assert one.shape == (5, 10)
    assert DenoisingLosses(network, scheduler).timesteps.tolist() == list(range(5, 100, 10))


def test_images_of_one_subject_count_once_and_one_subject_is_too_few(images):
    def losses(part, label):
        return part.flatten(1).mean(1, keepdim=True)

    training, held_out = sets(images)
    twice = ImageSet(training.images, [f"P{index // 2}" for index in range(12)])
    assert infer_membership(losses, twice, held_out)["num_training_subjects"] == 6
    alone = ImageSet(held_out.images, ["Q"] * 12)
    assert infer_membership(losses, training, alone) is None
    assert membership_in_words(None) == []
