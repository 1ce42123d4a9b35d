"""The networks of torchvision and timm beside these packages' own, and what is told without them."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from scripts.classifier.checks import check_network
from scripts.classifier.imagenet_networks import (
    IMAGENET,
    SOURCES,
    ImageNetNetwork,
    Source,
    first_convolution,
    last_layer,
)
from scripts.classifier.networks import FoldEnsemble, create_backbone
from scripts.classifier.pretrained import load_pretrained

NAMES = sorted(SOURCES)


def _is_installed() -> bool:
    try:
        return bool(importlib.import_module("torchvision") and importlib.import_module("timm"))
    except (ImportError, RuntimeError):  # of another build of torch
        return False


needs_vision = pytest.mark.skipif(not _is_installed(), reason="needs torchvision and timm, the extra vision")


@contextmanager
def cheap_weights() -> Iterator[None]:
    """Skip the initialization of weights, which takes most of the time of a VGG."""
    names = [name for name in dir(nn.init) if name.endswith("_") and callable(getattr(nn.init, name))]
    before = {name: getattr(nn.init, name) for name in names}
    try:
        for name in names:
            setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
        yield
    finally:
        for name, function in before.items():
            setattr(nn.init, name, function)


def original(backbone: str, num_classes: int = 5) -> nn.Module:
    """The package's own network, as its ImageNet weights fit it, with random numbers of a moderate size for weights."""
    source = SOURCES[backbone]
    with cheap_weights(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if source.package == "timm":
            network = importlib.import_module("timm").create_model(source.name, num_classes=num_classes)
        else:
            make = getattr(importlib.import_module("torchvision.models"), source.name)
            settings = {"transform_input": True} if "inception" in backbone else {}
            network = make(weights=None, num_classes=num_classes, **settings)
    with torch.no_grad():
        for name, value in network.named_parameters():
            fan_in = value[0].numel() if value.ndim > 1 else 1
            value.uniform_(-1, 1).mul_((6 / fan_in) ** 0.5 if value.ndim > 1 else 0.1)
            if value.ndim == 1 and name.endswith("weight"):
                value.add_(1)
    return network.eval()


def normalized(source: Source, image: torch.Tensor) -> torch.Tensor:
    """Return what a user of the package gives it for images in [0, 1]: ImageNet's colors, or [-1, 1]."""
    colors = IMAGENET if source.package == "torchvision" else source.colors
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in colors)
    return (image - mean) / std


@pytest.fixture(scope="module", params=NAMES)
def pair(request, tmp_path_factory):
    """Name of a backbone, the package's network, and the file of its weights."""
    if not _is_installed():
        pytest.skip("needs torchvision and timm, the extra vision")
    torch.manual_seed(0)
    network, path = original(request.param), tmp_path_factory.mktemp("weights") / f"{request.param}.pth"
    torch.save(network.state_dict(), path)
    yield request.param, network, path
    path.unlink()


def loaded(backbone: str, path: Path, in_channels: int = 3) -> nn.Module:
    with cheap_weights():
        network = create_backbone(backbone, in_channels=in_channels, num_classes=5, image_size=(80, 96))
    load_pretrained(network, str(path))
    return network.eval()


def test_logits_are_those_of_the_package(pair):
    backbone, network, path = pair
    own = loaded(backbone, path)
    head = [name for name in own.network.state_dict() if name not in network.state_dict()]
    assert head == []
    own.network.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("AuxLogits")})
    image = torch.rand(2, 3, 80, 96)
    with torch.no_grad():
        expected = network(normalized(SOURCES[backbone], image))
        assert expected.std() > 1e-3
        torch.testing.assert_close(own(2 * image - 1), expected, atol=1e-5, rtol=1e-5)


def test_a_grey_image_answers_alike_in_one_or_four_channels(pair):
    backbone, _, path = pair
    state = torch.load(path, weights_only=True)
    stem = first_convolution(create_backbone_cheaply(backbone, 3).network)[0] + ".weight"
    for in_channels in (1, 4):
        own = loaded(backbone, path, in_channels)
        name, convolution = first_convolution(own.network)
        assert name + ".weight" == stem
        grey = torch.randn(1, 1, 40, 40)
        expected = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), state[stem])
        found = nn.functional.conv2d(grey.expand(-1, in_channels, -1, -1), convolution.weight)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        assert own.center.shape == (1, in_channels, 1, 1)


def create_backbone_cheaply(backbone: str, in_channels: int) -> nn.Module:
    with cheap_weights():
        return create_backbone(backbone, in_channels=in_channels)


