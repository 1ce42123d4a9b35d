"""A small version of the simulations behind the intervals and tests; docs/results/coverage.md has the full one."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.stats import norm

from benchmarks import coverage as bench
from scripts.running.files import read_json, write_json
from scripts.statistics.interval_coverage import coverage_table
from scripts.statistics.power import mcnemar_power


@pytest.fixture(scope="module")
def small():
    return {row["measure"]: row for row in bench.coverage((37, 187), simulations=150, num_draws=150, seed=1)}


def test_a_small_simulation_finds_the_coverage_of_the_table(small):
    table = {row["measure"]: row for row in coverage_table() if row["n_by_class"] == [37, 187] and is_typical(row)}
    assert set(table) == set(small)
    for name, row in table.items():
        error = np.sqrt(row["coverage"] * (1 - row["coverage"]) / 150 + 1e-4)
        assert small[name]["coverage"] == pytest.approx(row["coverage"], abs=4 * error), name


def is_typical(row):
    return (row.get("area", 0.9), row.get("spread", 1.0)) == (0.9, 1.0)


def is_of_two(row):
    return len(row["n_by_class"]) == 2


def test_a_small_simulation_of_four_classes_finds_the_coverage_of_the_table():
    sizes = (40, 40, 40, 40)
    found = {row["measure"]: row for row in bench.class_coverage(sizes, 0.9, simulations=60, num_draws=100, seed=1)}
    rows = [row for row in coverage_table() if row["n_by_class"] == list(sizes) and row["area"] == 0.9]
    assert {row["measure"] for row in rows} == set(found)
    for row in rows:
        error = np.sqrt(row["coverage"] * (1 - row["coverage"]) / 60 + 1e-4)
        assert found[row["measure"]]["coverage"] == pytest.approx(row["coverage"], abs=4 * error), row["measure"]
    assert found["auc_difference"]["false_alarms"] <= 0.17  # of 60 at .05, 11 and more are a chance of 1 in 3000


def test_areas_of_four_classes_hold_the_truth_at_160_patients():
    areas = ("auc", "auc_of_class", "auc_difference")
    rows = [row for row in coverage_table() if not is_of_two(row) and sum(row["n_by_class"]) == 160]
    found = [row for row in rows if row["measure"] in areas]
    assert len(found) == len(bench.SKILLS) * len(areas)
    assert all(0.93 <= row["coverage"] <= 0.975 for row in found), found
    assert all(row["false_alarms"] < 0.065 for row in found if row["measure"] == "auc_difference")


def test_intervals_of_the_primary_measures_and_of_differences_hold_the_truth():
    primary = ("balanced_accuracy", "auc", "accuracy_difference", "auc_difference")
    found = [row for row in coverage_table() if row["measure"] in primary and is_typical(row) and is_of_two(row)]
    assert len(found) == 3 * len(primary)
    assert all(0.93 <= row["coverage"] <= 0.985 for row in found), found


def test_a_truth_is_that_of_a_large_study():
    sizes = (40_000, 120_000)
    truth = bench.truths(sizes)
    study = bench.simulate(sizes, (bench.SHIFT, bench.REFERENCE_SHIFT), np.random.default_rng(0))
    probabilities = bench.probabilities_of(study.scores[0], bench.SHIFT)
    once = np.ones((1, len(study.labels)))
    for name, measure in bench.BOOTSTRAPPED.items():
        assert measure(study.labels, probabilities, once)[0] == pytest.approx(truth[name], abs=0.01), name
    assert truth["balanced_accuracy"] == pytest.approx(norm.cdf(0.9))
    assert np.corrcoef(study.scores[:, study.labels == 0])[0, 1] == pytest.approx(bench.CORRELATION, abs=0.02)


@pytest.mark.parametrize("sizes", bench.SIZES, ids=str)
def test_without_difference_at_most_a_twentieth_of_the_studies_raises_a_false_alarm(sizes):
    # Of 300 studies at a true share of .05, 26 and more are a chance of 1 in 200.
    assert bench.false_alarms(sizes, 300) <= 0.083


def test_a_planted_gain_is_found_as_often_as_the_exact_power_says():
    found = bench.found_gains(224, 0.12, 0.08, 500)
    assert found["alone"] == pytest.approx(found["alone, exactly"], abs=0.05)
    assert found["after Holm"] >= mcnemar_power(224, 0.12, 0.08, 0.05 / bench.NUM_TESTS) - 0.06


def test_the_bench_prints_its_tables_and_writes_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "SIZES", ((15, 52),))
    monkeypatch.setattr(bench, "SPREADS", (1.0,))
    arguments = ["coverage", "--simulations", "4", "--num_draws", "100", "--write", str(tmp_path / "coverage.json")]
    monkeypatch.setattr(sys, "argv", arguments)
    bench.main()
    printed = capsys.readouterr().out
    assert "| interval of | 15 + 52 |" in printed
    assert "false alarm in" in printed
    assert "| auc difference | 1 | 0.99 |" in printed
    assert len(read_json(tmp_path / "coverage.json")["two_classes"]["coverage"]) == 11 + 2 * len(bench.AREAS)


def test_the_bench_of_four_classes_keeps_the_table_of_two(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "CLASS_SIZES", ((8, 8, 8, 8),))
    monkeypatch.setattr(bench, "POPULATION", 500)
    path = tmp_path / "coverage.json"
    write_json(path, {"two_classes": {"command": "", "coverage": []}})
    monkeypatch.setattr(sys, "argv", f"coverage --simulations 4 --num_draws 100 --four_classes --write {path}".split())
    bench.main()
    assert "| auc of class | 0.97 |" in capsys.readouterr().out
    content = read_json(path)
    assert list(content) == ["two_classes", "four_classes"]
    assert len(content["four_classes"]["coverage"]) == 12 + 3 * (len(bench.SKILLS) - 1)


def test_pooled_folds_and_scans_as_cases_lose_their_coverage():
    shares = bench.dependent_coverage((37, 187), 200)
    assert shares["offsets, inside the folds"] > 0.9 > 0.7 > shares["offsets, pooled"]
    assert shares["scans, averaged"] > 0.9 > shares["scans, each a case"]
