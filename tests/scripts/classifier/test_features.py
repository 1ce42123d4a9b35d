from __future__ import annotations

import pytest
import torch

from scripts.classifier.features import FirstAndLast, LastLayerInput
from scripts.classifier.imagenet_networks import first_convolution
from scripts.classifier.networks import FoldEnsemble


@pytest.mark.parametrize(
    ("backbone", "size", "length"), [("resnet10_thin", (32, 32), 64), ("vit_tiny", (16, 16, 16), 192)], ids=["2d", "3d"]
)
def test_the_features_of_a_member_give_its_logits_and_do_not_depend_on_the_batch(backbone, size, length) -> None:
    torch.manual_seed(0)
    network = FoldEnsemble(backbone, 2, spatial_dims=len(size), image_size=size).eval()
    images = torch.rand(3, 4, *size) * 2 - 1
    member = network.members[1]
    read = LastLayerInput(member)
    with torch.no_grad():
        features, logits = read(images)
        torch.testing.assert_close(logits, member(images))
        torch.testing.assert_close(read.layer(features), logits)
        torch.testing.assert_close(torch.cat([read(image[None])[0] for image in images]), features)
    assert features.shape == (3, length)
    with torch.no_grad():
        first, last = FirstAndLast(member)(images)
        responses = first_convolution(member)[1](images).flatten(2)
    torch.testing.assert_close(last, features)
    torch.testing.assert_close(first, torch.cat([responses.mean(2), responses.var(2, correction=0).sqrt()], dim=1))
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())
