"""A measure of a synthetic set beside the same measure of real images against real images."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scripts.image_quality.distances import (
    discrepancy_interval,
    discrepancy_p_value,
    frechet_distance,
    linear_kernel,
    polynomial_kernel,
    rbf_kernel,
    squared_discrepancy,
)
from scripts.image_quality.diversity import choose_scales, inception_score, mean_pair_similarity
from scripts.image_quality.feature_networks import FeatureNetwork, Features
from scripts.image_quality.manifold import NEAREST, manifold_measures, pairwise
from scripts.image_quality.spectrum import Spectra, mean_by_patient, spectral_distance
from scripts.splits.patients import number_patients

LOWER, HIGHER, NEAR = "lower is better", "higher is better", "nearest to the floor is best"
EQUAL = "about 0 for equal distributions, may be below"
PIXELS = "pixels, no network"
Statistic = Callable[[np.ndarray, np.ndarray], float]


class Split(NamedTuple):
    """Equally many images of each: of two disjoint halves of the real patients, and synthetic ones; indices of all.

    No two images are of one patient, so that a measure of them is one of independent images.
    """

    one_half: np.ndarray
    other_half: np.ndarray
    synthetic: np.ndarray


@dataclass(frozen=True)
class Measure:
    """A measure of two sets of images, by their indices among all images, the synthetic ones first.

    Args:
        name: as it stands in tables.
        network: name of the feature network, or what stands in for it.
        statistic: value for the indices of a synthetic set and of a real one.
        direction: one of `LOWER`, `HIGHER`, `NEAR`.
        bounds: values that are possible, such as "[0, 1]".
        min_images: images that each set must have.
        kernel: of all images, where the measure is a squared discrepancy: gives interval and p value.
        patients: whose each image is, where there is a kernel; None is a patient for each image.
        with_ratio: divide by the floor, which is well above 0.
        details: what else one must know to compute it again.
        refusal: why it cannot be computed of these images, whatever their number; None where it can.
    """

    name: str
    network: str
    statistic: Statistic
    direction: str
    bounds: str
    min_images: int = 2
    kernel: Tensor | None = None
    patients: Sequence[Hashable] | None = None
    with_ratio: bool = False
    details: dict[str, Any] = field(default_factory=dict)
    refusal: str | None = None


def random_splits(
    num_synthetic: int, patients: Sequence[Hashable], num_splits: int = 10, seed: int = 0
) -> tuple[list[Split], int]:
    """Halve the real patients at random, draw an image of each, and one of as many synthetic "patients".

    Args:
        num_synthetic: synthetic images, the first of all images.
        patients: whose each image is; of synthetic ones usually a name for each.
        num_splits: number of draws.
        seed: of the draws.

    Returns:
        The draws, and the number of images in each of their three sets.
    """
    random = np.random.default_rng(seed)
    numbers = number_patients(patients)
    real = np.unique(numbers[num_synthetic:])
    halves = [np.array_split(random.permutation(real), [len(real) // 2]) for _ in range(num_splits)]
    size = min(len(np.unique(numbers[:num_synthetic])), len(real) // 2)
    images, synthetic = np.arange(num_synthetic, len(numbers)), np.arange(num_synthetic)
    in_half = [[images[np.isin(numbers[images], half)] for half in pair] for pair in halves]
    return [
        Split(*(_one_each(part, numbers, random)[:size] for part in (one, other, synthetic))) for one, other in in_half
    ], size


def measure_sets(
    measure: Measure,
    num_synthetic: int,
    num_real: int,
    splits: Sequence[Split],
    num_permutations: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute a measure with its floor: what two halves of the real images give, at the same number of images.

    Args:
        measure: what to compute.
        num_synthetic: synthetic images, the first of all images.
        num_real: real images behind them.
        splits: from `random_splits`.
        num_permutations: of the permutation test, where the measure has a kernel.
        seed: of the permutations.

    Returns:
        One row of `measures.json`; `value` is None and `reason` says why, where there are too few patients, and
        `interval_reason` where `low` and `high` of a discrepancy are.
    """
    size = len(splits[0].synthetic) if splits else 0
    row: dict[str, Any] = {
        "measure": measure.name,
        "network": measure.network,
        "direction": measure.direction,
        "range": measure.bounds,
        "num_synthetic": num_synthetic,
        "num_real": num_real,
        "value": None,
        "low": None,
        "high": None,
        "p_value": None,
        "floor": None,
        "value_at_floor_n": None,
        "ratio": None,
        **measure.details,
        "reason": None,
        "interval_reason": None,
    }
    reason = _too_few(measure, num_synthetic, num_real, size) if size < measure.min_images else measure.refusal
    if reason is not None:
        return {**row, "reason": reason}
    synthetic, real = np.arange(num_synthetic), np.arange(num_synthetic, num_synthetic + num_real)
    floors = np.array([measure.statistic(split.one_half, split.other_half) for split in splits])
    matched = float(np.mean([measure.statistic(split.synthetic, split.other_half) for split in splits]))
    row["value"] = measure.statistic(synthetic, real)
    row["floor"] = {**_spread(floors), "n": size, "num_splits": len(splits)}
    row["value_at_floor_n"] = matched
    if measure.with_ratio and floors.mean() > 0:
        row["ratio"] = matched / float(floors.mean())
    if measure.kernel is not None:
        row["p_value"] = discrepancy_p_value(measure.kernel, num_synthetic, measure.patients, num_permutations, seed)
        try:
            row["low"], row["high"] = discrepancy_interval(measure.kernel, num_synthetic, measure.patients)
        except ValueError as error:
            row["interval_reason"] = str(error)
    return row


