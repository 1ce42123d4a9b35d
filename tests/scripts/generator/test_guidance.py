"""Guidance where class and whole are Gaussians, so that every prediction is known."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from scripts.generator.guidance import check_guidance, predict_noise
from scripts.generator.noise import ImageNoise
from scripts.generator.samplers import sample_images, sampling_scheduler

MEANS = torch.tensor([-0.4, 0.5])
STD = 0.2


class TwoClasses(torch.nn.Module):
    """Exact noise prediction for class c ~ N(MEANS[c], STD^2), without a class for a Gaussian of their moments."""

    def __init__(self, scheduler: DDPMScheduler) -> None:
        super().__init__()
        self.alphas_cumprod = scheduler.alphas_cumprod
        self.calls: list[int] = []

    def forward(self, x, timesteps, context=None):
        self.calls.append(len(x))
        context = torch.full((len(x),), -1) if context is None else context
        shape = (-1, *[1] * (x.ndim - 1))
        known = context >= 0
        mean = torch.where(known, MEANS[context.clamp(min=0)], MEANS.mean()).reshape(shape)
        spread = torch.where(known, STD, (STD**2 + MEANS.var(unbiased=False)).sqrt()).reshape(shape)
        signal = self.alphas_cumprod[timesteps].reshape(shape)
        return (1 - signal).sqrt() * (x - signal.sqrt() * mean) / (signal * spread**2 + 1 - signal)


@pytest.fixture
def network():
    return TwoClasses(DDPMScheduler(num_train_timesteps=1000, clip_sample=False))


def draw(network, sampler="ddim", steps=50, **options):
    scheduler = DDPMScheduler(num_train_timesteps=1000, clip_sample=False)
    noise = ImageNoise(0, range(2), (1, 16, 16))
    return sample_images(network, sampling_scheduler(scheduler, sampler, steps), noise, **options)


def test_a_prediction_is_that_without_a_class_plus_the_scaled_difference(network):
    x, timesteps, labels = torch.randn(3, 1, 4, 5), torch.tensor([5, 400, 900]), torch.tensor([0, 1, 1])
    without, with_label = network(x, timesteps), network(x, timesteps, labels)
    guided = predict_noise(network, x, timesteps, labels, 2.5)
    torch.testing.assert_close(guided, without + 2.5 * (with_label - without))


@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver", "unipc"])
def test_a_scale_of_1_is_no_guidance_bit_for_bit(network, sampler):
    labels = torch.tensor([0, 1])
    assert torch.equal(
        draw(network, sampler, 8, labels=labels, guidance_scale=1.0), draw(network, sampler, 8, labels=labels)
    )
    assert set(network.calls) == {2}


def test_every_image_is_shown_twice_in_one_call(network):
    draw(network, steps=3, labels=torch.tensor([0, 1]), guidance_scale=2)
    assert network.calls == [4] * 3


@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver", "unipc"])
def test_a_larger_scale_moves_samples_from_the_mean_of_all_past_that_of_their_class(network, sampler):
    labels = torch.tensor([0, 1])
    drawn = [draw(network, sampler, labels=labels, guidance_scale=w).mean(dim=(1, 2, 3)) for w in (1, 2, 4)]
    torch.testing.assert_close(drawn[0], MEANS, rtol=0, atol=0.05)
    low, high = torch.stack(drawn).T
    assert low[0] > low[1] > low[2]
    assert high[0] < high[1] < high[2]


def test_predictions_keep_the_type_of_the_images(network):
    x = torch.randn(2, 1, 4, 4)
    half = lambda *args, **kwargs: network(*args, **kwargs).bfloat16()  # noqa: E731
    for labels, scale in ((None, 1.0), (torch.tensor([0, 1]), 1.0), (torch.tensor([0, 1]), 3.0)):
        assert predict_noise(half, x, torch.tensor([3, 3]), labels, scale).dtype == torch.float32


@pytest.mark.parametrize(
    ("scale", "condition", "class_name", "label_dropout", "message"),
    [
        (0.5, "label", "LGG", 0.1, "guidance_scale must be >= 1, got 0.5"),
        (float("nan"), "label", "LGG", 0.1, "must be >= 1"),
        (2.0, None, "LGG", 0.1, "not told the class, got 2.0; train one with generator_condition: label"),
        (2.0, "label", None, 0.1, "where generator_class is null"),
        (2.0, "label", "LGG", 0.0, "trained without label dropout"),
        (2.0, "label", "LGG", None, "trained without label dropout"),
    ],
)
def test_guidance_that_a_generator_cannot_give_is_refused(scale, condition, class_name, label_dropout, message):
    with pytest.raises(ValueError, match=message):
        check_guidance(scale, condition, class_name, label_dropout)


@pytest.mark.parametrize(("scale", "condition", "dropout"), [(1, None, None), (1, "label", 0.0), (3, "label", 0.1)])
def test_guidance_that_a_generator_can_give_is_accepted(scale, condition, dropout):
    check_guidance(scale, condition, "LGG", dropout)
