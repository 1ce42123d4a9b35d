"""Ensembles in closed form, on networks that answer what they are told."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from scripts.classifier.networks import create_backbone
from scripts.evaluation.ensembles import MeanLogit, Tempered, Vote, average_weights, check_ensemble, combine

IMAGES = torch.zeros(5, 2, 8, 8)


class Says(nn.Module):
    """Answers the same logits (B, K) to every batch."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.as_tensor(logits)

    def forward(self, image):
        return self.logits


def members(count=3, num_classes=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    return [Says(3 * torch.randn(5, num_classes, generator=random)) for _ in range(count)]


def test_the_mean_logit_is_the_geometric_mean_of_the_probabilities():
    own = members()
    product = torch.stack([member.logits.softmax(dim=1) for member in own]).prod(dim=0) ** (1 / 3)
    expected = product / product.sum(dim=1, keepdim=True)
    assert torch.allclose(MeanLogit(own)(IMAGES).softmax(dim=1), expected, atol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_votes_are_counted_and_sum_to_one(num_classes):
    own = members(4, num_classes)
    answers = torch.stack([member.logits.argmax(dim=1) for member in own])
    votes = torch.stack([(answers == k).sum(dim=0) for k in range(num_classes)], dim=1)
    mean = torch.stack([member.logits.softmax(dim=1) for member in own]).mean(dim=0)
    shares = Vote(own)(IMAGES).exp()
    assert torch.allclose(shares, (votes + mean) / 5, atol=1e-6)
    assert torch.allclose(shares.sum(dim=1), torch.ones(5))


def test_a_majority_of_unsure_members_outvotes_a_sure_one():
    own = [Says([[0.0, 0.1]]), Says([[0.0, 0.1]]), Says([[9.0, 0.0]])]
    assert Vote(own)(IMAGES).argmax() == 1
    assert MeanLogit(own)(IMAGES).argmax() == 0


def test_the_surer_side_of_a_tie_wins():
    assert Vote([Says([[0.0, 4.0]]), Says([[1.0, 0.0]])])(IMAGES).argmax() == 1
    assert torch.isfinite(Vote(members(2))(IMAGES)).all()


def test_equal_members_answer_as_one():
    (one,) = members(1)
    for ensemble in ("mean_probability", "mean_logit"):
        for network in combine([one] * 3, ensemble):
            assert torch.allclose(network(IMAGES).softmax(dim=1), one.logits.softmax(dim=1), atol=1e-6)


def test_a_temperature_keeps_the_answers():
    (one,) = members(1)
    warm = Tempered(one, 3.0)(IMAGES)
    assert torch.equal(warm.argmax(dim=1), one.logits.argmax(dim=1))
    assert (warm.softmax(dim=1).max(dim=1).values < one.logits.softmax(dim=1).max(dim=1).values).all()
    assert torch.equal(Tempered(one, 1.0)(IMAGES), one.logits)


def backbones(count, seed=0):
    torch.manual_seed(seed)
    return [create_backbone("resnet10_thin", in_channels=2).eval() for _ in range(count)]


def test_weights_are_averaged_and_batch_norm_knows_the_images(caplog):
    own = backbones(2)
    before = [{key: value.clone() for key, value in member.state_dict().items()} for member in own]
    torch.manual_seed(1)
    images = torch.randn(8, 2, 16, 16) * 3 + 1
    with caplog.at_level(logging.WARNING):
        averaged = average_weights(own, [images])
    assert "may be no better than guessing" in caplog.text
    assert not averaged.training
    weights = averaged.state_dict()
    for key in ("conv1.weight", "fc.bias", "layer2.0.bn1.weight"):
        assert torch.allclose(weights[key], (before[0][key] + before[1][key]) / 2, atol=1e-6)
    with torch.no_grad():
        features = averaged.conv1(images)
    assert torch.allclose(weights["bn1.running_mean"], features.mean(dim=(0, 2, 3)), atol=1e-4)
    assert torch.allclose(weights["bn1.running_var"], features.var(dim=(0, 2, 3)), rtol=1e-3)
    for member, saved in zip(own, before, strict=True):
        assert all(torch.equal(value, saved[key]) for key, value in member.state_dict().items())


def test_the_average_of_equal_networks_is_that_network():
    (one,) = backbones(1)
    averaged = average_weights([one, one, one], [torch.randn(4, 2, 16, 16)])
    for key, value in averaged.named_parameters():
        assert torch.allclose(value, one.get_parameter(key), atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be above 0"):
        Tempered(members(1)[0], temperature)


def test_unknown_ensembles_are_refused():
    with pytest.raises(ValueError, match="ensemble must be one of mean_probability"):
        combine(members(), "median")
    with pytest.raises(ValueError, match="average_weights makes its network"):
        combine(members(), "weight_average")
    with pytest.raises(ValueError, match="temperature_scaling must be false"):
        check_ensemble("weight_average", temperature_scaling=True)


def test_temperatures_of_subjects_that_chose_the_epoch_and_are_reported_are_refused():
    check_ensemble("mean_probability", selection="validation")
    check_ensemble("mean_probability", temperature_scaling=True, selection="inner")
    with pytest.raises(ValueError, match="with selection validation, got true: the inner part is the validation part"):
        check_ensemble("mean_probability", temperature_scaling=True, selection="validation")
