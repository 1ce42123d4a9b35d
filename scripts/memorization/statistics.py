"""Statistics of memorization, from how near images come to training and to held-out subjects."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import gammaln
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans
from torch import Tensor

from scripts.patches.image_sets import ImageSet
from scripts.splits.patients import number_patients
from scripts.statistics.roc_area import delong

LIMIT_PERMUTATIONS = 199  # exchanges at each step towards a limit of the gap
# Steps; of intervals meant to hold 95 % of true shifts, 91 to 94 % did, and 93 to 94 % after twice as many.
LIMIT_ITERATIONS = 4
EXCHANGE_BLOCK = 2**17  # exchanges times images that are looked at at once: what stays in the cache
SHARE_EXCHANGES = 9999  # of names of subjects, which cost little: p of one part among many must be small
MIN_SUBJECTS = 2  # of each kind, without which there is no variance
Losses = Callable[[Tensor, int | None], Tensor]
MIN_CELL = 20  # images of either kind below which a cell says nothing (Meehan et al. 2020 leave such cells out)


class Gap(NamedTuple):
    """Nearness to training subjects less nearness to as many held-out ones.

    `values` (N,) of each image; `mean`; `low` and `high`, its 95 % limits; `p_value` that a generator which never saw
    the training subjects reaches it; `relative`, the share of what held-out subjects leave to a perfect similarity;
    `sample_size`, number of subjects compared with.
    """

    values: Tensor
    mean: float
    low: float
    high: float
    p_value: float
    relative: float
    sample_size: int


class Share(NamedTuple):
    """Share of images whose nearest real subject is a training one.

    `value`; `chance`, T / G; `relative`, (value - chance) / (1 - chance); `p_value` that exchanged subjects reach it;
    `held_out_relative` and `held_out_p_value`, the same of held-out subjects, whom no generator should know.
    """

    value: float
    chance: float
    relative: float
    p_value: float
    held_out_relative: float
    held_out_p_value: float


def maximum_weights(count: int, size: int) -> np.ndarray:
    """Return the probability that each of `count` ordered values is the maximum of a random subset of `size`.

    The i-th smallest of n is the maximum of C(i - 1, m - 1) of the C(n, m) subsets.

    Args:
        count: n.
        size: m, 1 <= m <= n.

    Returns:
        (n,) float64, from the smallest value to the largest; sums to 1.

    Raises:
        ValueError: if `size` is outside 1..n.
    """
    if not 1 <= size <= count:
        raise ValueError(f"size must lie between 1 and the number of subjects {count}, got {size!r}")
    ranks = np.arange(size, count + 1, dtype=np.float64)
    log_weights = _log_binomial(ranks - 1, size - 1) - _log_binomial(count, size)
    return np.concatenate([np.zeros(size - 1), np.exp(log_weights)])


def expected_maximum(similarities: Tensor, size: int) -> Tensor:
    """Return the mean of the highest similarity over all subsets of `size` subjects, in closed form.

    The highest of many grows with their number: this compares sets of different size without a draw.

    Args:
        similarities: (N, G).
        size: 1 to G.

    Returns:
        (N,) float64.
    """
    return similarities.double().sort(dim=1).values @ torch.from_numpy(maximum_weights(similarities.shape[1], size))


def training_gap(
    similarities: Tensor, num_training: int, num_permutations: int = 999, seed: int = 0, perfect: float = 1.0
) -> Gap:
    """Compare the nearness to training subjects with that to as many held-out subjects.

    Without memorization it does not matter which of the real subjects trained the generator. So the gap is compared
    with what it is under random exchanges of training and held-out subjects: an exact test at any number of subjects
    (Fisher 1935; Ernst 2004, "Permutation methods"). The interval holds the gaps that, taken off the training
    subjects, leave nothing significant (ibid., section 3). The single images are no replicates, as all of them are
    compared with the same subjects.

    Args:
        similarities: (N, T + H) of images to T training and then H held-out subjects, higher is nearer.
        num_training: T, 1 <= T < T + H.
        num_permutations: random exchanges.
        seed: of the exchanges.
        perfect: similarity of an image to itself: 1 of a correlation, 0 of a negative distance.

    Returns:
        The gap, > 0 where training subjects are nearer; the mean over images is about 0 where nothing is memorized.
    """
    count = similarities.shape[1]
    size = min(num_training, count - num_training)
    near = [expected_maximum(part, size) for part in similarities.split([num_training, count - num_training], dim=1)]
    values = near[0] - near[1]
    mean = float(values.mean())
    exchanged = _exchanged_gaps(similarities, num_training, size, num_permutations, seed)
    p_value = (1 + int((exchanged >= mean - 1e-12).sum())) / (1 + num_permutations)
    limit_permutations = min(num_permutations, LIMIT_PERMUTATIONS)
    low, high = (
        _gap_limit(similarities, num_training, size, mean, quantile, limit_permutations, seed)
        for quantile in (0.975, 0.025)
    )
    left = perfect - float(near[1].mean())
    return Gap(values, mean, low, high, p_value, mean / left if left > 0 else 0.0, size)


def nearest_share(
    nearest: Tensor, num_training: int, count: int, num_exchanges: int = SHARE_EXCHANGES, seed: int = 0
) -> Share:
    """Measure the share of images whose nearest real subject is a training one: a test of one nearest neighbor.

    A generator that copies everybody, however it alters them, has 1; one that never saw the training subjects has
    about T / G, as it does not matter which of the G real subjects are called training: p by exchanging their names,
    which is exact at any number of subjects (Fisher 1935; after Schilling 1986, "Multivariate two-sample tests based on
    nearest neighbors"). Unlike the gap it is not diluted where there are few held-out subjects.

    Args:
        nearest: number of the nearest subject of each image, or of each part of it, any shape; -1 counts for nothing.
        num_training: T; subjects 0..T-1 trained the generator.
        count: G, T + H subjects.
        num_exchanges: of names, at random.
        seed: of the exchanges.
    """
    known = nearest[nearest >= 0].flatten()
    hits = torch.bincount(known, minlength=count).double() / max(len(known), 1)
    chance = num_training / count
    names = _exchanged_names(num_training, count, num_exchanges, seed)
    exchanged, value = names @ hits, float(hits[:num_training].sum())
    held_out = float(hits[num_training:].sum())
    return Share(
        value,
        chance,
        (value - chance) / (1 - chance) if chance < 1 else 0.0,
        (1 + int((exchanged >= value - 1e-12).sum())) / (1 + num_exchanges),
        (held_out - 1 + chance) / chance if len(known) else 0.0,
        (1 + int((exchanged <= value + 1e-12).sum())) / (1 + num_exchanges),
    )


@lru_cache(maxsize=2)
def _exchanged_names(num_training: int, count: int, num_exchanges: int, seed: int) -> Tensor:
    """Subsets of T of G subjects, (exchanges, G) float64 of 0 and 1; the same for every part of the same subjects."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(num_exchanges, count, generator=generator).argsort(1) < num_training).double()


def pool_gaps(gaps: Sequence[Mapping[str, float]], same_held_out: bool) -> dict[str, float] | None:
    """Average the gaps of the folds of one cohort, with an interval of the mean.

    Folds that hold out subjects of their own are joined by square-and-add (Newcombe 1998). Where all are compared with
    the same held-out subjects, as under `selection: validation`, their gaps err together, and how much is not known:
    the limits are then the means of theirs, which hold whatever the correlation. Simulated without memorization (40
    subjects in five folds, 12 tested; 120 seeds), square-and-add holds 0 in 97 % of the first and 87 % of the second,
    the means of the limits in all of the second.

    Args:
        gaps: `mean`, `low` and `high` of each fold, or none.
        same_held_out: whether the folds are compared with the same held-out subjects.

    Returns:
        `mean`, `low` and `high`; None without gaps.
    """
    if not gaps:
        return None
    mean, low, high = (float(np.mean([gap[key] for gap in gaps])) for key in ("mean", "low", "high"))
    if same_held_out:
        return {"mean": mean, "low": low, "high": high}
    below, above = (math.hypot(*(gap["mean"] - gap[side] for gap in gaps)) / len(gaps) for side in ("low", "high"))
    return {"mean": mean, "low": mean - below, "high": mean + above}


def copy_ratios(similarities: Tensor) -> Tensor:
    """Divide the distance to the nearest subject by that to the second nearest one: about 1, and near 0 for a copy.

    Sources: Yoon et al. 2023, "Diffusion probabilistic models generalize when they fail to memorize", and Gu et al.
    2023, "On memorization in diffusion models", who call an image below 1/3 a copy; here between distinct subjects.
    The distance of two standardized images is sqrt(2 (1 - r)) for a correlation r.

    Args:
        similarities: (..., G) correlations with each subject; -inf where there is none.

    Returns:
        d1 / d2, (...) float64 in [0, 1]; 1 where there is one subject only, and no second; 0 where two subjects are
        equal to the image.
    """
    if similarities.shape[-1] < 2:
        return torch.ones(similarities.shape[:-1], dtype=torch.float64)
    values = similarities.double().topk(2, dim=-1).values
    nearest, second = (1 - values).clamp_min(0).sqrt().unbind(dim=-1)
    ratio = torch.where(second > 0, nearest / second.clamp_min(1e-12), 0.0)
    return torch.where(values[..., 1].isfinite(), ratio, 1.0)


def authentic_share(similarities: Tensor, training: Tensor) -> float:
    """Share of images that are authentic: farther from their nearest training subject than that is from the next.

    Source: Alaa et al. 2022, "How faithful is your synthetic data?", section 3.3 (AuthPct is 100 times it). Real
    images that were never seen have about one half to three quarters, not 1: read it beside theirs.

    Args:
        similarities: (N, T) of images to training subjects, higher is nearer.
        training: (T, T) of training subjects to each other; the diagonal does not count.

    Returns:
        In [0, 1]; higher is better.
    """
    others = training.double().clone().fill_diagonal_(-torch.inf).max(dim=1).values
    nearness, nearest = similarities.double().max(dim=1)
    return float((nearness < others[nearest]).double().mean())


def data_copying(
    synthetic: Tensor, held_out: Tensor, cells: tuple[np.ndarray, np.ndarray] | None = None
) -> float | None:
    """Test whether synthetic images lie nearer to the training images than held-out ones do: C_T.

    Source: Meehan, Chaudhuri, Dasgupta 2020, "A non-parametric test to detect data-copying in generative models",
    section 3: the z of Mann and Whitney's U in each cell, averaged with the cells' share of held-out images.

    Args:
        synthetic: similarity of each to its nearest training subject, (S,), higher is nearer.
        held_out: the same of held-out images, (H,).
        cells: cell number of every synthetic and every held-out image; None is one cell.

    Returns:
        z, about standard normal without copying: below -3 copies, above 3 underfits. None where no cell has images.

    >>> round(data_copying(torch.arange(30.0) + 100, torch.arange(30.0)), 2)
    -6.65
    """
    where = (np.zeros(len(synthetic)), np.zeros(len(held_out))) if cells is None else cells
    scores, sizes = [], []
    for cell in np.unique(where[1]):
        ours, theirs = (-values.numpy()[of == cell] for values, of in zip((synthetic, held_out), where, strict=True))
        if cells is None or min(len(ours), len(theirs)) >= MIN_CELL:
            scores.append(_mann_whitney_z(ours, theirs))
            sizes.append(len(theirs))
    return float(np.average(scores, weights=sizes)) if scores else None


def k_means_cells(training: Tensor, others: Sequence[Tensor], num_cells: int, seed: int = 0) -> list[np.ndarray]:
    """Divide the space of images into cells around k-means of the training images (Meehan et al. 2020, section 3.2).

    Args:
        training: (T, C, *spatial).
        others: sets to assign.
        num_cells: k, 1 to T.
        seed: of k-means.

    Returns:
        Cell number of every image of each set.
    """
    means = KMeans(num_cells, n_init=4, random_state=seed).fit(training.flatten(1).double().cpu().numpy())
    return [means.predict(images.flatten(1).double().cpu().numpy()) for images in others]


def describe(values: Tensor) -> dict[str, Any]:
    """Summarize values: number, mean, standard deviation (n - 1; None for one value), median, largest, and all."""
    array = values.double().numpy()
    return {
        "n": len(array),
        "mean": float(array.mean()),
        "sd": float(array.std(ddof=1)) if len(array) > 1 else None,
        "median": float(np.median(array)),
        "max": float(array.max()),
        "values": [round(float(value), 6) for value in array],
    }


def infer_membership(
    losses: Losses, training: ImageSet, held_out: ImageSet, label: int | None = None
) -> dict[str, Any] | None:
    """Tell training from held-out subjects by the denoising loss alone: no synthetic image is needed.

    Sources: Matsumoto, Miura, Yanai 2023, "Membership inference attacks against diffusion models", and Carlini et al.
    2023, "Extracting training data from diffusion models", section 5: the loss is lower on what was learned by heart.

    Args:
        losses: from images (N, C, *spatial) and their class to losses (N, levels), one column a timestep.
        training: images of the generator's subjects.
        held_out: images of subjects that it never saw.
        label: class of the images; None where the generator was not told it.

    Returns:
        `auc`: `value`, `low` and `high` (DeLong) of each subject's loss, standardized at each timestep and averaged:
        about .5 where nothing is memorized, 1 where all of it is; `auc_by_level`, the same at each timestep alone;
        `num_training_subjects`, `num_held_out_subjects`. None with fewer than two subjects of either kind.
    """
    parts = [images for images in (training, held_out) if len(images.different_patients) >= MIN_SUBJECTS]
    if len(parts) < 2:
        return None
    groups = [_of_subjects(losses(images.images, label), images) for images in parts]
    joined, is_member = np.concatenate(groups), np.repeat([True, False], [len(group) for group in groups])
    scores = (joined.mean(0) - joined) / np.maximum(joined.std(0), 1e-12)
    area = delong(is_member, scores.mean(1))
    return {
        "auc": {"value": area.value, "low": area.low, "high": area.high},
        "auc_by_level": [delong(is_member, column).value for column in scores.T],
        "num_training_subjects": len(groups[0]),
        "num_held_out_subjects": len(groups[1]),
    }


def membership_in_words(result: dict[str, Any] | None) -> list[str]:
    """Say what membership inference found, in a sentence, or none. The verdict does not rest on it."""
    if result is None:
        return []
    auc = result["auc"]
    return [
        f"By the generator's own denoising loss training subjects are told from held-out ones with an AUC of"
        f" {auc['value']:.2f} (95 % {auc['low']:.2f} to {auc['high']:.2f}); .5 is that of a generator which learned"
        " nobody by heart."
    ]


def _gap_limit(
    similarities: Tensor, num_training: int, size: int, mean: float, quantile: float, num_permutations: int, seed: int
) -> float:
    """Solve limit = mean - (quantile of the exchanged gaps once the limit is taken off the training subjects)."""
    is_training = torch.arange(similarities.shape[1]) < num_training
    limit = 0.0
    for _ in range(LIMIT_ITERATIONS):
        without = similarities.double() - limit * is_training
        exchanged = _exchanged_gaps(without, num_training, size, num_permutations, seed)
        limit = mean - float(np.quantile(exchanged, quantile))
    return limit


def _exchanged_gaps(similarities: Tensor, num_training: int, size: int, num_permutations: int, seed: int) -> np.ndarray:
    """Mean gaps after random exchanges of training and held-out subjects; values are sorted once for all of them."""
    count = similarities.shape[1]
    ordered, order = similarities.double().sort(dim=1, descending=True)
    training, held_out = (
        torch.from_numpy(maximum_weights(n, size)).flip(0) for n in (num_training, count - num_training)
    )
    is_training = _exchanges(num_training, count, num_permutations, seed)
    blocks = is_training.split(max(1, EXCHANGE_BLOCK // len(order)), dim=1)
    return torch.cat([_mean_gaps(block, ordered.T, order.T, training, held_out) for block in blocks]).numpy()


def _mean_gaps(is_training: Tensor, ordered: Tensor, order: Tensor, training: Tensor, held_out: Tensor) -> Tensor:
    """Mean gaps (E,) of E exchanges: subjects are visited from the nearest on, and counted by their rank in their kind.

    Args:
        is_training: (G, E) of 0 and 1, int32.
        ordered: (G, N) similarities of N images, falling.
        order: (G, N) whose they are.
        training: probability that the r-th of the training subjects is the nearest of a subset, (T,).
        held_out: likewise, (H,).
    """
    last = [int(weights.nonzero()[-1]) for weights in (training, held_out)]
    num_before = torch.zeros(ordered.shape[1], is_training.shape[1], dtype=torch.int32)
    gaps = torch.zeros(is_training.shape[1], dtype=torch.float64)
    for place, (values, subjects) in enumerate(zip(ordered.contiguous(), order, strict=True)):
        own, ranks = is_training[subjects], torch.arange(place + 1)
        of_held_out, of_training = (
            weights[where.clamp_max(len(weights) - 1)]
            for weights, where in ((held_out, place - ranks), (training, ranks))
        )
        numbers = torch.add(num_before, own, alpha=place + 1)
        weights = torch.cat([-of_held_out, of_training]).index_select(0, numbers.flatten())
        gaps += values @ weights.view(numbers.shape)
        num_before += own
        if int(num_before.min()) > last[0] and place + 1 - int(num_before.max()) > last[1]:
            break
    return gaps / ordered.shape[1]


@lru_cache(maxsize=4)
def _exchanges(num_training: int, count: int, num_permutations: int, seed: int) -> Tensor:
    """Draw subsets of T of G subjects, (G, exchanges) int32 of 0 and 1; the same for every similarity."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(count, generator=generator) for _ in range(num_permutations)]
    return (torch.stack(orders, 1) < num_training).int()


def _mann_whitney_z(ours: np.ndarray, theirs: np.ndarray) -> float:
    statistic = mannwhitneyu(ours, theirs, method="asymptotic").statistic
    m, n = len(ours), len(theirs)
    return float((statistic - m * n / 2) / np.sqrt(m * n * (m + n + 1) / 12))


def _log_binomial(n: np.ndarray | int, k: int) -> Any:
    return gammaln(np.asarray(n) + 1.0) - gammaln(k + 1.0) - gammaln(np.asarray(n) - k + 1.0)


def _of_subjects(losses: Tensor, images: ImageSet) -> np.ndarray:
    """Mean loss of each subject at each timestep."""
    values, owners = losses.double().cpu().numpy(), number_patients(images.patients)
    return np.stack([values[owners == owner].mean(0) for owner in range(owners.max() + 1)])
