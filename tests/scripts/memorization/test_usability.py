from __future__ import annotations

from itertools import combinations

import pytest
import torch

from scripts.memorization.duplicates import Duplicate, count_once, find_duplicates, is_shared, name_shared
from scripts.memorization.usability import (
    average_likeness,
    detail,
    largest_clique,
    repeated_share,
    same_images,
    share_above,
)
from scripts.patches.image_sets import ImageSet


def draw(count, seed=0):
    """Smooth images with something in common, without background."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(count, 2, 4, 4, generator=generator)
    common = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(99))
    images = torch.nn.functional.interpolate(own + common, (16, 16), mode="bilinear")
    return images.tanh() * 0.9


def test_the_share_above_is_that_of_pairs():
    first, second = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([0.0, 2.0])
    assert share_above(first, second) == (1 + 0 + 1 + 0.5 + 1 + 0.5) / 6


def test_the_average_is_nearer_to_the_average_than_anybody_and_has_less_detail():
    real = draw(20)
    mean = real.mean(0, keepdim=True).repeat(5, 1, 1, 1)
    ours, theirs = average_likeness(mean, real, torch.arange(20))
    assert ours.min() > theirs.max()
    assert detail(mean).max() < detail(real).min()
    fresh, _ = average_likeness(draw(40, seed=1), real, torch.arange(20))
    assert 0.2 < share_above(fresh, theirs) < 0.8


def test_a_real_image_is_compared_with_the_average_of_others():
    real = draw(2)
    _, theirs = average_likeness(real, real, torch.tensor([0, 1]))
    torch.testing.assert_close(theirs[0], theirs[1])
    assert theirs[0] < 0.99


def test_repeated_images_are_counted_turned_or_not():
    real = draw(20)
    one = draw(1, seed=2)

    def repeated(images):
        return repeated_share(same_images(images, real, torch.arange(20), 0.5))

    assert repeated(one.repeat(10, 1, 1, 1)) == 0.9
    assert repeated(torch.cat([one, one.flip(2), one.mT])) == 2 / 3
    assert repeated(draw(10, seed=3)) == 0


def test_the_images_drawn_most_often_alike_are_the_largest_clique():
    real, others, one, two = draw(20), draw(6, seed=3), draw(1, seed=2), draw(1, seed=4)
    noise = 0.02 * torch.rand(4, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    images = torch.cat([others[:3], one + noise, others[3:], two, two.flip(3)])
    same = same_images(images, real, torch.arange(20), 0.5)
    assert largest_clique(same) == [3, 4, 5, 6]
    assert largest_clique(torch.eye(5, dtype=torch.bool)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_clique_is_one_and_nearly_the_largest_in_small_graphs(seed):
    random = torch.rand(8, 8, generator=torch.Generator().manual_seed(seed)) < 0.5
    same = (random | random.T).fill_diagonal_(True)
    cliques = [
        subset
        for size in range(2, 9)
        for subset in combinations(range(8), size)
        if bool(same[list(subset)][:, list(subset)].all())
    ]
    found = largest_clique(same)
    assert tuple(found) in cliques
    assert len(found) >= max(map(len, cliques)) - 1  # greedy: not always the largest


def test_a_patient_under_two_names_is_found_and_counted_once():
    similarities = torch.full((10, 10), 0.5)
    similarities[0, 1] = similarities[1, 0] = similarities[2, 7] = similarities[7, 2] = 0.99
    pairs = find_duplicates(similarities, 0.5)
    assert [pair[:2] for pair in pairs] == [(0, 1), (2, 7)]
    images = draw(11)
    training = ImageSet(images[:6], list("ABCDGH"))
    held_out = ImageSet(images[6:], ["E", "F", "E", "I", "J"])
    seen, unseen, kept, told = count_once(training, held_out, pairs)
    assert (seen.patients, unseen.patients, kept) == (list("AACDGH"), ["E", "E", "I", "J"], [0, 2, 3, 4])
    assert torch.equal(unseen.images, images[[6, 8, 9, 10]])
    assert [(one.first, one.second, one.part) for one in told] == [("A", "B", "training"), ("C", "F", "held out")]
    assert isinstance(told[0], Duplicate)


@pytest.mark.parametrize("num_names", [2, 3, 4])
def test_people_under_several_names_are_found_where_all_of_them_have_those(num_names):
    people = torch.arange(5).repeat_interleave(num_names)
    noise = 0.05 * torch.rand(len(people), len(people), generator=torch.Generator().manual_seed(0))
    is_same = people[:, None] == people
    pairs = find_duplicates(torch.where(is_same, 1 - 0.1 * noise, 0.5 + noise), 0.5)
    assert {pair[:2] for pair in pairs} == {tuple(pair) for pair in is_same.triu(1).nonzero().tolist()}


@pytest.mark.parametrize(
    ("ratios", "shared"),
    [
        ([0.6, 0.02, 0.58, 0.03], [False, True, False, True]),
        ([0.6, 0.02, 0.28, 0.31, 0.4], [False, True, False, False, False]),  # 0.28 is near what others reach
        ([0.4, 0.1, 0.28, 0.17], [False] * 4),  # no gap: low ratios are usual
        ([0.02, 0.03, 0.05, 0.06, 0.9], [False] * 5),  # most are low
        ([0.9, 0.31, 0.8], [False] * 3),  # no copy would be named by that
        ([0.0, 0.0], [False] * 2),
        ([0.1], [False]),
    ],
)
def test_a_part_is_shared_by_those_beneath_a_gap(ratios, shared):
    assert is_shared(torch.tensor(ratios, dtype=torch.float64), 0.3, 0.5).tolist() == shared


def test_a_pair_that_shares_a_part_is_named_once_by_its_lower_ratio():
    ratios, owners, nearest = torch.tensor([0.03, 0.02, 0.1]), torch.tensor([2, 0, 3]), torch.tensor([0, 2, 1])
    pairs = name_shared("lesion", ratios, owners, nearest, "ABCD")
    assert [(one.first, one.second, one.part) for one in pairs] == [("A", "C", "lesion"), ("B", "D", "lesion")]
    assert pairs[0].ratio == pytest.approx(0.02)


def test_two_held_out_subjects_that_are_one_are_counted_once_and_not_left_out():
    images = draw(5)
    training, held_out = ImageSet(images[:2], ["A", "B"]), ImageSet(images[2:], ["C", "D", "E"])
    _, unseen, kept, told = count_once(training, held_out, [(2, 4, 0.99)])
    assert (unseen.patients, kept, told) == (["C", "D", "C"], [0, 1, 2], [Duplicate("C", "E", "both held out", 0.99)])


def test_different_patients_are_no_duplicates():
    assert find_duplicates(0.5 + 0.1 * torch.rand(20, 20, generator=torch.Generator().manual_seed(0)), 0.5) == []
    assert find_duplicates(torch.ones(2, 2), 0.5) == []
