"""A label changes what the network says, and nothing else about MONAI's network."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import DiffusionInferer
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler

from scripts.generator.conditional_unet import ClassConditionalUNet, fold_pixels, unfold_pixels

SIZE = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": (4, 4),
    "attention_levels": (False, False),
    "num_res_blocks": 1,
    "norm_num_groups": 2,
    "num_head_channels": 4,
}


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = ClassConditionalUNet(num_classes=3, **SIZE).eval()
    # MONAI starts the last convolution of each block at zero: an untrained network says nothing about its label.
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def predict(network, labels):
    torch.manual_seed(1)
    images = torch.randn(1, 1, 8, 8).expand(len(labels), -1, -1, -1)
    return network(images, torch.tensor([5]).expand(len(labels)), None if labels[0] is None else torch.tensor(labels))


def test_labels_change_the_prediction(network):
    first, second, third = predict(network, [0, 1, 2])
    assert not torch.allclose(first, second)
    assert not torch.allclose(second, third)


def test_no_label_and_a_negative_label_are_the_same(network):
    assert torch.equal(predict(network, [-1, -1]), predict(network, [None, None]))


def test_labels_are_dropped_in_training_only(network):
    network.dropout_prob = 0.999999
    assert not torch.allclose(predict(network, [0]), predict(network, [-1]))
    assert torch.equal(predict(network.train(), [0]), predict(network, [-1]))


def test_without_classes_it_is_the_stock_network():
    torch.manual_seed(0)
    ours, stock = ClassConditionalUNet(**SIZE).eval(), DiffusionModelUNet(**SIZE).eval()
    stock.load_state_dict(ours.state_dict())
    images, timesteps = torch.randn(2, 1, 8, 8), torch.tensor([3, 900])
    assert torch.equal(ours(images, timesteps), stock(images, timesteps))
    with pytest.raises(ValueError, match="set generator_condition: label"):
        ours(images, timesteps, torch.tensor([0, 1]))


def test_the_stock_inferer_samples_with_guidance(network):
    scheduler = DDIMScheduler(num_train_timesteps=10)
    scheduler.set_timesteps(2)
    noise, labels = torch.randn(2, 1, 8, 8), torch.tensor([0, 2])
    inferer = DiffusionInferer(scheduler)
    plain = inferer.sample(noise, network, conditioning=labels, verbose=False)
    guided = inferer.sample(noise, network, conditioning=labels, verbose=False, cfg=1.0)
    assert torch.allclose(plain, guided, atol=1e-5)
    assert not torch.allclose(plain, inferer.sample(noise, network, conditioning=labels, verbose=False, cfg=3.0))


@pytest.mark.parametrize("labels", [[3], [7]])
def test_a_label_that_is_no_class_is_refused(network, labels):
    with pytest.raises(ValueError, match="labels below 3"):
        predict(network, labels)


@pytest.mark.parametrize("spatial_shape", [(8, 12), (4, 8, 12)], ids=["2d", "3d"])
def test_pixels_are_folded_into_channels_and_back_as_torch_does(spatial_shape):
    network = ClassConditionalUNet(unshuffle=2, **{**SIZE, "spatial_dims": len(spatial_shape)})
    images = torch.randn(2, 1, *spatial_shape)
    folded = fold_pixels(images, 2)
    assert folded.shape == (2, 2 ** len(spatial_shape), *(size // 2 for size in spatial_shape))
    assert torch.equal(unfold_pixels(folded, 2), images)
    if len(spatial_shape) == 2:
        assert torch.equal(folded, torch.nn.functional.pixel_unshuffle(images, 2))
    assert network(images, torch.tensor([5, 6])).shape == images.shape


def test_a_size_that_cannot_be_folded_is_refused():
    network = ClassConditionalUNet(unshuffle=2, **SIZE)
    with pytest.raises(
        ValueError, match=r"patch_size must be divisible by 4, got \[9, 8\]: that is generator_unshuffle 2 x 2"
    ):
        network(torch.randn(1, 1, 9, 8), torch.tensor([5]))
    with pytest.raises(ValueError, match="generator_unshuffle must be >= 1"):
        ClassConditionalUNet(unshuffle=0, **SIZE)


def test_in_bf16_it_answers_nearly_the_same_in_the_type_of_the_images(network):
    exact = predict(network, [0, 1])
    network.bf16 = True
    rounded = predict(network, [0, 1])
    assert rounded.dtype == exact.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert float((rounded - exact).std() / exact.std()) < 0.03
