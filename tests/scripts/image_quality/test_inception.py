from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scripts.image_quality import inception
from scripts.image_quality.inception import InceptionV3, find_weights, is_published, load_inception


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = InceptionV3().eval()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.01, 0.05)
    return made


@pytest.fixture
def weights_path(network, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


def test_the_layout_is_that_of_the_published_weights(network):
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    for key, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_5d.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_6e.branch7x7dbl_5.conv.weight": (192, 192, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch1x1.conv.weight": (320, 1280, 1, 1),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "fc.weight": (1008, 2048),
    }.items():
        assert shapes[key] == shape
    # torchvision prints 23,834,568 parameters without the auxiliary classifier, of them 1000 x 2049 in the last layer.
    assert sum(p.numel() for p in network.parameters()) == 23_834_568 - 1000 * 2049 + 1008 * 2049
    assert sum(key.endswith("conv.weight") for key in shapes) == 94


def test_features_are_means_of_the_last_maps_and_logits_have_no_bias(network):
    image = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    maps = []
    with torch.no_grad():
        hook = network.Mixed_7c.register_forward_hook(lambda module, inputs, output: maps.append(output))
        features, logits = network(image)
        hook.remove()
    assert maps[0].shape == (2, 2048, 8, 8)
    torch.testing.assert_close(features, maps[0].mean(dim=(2, 3)))
    torch.testing.assert_close(logits, features @ network.fc.weight.T)
    assert features.std(dim=0).max() > 0


class Reference:
    """A block written out, from its published names."""

    def __init__(self, block):
        self.state = block.state_dict()

    def convolve(self, name, image, padding=(0, 0), stride=1):
        filtered = F.conv2d(image, self.state[f"{name}.conv.weight"], padding=padding, stride=stride)
        mean, variance, weight, bias = (
            self.state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.relu(F.batch_norm(filtered, mean, variance, weight, bias, eps=1e-3))


def average_without_padding(image):
    count = F.avg_pool2d(torch.ones_like(image), 3, 1, 1)
    return F.avg_pool2d(image, 3, 1, 1) / count


def draw(channels):
    return torch.rand(1, channels, 6, 7, generator=torch.Generator().manual_seed(2))


def test_the_first_mixed_block_is_that_of_the_paper_with_tensorflows_pooling(network):
    image, reference = draw(192), Reference(network.Mixed_5b)
    five = reference.convolve("branch5x5_2", reference.convolve("branch5x5_1", image), (2, 2))
    three = reference.convolve("branch3x3dbl_2", reference.convolve("branch3x3dbl_1", image), (1, 1))
    three = reference.convolve("branch3x3dbl_3", three, (1, 1))
    pooled = reference.convolve("branch_pool", average_without_padding(image))
    expected = torch.cat([reference.convolve("branch1x1", image), five, three, pooled], dim=1)
    torch.testing.assert_close(network.Mixed_5b(image), expected)


def test_a_halving_block_ends_with_the_unfiltered_maximum(network):
    image, reference = draw(288), Reference(network.Mixed_6a)
    three = reference.convolve("branch3x3dbl_2", reference.convolve("branch3x3dbl_1", image), (1, 1))
    three = reference.convolve("branch3x3dbl_3", three, stride=2)
    first = reference.convolve("branch3x3", image, stride=2)
    expected = torch.cat([first, three, F.max_pool2d(image, 3, 2)], dim=1)
    torch.testing.assert_close(network.Mixed_6a(image), expected)


@pytest.mark.parametrize(
    ("name", "channels", "pool"),
    [("Mixed_7b", 1280, average_without_padding), ("Mixed_7c", 2048, lambda image: F.max_pool2d(image, 3, 1, 1))],
)
def test_the_last_blocks_fork_and_the_very_last_takes_the_maximum(network, name, channels, pool):
    image, block = draw(channels), network.get_submodule(name)
    reference = Reference(block)
    three = reference.convolve("branch3x3_1", image)
    double = reference.convolve("branch3x3dbl_2", reference.convolve("branch3x3dbl_1", image), (1, 1))
    forks = [
        torch.cat([reference.convolve(f"{fork}a", x, (0, 1)), reference.convolve(f"{fork}b", x, (1, 0))], dim=1)
        for fork, x in (("branch3x3_2", three), ("branch3x3dbl_3", double))
    ]
    expected = torch.cat(
        [reference.convolve("branch1x1", image), *forks, reference.convolve("branch_pool", pool(image))], dim=1
    )
    torch.testing.assert_close(block(image), expected)


def test_a_local_file_is_loaded_with_or_without_counters(network, weights_path, tmp_path):
    bare = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(bare, tmp_path / "bare.pth")
    for path in (weights_path, tmp_path / "bare.pth"):
        loaded = load_inception(path)
        assert not loaded.training
        torch.testing.assert_close(loaded.fc.weight, network.fc.weight)


def test_missing_weights_are_refused_with_the_file_to_get(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"put pt_inception-2015-12-05-6726825d\.pth .* as inception_path"):
        load_inception(tmp_path / "nothing.pth")


def test_weights_of_another_network_are_refused(network, tmp_path):
    torchvision_like = {
        **network.state_dict(),
        "fc.weight": torch.zeros(1000, 2048),
        "AuxLogits.fc.bias": torch.zeros(9),
    }
    del torchvision_like["Mixed_5b.branch1x1.conv.weight"]
    torch.save(torchvision_like, tmp_path / "other.pth")
    with pytest.raises(
        ValueError, match=r"got 3 differences: fc\.weight has shape \(1000, 2048\) instead of \(1008, 2048\)"
    ):
        load_inception(tmp_path / "other.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="must be a bare state dict, name -> tensor, got a list"):
        load_inception(tmp_path / "list.pth")


def test_only_the_published_file_is_called_published(weights_path, monkeypatch):
    assert not is_published(weights_path)
    monkeypatch.setattr(inception, "PUBLISHED_SHA256_PREFIX", inception.sha256_file(weights_path)[:8])
    assert is_published(weights_path)


def test_the_cache_of_torch_is_looked_into(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert find_weights() is None
    cached = tmp_path / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    cached.parent.mkdir()
    cached.touch()
    assert find_weights() == cached
