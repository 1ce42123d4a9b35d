"""Optimizers by name."""

from __future__ import annotations

import pytest
import torch

from scripts.training.optimizers import OPTIMIZERS, create_optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_finds_the_lowest_point(name: str) -> None:
    place = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = create_optimizer(name, [place], lr=0.05, weight_decay=0.0)
    for _ in range(300):
        optimizer.zero_grad()
        (place - 1).square().sum().backward()
        optimizer.step()
    assert torch.allclose(place, torch.ones(2), atol=1e-2)


def test_the_settings_arrive() -> None:
    settings = {"lr": 0.1, "weight_decay": 0.2, "betas": [0.7, 0.8]}
    adamw, sgd = (create_optimizer(name, [torch.nn.Parameter(torch.zeros(1))], **settings) for name in ("adamw", "sgd"))
    assert adamw.defaults["betas"] == (0.7, 0.8)
    assert adamw.defaults["weight_decay"] == 0.2
    assert sgd.defaults["momentum"] == 0.7
    assert sgd.defaults["nesterov"]


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match="classifier_optimizer must be one of adamw, adam, sgd, got 'lion'"):
        create_optimizer("lion", [], lr=0.1)
