"""Tissue volumes of balls within balls are known, and what was changed of them is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scripts.image_quality.tissue_volumes import compare_tissue_volumes, standardized_difference, tissue_volumes

SHAPE = (20, 22, 24)


def heads(count, seed=0, inner=3.0):
    """A bright ball, in it a middle one and a dark one, of radii that vary from head to head."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.arange(size) - (size - 1) / 2 for size in SHAPE], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    volumes, truth = np.full((count, 1, *SHAPE), -1.0, np.float32), []
    for volume in volumes:
        outer, middle, dark = random.normal(9, 0.3), random.normal(6, 0.3), random.normal(inner, 0.2)
        levels = [(outer, 0.7), (middle, 0.0), (dark, -0.6)]
        for reach, level in levels:
            volume[0][radius < reach] = level
        noise = random.normal(0, 0.04, SHAPE).astype(np.float32)
        volume[0][radius < outer] += noise[radius < outer]
        below = [int((radius < reach).sum()) for reach, _ in levels]
        truth.append([below[2], below[1] - below[2], below[0] - below[1]])
    return torch.from_numpy(volumes), np.array(truth)


def compare(synthetic, real, patients=None, **settings):
    images = torch.cat([synthetic, real])
    return compare_tissue_volumes(images, len(synthetic), ["t1n"], patients or range(len(images)), **settings)


def test_voxels_of_three_tissues_are_counted_whatever_gain_and_offset():
    volumes, truth = heads(4)
    np.testing.assert_allclose(tissue_volumes(volumes[:, 0]), truth, rtol=0.02)
    darker = torch.where(volumes > -1, 0.5 * volumes - 0.3, -1.0)
    np.testing.assert_allclose(tissue_volumes(darker[:, 0]), truth, rtol=0.02)


def test_larger_ventricles_are_named_and_equal_sets_are_not():
    real, _ = heads(20, 1)
    larger = compare(heads(20, 2, inner=4.0)[0], real)
    rows = {row["tissue"]: row for row in larger["tissues"]}
    assert list(rows) == ["all", "dark", "middle", "bright"]
    assert rows["dark"]["differs"]
    assert rows["dark"]["low"] > 0
    assert rows["dark"]["ks"] > 0.9
    assert "more dark tissue by" in larger["sentence"]
    assert not rows["bright"]["differs"]
    equal = compare(heads(20, 3)[0], real)
    assert not any(row["differs"] for row in equal["tissues"])
    assert "not told apart" in equal["sentence"]


def test_volumes_are_told_in_ml_where_the_voxel_is_known():
    synthetic, real = heads(6, 4)[0], heads(6, 5)[0]
    voxels, millilitres = compare(synthetic, real), compare(synthetic, real, spacing_mm=5.0)
    assert (voxels["unit"], millilitres["unit"]) == ("voxels", "ml")
    for before, after in zip(voxels["tissues"], millilitres["tissues"], strict=True):
        assert after["mean_real"] == pytest.approx(before["mean_real"] * 0.125)
        assert after["difference"] == pytest.approx(before["difference"])


def test_without_a_background_skull_and_air_would_count():
    volumes, _ = heads(6, 4)
    result = compare(volumes, volumes, with_background=False)
    assert "no background" in result["reason"]
    assert result["tissues"] == []


def test_the_volumes_of_one_patient_count_once():
    synthetic, real = heads(6, 4)[0], heads(6, 5)[0]
    names = [*range(6), *[f"r{index // 2}" for index in range(12)]]
    twice = compare(synthetic, real.repeat_interleave(2, 0), names)
    assert twice["tissues"] == compare(synthetic, real)["tissues"]


def test_the_interval_of_a_difference_covers_it():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        _, low, high = standardized_difference(random.normal(0.8, 1, 15), random.normal(0, 1, 10))
        covered += low <= 0.8 <= high
    assert covered / 400 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 400))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda volumes: volumes[:4], "at least 5 subjects in each set, got 4 synthetic and 8 real"),
        (lambda volumes: torch.cat([volumes[:7], torch.full((1, 1, *SHAPE), -1.0)]), "1 of 16 volumes have no three"),
        (lambda volumes: volumes[:1].repeat(8, 1, 1, 1, 1), "all volumes of a set have as much tissue"),
    ],
    ids=["few", "blank", "one volume"],
)
def test_where_nothing_can_be_compared_there_is_a_reason(change, words):
    volumes, _ = heads(8, 6)
    result = compare(change(volumes), volumes)
    assert words in result["reason"]
    assert (result["tissues"], result["sentence"]) == ([], None)
