"""Where the timesteps of a sampler and of a validation lie."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from scripts.generator.parametrization import noise_scheduler
from scripts.generator.timesteps import even_log_snr_timesteps, stratified_timesteps


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


@pytest.mark.parametrize(("num_images", "num_draws"), [(1, 1), (1, 8), (3, 4), (50, 16), (7, 150)])
def test_timesteps_are_spread_evenly_over_all_and_over_each_image(num_images, num_draws):
    timesteps = stratified_timesteps(num_images, num_draws, 1000)
    assert timesteps.shape == (num_images, num_draws)
    assert timesteps.min() >= 0
    assert timesteps.max() < 1000
    gaps = timesteps.flatten().sort().values.diff()
    assert gaps.numel() == 0 or gaps.max() - gaps.min() <= 1
    parts = (timesteps * num_draws).div(1000, rounding_mode="floor")
    assert (parts - torch.arange(num_draws)).abs().max() <= 1


def test_a_flow_begins_where_there_is_noise():
    timesteps = even_log_snr_timesteps(noise_scheduler("flow"), 20)
    assert (timesteps[0], timesteps[-1]) == (999, 1)
    assert len(even_log_snr_timesteps(noise_scheduler("flow"), 999)) == 999
    with pytest.raises(ValueError, match="num_inference_steps must be at most 999"):
        even_log_snr_timesteps(noise_scheduler("flow"), 1000)
