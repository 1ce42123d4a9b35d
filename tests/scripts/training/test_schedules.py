"""Learning-rate schedules at their ends."""

from __future__ import annotations

import pytest
import torch

from scripts.training.schedules import SCHEDULES, learning_rate_schedule


def rates(name: str, **values: int) -> list[float]:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    schedule = learning_rate_schedule(name, optimizer, num_epochs=5, steps_per_epoch=4, **values)
    found = []
    for _ in range(20):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_schedule_goes_above_the_rate_of_the_optimizer(name: str) -> None:
    assert 0.0099 < max(rates(name)) <= 0.01 + 1e-12


def test_cosine_falls_and_one_cycle_rises_first() -> None:
    assert rates("cosine")[0] == 0.01
    assert rates("cosine")[-1] < 0.0002
    assert rates("one_cycle")[0] == pytest.approx(0.01 / 25)
    assert rates("one_cycle")[-1] < 0.0002
    assert set(rates("constant")) == {0.01}


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="one_cycle.*got 'step'"):
        rates("step")


def test_a_warm_up_rises_for_its_epochs_and_then_falls_as_cosine() -> None:
    found = rates("cosine", warmup_epochs=2)
    assert 0 < found[0] < 0.002
    assert found[:9] == sorted(found[:9])
    assert found[8] == pytest.approx(0.01)
    assert found[14] == pytest.approx(0.005)  # half way down
    assert found[8:] == sorted(found[8:], reverse=True)


@pytest.mark.parametrize(("name", "epochs"), [("one_cycle", 1), ("cosine", 5), ("cosine", -1)])
def test_a_warm_up_that_does_not_fit_is_refused(name: str, epochs: int) -> None:
    with pytest.raises(ValueError, match="classifier_warmup_epochs must be 0, or below the 5 epochs"):
        rates(name, warmup_epochs=epochs)