def test_it_trains_a_step_and_its_weights_come_back(pair, tmp_path):
    backbone, _, path = pair
    torch.manual_seed(0)
    with cheap_weights():
        network = FoldEnsemble(backbone, in_channels=4, image_size=(80, 80), pretrained_path=str(path))
    last_layer(network.members[0])[1].reset_parameters()  # the only one that the file does not give
    before = [value.clone() for value in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    loss = nn.functional.cross_entropy(network.train()(torch.rand(2, 4, 80, 80) * 2 - 1), torch.tensor([0, 1]))
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert all(value.grad is not None for value in network.parameters())
    assert sum(not torch.equal(*two) for two in zip(network.parameters(), before, strict=True)) > len(before) / 2
    state = network.state_dict()
    with cheap_weights():
        again = FoldEnsemble(backbone, in_channels=4, image_size=(80, 80))
    again.load_state_dict(state)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    with pytest.raises(ValueError, match="is missing"):
        again.load_state_dict({name: value for name, value in state.items() if name != "members.0.center"})


def test_a_file_of_another_network_is_refused_by_name(pair):
    backbone, _, path = pair
    other = NAMES[(NAMES.index(backbone) + 1) % len(NAMES)]
    layout = SOURCES[other].package
    with pytest.raises(ValueError, match=rf"{path.name} must be a {layout} state dict of this backbone, got \d+ diff"):
        load_pretrained(create_backbone_cheaply(other, 3), str(path))


def test_old_files_are_read(pair, tmp_path):
    """torchvision's DenseNet has names of its first release, and networks of 2017 have no counters in BatchNorm."""
    backbone, network, _ = pair
    old = {
        name.replace(".norm1", ".norm.1").replace(".conv1", ".conv.1") if "denselayer" in name else name: value
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save(old, tmp_path / "old.pth")
    own = loaded(backbone, tmp_path / "old.pth").network.state_dict()
    head = [name for name, value in own.items() if not torch.equal(value, network.state_dict()[name])]
    assert all(value.is_floating_point() and value.shape[0] == 5 for name in head for value in [own[name]])


@needs_vision
@pytest.mark.parametrize("backbone", NAMES)
def test_the_smallest_size_is_taken_and_a_smaller_one_refused_before_any_work(backbone):
    smallest = SOURCES[backbone].smallest
    settings = {"backbone": backbone, "spatial_dims": 2, "in_channels": 4, "num_classes": 2, "stem_stride": 2}
    check_network(**settings, image_size=[smallest, smallest + 5])
    with pytest.raises(ValueError, match=f"patch_size must be at least {smallest} a side for {backbone}, got"):
        check_network(**settings, image_size=[smallest + 5, smallest - 1])


@needs_vision
@pytest.mark.parametrize("backbone", ["torchvision_inception_v3", "torchvision_mobilenet_v2", "timm_xception"])
def test_an_ensemble_can_be_scripted(backbone):
    torch.manual_seed(0)
    network, image = FoldEnsemble(backbone, 2, image_size=(80, 80)).eval(), torch.rand(2, 4, 80, 80)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial_dims": 3, "image_size": [80] * 3}, "spatial_dims must be 2 for torchvision_vgg16, got 3"),
        ({"stem_stride": 1}, "classifier_stem_stride must be 2 for torchvision_vgg16, got 1"),
        ({"image_size": [96, 31]}, r"patch_size must be at least 32 a side for torchvision_vgg16, got \[96, 31\]"),
    ],
)
def test_what_it_cannot_be_is_told_without_the_package(changes, message):
    settings = {"backbone": "torchvision_vgg16", "spatial_dims": 2, "in_channels": 4, "num_classes": 2}
    with pytest.raises(ValueError, match=message):
        check_network(**{**settings, "stem_stride": 2, "image_size": [96, 96], **changes})


@pytest.mark.parametrize("error", [ImportError("No module named 'timm'"), RuntimeError("operator does not exist")])
def test_without_the_package_the_way_to_install_it_is_told(monkeypatch, error):
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ImportError, match=r"timm must be installed .* pip install -c constraints.txt '\.\[vision\]'"):
        create_backbone("timm_xception")


@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_patches_are_normalized_inside_by_the_colors_of_imagenet(in_channels):
    network = ImageNetNetwork(nn.Identity(), SOURCES["torchvision_vgg16"], in_channels)
    image = torch.rand(2, in_channels, 5, 6)
    mean, std = (torch.tensor(values) for values in IMAGENET)
    for channel in range(in_channels):
        own = (mean[channel], std[channel]) if in_channels == 3 else (mean.mean(), std.mean())
        expected = (image[:, channel] - own[0]) / own[1]
        torch.testing.assert_close(network(2 * image - 1)[:, channel], expected, atol=1e-5, rtol=1e-5)
