"""The moving average of weights."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch
from ignite.engine import Engine
from ignite.handlers import EMAHandler
from torch.utils._python_dispatch import TorchDispatchMode

from scripts.training.averaging import WarmEMA


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))


def run(model: torch.nn.Module, ema: EMAHandler, num_steps: int) -> list[dict[str, torch.Tensor]]:
    """Change the network at each step; return its states."""
    states = []

    def step(engine: Engine, batch: int) -> None:
        with torch.no_grad():
            model[0].weight.add_(1.0)
            model(torch.randn(4, 1, 8, 8) * batch)
        states.append({name: value.clone() for name, value in model.state_dict().items()})

    engine = Engine(step)
    WarmEMA(ema).attach(engine)
    engine.run(range(1, num_steps + 1), max_epochs=1)
    return states


def test_weights_and_statistics_are_the_weighted_mean_of_all_steps() -> None:
    model = network()
    ema = EMAHandler(model, momentum=0.5, handle_buffers="update")
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for number, state in enumerate(run(model, ema, 4), start=1):
        share = max(0.5, 9 / (10 + number))
        expected = {name: (1 - share) * expected[name] + share * state[name] for name in state}
    found = ema.ema_model.state_dict()
    for name in ("0.weight", "1.running_mean", "1.running_var"):
        assert torch.allclose(found[name], expected[name], atol=1e-6), name
    assert found["1.num_batches_tracked"] == 4
    assert not torch.equal(found["0.weight"], model.state_dict()["0.weight"])


def test_the_average_of_constant_weights_is_exact_and_follows_the_iteration() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    ema = EMAHandler(model, momentum=0.5)
    engine = Engine(lambda engine, batch: None)
    WarmEMA(ema).attach(engine)
    torch.nn.init.zeros_(ema.ema_model.weight)
    torch.nn.init.ones_(model.weight)
    engine.run([0, 1], max_epochs=1)
    # Shares of the new weights: 9 / 11, then 9 / 12; both above 1 - decay.
    assert ema.ema_model.weight.item() == pytest.approx(1 - (2 / 11) * (3 / 12))
    engine.run([0] * 2, max_epochs=10)
    left = math.prod(1 - max(0.5, 9 / (10 + number)) for number in range(1, 21))
    assert engine.state.iteration == 20
    assert ema.ema_model.weight.item() == pytest.approx(1 - left)


@pytest.mark.parametrize("num_layers", [1, 9])
def test_an_update_is_one_call_however_many_parameters_there_are(num_layers: int) -> None:
    class Counter(TorchDispatchMode):
        names: ClassVar[list[str]] = []

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.names.append(str(function))
            return function(*args, **(kwargs or {}))

    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(num_layers)))
    engine = Engine(lambda engine, batch: None)
    WarmEMA(EMAHandler(model, momentum=0.5)).attach(engine)
    Counter.names = []
    with Counter():
        engine.run([0], max_epochs=1)
    assert [name for name in Counter.names if "lerp" in name or "mul" in name] == ["aten._foreach_lerp_.Scalar"]


@pytest.mark.parametrize(("decay", "num_steps"), [(0.999, 20), (0.9999, 200), (0.99, 50)])
def test_an_average_longer_than_the_training_is_cut_to_its_last_tenth_and_says_so(decay, num_steps, caplog) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    ema = EMAHandler(model, momentum=1 - decay)
    torch.nn.init.constant_(ema.ema_model.weight, -1e3)  # the untrained start

    def step(engine: Engine, batch: int) -> None:
        with torch.no_grad():
            model.weight.fill_(engine.state.iteration)

    engine = Engine(step)
    WarmEMA(ema).attach(engine)
    engine.run([0] * num_steps, max_epochs=1)
    age = num_steps - ema.ema_model.weight.item()
    assert age == pytest.approx(num_steps / 10, abs=1)
    assert f"the last tenth of the {num_steps} steps of this training: a decay of {decay:g}" in caplog.text


@pytest.mark.parametrize(("decay", "num_steps"), [(0.9, 11), (0.5, 2)])
def test_an_average_within_the_training_says_nothing(decay, num_steps, caplog) -> None:
    engine = Engine(lambda engine, batch: None)
    WarmEMA(EMAHandler(torch.nn.Linear(1, 1), momentum=1 - decay)).attach(engine)
    engine.run([0] * num_steps, max_epochs=1)
    assert "moving average" not in caplog.text
