from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from scripts.classifier.networks import FoldEnsemble
from scripts.explanations.attributions import Attributor
from scripts.explanations.sanity_checks import describe_correlations, map_correlation, randomize
from tests.scripts.explanations.test_attributions import WeightedSum, head


def test_maps_of_a_network_and_its_randomized_self_do_not_agree_and_those_of_itself_do():
    image = head((20, 17), seed=4)
    weights = torch.randn((3, 20, 17), generator=torch.Generator().manual_seed(5))
    network = WeightedSum(weights).eval()
    attributor = Attributor(["occlusion"], occlusion_size=2)
    maps = [attributor(n, image, 1)["occlusion"].values for n in (network, network, randomize(network, seed=0))]
    shown = (image != -1).any(dim=0).numpy()
    assert map_correlation(maps[0], maps[1], shown) == pytest.approx(1)
    assert abs(map_correlation(maps[0], maps[2], shown)) < 0.2


def test_randomizing_changes_every_drawn_parameter_and_neither_the_network_nor_its_statistics():
    torch.manual_seed(0)
    network = FoldEnsemble("resnet10_thin", 1, 2, 1, 2).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, again, other = (randomize(network, seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    weight = "members.0.layer3.0.conv1.weight"
    assert not torch.equal(first.state_dict()[weight], before[weight])
    assert torch.equal(first.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])
    assert first.state_dict()[weight].std() == pytest.approx(float(before[weight].std()), rel=0.02)
    assert all(torch.equal(value, dict(first.named_buffers())[name]) for name, value in network.named_buffers())
    assert not first.training


def test_the_rank_correlation_is_that_of_the_ranks():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 3, 5, 4))
    mask = random.random((5, 4)) < 0.7
    expected = np.corrcoef(rankdata(first[:, mask]), rankdata(second[:, mask]))[0, 1]
    assert map_correlation(first, second, mask) == pytest.approx(expected)
    assert map_correlation(first, -first) == -1
    assert map_correlation(first, np.exp(first)) == 1


def test_a_flat_map_has_no_correlation():
    assert map_correlation(np.zeros((1, 4, 4)), np.ones((1, 4, 4))) is None
    found = describe_correlations([None], [None])
    assert found["num_compared"] == 0
    assert "flat" in found["sentence"]


@pytest.mark.parametrize(
    ("signed", "absolute", "words"),
    [
        ([0.1, -0.1], [0.2, 0.0], "depend on what was learned"),
        ([0.0], [0.5], "change in part"),
        ([-0.9, None], [0.1, None], "hardly change"),
    ],
)
def test_the_sentence_follows_the_larger_of_both_correlations(signed, absolute, words):
    assert words in describe_correlations(signed, absolute)["sentence"]
