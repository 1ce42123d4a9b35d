"""The averaged classifier."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from scripts.training.weight_averaging import OptionalEMA


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))


def run(model: torch.nn.Module, ema: OptionalEMA, num_steps: int) -> list[dict[str, torch.Tensor]]:
    """Change the network at each step; return its states."""
    states = []

    def step(engine: Engine, batch: int) -> None:
        with torch.no_grad():
            model[0].weight.add_(1.0)
            model(torch.randn(4, 1, 8, 8) * batch)
        states.append({name: value.clone() for name, value in model.state_dict().items()})

    engine = Engine(step)
    ema.attach(engine)
    engine.run(range(1, num_steps + 1), max_epochs=1)
    return states


def test_weights_and_statistics_are_the_weighted_mean_of_all_steps() -> None:
    model = network()
    ema = OptionalEMA(model, decay=0.5)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for number, state in enumerate(run(model, ema, 4), start=1):
        share = max(0.5, 9 / (10 + number))
        expected = {name: (1 - share) * expected[name] + share * state[name] for name in state}
    found = ema.selected.state_dict()
    for name in ("0.weight", "1.running_mean", "1.running_var"):
        assert torch.allclose(found[name], expected[name], atol=1e-6), name
    assert found["1.num_batches_tracked"] == 4
    assert not torch.equal(found["0.weight"], model.state_dict()["0.weight"])


def test_without_a_decay_the_network_itself_is_selected() -> None:
    model = network()
    ema = OptionalEMA(model)
    run(model, ema, 2)
    assert ema.selected is model


def test_a_decay_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decay must be in \(0, 1\), got 1.5"):
        OptionalEMA(network(), 1.5)
