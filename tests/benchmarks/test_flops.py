"""The operations that are counted are those of closed forms and of the recipes."""

from __future__ import annotations

import pytest

from benchmarks.flops import RECIPES, Counted, count, main, table

TINY = {
    "patch_size": [16, 16],
    "generator_channels": [8, 16],
    "generator_attention_levels": [False, False],
    "generator_num_res_blocks": 1,
    "generator_num_head_channels": 8,
    "generator_norm_num_groups": 8,
    "generator_condition": None,
}


def test_a_pass_backwards_costs_about_twice_the_pass_forwards():
    counted = count("tiny", {**TINY, "generator_unshuffle": 1}, 1, 1)
    assert counted.training == pytest.approx(3 * counted.forward, rel=0.05)


def test_unshuffle_of_two_saves_nearly_three_quarters():
    plain, folded = (count("tiny", {**TINY, "generator_unshuffle": factor}, 1, 1) for factor in (1, 2))
    assert 3 < plain.forward / folded.forward < 4


def test_guidance_doubles_the_evaluations():
    overrides, steps, evaluations = RECIPES["the default: flow, unshuffle 2, guidance, 10 steps"]
    assert steps * evaluations == 20
    assert Counted("x", 1, 5, 15, 40).sampling == 200


def test_the_table_says_how_many_times_less_and_how_long_at_the_peak():
    rows = [Counted("a", 10**6, 10**9, 3 * 10**9, 1000), Counted("b", 10**6, 10**9, 3 * 10**9, 10)]
    cells = [cell.strip() for cell in table(rows, 100.0).splitlines()[-1].strip("|").split("|")]
    assert cells == ["b", "1.0", "1.0", "3", "10", "0.01", "100", "0.03", "0.10"]


def test_the_command_prints_every_recipe(capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.flops.RECIPES", {"tiny": ({**TINY, "generator_unshuffle": 2}, 20, 2)})
    main(["--size", "16"])
    assert "| tiny |" in capsys.readouterr().out
