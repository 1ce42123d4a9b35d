"""Real patients under two names, or who share a part of their images: found by the search, counted once, and said."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from scripts.patches.image_sets import ImageSet

MAX_NAMES = 4  # of a subject, that are passed over where the usual distance of people is measured


class Duplicate(NamedTuple):
    """Two real subjects that are one.

    `part` says whose they are: "training" both are training subjects, "held out" the second is held out and the first
    is not, "both held out" neither is a training subject.
    """

    first: str
    second: str
    part: str
    similarity: float


class SharedPart(NamedTuple):
    """Two real subjects who share one `part` of their images; `ratio` is the lower of their d1 / d2 in it."""

    first: str
    second: str
    part: str
    ratio: float


def nearest_others(similarities: Tensor, ratio: float) -> Tensor:
    """Distance sqrt(1 - r) of each of G subjects to the nearest who is not the subject under a further name, (G,).

    Those are passed over that are nearer than `ratio` times the next: up to `MAX_NAMES` names of a subject, so that the
    distance is that between people even where most people have several names.

    Args:
        similarities: (G, G) of subjects, in [0, 1]; the diagonal does not count.
        ratio: in (0, 1).
    """
    distances = _distances(similarities).sort(1).values[:, :MAX_NAMES]
    is_name = distances[:, :-1] < ratio * distances[:, 1:]
    is_name &= distances[:, 1:].isfinite()
    first = torch.arange(1, distances.shape[1]) * is_name
    return distances.gather(1, first.amax(1, keepdim=True))[:, 0]


def find_duplicates(similarities: Tensor, ratio: float) -> list[tuple[int, int, float]]:
    """Find pairs of subjects that are nearer to each other than subjects are.

    Args:
        similarities: (G, G) of subjects, in [0, 1]; the diagonal does not count.
        ratio: a pair counts below this times the median distance, sqrt(1 - r), of a subject to the nearest other
            person, see `nearest_others`.

    Returns:
        Pairs (i, j), i < j, with their similarity; none among fewer than three subjects, where nothing is usual.
    """
    if len(similarities) < 3:
        return []
    distances = _distances(similarities)
    usual = nearest_others(similarities, ratio).median()
    pairs = (distances < ratio * usual).triu(1).nonzero().tolist()
    return [(first, second, float(_either(similarities)[first, second])) for first, second in pairs]


def is_shared(ratios: Tensor, below: float, gap: float) -> Tensor:
    """Mark the real images that come so near to another subject in one part that the two share it.

    That is said of the images beneath a gap, at most half of all. Where the ratios of real images fall to low values
    without one, as those of simple pictures do, or where most are low, low ratios are usual, and none is marked.

    Args:
        ratios: d1 / d2 of each image among the other subjects, (M,) in [0, 1].
        below: ratio of a copy of a part; no image at or above it is marked.
        gap: in (0, 1); marked are the images up to the highest that is below this times the next.

    Returns:
        (M,) booleans, at most half of them true.

    >>> is_shared(torch.tensor([0.6, 0.02, 0.58, 0.03]), 0.3, 0.5).tolist()
    [False, True, False, True]
    >>> is_shared(torch.tensor([0.4, 0.1, 0.28, 0.17]), 0.3, 0.5).tolist()
    [False, False, False, False]
    """
    values = ratios.sort().values[: len(ratios) // 2 + 1]
    last = ((values[:-1] < below) & (values[:-1] < gap * values[1:])).nonzero()
    return ratios <= values[last.max()] if len(last) else torch.zeros_like(ratios, dtype=torch.bool)


def name_shared(
    part: str, ratios: Tensor, owners: Tensor, nearest: Tensor, names: Sequence[Hashable]
) -> list[SharedPart]:
    """Name the pairs of subjects who share a part, each once, in the order of the subjects.

    Args:
        part: its name.
        ratios: d1 / d2 of the images that `is_shared` marks, (K,).
        owners: number of the subject of each of them, (K,).
        nearest: number of the subject to whom each of them is nearest in the part, (K,).
        names: of the subjects.
    """
    lowest: dict[tuple[int, int], float] = {}
    for ratio, owner, other in zip(ratios.tolist(), owners.tolist(), nearest.tolist(), strict=True):
        pair = (min(owner, other), max(owner, other))
        lowest[pair] = min(ratio, lowest.get(pair, 1.0))
    return [
        SharedPart(str(names[first]), str(names[second]), part, round(ratio, 6))
        for (first, second), ratio in sorted(lowest.items())
    ]


def _either(similarities: Tensor) -> Tensor:
    """The higher of both directions; -inf of a subject to itself."""
    return torch.maximum(similarities, similarities.T).fill_diagonal_(-torch.inf)


def _distances(similarities: Tensor) -> Tensor:
    return (1 - _either(similarities)).clamp_min(0).sqrt()


def count_once(
    training: ImageSet, held_out: ImageSet, pairs: Sequence[tuple[int, int, float]]
) -> tuple[ImageSet, ImageSet, list[int], list[Duplicate]]:
    """Give duplicates one name, and leave those out of the held-out images that are training subjects.

    Args:
        training: images of the subjects numbered first, in the order of their first image.
        held_out: images of those numbered after them.
        pairs: of `find_duplicates`.

    Returns:
        Both sets, the numbers of the held-out images that are left, and what was found.
    """
    names = [*training.different_patients, *held_out.different_patients]
    num_training = len(training.different_patients)
    same = list(range(len(names)))
    for first, second, _ in pairs:
        low, high = sorted((same[first], same[second]))
        same = [low if own == high else own for own in same]

    def part_of(first: int, second: int) -> str:
        return "training" if second < num_training else "held out" if first < num_training else "both held out"

    told = [
        Duplicate(str(names[first]), str(names[second]), part_of(first, second), value)
        for first, second, value in pairs
    ]
    name_of = {
        part: {name: names[same[index + start]] for index, name in enumerate(images.different_patients)}
        for part, images, start in (("training", training, 0), ("held out", held_out, num_training))
    }
    gone = {names[index] for index in range(num_training, len(names)) if same[index] < num_training}
    kept = [index for index, patient in enumerate(held_out.patients) if patient not in gone]
    left = held_out.take(kept) if len(kept) < len(held_out) else held_out
    return (
        replace(training, patients=[name_of["training"][patient] for patient in training.patients]),
        replace(left, patients=[name_of["held out"][patient] for patient in left.patients]),
        kept,
        told,
    )