def feature_measures(
    network: FeatureNetwork, views: Sequence[Features], patients: Sequence[Hashable] | None = None
) -> list[Measure]:
    """List the measures in the features of one network, each the mean over its views.

    A score from the published Inception-v3 is called FID and KID, one from any other network FD and KD: the same
    formulas, and figures that cannot be compared.

    Args:
        network: whose features they are.
        views: features of all images in each view, the synthetic ones first.
        patients: whose each image is; None is a patient for each image.
    """
    features = [view.features for view in views]
    frechet, kernel_name = ("FID", "KID") if network.published else ("FD", "KD")
    measures = [
        _discrepancy(
            kernel_name,
            network.name,
            [polynomial_kernel(item) for item in features],
            "cubic, (x.y/D + 1)^3",
            patients,
        ),
        Measure(
            frechet,
            network.name,
            lambda s, r: _mean(frechet_distance(item[s], item[r]) for item in features),
            LOWER,
            ">= 0",
            with_ratio=True,
            details={"num_features": features[0].shape[1]},
        ),
        *_manifold(network.name, [pairwise(item) for item in features], patients),
        _gaussian_discrepancy(network.name, features, patients),
    ]
    if network.names_classes:
        score = Measure(
            "IS",
            network.name,
            lambda s, r: _mean(inception_score(view.logits[s]) for view in views),
            HIGHER,
            f"[1, {views[0].logits.shape[1]}]",
            details={"num_is_splits": 1},
        )
        measures.append(score)
    return measures


def pixel_measures(
    images: Tensor,
    spectra: Spectra,
    num_pairs: int = 100,
    seed: int = 0,
    patients: Sequence[Hashable] | None = None,
) -> list[Measure]:
    """List the measures that need no network: MS-SSIM of pairs, MMD between pixels, distance of spectra.

    Args:
        images: all images (N, C, *spatial) in [-1, 1], the synthetic ones first.
        spectra: of these images.
        num_pairs: pairs of images of a set, at most.
        seed: of the pairs.
        patients: whose each image is; None is a patient for each image.
    """
    return [
        _pair_similarity(images, num_pairs, seed, patients),
        _gaussian_discrepancy(PIXELS, [images.flatten(1)], patients),
        _discrepancy("MMD, linear kernel", PIXELS, [linear_kernel(images.flatten(1))], "linear, x.y/D", patients),
        _spectral_distance(spectra, patients),
    ]


def _pair_similarity(images: Tensor, num_pairs: int, seed: int, patients: Sequence[Hashable] | None) -> Measure:
    def statistic(synthetic: np.ndarray, real: np.ndarray) -> float:
        return mean_pair_similarity(images[synthetic], num_pairs, seed, patients=_of(patients, synthetic))

    try:
        scales = choose_scales(images.shape[2:])
    except ValueError as error:
        return Measure("MS-SSIM of pairs", PIXELS, statistic, NEAR, "[0, 1]", refusal=str(error))
    details = {"scales": scales.num_scales, "window_pixels": scales.window, "window_sigma_pixels": scales.sigma}
    return Measure("MS-SSIM of pairs", PIXELS, statistic, NEAR, "[0, 1]", details=details)


