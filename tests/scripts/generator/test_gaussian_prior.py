"""The closed-form part of a generator: against matrices, scikit-learn, and what sampling it must give."""

from __future__ import annotations

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from scripts.generator.conditional_unet import ClassConditionalUNet
from scripts.generator.diffusion_set import load_generator
from scripts.generator.gaussian_prior import MIN_VARIANCE, GaussianPrior, fit_prior, require_fade, with_fade
from scripts.generator.noise import ImageNoise
from scripts.generator.parametrization import (
    PARAMETRIZATIONS,
    noise_scheduler,
    predict_original_and_noise,
    signal_and_noise_scales,
)
from scripts.generator.samplers import sample_images, sampling_scheduler
from scripts.generator.solvers import noise_to_signal_ratio

SHAPE = (2, 4, 4)
SIZE = 32


def make_images(count: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(count, 3, generator=generator) * torch.tensor([0.5, 0.3, 0.2])
    patterns = torch.randn(3, SIZE, generator=generator) / SIZE**0.5
    noise = 0.02 * torch.randn(count, SIZE, generator=generator)
    return (0.2 + factors @ patterns + noise).reshape(count, *SHAPE)


def make_prior(parametrization: str = "flow", rank: int = 3, num_classes: int | None = None) -> GaussianPrior:
    return GaussianPrior(noise_scheduler(parametrization), rank, SHAPE, num_classes)


def covariance(prior: GaussianPrior, group: int) -> Tensor:
    axes, variances, rest = prior.axes[group].double(), prior.variances[group].double(), prior.rest[group].double()
    return axes.T @ torch.diag(variances - rest) @ axes + rest * torch.eye(SIZE, dtype=torch.double)


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_the_guess_is_the_conditional_mean_of_a_gaussian(parametrization):
    prior = make_prior(parametrization)
    prior.fit(make_images())
    noisy = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor([5, 200, 600, 990])
    output = prior(noisy, timesteps, torch.zeros(4, dtype=torch.long))
    predicted = predict_original_and_noise(prior.scheduler, output, timesteps, noisy).original_samples
    alphas, sigmas = signal_and_noise_scales(prior.scheduler, timesteps)
    mean, matrix = prior.mean[0].double(), covariance(prior, 0)
    for image, guess, alpha, sigma in zip(noisy, predicted, alphas.double(), sigmas.double(), strict=True):
        of_noisy = alpha**2 * matrix + sigma**2 * torch.eye(SIZE, dtype=torch.double)
        expected = mean + alpha * matrix @ torch.linalg.solve(of_noisy, image.flatten().double() - alpha * mean)
        assert torch.allclose(guess.flatten().double(), expected, atol=2e-3)


def test_axes_and_variances_are_those_of_scikit_learn():
    images = make_images()
    prior = make_prior()
    prior.fit(images)
    reference = PCA(3, svd_solver="full").fit(images.flatten(1).numpy())
    assert torch.allclose(prior.mean[0], torch.tensor(reference.mean_), atol=1e-6)
    assert torch.allclose(prior.variances[0], torch.tensor(reference.explained_variance_), rtol=1e-4)
    alignment = (prior.axes[0] @ torch.tensor(reference.components_).T).abs()
    assert torch.allclose(alignment, torch.eye(3), atol=1e-4)


def test_sampled_without_a_trained_network_it_has_the_covariance_of_the_images():
    prior = make_prior()
    prior.fit(make_images())
    network = make_network(prior, num_classes=None)
    scheduler = sampling_scheduler(prior.scheduler, "ddim", 100)
    drawn = sample_images(network, scheduler, ImageNoise(0, range(400), SHAPE)).flatten(1)
    assert torch.allclose(drawn.mean(0), prior.mean[0], atol=0.1)
    variances = ((drawn - drawn.mean(0)) @ prior.axes[0].T).var(0)
    # The standard error of a variance of 400 draws is 7 %.
    assert torch.allclose(variances, prior.variances[0], rtol=0.25)


def test_each_class_has_its_gaussian_and_no_class_that_of_all():
    images, labels = make_images(12), torch.tensor([0] * 5 + [1] * 6 + [-1])
    prior = make_prior(num_classes=2)
    prior.fit(images, labels)
    for group, own in enumerate((images[labels == 0], images[labels == 1], images)):
        assert torch.allclose(prior.mean[group], own.flatten(1).mean(0), atol=1e-6)
        assert float(prior.variances[group].sum()) <= float(own.flatten(1).var(0).sum()) + 1e-5


def test_a_class_of_one_image_takes_the_gaussian_of_all_instead_of_copying_it():
    images, labels = make_images(12), torch.tensor([0] + [1] * 11)
    prior = make_prior(num_classes=2)
    prior.fit(images, labels)
    assert torch.equal(prior.mean[0], prior.mean[2])
    assert torch.equal(prior.variances[0], prior.variances[2])


def test_a_class_has_at_most_half_as_many_components_as_images():
    prior = make_prior(rank=6)
    prior.fit(make_images(8))
    assert prior.axes[0, :4].any(1).all()
    assert not prior.axes[0, 4:].any()
    assert torch.equal(prior.variances[0, 4:], prior.rest[0].expand(2))


def test_directions_without_variance_keep_the_least():
    prior = make_prior(rank=2)
    prior.fit(torch.zeros(4, *SHAPE))
    assert torch.equal(prior.variances[0], torch.full((2,), MIN_VARIANCE))


def test_images_of_several_classes_in_one_batch_are_answered_as_alone():
    prior = make_prior(num_classes=2)
    prior.fit(make_images(12), torch.arange(12) % 2)
    noisy, timesteps, groups = torch.randn(3, *SHAPE), torch.tensor([3, 500, 900]), torch.tensor([0, 1, 2])
    together = prior(noisy, timesteps, groups)
    alone = [prior(noisy[i : i + 1], timesteps[i : i + 1], groups[i : i + 1]) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def make_network(prior: GaussianPrior | None, **changes: object) -> ClassConditionalUNet:
    arguments = {"spatial_dims": 2, "in_channels": 2, "out_channels": 2, "channels": [8, 8], "norm_num_groups": 4}
    arguments |= {"attention_levels": [False, False], "num_res_blocks": 1, "num_head_channels": 8, "num_classes": 2}
    return ClassConditionalUNet(prior=prior, **{**arguments, **changes})


@pytest.mark.parametrize("unshuffle", [1, 2])
def test_an_untrained_network_predicts_what_its_prior_does(unshuffle):
    prior = make_prior(num_classes=2)
    prior.fit(make_images(12), torch.arange(12) % 2)
    network = make_network(prior, unshuffle=unshuffle).eval()
    noisy, timesteps, labels = torch.randn(2, *SHAPE), torch.tensor([10, 700]), torch.tensor([1, -1])
    expected = prior(noisy, timesteps, torch.tensor([1, 2]))
    assert torch.equal(network(noisy, timesteps, context=labels), expected)


def test_weights_carry_the_prior_and_a_network_without_one_has_the_stock_names():
    prior = make_prior(num_classes=2)
    prior.fit(make_images(12), torch.arange(12) % 2)
    state = make_network(prior).state_dict()
    other = make_network(make_prior(num_classes=2))
    other.load_state_dict(state)
    assert torch.equal(other.prior.axes, prior.axes)  # type: ignore[union-attr]
    assert {name for name in state if not name.startswith("prior.")} == make_network(None).state_dict().keys()


def test_bfloat16_does_not_reach_the_prior():
    prior = make_prior()
    prior.fit(make_images())
    noisy, timesteps, groups = torch.randn(2, *SHAPE), torch.tensor([10, 700]), torch.zeros(2, dtype=torch.long)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = prior(noisy, timesteps, groups)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, prior(noisy, timesteps, groups))


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="images must have 32 values each, got shape \\(3, 2, 8, 8\\)"):
        make_prior().fit(torch.zeros(3, 2, 8, 8))


