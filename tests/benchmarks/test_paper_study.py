"""The derivation of the hours of the paper's study: its counts, its arithmetic, and the rates it measures."""

from __future__ import annotations

import pytest

from benchmarks import paper_study
from benchmarks.paper_study import COHORTS, derivation, main, paper_work
from scripts.running.files import read_json

RATES = {
    "patch_seconds": 1.0,
    "generator_images_per_second": 2.0,
    "regularized_images_per_second": 1.0,
    "sampled_images_per_second": 4.0,
    "classifier_images_per_second": 8.0,
    "start_seconds": 10.0,
}


def test_the_work_is_that_of_the_protocol():
    work = paper_work(1.0, synthetic_balance=False)
    patients = sum(sum(sizes.values()) for sizes in COHORTS.values())
    assert work.subjects == patients == 559
    trained = work.generator_images / 100  # over five folds of 80 % of 80 %
    assert trained == pytest.approx(5 * 0.64 * patients, rel=0.01)
    assert work.classifier_images == trained * 200 * 4
    assert work.sampled_images == 2 * trained  # two methods, one for each real image
    # A fold: for both methods and classes a generator and a set, and four classifiers. A cohort: its data, evaluations.
    assert work.starts == 2 * (5 * (2 * 2 * 2 + 4) + 3 + 4)


def test_balance_draws_as_many_of_the_smaller_class_as_make_both_equal():
    more = paper_work(1.0, synthetic_balance=True).sampled_images - paper_work(1.0, False).sampled_images
    surplus = sum(sizes["HGG"] - sizes["LGG"] for sizes in COHORTS.values())
    assert more == pytest.approx(2 * 2 * 5 * 0.64 * surplus, rel=0.02)  # real and synthetic images both fall short


def test_hours_are_amounts_by_rates():
    work = paper_work(1.0, True)
    hours = work.hours(RATES, starts=work.starts)
    assert hours["patches"] == pytest.approx(559 / 3600)
    assert hours["generators"] == pytest.approx(work.generator_images * 1.5 / 3600)
    assert hours["synthetic images"] == pytest.approx(work.sampled_images / 4 / 3600)
    assert hours["classifiers"] == pytest.approx(work.classifier_images / 8 / 3600)
    assert work.hours(RATES, starts=1)["start-up"] == pytest.approx(10 / 3600)


def test_the_known_rates_of_a_gpu_give_hours_and_leave_ours_open():
    rates = read_json("benchmarks/rates_h200.json")
    cells = derivation(paper_work(1.0, False), rates).splitlines()[-1].split(" | ")
    assert cells[0] == "| sum"
    assert 2.5 < float(cells[3]) < 9
    assert cells[4:] == ["", " |"]


@pytest.mark.slow
def test_rates_are_measured_written_and_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paper_study, "_patch_seconds", lambda: {"stock MONAI chain": 3.0, "configs/patches.yaml": 0.5})
    path = tmp_path / "rates.json"
    tiny = ["--size", "tiny", "--backbone", "resnet10", "--batch-size", "2", "--threads", "1"]
    main(["--measure", str(path), "--device", "cpu", *tiny])
    found = read_json(path)
    assert set(found["stock"]) == set(found["ours"]) == set(RATES)
    assert all(value > 0 for kind in ("stock", "ours") for value in found[kind].values())
    assert capsys.readouterr().out.strip().splitlines()[1:] == derivation(paper_work(1.0, True), found).splitlines()
