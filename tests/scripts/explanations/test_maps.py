from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from monai.visualize import GradCAM
from torch import nn

from scripts.classifier.networks import FoldEnsemble, create_backbone
from scripts.explanations.maps import deepest_layer, explain, normalize

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
    network = FoldEnsemble("resnet10_thin", 2, 2, 1, 2).eval()
    image = torch.randn(1, 32, 32).clamp(-1, 1)
    raw = [explain(nn.ModuleDict({"members": nn.ModuleList([m])}).members[0], image, 1) for m in network.members]
    heat = explain(network, image, 1)
    assert heat.shape == (32, 32)
    assert not np.allclose(raw[0], raw[1])
    assert (heat[(raw[0] == 0) & (raw[1] == 0)] == 0).all()


def test_explaining_leaves_no_hook_on_the_network():
    network = FoldEnsemble("resnet10_thin", 1, 2, 1, 2).eval()
    image = torch.randn(1, 32, 32)
    before = network(image[None]).detach()
    explain(network, image, 0)
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())
    assert torch.equal(network(image[None]), before)


def test_explaining_keeps_no_copy_of_the_network(monkeypatch):
    copies = []

    class Noted(GradCAM):
        def __init__(self, nn_module, **options):
            super().__init__(nn_module, **options)
            copies.append(weakref.ref(nn_module))

    monkeypatch.setattr("scripts.explanations.maps.GradCAM", Noted)
    explain(FoldEnsemble("resnet10_thin", 2, 2, 1, 2).eval(), torch.randn(1, 32, 32), 0)
    gc.collect()
    assert [copy() for copy in copies] == [None, None]


@pytest.mark.parametrize(("size", "layer"), [(96, "layer4"), (48, "layer3"), (32, "layer2")])
def test_the_layer_is_the_deepest_whose_map_is_fine_enough(size, layer):
    network = FoldEnsemble("resnet10_thin", 1, 2, 1, 2).members[0].eval()
    assert deepest_layer(network, torch.zeros(1, 1, size, size)) == layer


@pytest.mark.parametrize(
    ("backbone", "layer"),
    [
        ("resnet10", "layer3"),
        ("resnet50", "layer3"),
        ("densenet121", "features.transition3.conv"),
        ("seresnet50", "layer3"),
        ("efficientnet-b0", "_blocks.4"),
    ],
)
def test_gradcam_explains_every_convolutional_backbone_by_a_map_of_its_own(backbone, layer):
    torch.manual_seed(0)
    network = create_backbone(backbone, in_channels=2, image_size=(64, 48)).eval()
    image = torch.rand(2, 64, 48) * 2 - 1
    assert deepest_layer(network, image[None]) == layer
    heats = [explain(network, image, label) for label in (0, 1)]
    assert all(heat.shape == (64, 48) and np.isfinite(heat).all() for heat in heats)
    assert max(heat.max() for heat in heats) == 1


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_gradcam_of_a_vision_transformer_is_refused_with_the_way_out(spatial_dims):
    sides = (64,) * spatial_dims
    network = FoldEnsemble("vit_tiny", 1, spatial_dims, 1, 2, image_size=sides).eval()
    with pytest.raises(ValueError, match=r"'occlusion' for a VisionTransformer, got 'gradcam'.*gradcam out of expl"):
        explain(network, torch.zeros(1, *sides), 0)


class Modules(nn.Module):
    """Calls its modules one after the other, and gives the mean of the last one's output."""

    def __init__(self, *steps):
        super().__init__()
        self.steps, self.order = nn.ModuleList(dict.fromkeys(steps)), steps

    def forward(self, image):
        for step in self.order:
            image = step(image)
        return image.flatten(1).mean(dim=1, keepdim=True).expand(-1, 2)


def test_a_module_that_is_called_twice_has_no_map_of_its_own():
    shared = nn.ReLU()
    network = Modules(nn.Conv2d(1, 2, 1), shared, nn.Conv2d(2, 2, 1), shared)
    assert deepest_layer(network, torch.zeros(1, 1, 12, 10)) == "steps.2"


@pytest.mark.parametrize(
    ("cells", "is_map"), [((6, 5), True), ((4, 4), True), ((5, 6), True), ((9, 4), False), ((3, 9), False)]
)
def test_a_layer_must_keep_the_proportions_of_the_image(cells, is_map):
    network = Modules(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(cells))
    assert deepest_layer(network, torch.zeros(1, 1, 12, 10)) == ("steps.1" if is_map else "steps.0")


def test_an_image_too_small_for_any_map_is_refused():
    network = FoldEnsemble("resnet10_thin", 1, 2, 1, 2).members[0].eval()
    with pytest.raises(ValueError, match="explanation must be 'occlusion'"):
        deepest_layer(network, torch.zeros(1, 1, 4, 4))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="must be one of gradcam, occlusion"):
        explain(BrightSpot(2), spot((20, 17)), 1, "lime")


def test_what_speaks_against_the_class_is_not_shown():
    assert normalize(torch.tensor([[-2.0, 1.0], [0.0, 4.0]])).tolist() == [[0.0, 0.25], [0.0, 1.0]]
