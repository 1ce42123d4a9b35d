"""The memorization audit: how near synthetic images come to their generator's training images, and what that means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scripts.image_quality.feature_networks import ClassifierFeatures
from scripts.memorization.nearest_images import (
    Nearness,
    nearest_by_subject,
    negative_l2,
    require_small_shift,
    similarity_measures,
)
from scripts.memorization.statistics import (
    authentic_share,
    copy_ratios,
    data_copying,
    describe,
    k_means_cells,
    training_gap,
)
from scripts.memorization.verdict import Thresholds, copy_share, judge
from scripts.patches.image_sets import ImageSet
from scripts.splits.patients import number_patients

JUDGED = "aligned"  # the similarity by which copies, gap and likeness are judged
DISTANCES = ("l2", "features")  # similarities that are negative distances


class MemorizationAudit:
    """Audit the synthetic images of one class against the real images that its generator saw and did not see.

    Args:
        thresholds: where a copy, a gap and an unusable set begin.
        max_shift: pixels that a copy may have been moved along each axis.
        features: network from images to (N, D) features, for one similarity more; None leaves it out. It must be
            trained on none of the subjects: one trained on the training subjects tells them from all others.
        num_cells: cells of C_T; 1 compares all images at once.
        num_permutations: exchanges of training and held-out subjects behind the interval of the gap.
        seed: of the exchanges and the cells.
        block_size: images compared at once; bounds memory only.
    """

    def __init__(
        self,
        thresholds: Thresholds | None = None,
        max_shift: int = 4,
        features: ClassifierFeatures | None = None,
        num_cells: int = 1,
        num_permutations: int = 999,
        seed: int = 0,
        block_size: int = 64,
    ) -> None:
        self.thresholds = thresholds or Thresholds()
        for name, number in (("audit_num_cells", num_cells), ("audit_block_size", block_size)):
            if number < 1:
                raise ValueError(f"{name} must be >= 1, got {number!r}")
        if 1 / (num_permutations + 1) > self.thresholds.gap_p_value:
            raise ValueError(
                f"audit_num_permutations must be at least {math.ceil(1 / self.thresholds.gap_p_value) - 1} for a gap to"
                f" reach audit_gap_p_value {self.thresholds.gap_p_value:g}, got {num_permutations!r}"
            )
        self.max_shift = max_shift
        self.features = features
        self.num_cells = num_cells
        self.num_permutations = num_permutations
        self.seed = seed
        self.block_size = block_size

    def __call__(self, synthetic: Tensor, training: ImageSet, held_out: ImageSet) -> dict[str, Any]:
        """Compare the sets.

        Args:
            synthetic: (S, C, *spatial) in [-1, 1].
            training: images of the subjects behind the generator. With one subject nobody is named a copy.
            held_out: images of subjects that it never saw; may be empty, then what needs them is None.

        Returns:
            Numbers of images and subjects; `measures`: similarity -> what `_compare` returns; `copies`: `number`,
            `share` with limits, `below_a_third`, `held_out`; `unlike_share`; `images`: of each synthetic image `ratio`
            (d1 / d2), `copy`, and for each similarity the nearest `training` and `held_out` image (index in its set)
            with its value; `verdict` and `evidence`.

        Raises:
            ValueError: if there is no synthetic or no training image, the shapes differ, or the shift is too large.
        """
        if not len(synthetic) or not len(training.images):
            raise ValueError(
                "an audit must have synthetic and training images of the class, got"
                f" {len(synthetic)} and {len(training.images)}; give the set and the patches.json of one generator"
            )
        require_small_shift(self.max_shift, synthetic.shape[2:])
        cells = self._cells(synthetic, training, held_out)
        nearest = self._nearest(synthetic, training, held_out)
        judged = nearest[JUDGED]
        ratios = copy_ratios(judged.synthetic.similarities[:, : judged.num_training])
        figures: dict[str, Any] = {
            "num_synthetic": len(synthetic),
            "num_training": len(training.images),
            "num_training_subjects": len(training.different_patients),
            "num_held_out": len(held_out.images),
            "num_held_out_subjects": len(held_out.different_patients),
            "measures": {name: self._compare(name, comparison, cells) for name, comparison in nearest.items()},
            "unlike_share": judged.unlike_share(self.thresholds.usable_similarity),
        }
        copies = ratios < self.thresholds.copy_ratio
        of_held_out = int((judged.held_out_ratios() < self.thresholds.copy_ratio).sum())
        verdict = judge(
            {
                **{key: figures[key] for key in figures if key != "measures"},
                "copies": int(copies.sum()),
                "held_out_copies": of_held_out,
                "gap": figures["measures"][JUDGED]["train_minus_held_out"],
            },
            self.thresholds,
        )
        figures["copies"] = {
            "number": int(copies.sum()),
            "share": copy_share(int(copies.sum()), len(synthetic)),
            "below_a_third": int((ratios < 1 / 3).sum()),
            "held_out": of_held_out,
        }
        return {**figures, **verdict, "images": _rows(nearest, ratios, copies)}

    def _nearest(self, synthetic: Tensor, training: ImageSet, held_out: ImageSet) -> dict[str, Comparison]:
        """Search by every similarity, the one of features last."""
        similarities = similarity_measures(synthetic.ndim - 2, self.max_shift)
        nearest = {
            name: _search(similarity, synthetic, training, held_out, self.block_size)
            for name, similarity in similarities.items()
        }
        features = self.features
        if features is not None:
            seen, unseen = (
                replace(real, images=features(real.images)) if len(real) else real for real in (training, held_out)
            )
            nearest["features"] = _search(negative_l2, features(synthetic), seen, unseen, self.block_size)
        return nearest

    def _compare(self, name: str, comparison: Comparison, cells: tuple[Any, Any] | None) -> dict[str, Any]:
        """Return max-similarities with their baselines, AuthPct and C_T by one similarity.

        `synthetic_to_training` and `held_out_to_training`: summaries with the single values; `train_minus_held_out`:
        the gap with its interval; `auth_pct` and `held_out_auth_pct`; `c_t`. None where held-out images are needed.
        """
        to_training = comparison.synthetic.similarities[:, : comparison.num_training]
        own = comparison.training_to_training()
        result: dict[str, Any] = {
            "synthetic_to_training": describe(to_training.max(dim=1).values),
            **dict.fromkeys(("auth_pct", "held_out_auth_pct", "held_out_to_training", "train_minus_held_out", "c_t")),
        }
        if comparison.num_training > 1:
            result["auth_pct"] = 100 * authentic_share(to_training, own)
        if comparison.num_held_out:
            baseline = comparison.held_out[:, : comparison.num_training]
            perfect = 0.0 if name in DISTANCES else 1.0
            similarities = comparison.synthetic.similarities
            gap = training_gap(similarities, comparison.num_training, self.num_permutations, self.seed, perfect)
            limits = {key: getattr(gap, key) for key in ("low", "high", "p_value", "relative", "sample_size")}
            result["held_out_to_training"] = describe(baseline.max(dim=1).values)
            result["train_minus_held_out"] = {**describe(gap.values), **limits}
            if comparison.num_training > 1:
                result["held_out_auth_pct"] = 100 * authentic_share(baseline, own)
            result["c_t"] = data_copying(to_training.max(dim=1).values, baseline.max(dim=1).values, cells)
        return result

    def _cells(self, synthetic: Tensor, training: ImageSet, held_out: ImageSet) -> tuple[Any, Any] | None:
        if self.num_cells == 1 or not len(held_out.images):
            return None
        real = held_out.images[_first_images(held_out)]
        first, second = k_means_cells(training.images, (synthetic, real), self.num_cells, self.seed)
        return first, second


@dataclass(frozen=True)
class Comparison:
    """Nearness of synthetic and of real images to each real subject, training subjects first.

    Args:
        synthetic: of each synthetic image, (S, T + H).
        training: similarities of each training image to each subject, (M, T + H); own subject -inf.
        held_out: the same of the first image of each held-out subject, (H, T + H): scans of one patient are no
            independent baselines.
        owners: training subject of each training image.
        num_training: T.
    """

    synthetic: Nearness
    training: Tensor
    held_out: Tensor
    owners: Tensor
    num_training: int

    @property
    def num_held_out(self) -> int:
        """Number of held-out subjects, H."""
        return self.synthetic.similarities.shape[1] - self.num_training

    def training_to_training(self) -> Tensor:
        """Similarity of each training subject to each other, by their nearest images, (T, T)."""
        own = self.training[:, : self.num_training]
        rows = self.owners[:, None].expand_as(own)
        return own.new_full((self.num_training, self.num_training), -torch.inf).scatter_reduce(0, rows, own, "amax")

    def held_out_ratios(self) -> Tensor:
        """d1 / d2 of the first image of each held-out subject, (H,)."""
        return copy_ratios(self.held_out[:, : self.num_training]) if len(self.held_out) else torch.empty(0)

    def unlike_share(self, factor: float) -> float:
        """Share of synthetic images below `factor` times the nearness to others that 9 of 10 real images reach."""
        usual = torch.cat([self.training, self.held_out]).max(dim=1).values.quantile(0.1)
        return float((self.synthetic.similarities.max(dim=1).values < factor * usual).double().mean())


def _search(
    similarity: Callable[[Tensor, Tensor], Tensor],
    synthetic: Tensor,
    training: ImageSet,
    held_out: ImageSet,
    block_size: int,
) -> Comparison:
    owners = number_patients([*training.patients, *held_out.patients]).tolist()
    real = torch.cat([training.images, held_out.images]) if len(held_out.images) else training.images
    nearest = nearest_by_subject(synthetic, real, owners, similarity, block_size)
    among = nearest_by_subject(real, real, owners, similarity, block_size).similarities
    among[torch.arange(len(owners)), torch.tensor(owners)] = -torch.inf
    count = len(training.images)
    num_training = len(training.different_patients)
    first_images = among[count:][_first_images(held_out)]
    return Comparison(nearest, among[:count], first_images, torch.tensor(owners[:count]), num_training)


def _first_images(images: ImageSet) -> list[int]:
    """Index of the first image of each patient."""
    return [list(images.patients).index(patient) for patient in images.different_patients]


def _rows(comparisons: Mapping[str, Comparison], ratios: Tensor, copies: Tensor) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"ratio": round(float(ratio), 6), "copy": bool(copy)} for ratio, copy in zip(ratios, copies, strict=True)
    ]
    for name, comparison in comparisons.items():
        nearness, first = comparison.synthetic, len(comparison.training)
        parts = {"training": slice(None, comparison.num_training), "held_out": slice(comparison.num_training, None)}
        for part, columns in parts.items():
            similarities, images = nearness.similarities[:, columns], nearness.images[:, columns]
            if similarities.shape[1]:
                values, best = similarities.max(dim=1)
                indices = images.gather(1, best[:, None])[:, 0] - (first if part == "held_out" else 0)
                for row, value, index in zip(rows, values.tolist(), indices.tolist(), strict=True):
                    row.setdefault(name, {})[part] = {"index": index, "value": round(value, 6)}
    return rows
