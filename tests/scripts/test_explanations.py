from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scripts.explanations import deepest_layer, draw_answer, explain, normalize
from scripts.networks import FoldEnsemble

SHAPES = pytest.mark.parametrize("shape", [(20, 17), (20, 17, 15)], ids=["2d", "3d"])


class BrightSpot(nn.Module):
    """Class 1 is the more likely, the brighter the image is; class 0 is constant."""

    def __init__(self, spatial_dims):
        super().__init__()
        convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.features = convolution(1, 1, kernel_size=3, padding=1, padding_mode="replicate")
        nn.init.constant_(self.features.weight, 1.0)
        nn.init.constant_(self.features.bias, 3.0**spatial_dims)  # background gives 0

    def forward(self, image):
        bright = self.features(image).flatten(1).sum(1) / 3000
        return torch.stack([torch.ones_like(bright), bright], dim=1)


def spot(shape):
    image = torch.full((1, *shape), -1.0)
    place = tuple(slice(3, 7) for _ in shape)
    image[(0, *place)] = 1.0
    return image


@SHAPES
@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_the_map_is_highest_on_the_spot_that_decides(shape, method):
    network = BrightSpot(len(shape)).eval()
    heat = explain(network, spot(shape), label=1, method=method, mask_size=4)
    top = np.unravel_index(heat.argmax(), heat.shape)
    assert heat.shape == shape
    assert (heat.min(), heat.max()) == (0.0, 1.0)
    assert all(2 <= index <= 7 for index in top)
    assert heat[tuple(slice(12, None) for _ in shape)].max() < 0.05


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_the_map_of_a_class_that_nothing_speaks_for_is_empty(method):
    heat = explain(BrightSpot(2).eval(), spot((20, 17)), label=0, method=method, mask_size=4)
    assert heat.max() == 0


def test_the_map_of_an_ensemble_is_the_mean_of_its_members():
    torch.manual_seed(0)
    network = FoldEnsemble("resnet10", 2, 2, 1, 2).eval()
    image = torch.randn(1, 32, 32).clamp(-1, 1)
    raw = [explain(nn.ModuleDict({"members": nn.ModuleList([m])}).members[0], image, 1) for m in network.members]
    heat = explain(network, image, 1)
    assert heat.shape == (32, 32)
    assert not np.allclose(raw[0], raw[1])
    assert (heat[(raw[0] == 0) & (raw[1] == 0)] == 0).all()


def test_explaining_leaves_no_hook_on_the_network():
    network = FoldEnsemble("resnet10", 1, 2, 1, 2).eval()
    image = torch.randn(1, 32, 32)
    before = network(image[None]).detach()
    explain(network, image, 0)
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())
    assert torch.equal(network(image[None]), before)


@pytest.mark.parametrize(("size", "layer"), [(96, "layer4"), (48, "layer3"), (32, "layer2")])
def test_the_layer_is_the_deepest_whose_map_is_fine_enough(size, layer):
    network = FoldEnsemble("resnet10", 1, 2, 1, 2).members[0].eval()
    assert deepest_layer(network, torch.zeros(1, 1, size, size)) == layer


def test_an_image_too_small_for_any_map_is_refused():
    network = FoldEnsemble("resnet10", 1, 2, 1, 2).members[0].eval()
    with pytest.raises(ValueError, match="explanation must be 'occlusion'"):
        deepest_layer(network, torch.zeros(1, 1, 4, 4))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="must be one of gradcam, occlusion"):
        explain(BrightSpot(2), spot((20, 17)), 1, "lime")


def test_what_speaks_against_the_class_is_not_shown():
    assert normalize(torch.tensor([[-2.0, 1.0], [0.0, 4.0]])).tolist() == [[0.0, 0.25], [0.0, 1.0]]


@pytest.mark.parametrize("simulated", [True, False])
def test_only_a_picture_of_simulated_weights_says_not_for_patients(simulated):
    image = np.full((3, 8, 7), -1.0)
    figure = draw_answer(image, np.zeros((8, 7)), ["a", "b", "c"], "title", simulated)
    texts = [text.get_text() for text in figure.texts] + [figure.get_supxlabel()]
    assert any("NOT FOR PATIENTS" in text for text in texts) is simulated
    assert {"a", "b", "c"} == {axes.get_title(loc="left") for axes in figure.axes} - {""}
