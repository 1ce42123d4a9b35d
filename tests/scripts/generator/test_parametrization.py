import pytest
import torch
from monai.engines import DiffusionPrepareBatch
from monai.networks.schedulers import RFlowScheduler

from scripts.generator.conditional_unet import ClassConditionalUNet
from scripts.generator.parametrization import (
    PARAMETRIZATIONS,
    ParametrizedPrepareBatch,
    noise_of,
    noise_scheduler,
    parametrization_of,
    predict_original_and_noise,
    signal_and_noise_scales,
    training_target,
)

SHAPES = pytest.mark.parametrize("spatial_shape", [(4, 5), (3, 4, 5)], ids=["2d", "3d"])
ALL = pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)


def batch(spatial_shape=(4, 5)):
    torch.manual_seed(0)
    original, noise = torch.randn(2, 3, 2, *spatial_shape).unbind()
    return original, noise, torch.tensor([1, 400, 990])


@ALL
@SHAPES
def test_the_true_target_gives_the_clean_image_and_the_noise_back(parametrization, spatial_shape):
    scheduler = noise_scheduler(parametrization)
    original, noise, timesteps = batch(spatial_shape)
    noisy = scheduler.add_noise(original, noise, timesteps)
    target = training_target(scheduler, original, noise, timesteps)
    prediction = predict_original_and_noise(scheduler, target, timesteps, noisy)
    torch.testing.assert_close(prediction.original_samples, original, rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(prediction.noise, noise, rtol=1e-3, atol=2e-3)


@ALL
def test_the_scales_are_those_of_monai(parametrization):
    scheduler = noise_scheduler(parametrization)
    original, noise, timesteps = batch()
    alpha, sigma = (scale.reshape(-1, 1, 1, 1) for scale in signal_and_noise_scales(scheduler, timesteps))
    expected = scheduler.add_noise(original, noise, timesteps)
    torch.testing.assert_close(alpha * original + sigma * noise, expected)


def test_labels_are_dropped_as_the_network_drops_them_of_a_whole_batch():
    scheduler, labels = noise_scheduler("epsilon"), torch.arange(64) % 3
    batch_of_images = {"image": torch.zeros(64, 1, 4, 4), "label": labels}
    levels = {"channels": [8], "attention_levels": [False], "num_res_blocks": 1, "norm_num_groups": 8}
    network = ClassConditionalUNet(3, 0.3, spatial_dims=2, in_channels=1, out_channels=1, **levels)
    torch.manual_seed(0)
    whole = ParametrizedPrepareBatch(scheduler, "label")(batch_of_images, "cpu")
    by_network = network.train()._labels(whole[0], whole[3]["condition"])
    torch.manual_seed(0)
    dropped = ParametrizedPrepareBatch(scheduler, "label", label_dropout=0.3)(batch_of_images, "cpu")
    assert torch.equal(dropped[3]["noise"], whole[3]["noise"])
    assert torch.equal(network.eval()._labels(dropped[0], dropped[3]["condition"]), by_network)
    assert 0 < int((dropped[3]["condition"] < 0).sum()) < 64


@ALL
def test_any_output_gives_a_pair_that_makes_the_noisy_image(parametrization):
    scheduler = noise_scheduler(parametrization)
    noisy, output, timesteps = batch()
    prediction = predict_original_and_noise(scheduler, output, timesteps, noisy)
    remade = scheduler.add_noise(prediction.original_samples, prediction.noise, timesteps)
    torch.testing.assert_close(remade, noisy, rtol=1e-3, atol=2e-3)


@ALL
def test_the_noise_of_the_predicted_image_is_the_predicted_noise(parametrization):
    scheduler = noise_scheduler(parametrization)
    noisy, output, timesteps = batch()
    prediction = predict_original_and_noise(scheduler, output, timesteps, noisy)
    noise = noise_of(scheduler, prediction.original_samples, timesteps, noisy)
    torch.testing.assert_close(noise, prediction.noise, rtol=1e-3, atol=5e-3)


@pytest.mark.parametrize(("parametrization", "bound"), [("v_prediction", 1.0), ("flow", 1.0), ("sample", 1.0)])
def test_the_clean_image_depends_on_the_output_by_at_most_one(parametrization, bound):
    """With noise prediction it depends by sigma / alpha, 157 at the last step: the reason for the others."""
    scheduler = noise_scheduler(parametrization)
    timesteps = torch.arange(1000)
    noisy = torch.zeros(1000, 1, 1, 1)
    ones = predict_original_and_noise(scheduler, torch.ones_like(noisy), timesteps, noisy).original_samples
    assert ones.abs().max() <= bound
    epsilon = noise_scheduler("epsilon")
    at_the_end = predict_original_and_noise(epsilon, torch.ones_like(noisy), timesteps, noisy).original_samples[-1]
    assert float(at_the_end.abs()) == pytest.approx(157, abs=1)


def test_monais_own_flow_step_agrees():
    scheduler = noise_scheduler("flow")
    scheduler.set_timesteps(10)
    noisy, output, _ = batch()
    _, original = scheduler.step(output, 500, noisy)
    timesteps = torch.full((3,), 500)
    torch.testing.assert_close(predict_original_and_noise(scheduler, output, timesteps, noisy)[0], original)


def test_monais_continuous_flow_times_do_not_add_up_to_one():
    """Why the discrete times are taken: continuous ones are kept in float16 and the next one is cut to an integer."""

    def total(use_discrete_timesteps):
        scheduler = RFlowScheduler(1000, use_discrete_timesteps=use_discrete_timesteps)
        scheduler.set_timesteps(30)
        following = [*scheduler.timesteps[1:].tolist(), 0]
        one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
        steps = [
            scheduler.step(one, t, zero, s)[0] for t, s in zip(scheduler.timesteps.tolist(), following, strict=True)
        ]
        return float(sum(steps))

    assert total(True) == pytest.approx(1, abs=1e-5)
    assert abs(total(False) - 1) > 0.005


@pytest.mark.parametrize("condition_name", [None, "label"])
def test_noise_prediction_draws_what_the_stock_batch_draws(condition_name):
    images = {"image": torch.randn(4, 2, 3, 3), "label": torch.arange(4)}
    stock = DiffusionPrepareBatch(1000, condition_name)
    ours = ParametrizedPrepareBatch(noise_scheduler("epsilon"), condition_name)
    torch.manual_seed(3)
    first = stock(images)
    torch.manual_seed(3)
    second = ours(images)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_times_of_a_flow_follow_the_logit_normal():
    ours = ParametrizedPrepareBatch(noise_scheduler("flow", flow_location=1.0, flow_scale=0.5))
    torch.manual_seed(0)
    logits = torch.logit((ours.get_timesteps(torch.zeros(20000, 1, 1, 1)) + 0.5) / 1000)
    assert float(logits.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(logits.std()) == pytest.approx(0.5, abs=0.02)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="generator_parametrization must be one of epsilon, v_prediction"):
        noise_scheduler("edm")
    scheduler = noise_scheduler("epsilon")
    scheduler.prediction_type = "score"
    with pytest.raises(ValueError, match="got 'score'"):
        parametrization_of(scheduler)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="must have the shape of noisy_samples"):
        predict_original_and_noise(
            noise_scheduler("flow"), torch.zeros(1, 1, 2, 2), torch.tensor([3]), torch.zeros(1, 1, 3, 3)
        )
