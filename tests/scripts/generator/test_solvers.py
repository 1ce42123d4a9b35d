"""Solvers of diffusers against the exact answer for a Gaussian and an integrated probability flow, and their state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import DDPMScheduler
from scipy.integrate import solve_ivp

from scripts.generator.noise import ImageNoise
from scripts.generator.parametrization import noise_scheduler
from scripts.generator.samplers import sample_images, sampling_scheduler, scheduler_name
from scripts.generator.solvers import SOLVERS, DiffusersScheduler, even_log_snr_timesteps, multistep_scheduler

MEAN, STD = 0.2, 0.5
STEPS = (10, 20, 50)
# Largest errors allowed at these steps, in the units of the images.
TOLERANCES = {
    "ddim": {10: 0.20, 20: 0.08, 50: 0.03},
    "dpm_solver": {10: 0.03, 20: 0.012, 50: 0.003},
    "unipc": {10: 0.04, 20: 0.010, 50: 0.003},
}


class Mixture(torch.nn.Module):
    """The exact noise prediction where each pixel is drawn from a mixture of Gaussians.

    Args:
        scheduler: noise scheduler.
        weights: of the parts.
        means: of the parts.
        std: of every part.
    """

    def __init__(
        self,
        scheduler: DDPMScheduler,
        weights: tuple[float, ...] = (1.0,),
        means: tuple[float, ...] = (MEAN,),
        std: float = STD,
    ) -> None:
        super().__init__()
        self.alphas_cumprod = scheduler.alphas_cumprod
        self.weights, self.means, self.std = torch.tensor(weights), torch.tensor(means), std

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return self.noise(x, self.alphas_cumprod[timesteps].reshape(-1, *[1] * (x.ndim - 1)))

    def noise(self, x: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
        variance = signal * self.std**2 + 1 - signal
        distance = x[..., None] - signal.sqrt()[..., None] * self.means.to(x.dtype)
        share = (self.weights.log() - distance**2 / (2 * variance[..., None])).softmax(-1)
        return (1 - signal).sqrt() * (share * distance).sum(-1) / variance


@pytest.fixture(scope="module")
def scheduler():
    return DDPMScheduler(num_train_timesteps=1000, clip_sample=False)


def draw(network, scheduler, sampler, steps, count=4, size=64):
    noise = ImageNoise(0, range(count), (1, size, size))
    return sample_images(network, sampling_scheduler(scheduler, sampler, steps), noise)


def start(count=4, size=64):
    return ImageNoise(0, range(count), (1, size, size)).draw()


def exact_images(scheduler):
    """Probability flow of a Gaussian, in closed form: every quantile stays where it is."""
    signal = scheduler.alphas_cumprod[-1]
    return MEAN + STD * (start() - signal.sqrt() * MEAN) / (signal * STD**2 + 1 - signal).sqrt()


@pytest.mark.parametrize("sampler", TOLERANCES)
def test_a_gaussian_is_sampled_with_its_mean_and_spread_and_ever_better_with_more_steps(scheduler, sampler):
    exact, errors = exact_images(scheduler), []
    for steps in STEPS:
        images = draw(Mixture(scheduler), scheduler, sampler, steps)
        tolerance = TOLERANCES[sampler][steps]
        assert images.mean().item() == pytest.approx(exact.mean().item(), abs=tolerance)
        assert images.std().item() == pytest.approx(exact.std().item(), abs=tolerance)
        errors.append((images - exact).abs().mean().item())
    assert errors[0] > 1.8 * errors[1] > 3.6 * errors[2]
    assert exact.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert exact.std().item() == pytest.approx(STD, abs=0.01)


@pytest.mark.parametrize("std", [0.2, 0.1])
@pytest.mark.parametrize("sampler", SOLVERS)
def test_narrow_distributions_keep_their_width_at_20_steps(scheduler, sampler, std):
    # The spacing that diffusers takes by default leaves less than half of 0.1.
    images = draw(Mixture(scheduler, std=std), scheduler, sampler, 20)
    assert images.std().item() == pytest.approx(std, rel=0.03)


@pytest.mark.parametrize("sampler", ["ddim", *SOLVERS])
def test_images_are_those_of_the_integrated_probability_flow(scheduler, sampler):
    network = Mixture(scheduler, (0.3, 0.7), (-0.8, 0.4), 0.15)
    first = start(1, 12)
    signal = scheduler.alphas_cumprod[-1].double()

    def slope(noise_to_signal: float, scaled: np.ndarray) -> np.ndarray:
        # In y = x_t / sqrt(abar_t) the flow is dy / d sigma = epsilon, sigma^2 = (1 - abar_t) / abar_t.
        inside = torch.tensor(1 / (1 + noise_to_signal**2), dtype=torch.float64)
        return network.noise(torch.from_numpy(scaled) * inside.sqrt(), inside).numpy()

    begin = (first.double() / signal.sqrt()).flatten().numpy()
    noise_to_signal = float(((1 - signal) / signal).sqrt())
    flow = solve_ivp(slope, (noise_to_signal, 0), begin, rtol=1e-7, atol=1e-9).y[:, -1]
    errors = [
        np.abs(draw(network, scheduler, sampler, steps, 1, 12).flatten().numpy() - flow).mean() for steps in (20, 100)
    ]
    assert errors[1] < 0.4 * errors[0]
    assert errors[1] < (0.02 if sampler == "ddim" else 0.005)


@pytest.mark.parametrize("sampler", SOLVERS)
def test_an_image_does_not_depend_on_its_batch_nor_on_batches_before(scheduler, sampler):
    network, solver = Mixture(scheduler, (0.5, 0.5), (-0.5, 0.5), 0.1), sampling_scheduler(scheduler, sampler, 10)
    together = sample_images(network, solver, ImageNoise(3, range(5), (2, 6, 5)))
    apart = [sample_images(network, solver, ImageNoise(3, [k], (2, 6, 5))) for k in range(5)]
    torch.testing.assert_close(torch.cat(apart), together, rtol=0, atol=1e-6)


def test_a_trajectory_that_was_broken_off_leaves_nothing_behind(scheduler):
    solver = sampling_scheduler(scheduler, "unipc", 5)
    sample = start(1, 8)
    expected = [solver.step(sample * 0.9, t, sample)[0] for t in solver.timesteps[:2].tolist()]
    repeated = [solver.step(sample * 0.9, t, sample)[0] for t in solver.timesteps[:2].tolist()]
    assert all(torch.equal(first, second) for first, second in zip(expected, repeated, strict=True))


@pytest.mark.parametrize("sampler", SOLVERS)
def test_the_inferer_of_monai_draws_the_same_images(scheduler, sampler):
    network = Mixture(scheduler)

    def noise_pred(x, timesteps, context):
        return network(x, timesteps.long())

    solver = multistep_scheduler(scheduler, sampler, 8)
    drawn = DiffusionInferer(scheduler).sample(start(2, 8), noise_pred, solver, verbose=False)
    torch.testing.assert_close(drawn, draw(network, scheduler, sampler, 8, 2, 8))


def test_it_is_the_solver_of_diffusers_where_nothing_is_clipped_and_its_spacing_is_taken(scheduler):
    from diffusers import DPMSolverMultistepScheduler

    network = Mixture(scheduler)
    ours = DiffusersScheduler(scheduler, DPMSolverMultistepScheduler(trained_betas=scheduler.betas.tolist()), 12, False)
    theirs = DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    theirs.set_timesteps(12)
    images = start(2, 8)
    for timestep in theirs.timesteps:
        images = theirs.step(network(images, timestep.expand(2)), timestep, images).prev_sample
    torch.testing.assert_close(sample_images(network, ours, ImageNoise(0, range(2), (1, 8, 8))), images)


def test_a_solver_that_works_on_unscaled_images_is_converted(scheduler):
    from diffusers import HeunDiscreteScheduler

    solver = HeunDiscreteScheduler(trained_betas=scheduler.betas.tolist(), timestep_spacing="trailing")
    adapted = DiffusersScheduler(scheduler, solver, 40, even_log_snr=False)
    images = sample_images(Mixture(scheduler), adapted, ImageNoise(0, range(4), (1, 64, 64)))
    assert (images - exact_images(scheduler)).abs().max() < 0.1
    # An adapter that passed x_t on as it is would be far off from the first step.
    assert images.std().item() == pytest.approx(STD, abs=0.03)


@pytest.mark.parametrize("sampler", SOLVERS)
def test_estimates_are_clipped_where_the_noise_scheduler_clips(sampler):
    clipping = DDPMScheduler(num_train_timesteps=1000, clip_sample=True)
    images = draw(Mixture(clipping, (0.5, 0.5), (-1.2, 1.2), 0.05), clipping, sampler, 30, 1, 16)
    assert images.abs().max() <= 1 + 1e-4
    free = DDPMScheduler(num_train_timesteps=1000, clip_sample=False)
    assert draw(Mixture(free, (0.5, 0.5), (-1.2, 1.2), 0.05), free, sampler, 30, 1, 16).abs().max() > 1.1


@pytest.mark.parametrize("sampler", SOLVERS)
def test_autocast_does_not_reach_the_sums_of_a_solver(scheduler, sampler):
    network, exact = Mixture(scheduler), draw(Mixture(scheduler), scheduler, sampler, 6, 1, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(draw(network, scheduler, sampler, 6, 1, 8), exact)


@pytest.mark.parametrize("sampler", SOLVERS)
@pytest.mark.parametrize("steps", [2, 1000])
def test_the_fewest_and_the_most_steps_give_finite_images(scheduler, sampler, steps):
    images = draw(Mixture(scheduler), scheduler, sampler, steps, 1, 4)
    assert torch.isfinite(images).all()


@pytest.mark.parametrize("sampler", SOLVERS)
def test_provenance_names_the_solver(scheduler, sampler):
    assert scheduler_name(sampling_scheduler(scheduler, sampler, 5)) == SOLVERS[sampler]


def test_one_step_is_refused(scheduler):
    with pytest.raises(ValueError, match="num_inference_steps must be from 2 to 1000 for sampler 'unipc', got 1"):
        sampling_scheduler(scheduler, "unipc", 1)


def test_steps_out_of_order_are_refused(scheduler):
    solver, sample = sampling_scheduler(scheduler, "dpm_solver", 4), torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="must be the next one of a trajectory that starts at 999, got 0"):
        solver.step(sample, 0, sample)
    for timestep in solver.timesteps.tolist():
        solver.step(sample, timestep, sample)
    with pytest.raises(ValueError, match="the next one of a trajectory"):
        solver.step(sample, 0, sample)


def test_timesteps_between_integers_are_refused(scheduler):
    from diffusers import HeunDiscreteScheduler

    with pytest.raises(ValueError, match="must be integers.*set even_log_snr"):
        DiffusersScheduler(scheduler, HeunDiscreteScheduler(), 7, even_log_snr=False)


@pytest.mark.parametrize("steps", [2, 3, 10, 50, 400, 999, 1000])
def test_timesteps_are_all_different_and_even_in_log_signal_to_noise_where_integers_allow(steps):
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    timesteps = even_log_snr_timesteps(scheduler, steps)
    assert (len(timesteps), timesteps[0].item(), timesteps[-1].item()) == (steps, 999, 0)
    assert (timesteps.diff() < 0).all()
    if steps == 10:
        signal = scheduler.alphas_cumprod[timesteps]
        gaps = (signal / (1 - signal)).log().diff()
        assert gaps.max() < 1.25 * gaps.min()


def test_one_step_begins_in_noise():
    assert even_log_snr_timesteps(DDPMScheduler(num_train_timesteps=50), 1).tolist() == [49]


def test_a_flow_begins_where_there_is_noise():
    timesteps = even_log_snr_timesteps(noise_scheduler("flow"), 20)
    assert (timesteps[0], timesteps[-1]) == (999, 1)
    assert len(even_log_snr_timesteps(noise_scheduler("flow"), 999)) == 999
    with pytest.raises(ValueError, match="num_inference_steps must be at most 999"):
        even_log_snr_timesteps(noise_scheduler("flow"), 1000)
