"""The classifier's network and its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scripts.classifier.imagenet_networks import SOURCES
from scripts.classifier.networks import (
    BACKBONES,
    FoldEnsemble,
    assemble,
    create_backbone,
    mean_log_probabilities,
)
from scripts.training.sizes import sizes_only


def tiny(num_members: int = 1, **settings: Any) -> FoldEnsemble:
    return FoldEnsemble("resnet10", num_members=num_members, **settings).eval()


@pytest.mark.parametrize(
    ("spatial_shape", "in_channels", "num_classes"),
    [((32, 40), 4, 2), ((32, 40), 1, 3), ((16, 24, 20), 1, 3)],
    ids=["2d", "2d-one-channel-three-classes", "3d"],
)
def test_logits_have_one_number_a_class(spatial_shape: tuple[int, ...], in_channels: int, num_classes: int) -> None:
    network = tiny(2, spatial_dims=len(spatial_shape), in_channels=in_channels, num_classes=num_classes)
    assert network(torch.zeros(3, in_channels, *spatial_shape)).shape == (3, num_classes)


def test_one_member_answers_with_its_own_logits() -> None:
    network, image = tiny(), torch.randn(2, 4, 32, 32)
    assert torch.equal(network(image), network.members[0](image))


def test_softmax_of_several_members_is_their_mean_probability() -> None:
    network, image = tiny(3), torch.randn(2, 4, 32, 32)
    mean = torch.stack([member(image).softmax(dim=1) for member in network.members]).mean(dim=0)
    assert torch.allclose(network(image).softmax(dim=1), mean, atol=1e-6)


def test_mean_log_probabilities_of_equal_logits_are_their_log_softmax() -> None:
    logits = torch.randn(4, 3, dtype=torch.float64)
    assert torch.allclose(mean_log_probabilities(logits.expand(5, 4, 3)), logits.log_softmax(dim=1))


@pytest.mark.parametrize("num_members", [1, 2])
def test_the_network_can_be_scripted(num_members: int) -> None:
    network, image = tiny(num_members), torch.randn(2, 4, 32, 32)
    assert torch.allclose(torch.jit.script(network)(image), network(image), atol=1e-6)


def test_assembled_members_are_the_members() -> None:
    members, image = [tiny(), tiny()], torch.randn(2, 4, 32, 32)
    ensemble = tiny(2)
    ensemble.load_state_dict(assemble([member.state_dict() for member in members]))
    for member, copy in zip(members, ensemble.members, strict=True):
        assert torch.equal(member(image), copy(image))


def test_an_ensemble_is_no_member_of_an_ensemble() -> None:
    with pytest.raises(ValueError, match=r"model.pt of one fold"):
        assemble([tiny(2).state_dict()])
    with pytest.raises(ValueError, match="of the network of the first"):
        assemble([tiny().state_dict(), tiny(num_classes=3).state_dict()])
    with pytest.raises(ValueError, match="got none"):
        assemble([])


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("other", "cause"),
    [
        (FoldEnsemble("resnet18"), "another backbone"),
        (FoldEnsemble("resnet10", num_members=2), "num_members 2, the network has 1"),
        (FoldEnsemble("resnet10", in_channels=1), "in_channels 1, the network has 4"),
        (FoldEnsemble("resnet10", num_classes=3), "another num_classes"),
        (FoldEnsemble("resnet10", spatial_dims=3), "spatial_dims 3, the network has 2"),
        (FoldEnsemble("resnet10", stem_stride=1), "stem_stride 1, the network has 2"),
        (create_backbone("resnet10"), "something else than a FoldEnsemble"),
    ],
    ids=["backbone", "members", "channels", "classes", "dimensions", "stride", "bare"],
)
def test_weights_of_another_network_are_refused_with_the_cause(
    other: torch.nn.Module, cause: str, strict: bool
) -> None:
    network = tiny()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=cause):
        network.load_state_dict(other.state_dict(), strict=strict)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_one_missing_key_is_refused_by_name_even_when_not_strict() -> None:
    weights = tiny().state_dict()
    del weights["members.0.fc.bias"]
    with pytest.raises(ValueError, match=r"members\.0\.fc\.bias \(2,\) is missing"):
        tiny().load_state_dict(weights, strict=False)


@pytest.mark.parametrize("name", sorted({*BACKBONES} - {*SOURCES}))
def test_every_backbone_can_be_built(name: str) -> None:
    with sizes_only():
        for size in ((32, 48), (32, 32, 48)):
            network = create_backbone(name, len(size), in_channels=1, num_classes=3, image_size=size).eval()
            assert network(torch.zeros(2, 1, *size)).shape == (2, 3)


@pytest.mark.parametrize("name", ["resnet10", "densenet121", "efficientnet-b0", "seresnet50", "vit_tiny"])
def test_an_ensemble_of_every_family_can_be_scripted(name: str) -> None:
    torch.manual_seed(0)
    network, image = FoldEnsemble(name, 2, image_size=(32, 48)).eval(), torch.rand(3, 4, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), atol=1e-5, rtol=0)


def test_an_unknown_backbone_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="resnet152, .*got 'resnet99'"):
        create_backbone("resnet99")


def test_the_stem_stride_of_a_resnet_can_be_one_and_that_of_a_densenet_cannot() -> None:
    assert tiny(stem_stride=1).members[0].conv1.stride == (1, 1)
    with pytest.raises(ValueError, match="classifier_stem_stride must be 2 for a DenseNet, got 1"):
        create_backbone("densenet121", stem_stride=1)
    with pytest.raises(ValueError, match="classifier_stem_stride must be 2 for a ViT, got 1"):
        create_backbone("vit_tiny", stem_stride=1, image_size=(32, 32))


@pytest.mark.parametrize("size", [None, (40, 32), (32, 32, 32)])
def test_a_vit_is_refused_for_images_that_are_no_multiples_of_its_tokens(size: tuple[int, ...] | None) -> None:
    with pytest.raises(ValueError, match="patch_size must be 2 multiples of 16 for a ViT, got"):
        create_backbone("vit_tiny", image_size=size)


def test_the_logits_of_a_vit_are_not_bounded_and_its_weights_are_bound_to_the_patch_size() -> None:
    torch.manual_seed(0)
    network = FoldEnsemble("vit_tiny", image_size=(32, 48)).eval()
    torch.nn.init.constant_(network.members[0].vit.classification_head.bias, 7.0)
    assert (network(torch.randn(2, 4, 32, 48)) > 5).all()
    with pytest.raises(ValueError, match="another patch_size, to which a ViT is bound"):
        FoldEnsemble("vit_tiny", image_size=(48, 48)).load_state_dict(network.state_dict())


def test_resnet152_has_the_keys_and_shapes_of_torchvision() -> None:
    with torch.device("meta"):
        weights = create_backbone("resnet152", in_channels=3, num_classes=1000).state_dict()
    # Of torchvision 0.20's resnet152: number of entries and parameters, and some of the keys.
    assert len(weights) == 932
    assert sum(value.numel() for name, value in weights.items() if _is_parameter(name)) == 60_192_808
    assert weights["layer3.35.conv2.weight"].shape == (256, 256, 3, 3)
    assert weights["layer4.0.downsample.0.weight"].shape == (2048, 1024, 1, 1)
    assert "layer1.0.downsample.0.bias" not in weights


def test_an_ensemble_tells_a_prefix_too() -> None:
    network = FoldEnsemble("resnet10")
    with pytest.raises(ValueError, match=r"must be of a FoldEnsemble .* all begin with 'module\.'"):
        network.load_state_dict({f"module.{name}": value for name, value in network.state_dict().items()})


def _is_parameter(name: str) -> bool:
    return not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
