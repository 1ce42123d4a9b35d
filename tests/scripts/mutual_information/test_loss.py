"""The noise loss with its mutual-information term."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from scripts.generator.parametrization import noise_scheduler, signal_and_noise_scales, training_target
from scripts.mutual_information.estimators import ESTIMATORS, mutual_information
from scripts.mutual_information.inferer import MIRegularizedDiffusionInferer, MIRegularizedPrediction
from scripts.mutual_information.loss import PAIRS, TIMESTEP_WEIGHTINGS, MIRegularizedNoiseLoss


def smooth_images(batch: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 2, 4, 6, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(16, 24), mode="bilinear").clamp(-1, 1)


def prediction(noise_pred: torch.Tensor, images: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor):
    inferer = MIRegularizedDiffusionInferer(DDPMScheduler(num_train_timesteps=1000))
    return inferer(images, lambda **_: noise_pred, noise=noise, timesteps=timesteps)


@pytest.fixture
def step() -> tuple[MIRegularizedPrediction, torch.Tensor]:
    images, noise = smooth_images(), torch.randn(4, 2, 16, 24, generator=torch.Generator().manual_seed(1))
    noise_pred = (0.8 * noise + 0.1).requires_grad_()
    return prediction(noise_pred, images, noise, torch.tensor([0, 100, 500, 999])), noise


def test_weights_one_and_zero_are_the_stock_loss_bit_for_bit(step):
    pred, noise = step
    expected = torch.nn.SmoothL1Loss()(pred.noise_pred, noise)
    (expected_gradient,) = torch.autograd.grad(expected, pred.model_output)
    loss = MIRegularizedNoiseLoss(denoise_weight=1, mi_weight=0)(pred, noise)
    (gradient,) = torch.autograd.grad(loss, pred.model_output)
    assert torch.equal(loss, expected)
    assert torch.equal(gradient, expected_gradient)


def test_the_loss_is_the_weighted_sum_of_its_terms(step):
    pred, noise = step
    loss_function = MIRegularizedNoiseLoss(denoise_weight=0.9, mi_weight=0.1)
    loss = loss_function(pred, noise)
    information = mutual_information(pred.original_samples_pred.clamp(-1, 1), pred.original_samples).mean()
    expected = 0.9 * torch.nn.functional.smooth_l1_loss(pred.noise_pred, noise) + 0.1 * information
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(loss_function.terms["mutual_information"], information.detach())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_minimizing_over_a_free_estimate_lowers_the_mutual_information(estimator):
    images = smooth_images()
    free = (images + 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(2))).requires_grad_()
    noise = torch.zeros_like(images)
    loss_function = MIRegularizedNoiseLoss(denoise_weight=0, mi_weight=1, mi_estimator=estimator)
    optimizer = torch.optim.Adam([free], lr=0.02)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = loss_function(
            MIRegularizedPrediction(noise, noise, free, images, images, torch.ones(4), torch.zeros(4)), noise
        )
        loss.backward()
        optimizer.step()
        values.append(loss_function.terms["mutual_information"].item())
    assert values[-1] < 0.7 * values[0]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("weighting", TIMESTEP_WEIGHTINGS)
@pytest.mark.filterwarnings("ignore:mi_pair")
def test_every_pair_and_weighting_has_a_finite_gradient(step, pair, weighting):
    pred, noise = step
    loss = MIRegularizedNoiseLoss(mi_pair=pair, mi_timestep_weighting=weighting)(pred, noise)
    (gradient,) = torch.autograd.grad(loss, pred.model_output)
    assert torch.isfinite(gradient).all()


def test_min_snr_bounds_the_gradient_that_grows_with_noise():
    images = smooth_images(2)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    # An estimate inside [-1, 1] at every timestep, so that no clamp hides the growth.
    norms = {}
    for weighting in ("uniform", "min_snr"):
        for timestep in (100, 900):
            noise_pred = noise.clone().requires_grad_()
            pred = prediction(noise_pred, images, noise, torch.tensor([timestep] * 2))
            loss_function = MIRegularizedNoiseLoss(0, 1, mi_timestep_weighting=weighting, mi_x0_clamp=False)
            (gradient,) = torch.autograd.grad(loss_function(pred, noise), noise_pred)
            norms[weighting, timestep] = gradient.norm().item()
    assert norms["uniform", 900] > 10 * norms["uniform", 100]
    assert norms["min_snr", 900] < norms["min_snr", 100]


def test_weightings_are_what_they_say():
    alphas_cumprod = torch.tensor([0.9, 0.5, 0.1])
    snr = alphas_cumprod / (1 - alphas_cumprod)
    torch.testing.assert_close(TIMESTEP_WEIGHTINGS["uniform"](snr), torch.ones(3))
    torch.testing.assert_close(TIMESTEP_WEIGHTINGS["min_snr"](snr), torch.tensor([1.0, 1.0, 1 / 9]))
    torch.testing.assert_close(TIMESTEP_WEIGHTINGS["high_noise"](snr), 1 - alphas_cumprod)


def test_clamped_pixels_have_no_gradient():
    images = smooth_images(1)
    estimate = images.clone()
    estimate[..., :8] = 3.0
    estimate.requires_grad_()
    pred = MIRegularizedPrediction(images, images, estimate, images, images, torch.ones(1), torch.zeros(1))
    MIRegularizedNoiseLoss(0, 1)(pred, images).backward()
    assert (estimate.grad[..., :8] == 0).all()
    assert (estimate.grad[..., 8:] != 0).any()


def test_warm_up_raises_the_weight_linearly_and_survives_a_restart(step):
    pred, noise = step
    loss_function = MIRegularizedNoiseLoss(denoise_weight=0, mi_weight=1, mi_warmup_steps=4)
    values = [loss_function(pred, noise).item() for _ in range(3)]
    restarted = MIRegularizedNoiseLoss(denoise_weight=0, mi_weight=1, mi_warmup_steps=4)
    restarted.load_state_dict(loss_function.state_dict())
    values += [restarted(pred, noise).item() for _ in range(2)]
    full = values[-1]
    assert values == pytest.approx([full / 4, full / 2, full * 3 / 4, full, full], rel=1e-5)


def test_bf16_predictions_are_measured_in_float32(step):
    pred, noise = step
    half = pred._replace(noise_pred=pred.noise_pred.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = MIRegularizedNoiseLoss(denoise_weight=0, mi_weight=1)(half, noise)
    torch.testing.assert_close(value, MIRegularizedNoiseLoss(denoise_weight=0, mi_weight=1)(pred, noise))


def test_a_pair_known_to_do_harm_is_warned_about():
    with pytest.warns(UserWarning, match="made memorization worse"):
        MIRegularizedNoiseLoss(mi_pair="x_t__noise_pred")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mi_weight": -0.1}, "mi_weight must be >= 0"),
        ({"denoise_weight": -1}, "denoise_weight must be >= 0"),
        ({"mi_pair": "x0__x0"}, "mi_pair must be one of x0_pred__x0"),
        ({"mi_estimator": "histogram"}, "must have a gradient"),
        ({"mi_timestep_weighting": "snr"}, "mi_timestep_weighting must be one of uniform, min_snr, high_noise"),
        ({"mi_channels": "all"}, "mi_channels must be one of"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MIRegularizedNoiseLoss(**options)


def test_a_histogram_is_logged_and_changes_no_gradient(step):
    pred, noise = step
    loss_function = MIRegularizedNoiseLoss(denoise_weight=1, mi_weight=0, mi_estimator="histogram", mi_log_interval=1)
    assert torch.equal(loss_function(pred, noise), torch.nn.SmoothL1Loss()(pred.noise_pred, noise))
    assert loss_function.terms["mutual_information"] > 0
    assert [row["gradient_ratio"] for row in loss_function.noise_levels.take()] == [0, None, 0, 0]


def test_noise_levels_hold_both_terms_and_the_ratio_of_their_gradients(step):
    pred, noise = step
    loss_function = MIRegularizedNoiseLoss(mi_log_interval=1)
    loss_function(pred, noise)
    rows = loss_function.noise_levels.take()
    information = loss_function.information(pred)
    (by_information,) = torch.autograd.grad(0.1 * information.mean(), pred.noise_pred, retain_graph=True)
    by_noise = torch.autograd.grad(0.9 * torch.nn.functional.smooth_l1_loss(pred.noise_pred, noise), pred.noise_pred)[0]
    ratio = by_information.flatten(1).norm(dim=1) / by_noise.flatten(1).norm(dim=1)
    # Timesteps 0 and 100 share the first band.
    assert rows[0]["mutual_information"] == pytest.approx(information[:2].mean().item())
    assert [rows[2]["gradient_ratio"], rows[3]["gradient_ratio"]] == pytest.approx(ratio[2:].tolist(), rel=1e-4)
    assert rows[1] == {"from": 0.25, "to": 0.5, "noise_loss": None, "mutual_information": None, "gradient_ratio": None}


def test_noise_levels_are_looked_at_only_at_their_interval_and_start_anew(step):
    pred, noise = step
    loss_function = MIRegularizedNoiseLoss(mi_log_interval=2)
    loss_function(pred, noise)
    assert loss_function.noise_levels.take()[0]["noise_loss"] is None
    loss_function(pred, noise)
    assert loss_function.noise_levels.take()[0]["noise_loss"] > 0
    assert loss_function.noise_levels.take()[0]["noise_loss"] is None


def test_parts_of_a_batch_are_one_step(step):
    pred, noise = step
    in_parts = MIRegularizedNoiseLoss(mi_warmup_steps=4, mi_log_interval=2, num_parts=3)
    whole = MIRegularizedNoiseLoss(mi_warmup_steps=4, mi_log_interval=2)
    for index in range(3):
        expected, looked_at = whole(pred, noise), whole.noise_levels.take()
        for _ in range(3):
            assert in_parts(pred, noise) == expected
            assert in_parts.noise_levels.take() == looked_at
        if index == 0:  # a training goes on after an interruption
            state = in_parts.get_extra_state()
            in_parts = MIRegularizedNoiseLoss(mi_warmup_steps=4, mi_log_interval=2, num_parts=3)
            in_parts.set_extra_state(state)
    assert in_parts.num_steps == 3


@pytest.mark.parametrize("timestep", [20, 500, 980])
@pytest.mark.parametrize("parametrization", ["v_prediction", "flow"])
def test_the_term_is_bounded_by_itself_with_velocity_and_flow(parametrization, timestep):
    """The gradient by the output is sigma_t times that by x_0; with noise prediction it is sigma_t / alpha_t times."""
    scheduler = noise_scheduler(parametrization)
    images, noise = smooth_images(), torch.randn(4, 2, 16, 24, generator=torch.Generator().manual_seed(1))
    timesteps = torch.full((4,), timestep)
    output = (training_target(scheduler, images, noise, timesteps) + 0.1).requires_grad_()
    pred = MIRegularizedDiffusionInferer(scheduler)(images, lambda **_: output, noise=noise, timesteps=timesteps)
    information = MIRegularizedNoiseLoss(denoise_weight=0, mi_weight=1, mi_x0_clamp=False).information(pred).sum()
    by_image, by_output = torch.autograd.grad(information, (pred.original_samples_pred, output))
    _, sigma = signal_and_noise_scales(scheduler, timesteps[:1])
    torch.testing.assert_close(by_output.norm(), sigma[0] * by_image.norm())


@pytest.mark.parametrize("timestep", [20, 500, 980])
def test_high_noise_gives_the_term_of_x_0_the_share_that_it_has_with_velocity(timestep):
    """For the same estimate of x_0 the loss of x_0 is sigma_t^2 times that of v."""
    images, noise = smooth_images(), torch.randn(4, 2, 16, 24, generator=torch.Generator().manual_seed(1))
    timesteps = torch.full((4,), timestep)
    alpha, sigma = signal_and_noise_scales(noise_scheduler("sample"), timesteps[:1])
    estimate = 0.9 * images + 0.02
    outputs = {"sample": estimate, "v_prediction": (alpha * (alpha * images + sigma * noise) - estimate) / sigma}
    losses = {}
    for (name, output), weighting in zip(outputs.items(), ("high_noise", "uniform"), strict=True):
        scheduler = noise_scheduler(name)
        pred = MIRegularizedDiffusionInferer(scheduler)(
            images, lambda *, output=output, **_: output, noise=noise, timesteps=timesteps
        )
        loss = MIRegularizedNoiseLoss(
            mi_timestep_weighting=weighting, denoising_loss=torch.nn.MSELoss(), parametrization=name
        )
        losses[name] = loss(pred, training_target(scheduler, images, noise, timesteps))
    torch.testing.assert_close(losses["sample"], sigma[0] ** 2 * losses["v_prediction"], rtol=1e-3, atol=0)


def test_equal_weights_at_all_noise_levels_are_warned_of_where_x_0_is_predicted():
    with pytest.warns(UserWarning, match="use 'high_noise' with generator_parametrization sample"):
        MIRegularizedNoiseLoss(parametrization="sample")


def test_the_bounded_weighting_is_not_applied_twice():
    with pytest.raises(ValueError, match="leave options/mutual_information_bounded.yaml out"):
        MIRegularizedNoiseLoss(mi_timestep_weighting="min_snr", parametrization="flow")


def test_another_denoising_loss_is_taken(step):
    pred, noise = step
    loss = MIRegularizedNoiseLoss(denoise_weight=1, mi_weight=0, denoising_loss=torch.nn.MSELoss())(pred, noise)
    assert torch.equal(loss, torch.nn.functional.mse_loss(pred.model_output, noise))
