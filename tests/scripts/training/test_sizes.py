from __future__ import annotations

import pytest
import torch
from torch import nn

from scripts.classifier.networks import create_backbone
from scripts.training.sizes import sizes_only

FAMILIES = ["resnet10", "densenet121", "efficientnet-b0", "seresnet50", "vit_tiny"]


@pytest.mark.parametrize(("name", "size"), [*((name, (32, 48)) for name in FAMILIES), ("resnet10", (32, 32, 48))])
def test_every_layer_gives_the_shape_that_it_gives_on_the_meta_device(name, size):
    def shapes():
        network = create_backbone(name, len(size), in_channels=1, num_classes=3, image_size=size).train()
        found = []
        for module in network.modules():
            module.register_forward_hook(lambda module, inputs, output: found.append(getattr(output, "shape", None)))
        assert {value.device.type for value in network.state_dict().values()} == {"meta"}
        network(torch.zeros(2, 1, *size))
        return found

    with torch.device("meta"):
        expected = shapes()
    with sizes_only():
        assert shapes() == expected
    assert torch.zeros(1).device.type == "cpu"


def test_what_batch_normalization_refuses_is_refused():
    with sizes_only():
        network = nn.BatchNorm2d(3)
        with pytest.raises(ValueError, match="more than 1 value per channel when training"):
            network(torch.zeros(1, 3, 1, 1))
        assert network.eval()(torch.zeros(1, 3, 1, 1)).shape == (1, 3, 1, 1)
        with pytest.raises(RuntimeError, match="running_mean should contain 4 elements not 3"):
            network(torch.zeros(1, 4, 2, 2))
