"""Weights that a classifier starts from: what is loaded, refused, and left as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.classifier.networks import FoldEnsemble, create_backbone
from scripts.classifier.pretrained import check_frozen, inflate_channels, load_pretrained


def test_torchvision_weights_load_but_for_the_last_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = create_backbone("resnet10", in_channels=3, num_classes=1000).eval()
    torch.save(source.state_dict(), tmp_path / "imagenet.pth")
    network = FoldEnsemble("resnet10", num_members=2, pretrained_path=str(tmp_path / "imagenet.pth"))
    weights = network.members[1].state_dict()

    assert torch.equal(weights["layer4.0.conv1.weight"], source.state_dict()["layer4.0.conv1.weight"])
    assert weights["fc.weight"].shape == (2, 512)
    grey = torch.randn(1, 1, 32, 32)
    old, new = source.conv1(grey.expand(-1, 3, -1, -1)), network.members[1].conv1(grey.expand(-1, 4, -1, -1))
    assert torch.allclose(old, new, atol=1e-5)


def test_pretrained_weights_of_another_depth_are_refused_by_file(tmp_path: Path) -> None:
    torch.save(create_backbone("resnet18", in_channels=3).state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match=r"resnet18\.pth must be a torchvision state dict of this backbone"):
        load_pretrained(create_backbone("resnet10"), str(tmp_path / "resnet18.pth"))


def test_a_prefix_of_data_parallel_is_told_and_no_other_backbone(tmp_path: Path) -> None:
    state = create_backbone("resnet10", in_channels=3).state_dict()
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "resnet10.pth")
    with pytest.raises(ValueError, match=r"all begin with 'module\.'.*removeprefix") as error:
        load_pretrained(create_backbone("resnet10"), str(tmp_path / "resnet10.pth"))
    assert "classifier_backbone" not in str(error.value)


def test_only_a_resnet_takes_torchvision_weights(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="classifier_pretrained_path must be null for a SEResNet50, .* torchvision_\\* and timm_\\*"
    ):
        load_pretrained(create_backbone("seresnet50"), str(tmp_path / "resnet50.pth"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "state_dict": {}}, "must be a bare state dict, name -> tensor, got a dict of epoch, state_dict"),
        (Path("x"), "must be a file of tensors that torch.save wrote"),
        (torch.zeros(3, 3), "must be a bare state dict, name -> tensor, got a Tensor;"),
    ],
    ids=["checkpoint", "pickle", "tensor"],
)
def test_a_file_that_is_no_state_dict_is_refused_with_the_way_out(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=message):
        load_pretrained(create_backbone("resnet10"), str(tmp_path / "weights.pth"))


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.pth does not exist; save torchvision's state dict there"):
        load_pretrained(create_backbone("resnet10"), str(tmp_path / "nowhere.pth"))


def test_inflating_to_the_same_channels_changes_nothing() -> None:
    weight = torch.randn(2, 3, 5, 5)
    assert inflate_channels(weight, 3) is weight


def test_a_frozen_body_trains_its_last_layer_alone_and_answers_as_in_evaluation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(create_backbone("resnet10", in_channels=3).state_dict(), tmp_path / "weights.pth")
    network = FoldEnsemble("resnet10", 2, pretrained_path=str(tmp_path / "weights.pth"), frozen_body=True).train()
    assert network.training
    trained = [name for name, value in network.named_parameters() if value.requires_grad]
    assert trained == [f"members.{index}.fc.{kind}" for index in (0, 1) for kind in ("weight", "bias")]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
    network(torch.randn(4, 4, 32, 32)).logsumexp(1).sum().backward()
    optimizer.step()
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == trained


def test_a_body_at_random_is_not_frozen() -> None:
    check_frozen(True, "weights.pth")
    with pytest.raises(ValueError, match="classifier_frozen_body must be false without classifier_pretrained_path"):
        FoldEnsemble("resnet10", frozen_body=True)
