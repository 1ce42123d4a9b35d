"""The benchmark of ways to be faster on a CPU: every arm runs, in turns, and its ratios are those of its rounds."""

from __future__ import annotations

import re

import pytest

from benchmarks import cpu_speed
from benchmarks.cpu_speed import Arm, main, measure, table


@pytest.mark.slow
def test_every_arm_trains_draws_and_says_what_it_loses(capsys):
    few = ["--rounds", "1", "--steps", "2", "--batch-size", "4", "--images", "2", "--sampler-steps", "2"]
    main(["--size", "tiny", *few])
    printed = capsys.readouterr().out
    rows = re.findall(r"^\| (stock|diffusers|ours)([^|]*) \| (\S+) \| (\S+) \([^|]*\) \| (\S*) \|$", printed, re.M)
    assert all(float(rate) > 0 and float(ratio) > 0 for *_, rate, ratio, _ in rows)
    lost = {(who, name): float(loss) for who, name, *_, loss in rows if loss}
    assert {who for who, _ in lost} == {"ours"}
    assert lost["ours", ", bf16"] < 0.05  # of the images; the same key holds their error last
    assert printed.count("| stock MONAI |") == 2


def test_arms_take_turns_and_the_first_round_warms_up(monkeypatch):
    order: list[str] = []
    monkeypatch.setattr(cpu_speed.time, "process_time", lambda: float(len(order)))
    arms = [Arm("stock", lambda: order.append("stock"), 6), Arm("ours", lambda: order.append("ours"), 12)]
    assert measure(arms, 2) == {"stock": [6.0, 6.0], "ours": [12.0, 12.0]}
    assert order == ["stock", "ours"] * 3


def test_a_ratio_is_the_median_of_those_of_the_rounds():
    arms = [Arm("stock", lambda: None, 1), Arm("ours", lambda: None, 1, lambda: 0.25)]
    printed = table("x", arms, {"stock": [1.0, 10.0, 100.0], "ours": [2.0, 30.0, 100.0]})
    assert printed.splitlines()[-1] == "| ours | 30 | 2.00 (1.00 to 3.00) | 0.2500 |"