def test_a_single_image_is_not_taken():
    prior = make_prior()
    prior.fit(make_images(1))
    assert not prior.mean.any()


def test_a_network_without_a_prior_is_left_as_it_is():
    network = make_network(None)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit_prior(network, dataset=None)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_it_fades_with_the_logarithm_of_the_noise_to_signal_ratio(parametrization):
    prior = GaussianPrior(noise_scheduler(parametrization), 3, SHAPE, fade=(0.5, 8.0))
    timesteps = torch.arange(1000)
    ratios = noise_to_signal_ratio(prior.scheduler)
    share = prior.share(timesteps)
    assert torch.all(share[ratios <= 0.5] == 0)
    assert torch.all(share[ratios >= 8] == 1)
    middle = share[(ratios - 2).abs().argmin()]  # the geometric mean of the limits
    assert float(middle) == pytest.approx(0.5, abs=0.02)


def test_the_guess_counts_as_much_as_its_share():
    faded, full = GaussianPrior(noise_scheduler("flow"), 3, SHAPE, fade=(1.0, 4.0)), make_prior("flow")
    for prior in (faded, full):
        prior.fit(make_images())
    noisy = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    timesteps, groups = torch.tensor([0, 200, 700, 999]), torch.zeros(4, dtype=torch.long)
    share = faded.share(timesteps).reshape(-1, 1, 1, 1)
    assert 0 < float(share[2]) < 1
    assert torch.allclose(faded(noisy, timesteps, groups), share * full(noisy, timesteps, groups))
    assert torch.all(full.share(torch.arange(1000)) == 1)


def test_weights_are_drawn_with_the_fade_they_were_trained_with():
    trained = GaussianPrior(noise_scheduler("flow"), 3, SHAPE, fade=(1.0, 4.0))
    configured = GaussianPrior(noise_scheduler("flow"), 3, SHAPE, fade=(2.0, 8.0))
    configured.load_state_dict(trained.state_dict())
    assert configured.fade.tolist() == [1, 4]


def test_weights_from_before_the_fade_are_drawn_with_the_guess_everywhere(tmp_path):
    network = make_network(make_prior(), num_classes=None)
    old = {name: tensor for name, tensor in network.state_dict().items() if name != "prior.fade"}
    torch.save(old, tmp_path / "model.pt")
    faded = make_network(GaussianPrior(noise_scheduler("flow"), 3, SHAPE, fade=(1.0, 4.0)), num_classes=None)
    load_generator(faded, str(tmp_path / "model.pt"))
    assert torch.all(faded.prior.share(torch.arange(1000)) == 1)
    kept = {"prior.mean": torch.zeros(1), "prior.fade": torch.tensor([1.0, 4.0])}
    assert with_fade(kept) == kept
    assert with_fade({"mean": torch.zeros(1), "superprior.mean": torch.zeros(1)}).keys() == {"mean", "superprior.mean"}


@pytest.mark.parametrize("fade", [(2.0,), (0.0, 1.0), (8.0, 2.0), (1.0, 1.0), (1.0, float("inf")), ("low", "high")])
def test_a_fade_that_is_not_two_rising_numbers_is_refused(fade):
    with pytest.raises(ValueError, match="generator_gaussian_fade must be two rising noise-to-signal ratios"):
        require_fade(fade)
