"""The loss of an autoencoder: its terms against closed forms, and an adversary that learns."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from ignite.engine import Engine
from torch.distributions import Independent, Normal, kl_divergence

from scripts.training import reconstruction_loss
from scripts.training.reconstruction_loss import (
    Adversary,
    AdversaryTraining,
    Reconstruction,
    ReconstructionLoss,
    check_perceptual,
    perceptual_loss,
)


@pytest.fixture
def batch() -> tuple[Reconstruction, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, 4, 6, generator=generator) * 2 - 1
    made = images + 0.1 * torch.randn(images.shape, generator=generator)
    means, deviations = torch.randn(3, 5, 2, 3, generator=generator), torch.rand(3, 5, 2, 3, generator=generator) + 0.1
    return Reconstruction(made, means, deviations), images


def test_the_divergence_is_that_of_torch(batch):
    pred, _ = batch
    ours = reconstruction_loss.kl_divergence(pred.means, pred.deviations)
    latents = Independent(Normal(pred.means, pred.deviations), 3)
    standard = Independent(Normal(torch.zeros_like(pred.means), torch.ones_like(pred.means)), 3)
    torch.testing.assert_close(ours, kl_divergence(latents, standard))
    assert float(reconstruction_loss.kl_divergence(torch.zeros(1, 2, 3), torch.ones(1, 2, 3))) == 0


def test_the_loss_is_the_sum_of_its_terms_per_value_of_the_images(batch):
    pred, images = batch
    loss = ReconstructionLoss(kl_weight=0.5)
    total = loss(pred, images)
    l1 = torch.nn.functional.l1_loss(pred.images, images)
    divergence = reconstruction_loss.kl_divergence(pred.means, pred.deviations).sum() / images.numel()
    torch.testing.assert_close(total, l1 + 0.5 * divergence)
    assert set(loss.terms) == {"l1", "kl"}


def test_a_perceptual_term_sees_every_channel_as_an_image_in_0_1(batch):
    pred, images = batch
    seen = []

    class Distance(torch.nn.Module):
        def forward(self, first, second):
            seen.append((first.shape, float(second.min()), float(second.max())))
            return (first - second).square().mean()

    loss = ReconstructionLoss(0.0, Distance(), perceptual_weight=2.0)
    expected = (pred.images - images).abs().mean() + 2 * (pred.images - images).square().mean() / 4
    torch.testing.assert_close(loss(pred, images), expected)
    shape, low, high = seen[0]
    assert (tuple(shape), low >= 0, high <= 1) == ((6, 1, 4, 6), True, True)


def test_an_adversary_learns_to_tell_blurred_images_and_is_told_by_its_loss():
    torch.manual_seed(0)
    images = torch.randn(16, 1, 8, 8)
    blurred = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    layers = torch.nn.Conv2d(1, 8, 3), torch.nn.LeakyReLU(), torch.nn.Conv2d(8, 1, 3)
    adversary = Adversary(torch.nn.Sequential(*layers), learning_rate=0.02, first_epoch=2)
    assert float(adversary.deception(blurred)) == 0
    pred = Reconstruction(blurred.requires_grad_(), images, images)
    engine = Engine(lambda *_: {"pred": pred, "label": images})
    AdversaryTraining(adversary).attach(engine)
    engine.run([0] * 30, max_epochs=1)
    untrained = {name: value.clone() for name, value in adversary.discriminator.state_dict().items()}
    engine.run([0] * 60, max_epochs=2)
    assert not all(torch.equal(value, adversary.discriminator.state_dict()[name]) for name, value in untrained.items())
    with torch.no_grad():
        of_images, of_blurred = (float(adversary.deception(batch)) for batch in (images, blurred))
    assert of_images < 0.7 * of_blurred
    # The autoencoder gets a gradient, and the adversary none by it.
    adversary.discriminator.zero_grad()
    adversary.deception(pred.images).backward()
    assert blurred.grad is not None
    assert bool(blurred.grad.any())
    assert all(parameter.grad is None for parameter in adversary.discriminator.parameters())


def test_an_adversary_is_taken_up_where_it_was_left():
    torch.manual_seed(0)
    images, others = torch.randn(2, 4, 1, 6, 6)

    def made() -> Adversary:
        torch.manual_seed(1)
        return Adversary(torch.nn.Conv2d(1, 1, 3), 0.1)

    through, stopped, resumed = made(), made(), made()
    for adversary in (through, stopped):
        adversary.learn(images, others)
    resumed.load_state_dict(stopped.state_dict())
    for adversary in (through, resumed):
        adversary.learn(images, others)
    torch.testing.assert_close(through.discriminator.weight, resumed.discriminator.weight, rtol=0, atol=0)


def test_a_perceptual_term_needs_a_local_file(tmp_path):
    assert perceptual_loss(None, 2, 0.0) is None
    with pytest.raises(ValueError, match=r"autoencoder_perceptual_path must be .* nothing is downloaded"):
        check_perceptual(None, 0.1)
    if importlib.util.find_spec("torchvision") is None:
        with pytest.raises(ImportError, match="needs torchvision"):
            perceptual_loss(str(tmp_path / "resnet50.pth"), 2, 0.1)


def test_a_negative_weight_is_refused_by_its_key():
    with pytest.raises(ValueError, match="autoencoder_kl_weight must be >= 0, got -1"):
        ReconstructionLoss(kl_weight=-1)
