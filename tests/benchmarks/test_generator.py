"""The benchmark of the generator runs at its smallest size and prints what it says."""

from __future__ import annotations

import re

from benchmarks.generator import main


def test_it_prints_rates_with_and_without_mutual_information_and_their_ratios_to_stock(capsys):
    main(["--size", "tiny", "--steps", "1", "--batch-size", "2", "--sampling-batch", "1", "--device", "cpu"])
    printed = capsys.readouterr().out
    rows = re.findall(r"^(train|sample).*?: (.+?)\s+([\d.e+-]+)\s+([\d.]+)$", printed, re.MULTILINE)
    assert [name for _, name, _, _ in rows] == ["stock MONAI", "ours without MI", "ours with MI"] + [
        "stock MONAI",
        "ours",
    ] * 2
    assert all(float(rate) > 0 for _, _, rate, _ in rows)
    assert all(float(ratio) == 1 for _, name, _, ratio in rows if name == "stock MONAI")
