from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from scripts.memorization.statistics import (
    authentic_share,
    copy_ratios,
    data_copying,
    expected_maximum,
    k_means_cells,
    maximum_weights,
    nearest_share,
    pool_gaps,
    training_gap,
)


@pytest.mark.parametrize(("num_training", "count"), [(5, 8), (3, 8), (4, 8), (1, 5), (7, 8)])
def test_exchanged_gaps_are_those_of_exchanged_columns(num_training, count):
    similarities = torch.rand(6, count, generator=torch.Generator().manual_seed(0))
    gap = training_gap(similarities, num_training, num_permutations=40, seed=3)
    generator, at_least = torch.Generator().manual_seed(3), 1
    size = min(num_training, count - num_training)
    for _ in range(40):
        is_training = torch.randperm(count, generator=generator) < num_training
        near, far = (expected_maximum(similarities[:, own], size) for own in (is_training, ~is_training))
        at_least += int((near - far).mean() >= gap.mean - 1e-12)
    assert gap.p_value == pytest.approx(at_least / 41)


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_expected_maximum_equals_the_mean_over_all_subsets(size):
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 6)))
    expected = [np.mean([max(subset) for subset in combinations(row, size)]) for row in values.tolist()]
    np.testing.assert_allclose(expected_maximum(values, size).numpy(), expected)


def test_weights_of_large_sets_do_not_overflow():
    assert maximum_weights(5000, 1000).sum() == pytest.approx(1)


def test_a_sample_of_more_than_all_is_refused():
    with pytest.raises(ValueError, match="between 1 and the number of subjects 3"):
        maximum_weights(3, 4)


def test_the_gap_is_the_difference_of_two_expected_maxima():
    similarities = torch.rand(8, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gap = training_gap(similarities, num_training=7, num_permutations=9)
    expected = expected_maximum(similarities[:, :7], 3) - expected_maximum(similarities[:, 7:], 3)
    torch.testing.assert_close(gap.values, expected)
    assert gap.sample_size == 3
    left = 1 - float(expected_maximum(similarities[:, 7:], 3).mean())
    assert gap.relative == pytest.approx(gap.mean / left)


def test_the_p_value_of_the_gap_is_uniform_where_nothing_is_memorized():
    # Few subjects, and all images near the same ones: where an interval over images would fail.
    random = np.random.default_rng(0)
    p_values = []
    for seed in range(120):
        similarities = torch.from_numpy(random.normal(size=(1, 16)) + 0.1 * random.normal(size=(30, 16)))
        p_values.append(training_gap(similarities, 10, num_permutations=99, seed=seed).p_value)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p_values) <= level) == pytest.approx(
            level, abs=3.2 * (level * (1 - level) / 120) ** 0.5
        )


def test_the_interval_of_a_shifted_gap_holds_the_shift():
    random = np.random.default_rng(1)
    held = 0
    for seed in range(30):
        similarities = torch.from_numpy(random.normal(size=(1, 16)) + 0.1 * random.normal(size=(30, 16)))
        similarities[:, :10] += 2.0
        gap = training_gap(similarities - 2.0, 10, num_permutations=199, seed=seed)
        held += gap.low <= 2.0 <= gap.high
    assert held >= 25  # 28 of 30 meant; four steps towards the limits give about 27


@pytest.mark.parametrize("correlation", [0.2, 0.8])
def test_the_pooled_gap_of_folds_that_err_together_holds_nothing_memorized(correlation):
    random = np.random.default_rng(4)
    held = {True: 0, False: 0}
    for _ in range(400):
        shared = random.normal() * correlation**0.5
        means = shared + random.normal(size=5) * (1 - correlation) ** 0.5
        gaps = [{"mean": mean, "low": mean - 1.96, "high": mean + 1.96} for mean in means]
        for same in held:
            pooled = pool_gaps(gaps, same_held_out=same)
            held[same] += pooled["low"] <= 0 <= pooled["high"]
    assert held[True] / 400 >= 0.95
    assert held[False] / 400 < 0.92  # what the folds would be if they did not err together


def test_the_pooled_gap_of_folds_apart_is_as_sure_as_it_says():
    means = np.random.default_rng(5).normal(size=(1000, 5))
    pooled = [pool_gaps([{"mean": m, "low": m - 1.96, "high": m + 1.96} for m in row], False) for row in means]
    assert np.mean([gap["low"] <= 0 <= gap["high"] for gap in pooled]) == pytest.approx(0.95, abs=0.02)
    assert pool_gaps([], False) is None


def test_copy_ratios_are_those_of_euclidean_distances_of_standardized_images():
    random = np.random.default_rng(0)
    images, references = (random.normal(size=(n, 50)) for n in (4, 6))
    ours, theirs = (
        (x - x.mean(1, keepdims=True)) / np.linalg.norm(x - x.mean(1, keepdims=True), axis=1, keepdims=True)
        for x in (images, references)
    )
    distances = np.sort(np.linalg.norm(ours[:, None] - theirs[None], axis=2), axis=1)
    np.testing.assert_allclose(copy_ratios(torch.from_numpy(ours @ theirs.T)), distances[:, 0] / distances[:, 1])


