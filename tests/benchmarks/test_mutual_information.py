"""The experiment on mutual information: who is kept out, what is kept, and the intervals of its table."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.generator_recipes import Patients, mean_and_interval
from benchmarks.mutual_information import (
    ARMS,
    PAPER,
    Arm,
    Choice,
    auc_gain,
    audit_of_set,
    differences,
    make_set,
    split_inner,
    table,
)
from tests.ring_or_blob import draw


def patients(count, seed=0, size=32):
    """Made-up patients of two classes in turn, 4 x `size` x `size`."""
    random = np.random.RandomState(seed)
    images = [draw(index % 2, 4, (size, size), random) for index in range(count)]
    return Patients(torch.from_numpy(np.stack(images)), torch.arange(count) % 2)


def test_a_fifth_of_each_class_is_kept_out_and_nobody_is_in_both():
    images = torch.arange(24.0).reshape(24, 1, 1, 1)
    rest, inner = split_inner(Patients(images, torch.tensor([0] * 4 + [1] * 20)))
    assert inner.labels.tolist() == [0, 1, 1, 1, 1]
    assert sorted([*rest.images.flatten().tolist(), *inner.images.flatten().tolist()]) == list(range(24))


@pytest.mark.parametrize("name", ["MI .3", "stopped by audit", "augmented", "paper: MI .1, bounded"])
def test_every_way_to_train_draws_both_classes(name, monkeypatch):
    monkeypatch.setattr("benchmarks.mutual_information.SIZE", 16)
    arm = dataclasses.replace(ARMS[name], recipe=dataclasses.replace(ARMS[name].recipe, channels=(8, 8), steps=2))
    images, steps = make_set(arm, patients(12, size=16), seconds=0.4, seed=0, count=3)
    assert images.shape == (6, 4, 16, 16)
    assert len(steps) == (1 if arm.recipe.conditional else 2)
    assert min(steps) >= 1


def test_the_weights_of_the_lowest_loss_are_kept():
    class Constant(torch.nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = torch.nn.Parameter(torch.tensor(value))

        def forward(self, images, times, labels=None):
            return torch.zeros_like(images) + self.value

    everybody = patients(4)
    choice = Choice(Arm(dataclasses.replace(PAPER), "loss"), everybody, everybody, seed=0)
    # The noise has mean 0, so the constant 0 predicts it best.
    for value in (2.0, 0.0, 1.0):
        choice(Constant(value))
    assert choice.weights["value"] == 0


def test_copies_are_counted_and_other_patients_are_not():
    training, held_out, others = patients(20, 1), patients(20, 2), patients(20, 3)
    copied = audit_of_set(training, training, held_out)
    assert (copied["copies"], copied["excess"]) == (100, 1)
    assert audit_of_set(others, training, held_out)["copies"] == 0


def test_the_gain_of_auc_is_the_mean_over_seeds_with_limits_around_it():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    scores = {
        name: {seed: {"scores": {"test_a": (labels * shift + generator.normal(size=80)).tolist()}} for seed in range(5)}
        for name, shift in (("real", 0.5), ("both", 2.0))
    }
    value, low, high = auc_gain(scores["both"], scores["real"], labels, "test_a", num_draws=200)
    aucs = {
        name: [roc_auc_score(labels, row["scores"]["test_a"]) for row in rows.values()] for name, rows in scores.items()
    }
    assert value == pytest.approx(np.mean(aucs["both"]) - np.mean(aucs["real"]))
    assert 0 < low < value < high
    assert auc_gain(scores["real"], scores["real"], labels, "test_a", num_draws=50) == (0, 0, 0)


def test_the_interval_of_a_mean_is_students():
    # t(2) = 4.303, and 1 / sqrt(3) = .577.
    assert mean_and_interval([1.0, 2.0, 3.0]) == pytest.approx((2, 2 - 2.484, 2 + 2.484), abs=1e-3)


def test_the_table_stays_within_the_bounds_of_its_figures_and_begins_with_real_images_alone():
    labels = torch.tensor([0, 0, 1, 1])
    judge = SimpleNamespace(patients={part: Patients(torch.zeros(4, 1), labels) for part in ("test_a", "test_b")})
    scores = {"test_a": [0.0, 1, 2, 3], "test_b": [0.0, 2, 1, 3]}
    figures = {"copies": 0, "excess": 0.5, "max_pearson": 0.5, "kernel_distance": 0.1, "coverage": 0.9}
    rows = [{"arm": "real", "seed": seed, "scores": scores} for seed in (0, 1)]
    rows += [
        {"arm": "plain", "seed": seed, "scores": scores, "verdicts": {}, "steps": [3], **figures, "label_auc": area}
        for seed, area in ((0, 0.99), (1, 0.95))
    ]
    lines = table(rows, judge).splitlines()
    assert lines[2].endswith("| AUC 1.000 | AUC 0.750 |")
    assert lines[2].count("|") == lines[3].count("|")
    assert "| 0.97 (0.72 to 1.00) |" in lines[3]


def test_an_arm_less_plain_training_is_paired_by_seed():
    labels = torch.tensor([0, 0, 1, 1])
    judge = SimpleNamespace(patients={part: Patients(torch.zeros(4, 1), labels) for part in ("test_a", "test_b")})
    right, wrong = (
        {"test_a": [0.0, 1, 2, 3], "test_b": [0.0, 1, 2, 3]},
        {"test_a": [2.0, 3, 0, 1], "test_b": [0.0, 2, 1, 3]},
    )
    figures = {"copies": 0, "max_pearson": 0.5, "kernel_distance": 0.1, "coverage": 0.9, "label_auc": 1.0}
    rows = [
        {"arm": arm, "seed": seed, "scores": scores, "excess": excess + seed, **figures}
        for arm, scores, excess in (("real", wrong, 0.0), ("plain", wrong, 0.5), ("augmented", right, 0.25))
        for seed in (0, 1, 2)
    ]
    header, _, line = differences(rows, judge).splitlines()
    cells = dict(zip(header.split(" | "), line.split(" | "), strict=True))
    assert line.startswith("| augmented | +0 | -0.25 | ")
    assert cells["kernel distance"] == "+0.00"
    assert cells["AUC, same site"] == "+1.000"
    assert cells["other site |"].startswith("+0.250 (")
    assert differences([row for row in rows if row["arm"] != "plain"], judge) == ""
