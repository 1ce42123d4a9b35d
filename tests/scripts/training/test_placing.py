"""A network in another memory layout."""

from __future__ import annotations

import torch

from scripts.training.placing import place_network


def test_channels_last_gives_the_same_output():
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3))
    image = torch.randn(1, 2, 5, 6)
    expected = network(image)
    torch.testing.assert_close(place_network(network, "cpu", channels_last=True)(image), expected)
