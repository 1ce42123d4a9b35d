"""The benchmark of the generator runs at its smallest size and prints what it says."""

from __future__ import annotations

import re

import pytest
import torch

from benchmarks.generator import SIZES, DiffusersUNet, Row, configured, main, new_network, startup_seconds, table


def test_it_prints_rates_and_memory_of_stock_ours_and_diffusers_and_their_ratios_to_stock(capsys):
    sizes = ["--size", "tiny", "--batch-size", "2", "--sampling-batch", "1", "--device", "cpu", "--no-startup"]
    main([*sizes, "--steps", "1", "--timed-steps", "2", "--sampler-steps", "2"])
    printed = capsys.readouterr().out
    groups = re.split(r"^(?=\S.*ratio)", printed, flags=re.MULTILINE)[1:]
    assert [group.split(",")[0] for group in groups] == ["train", "sample", "sample"]
    for group in groups:
        rows = re.findall(r"^  (.+?) +([\d.e+-]+) +([\d.]+) +(\d*)$", group, re.MULTILINE)
        assert [row[0].split()[0] for row in rows[:1]] == ["stock"]
        assert {row[0].split()[0] for row in rows} == {"stock", "ours", "diffusers"}
        assert all(float(rate) > 0 for _, rate, _, _ in rows)
        assert float(rows[0][2]) == 1
        assert all(memory == "" or int(memory) > 10 for *_, memory in rows)
    assert "2 were timed; images/s are theirs x 2 / 1000" in printed


def test_the_network_of_diffusers_is_of_the_size_of_ours():
    config = configured((), 1, device="cpu", **SIZES["tiny"])
    ours, theirs = (sum(p.numel() for p in n.parameters()) for n in (new_network(config), DiffusersUNet(config)))
    assert theirs == pytest.approx(ours, rel=0.1)
    images = torch.zeros(1, 4, 16, 16)
    assert DiffusersUNet(config)(images, torch.tensor([3])).shape == images.shape


def test_a_network_is_built_anew_each_time():
    config = configured((), 1, device="cpu", **SIZES["tiny"])
    assert new_network(config) is not new_network(config)


def test_ratios_are_to_the_first_row_of_a_group():
    printed = table([Row("a", "stock", 2.0), Row("a", "ours", 3.0, 12.0), Row("b", "stock", 5.0)])
    assert re.findall(r"(stock|ours) +\S+ +(\S+)", printed) == [("stock", "1.00"), ("ours", "1.50"), ("stock", "1.00")]


def test_a_start_is_timed_in_a_process_of_its_own():
    assert startup_seconds("import time; time.sleep(.2)") > 0.2