def _spectral_distance(spectra: Spectra, patients: Sequence[Hashable] | None) -> Measure:
    values, details = spectra.values, {"unit": "dB"}
    if values is None or spectra.reason is not None:
        return Measure("spectrum", PIXELS, _undefined, LOWER, ">= 0 dB", details=details, refusal=spectra.reason)

    def statistic(synthetic: np.ndarray, real: np.ndarray) -> float:
        return spectral_distance(*(mean_by_patient(values[part], _of(patients, part)) for part in (synthetic, real)))

    return Measure("spectrum", PIXELS, statistic, LOWER, ">= 0 dB", with_ratio=True, details=details)


def _discrepancy(
    name: str, network: str, kernels: Sequence[Tensor], kernel_name: str, patients: Sequence[Hashable] | None
) -> Measure:
    # The unbiased value is linear in the kernel: that of the mean kernel is the mean over the views.
    kernel = torch.stack(list(kernels)).mean(dim=0) if len(kernels) > 1 else kernels[0]

    def statistic(synthetic: np.ndarray, real: np.ndarray) -> float:
        both = np.concatenate([synthetic, real])
        indices = torch.from_numpy(both).to(kernel.device)
        return squared_discrepancy(kernel[indices][:, indices], len(synthetic), _of(patients, both))

    details = {"kernel": kernel_name}
    return Measure(name, network, statistic, LOWER, EQUAL, kernel=kernel, patients=patients, details=details)


def _of(patients: Sequence[Hashable] | None, indices: np.ndarray) -> list[Hashable] | None:
    return None if patients is None else [patients[index] for index in indices]


def _gaussian_discrepancy(network: str, features: Sequence[Tensor], patients: Sequence[Hashable] | None) -> Measure:
    try:
        kernels, widths = zip(*(rbf_kernel(item) for item in features), strict=True)
    except ValueError as error:
        return Measure("MMD", network, _undefined, LOWER, EQUAL, refusal=str(error))
    widths_named = ", ".join(f"{width:.4g}" for width in widths)
    kernel_name = f"Gaussian, exp(-d^2 / (2 s^2)), s the median distance ({widths_named})"
    measure = _discrepancy("MMD", network, kernels, kernel_name, patients)
    return replace(measure, details={**measure.details, "bandwidth": list(widths)})


def _undefined(synthetic: np.ndarray, real: np.ndarray) -> float:
    raise ValueError("a measure with a refusal must not be computed")


def _manifold(network: str, distances: Sequence[np.ndarray], patients: Sequence[Hashable] | None) -> list[Measure]:
    bounds = {"precision": "[0, 1]", "recall": "[0, 1]", "density": "1 for equal sets", "coverage": "[0, 1]"}

    def statistic_of(name: str) -> Statistic:
        def statistic(synthetic: np.ndarray, real: np.ndarray) -> float:
            indices = np.concatenate([real, synthetic])
            tables = [item[np.ix_(indices, indices)] for item in distances]
            of = _of(patients, indices)
            return _mean(manifold_measures(table, len(real), NEAREST, of)[name] for table in tables)

        return statistic

    details = {"nearest": NEAREST}
    return [
        Measure(name, network, statistic_of(name), HIGHER, text, NEAREST + 1, details=details)
        for name, text in bounds.items()
    ]


def _one_each(images: np.ndarray, patients: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw one image of each patient, in random order."""
    shuffled = random.permutation(images)
    _, first = np.unique(patients[shuffled], return_index=True)
    return shuffled[np.sort(first)]


def _too_few(measure: Measure, num_synthetic: int, num_real: int, size: int) -> str:
    least = measure.min_images
    return (
        f"{measure.name} needs at least {least} synthetic images and real images of {2 * least} subjects, {least} in"
        f" each half for its floor, got {num_synthetic} and {num_real}, and {size} of different subjects in a half"
    )


def _spread(values: np.ndarray) -> dict[str, float | None]:
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
        "low": float(np.quantile(values, 0.025)),
        "high": float(np.quantile(values, 0.975)),
    }


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