def test_among_one_subject_nobody_is_a_copy():
    assert copy_ratios(torch.ones(3, 1)).tolist() == [1, 1, 1]


def test_authentic_share_equals_the_definition_image_by_image():
    random = np.random.default_rng(2)
    images, training = random.normal(size=(30, 2)), random.normal(size=(12, 2))
    to_training, among = (-np.linalg.norm(x[:, None] - training[None], axis=2) for x in (images, training))
    authentic = 0
    for row in -to_training:
        nearest = int(row.argmin())
        to_next = min(-among[nearest][other] for other in range(12) if other != nearest)
        authentic += row[nearest] > to_next
    assert authentic_share(torch.from_numpy(to_training), torch.from_numpy(among)) == pytest.approx(authentic / 30)


def test_copies_are_not_authentic():
    training = torch.from_numpy(-np.abs(np.subtract.outer(np.arange(5.0), np.arange(5.0))))
    assert authentic_share(training - 0.01, training) == 0
    assert authentic_share(training - 2, training) == 1


def test_data_copying_is_standard_normal_without_copies_and_negative_with():
    random = np.random.default_rng(3)
    scores = [data_copying(*(torch.from_numpy(random.normal(size=n)) for n in (30, 20))) for _ in range(400)]
    assert np.mean(scores) == pytest.approx(0, abs=0.2)
    assert np.std(scores) == pytest.approx(1, abs=0.15)
    nearer = data_copying(torch.arange(30.0), torch.arange(20.0) - 20)
    assert nearer == pytest.approx(-(30 * 20 / 2) / (30 * 20 * 51 / 12) ** 0.5)


def test_cells_are_averaged_by_their_held_out_images_and_small_ones_left_out():
    ours, theirs = torch.arange(60.0), torch.arange(70.0) + 0.5
    cells = np.repeat([0, 1], [30, 30]), np.repeat([0, 1, 2], [25, 40, 5])
    parts = [data_copying(ours[:30], theirs[:25]), data_copying(ours[30:], theirs[25:65])]
    assert data_copying(ours, theirs, cells) == pytest.approx((25 * parts[0] + 40 * parts[1]) / 65)
    assert data_copying(ours[:5], theirs[:5], (np.zeros(5), np.zeros(5))) is None


def test_cells_part_what_lies_apart():
    training = torch.cat([torch.zeros(5, 1, 2, 2), torch.ones(5, 1, 2, 2)])
    first, second = k_means_cells(training, [training[:5], training[5:]], 2)
    assert len(set(first)) == len(set(second)) == 1
    assert first[0] != second[0]


def test_the_share_of_copies_of_everybody_is_one_and_of_held_out_subjects_the_other_way():
    copied = torch.arange(60) % 20
    share = nearest_share(copied, 20, 26)
    assert (share.value, share.relative, share.p_value) == (pytest.approx(1), pytest.approx(1), 1e-4)
    assert share.chance == pytest.approx(20 / 26)
    other = nearest_share(20 + torch.arange(60) % 6, 20, 26)
    assert (other.value, other.held_out_relative) == (0, pytest.approx(1))
    assert other.held_out_p_value <= 0.01 < other.p_value
    # One subject who is nearest to all images may be of either kind by chance.
    assert nearest_share(torch.zeros(60, dtype=torch.long), 20, 26).p_value > 0.5


def test_the_p_value_of_the_share_holds_its_level_where_nothing_is_memorized():
    # A few subjects attract most images, as in spaces of many dimensions: no image is a replicate.
    random = np.random.default_rng(7)
    p_values = []
    for seed in range(300):
        weights = random.exponential(size=24) ** 2
        nearest = torch.from_numpy(random.choice(24, size=40, p=weights / weights.sum()))
        p_values.append(nearest_share(nearest, 16, 24, num_exchanges=99, seed=seed).p_value)
    for level in (0.05, 0.2):
        assert np.mean(np.array(p_values) <= level) <= level + 3 * (level * (1 - level) / 300) ** 0.5


def test_parts_that_show_nothing_do_not_count():
    nearest = torch.tensor([[0, -1], [1, 2]])
    assert nearest_share(nearest, 2, 3).value == pytest.approx(2 / 3)


def test_an_image_that_equals_two_subjects_is_a_copy():
    assert copy_ratios(torch.tensor([[1.0, 1.0, 0.2], [0.3, 0.3, 0.2]])).tolist() == [0, 1]


def test_the_share_of_a_gap_is_of_what_is_left_to_a_perfect_similarity():
    similarities = torch.tensor([[-1.0, -1.0, -2.0, -2.0]]).repeat(5, 1)
    assert training_gap(similarities, 2, 99, perfect=0.0).relative == pytest.approx(0.5)
