"""The memorization audit: how near synthetic images come to their generator's training images, and what that means."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from monai.utils import convert_to_tensor
from torch import Tensor

from scripts.image_quality.feature_networks import ClassifierFeatures
from scripts.memorization.duplicates import (
    Duplicate,
    SharedPart,
    count_once,
    find_duplicates,
    is_shared,
    name_shared,
)
from scripts.memorization.nearest_images import (
    SIMILARITIES,
    Nearness,
    Similarity,
    between_subjects,
    nearest_by_subject,
    negative_l2,
    pixels_of_shift,
)
from scripts.memorization.parts import LESION, Part, compare_parts, other_parts, whole_image
from scripts.memorization.search import CopySearch, Found, reduced
from scripts.memorization.statistics import (
    authentic_share,
    data_copying,
    describe,
    k_means_cells,
    training_gap,
)
from scripts.memorization.usability import (
    average_likeness,
    detail,
    largest_clique,
    repeated_share,
    same_images,
    share_above,
)
from scripts.memorization.verdict import SIMPLE, Figures, Thresholds, copy_share, judge
from scripts.patches.image_sets import ImageSet
from scripts.splits.patients import number_patients

JUDGED = "aligned"  # the similarity by which copies, shares, C_T, AuthPct and likeness are judged
DISTANCES = ("l2", "features")  # similarities that are negative distances
LARGEST_SIDE = 96  # of volumes; larger ones are averaged over whole voxels first
NUM_PREPARED = 4  # sets of real images that are kept compared


class MemorizationAudit:
    """Audit the synthetic images of one class against the real images that its generator saw and did not see.

    Args:
        thresholds: where a copy, a share and an unusable set begin.
        max_shift: pixels that a copy may have been moved along each axis; None is a sixth of the smallest side.
        features: network from images to (N, D) features, for one similarity more; None leaves it out. It must be
            trained on none of the subjects: one trained on the training subjects tells them from all others.
        num_cells: cells of C_T; 1 compares all images at once.
        num_permutations: exchanges of training and held-out subjects behind the interval of the gap.
        seed: of the exchanges and the cells.
        block_size: images compared at once; bounds memory only.
        center_name: what the middle of the images shows; the evidence names it by that.
    """

    def __init__(
        self,
        thresholds: Thresholds | None = None,
        max_shift: int | None = None,
        features: ClassifierFeatures | None = None,
        num_cells: int = 1,
        num_permutations: int = 999,
        seed: int = 0,
        block_size: int = 64,
        center_name: str = LESION,
    ) -> None:
        self.thresholds = thresholds or Thresholds()
        numbers = {"num_cells": num_cells, "block_size": block_size, "num_permutations": num_permutations}
        for name, number in numbers.items():
            if number < 1:
                raise ValueError(f"audit_{name} must be >= 1, got {number!r}")
        self.max_shift = max_shift
        self.features = features
        self.num_cells = num_cells
        self.num_permutations = num_permutations
        self.seed = seed
        self.block_size = block_size
        self.center_name = center_name

    def __call__(
        self, synthetic: Tensor, training: ImageSet, held_out: ImageSet, channel_names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Compare the sets.

        Args:
            synthetic: (S, C, *spatial) in [-1, 1].
            training: images of the subjects behind the generator.
            held_out: images of subjects that it never saw; may be empty, then what needs them is None.
            channel_names: by which the evidence names channels; None numbers them.

        Returns:
            Numbers of images and subjects; `duplicates`: real subjects under two names; `shared_parts`: those who share
            a part, looked for where an image comes near in one; `measures`: similarity -> what `_compare` returns;
            `copies`: `number`, `share` with limits, `below` (the ratio used), `below_by_part` (those of the parts),
            `below_a_third`, `by_part`, and `held_out`, the number of images that copy a held-out subject; `shares`:
            part -> see `Share`; `unlike_share` and `usability`: see `Figures`; `clique`: numbers of the images drawn
            most often alike, see `largest_clique`; `images`: of each synthetic image `ratio` (d1 / d2 of whole images),
            `copy`, `part` in which it is one, or None, the image `of` that part's subject (index in `training` or
            `held_out`, by `is_held_out`), and for each similarity the nearest `training` and `held_out` image (index in
            its set) with its value; `verdict` and `evidence`.

        Raises:
            ValueError: if there is no synthetic or no training image, the shapes differ, or the shift is too large.
        """
        if not len(synthetic) or not len(training.images):
            raise ValueError(
                "an audit must have synthetic and training images of the class, got"
                f" {len(synthetic)} and {len(training.images)}; give the set and the patches.json of one generator"
            )
        pixels_of_shift(self.max_shift, synthetic.shape[2:])
        synthetic = convert_to_tensor(synthetic, track_meta=False)  # not every operation takes MONAI's MetaTensor
        if synthetic.ndim == 5 and max(synthetic.shape[2:]) > LARGEST_SIDE and self.features is None:
            return self._of_large_volumes(synthetic, training, held_out, channel_names)
        real = self.prepare(training, held_out)
        return self.judge(synthetic, real, real.search(synthetic), channel_names)

    def _of_large_volumes(
        self, synthetic: Tensor, training: ImageSet, held_out: ImageSet, channel_names: Sequence[str] | None
    ) -> dict[str, Any]:
        """Compare volumes reduced to `LARGEST_SIDE`: the search sees less, and several copies of all would not fit."""
        small = reduced(synthetic, LARGEST_SIDE)
        smaller = copy.copy(self)
        if self.max_shift is not None:
            smaller.max_shift = round(self.max_shift * small.shape[-1] / synthetic.shape[-1])
        training, held_out = (
            replace(part, images=reduced(convert_to_tensor(part.images, track_meta=False), LARGEST_SIDE))
            for part in (training, held_out)
        )
        return smaller(small, training, held_out, channel_names)

    def prepare(self, training: ImageSet, held_out: ImageSet) -> RealImages:
        """Compare the real images with one another, once for all synthetic sets that are audited against them.

        The last `NUM_PREPARED` are kept by the digest of their images, so that a study or a bench which audits many
        sets against the same patients pays for it once.
        """
        settings = (self.max_shift, self.block_size, self.thresholds.copy_ratio)
        key = (_digest(training), _digest(held_out), *settings)
        real = _prepared.pop(key, None) or self._counted_once(training, held_out)
        _prepared[key] = real
        if len(_prepared) > NUM_PREPARED:
            del _prepared[next(iter(_prepared))]
        return real

    def _counted_once(self, training: ImageSet, held_out: ImageSet) -> RealImages:
        # What is kept must not change with the caller's tensors.
        training, held_out = (
            replace(part, images=convert_to_tensor(part.images, track_meta=False).clone())
            for part in (training, held_out)
        )
        kept, duplicates = list(range(len(held_out))), list[Duplicate]()
        real = self._compared(training, held_out, kept, duplicates)
        pairs = find_duplicates(real.by_subject(), self.thresholds.copy_ratio)
        if not pairs:
            return real
        training, held_out, kept, duplicates = count_once(training, held_out, pairs)
        return self._compared(training, held_out, kept, duplicates)

    def judge(
        self, synthetic: Tensor, real: RealImages, found: Found, channel_names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Judge a synthetic set by what the search found of its images; the arguments are those of `__call__`."""
        thresholds = self.thresholds.where_real_images_reach(real.lowest_ratio)
        parts = compare_parts(found, synthetic, real.images, real.owners.tolist(), channel_names, self.center_name)
        nearest = self._nearest(synthetic, real, found)
        cells = self._cells(synthetic, real)
        measures = {name: self._compare(name, comparison, cells) for name, comparison in nearest.items()}
        limits = {part.name: thresholds.part_copy_ratio for part in parts[1:] if part.ratios is not None}
        shared = list[SharedPart]()
        if any(part.ratios is not None and bool((part.ratios < limits[part.name]).any()) for part in parts[1:]):
            # What real images reach in their parts takes a search of its own, and matters to copies of parts alone.
            limits, shared = real.limits_of_parts([part.name for part in parts[1:]], thresholds)
        copies = _Copies(parts, real.num_training, {parts[0].name: thresholds.copy_ratio, **limits})
        whole = measures[JUDGED]
        same = self._same(synthetic, real)
        clique = largest_clique(same)
        figures = Figures(
            num_synthetic=len(synthetic),
            num_training_subjects=real.num_training,
            num_held_out_subjects=real.num_held_out,
            copies={name: int(own.sum()) for name, own in copies.of_training.items()},
            num_copies=int(copies.is_copy.sum()),
            held_out_copies=int(copies.is_held_out_copy.sum()),
            held_out_whole=copies.num_held_out_whole,
            are_simple=real.lowest_ratio < SIMPLE,
            duplicates=real.duplicates,
            shared_parts=shared,
            part_limits=limits,
            shares=self._shares(parts, real),
            c_t=whole["c_t"],
            auth_pct=whole["auth_pct"],
            held_out_auth_pct=whole["held_out_auth_pct"],
            **self._usability(synthetic, real, found),
            repeated=repeated_share(same),
            clique=len(clique),
            clique_copies=int(copies.is_copy[clique].sum()),
        )
        return {
            "num_synthetic": len(synthetic),
            "num_training": len(real.training),
            "num_training_subjects": real.num_training,
            "num_held_out": len(real.held_out),
            "num_held_out_subjects": real.num_held_out,
            "duplicates": [duplicate._asdict() for duplicate in real.duplicates],
            "shared_parts": [pair._asdict() for pair in shared],
            "measures": measures,
            "unlike_share": figures.unlike_share,
            "usability": {name: getattr(figures, name) for name in ("farther", "average", "smoother", "repeated")},
            "copies": {
                "number": figures.num_copies,
                "share": copy_share(figures.num_copies, len(synthetic)),
                "below": thresholds.copy_ratio,
                "below_by_part": {name: round(limit, 6) for name, limit in limits.items()},
                "below_a_third": int((copies.ratios < 1 / 3).sum()),
                "by_part": figures.copies,
                "held_out": figures.held_out_copies,
            },
            "clique": clique,
            "shares": {name: share._asdict() for name, share in (figures.shares or {}).items()},
            **judge(figures, thresholds),
            "images": _rows(nearest, copies, real),
        }

    def _compared(
        self, training: ImageSet, held_out: ImageSet, kept: Sequence[int], duplicates: Sequence[Duplicate]
    ) -> RealImages:
        owners = torch.from_numpy(number_patients([*training.patients, *held_out.patients]))
        images = torch.cat([training.images, held_out.images]) if len(held_out) else training.images
        search = CopySearch(images, owners.tolist(), self.max_shift, self.block_size)
        found = search(images, owners.tolist(), parts=False)
        ratios = whole_image(found).ratios
        lowest = 1.0 if ratios is None else float(ratios.min())
        return RealImages(training, held_out, images, owners, search, found.similarities, lowest, kept, duplicates)

    def _nearest(self, synthetic: Tensor, real: RealImages, found: Found) -> dict[str, Comparison]:
        """Compare by every similarity, by the one of features last."""
        owners = real.owners.tolist()
        nearest = {
            name: real.comparison(
                nearest_by_subject(synthetic, real.images, owners, similarity, self.block_size), real.as_they_lie[name]
            )
            for name, similarity in SIMILARITIES.items()
        }
        nearest[JUDGED] = real.comparison(Nearness(found.similarities, found.images), real.among)
        features = self.features
        if features is not None:
            known = torch.cat([features(part.images) for part in (real.training, real.held_out) if len(part)])
            nearest["features"] = real.comparison(
                nearest_by_subject(features(synthetic), known, owners, negative_l2, self.block_size),
                _among(known, real.owners, negative_l2, self.block_size),
            )
        return nearest

    def _shares(self, parts: Sequence[Part], real: RealImages) -> dict[str, Any]:
        if not real.num_held_out:
            return {}
        count = real.num_training + real.num_held_out
        return {part.name: part.share(real.num_training, count, self.seed) for part in parts}

    def _usability(self, synthetic: Tensor, real: RealImages, found: Found) -> dict[str, float]:
        if real.num_training + real.num_held_out < 2:
            return {}
        first = _first_images(replace(real.training, patients=real.owners.tolist()))
        ours, theirs = found.similarities.max(1).values, real.among[first].max(1).values
        usual = self.thresholds.usable_similarity * theirs.quantile(0.1)
        small, patients = reduced(synthetic.float()), real.search.references
        likeness = average_likeness(small, patients, real.owners)
        return {
            "unlike_share": float((ours < usual).double().mean()),
            "farther": share_above(theirs, ours),
            "average": share_above(likeness[0], likeness[1][first]),
            "smoother": share_above(detail(patients)[first], detail(small)),
        }

    def _same(self, synthetic: Tensor, real: RealImages) -> Tensor:
        if real.num_training + real.num_held_out < 2:
            return torch.eye(len(synthetic), dtype=torch.bool)
        small, patients = reduced(synthetic.float()), real.search.references
        return same_images(small, patients, real.owners, self.thresholds.copy_ratio)

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

    def _cells(self, synthetic: Tensor, real: RealImages) -> tuple[Any, Any] | None:
        if self.num_cells == 1 or not len(real.held_out):
            return None
        held_out = real.held_out.images[_first_images(real.held_out)]
        first, second = k_means_cells(real.training.images, (synthetic, held_out), self.num_cells, self.seed)
        return first, second


@dataclass(frozen=True)
class RealImages:
    """The real images of an audit, compared with one another.

    Args:
        training: of the subjects behind the generator, duplicates under one name.
        held_out: of other subjects.
        images: both together, training images first.
        owners: number 0..T+H-1 of the subject of each of `images`, training subjects first.
        search: among `images`.
        among: similarity of each of `images` to each subject, (M, T + H); -inf to its own.
        lowest_ratio: lowest d1 / d2 of a real image among the other subjects.
        kept: numbers that the held-out images had before duplicates were left out.
        duplicates: what was found of subjects under two names.
    """

    training: ImageSet
    held_out: ImageSet
    images: Tensor
    owners: Tensor
    search: CopySearch
    among: Tensor
    lowest_ratio: float
    kept: Sequence[int]
    duplicates: Sequence[Duplicate]

    @property
    def num_training(self) -> int:
        """Number of training subjects, T."""
        return len(self.training.different_patients)

    @property
    def num_held_out(self) -> int:
        """Number of held-out subjects, H."""
        return len(self.held_out.different_patients)

    @cached_property
    def as_they_lie(self) -> dict[str, Tensor]:
        """As `among`, by each of `SIMILARITIES`."""
        block_size = self.search.block_size
        return {name: _among(self.images, self.owners, by, block_size) for name, by in SIMILARITIES.items()}

    @cached_property
    def parts(self) -> list[Part]:
        """How near each real image comes to the other subjects by each part of it but the whole image."""
        own = self.owners.tolist()
        return other_parts(self.search.ways_of_parts(self.images, own), self.images, self.images, own, own=own)

    def limits_of_parts(
        self, names: Sequence[str], thresholds: Thresholds
    ) -> tuple[dict[str, float], list[SharedPart]]:
        """Return the ratio of a copy of each part by which images are named, and the real subjects who share one.

        Those who share a part lower no limit: one odd pair would hide the copies of everybody else.

        Args:
            names: of `parts`, in their order.
            thresholds: lowered to what whole real images reach.
        """
        limits, shared = dict[str, float](), list[SharedPart]()
        subjects = [*self.training.different_patients, *self.held_out.different_patients]
        for name, part in zip(names, self.parts, strict=True):
            if part.ratios is not None:
                odd = is_shared(part.ratios, thresholds.part_copy_ratio, thresholds.copy_ratio)
                limits[name] = thresholds.of_part(float(part.ratios[~odd].min()))
                shared += name_shared(name, part.ratios[odd], self.owners[odd], part.subject_of_ratio[odd], subjects)
        return limits, shared

    def comparison(self, synthetic: Nearness, among: Tensor) -> Comparison:
        """Put the nearness of synthetic images beside that of the real ones by the same similarity, see `among`."""
        count = len(self.training)
        held_out = among[count:][_first_images(self.held_out)]
        return Comparison(synthetic, among[:count], held_out, self.owners[:count], self.num_training)

    def by_subject(self) -> Tensor:
        """Similarity of each subject to each other, by their nearest images, (T + H, T + H)."""
        return between_subjects(self.among, self.owners)


_prepared: dict[tuple[Any, ...], RealImages] = {}  # the last used last


class _Copies:
    """Which images copy whom, in which part, by the `limits` of the ratios, part -> limit.

    `of_training`: part -> (N,) whether the image copies a training subject; `ratios` (N,) of whole images.
    """

    def __init__(self, parts: Sequence[Part], num_training: int, limits: Mapping[str, float]) -> None:
        self.of_training: dict[str, Tensor] = {}
        of_held_out = []
        self.named: list[tuple[str, Tensor, Tensor]] = []
        for part in parts:
            if part.ratios is not None:
                below = part.ratios < limits[part.name]
                is_training = part.subject_of_ratio < num_training
                self.of_training[part.name] = below & is_training
                of_held_out.append(below & ~is_training)
                self.named.append((part.name, below, part.subject_of_ratio))
        self.is_copy = torch.stack(list(self.of_training.values())).any(0)
        self.is_held_out_copy = torch.stack(of_held_out).any(0)
        self.num_held_out_whole = int(of_held_out[0].sum()) if parts[0].ratios is not None else 0
        whole = parts[0].ratios
        self.ratios = torch.ones(len(self.is_copy)) if whole is None else whole

    def part_and_subject(self, row: int) -> tuple[str | None, int | None]:
        """First part of an image that is a copy, and of whom."""
        return next(((name, int(whom[row])) for name, below, whom in self.named if below[row]), (None, None))


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
        return between_subjects(self.training[:, : self.num_training], self.owners)


def _among(images: Tensor, owners: Tensor, similarity: Similarity, block_size: int) -> Tensor:
    """Similarity of each real image to each subject as they lie, (M, G); -inf to its own."""
    among = nearest_by_subject(images, images, owners.tolist(), similarity, block_size).similarities
    among[torch.arange(len(owners)), owners] = -torch.inf
    return among


def _digest(images: ImageSet) -> str:
    """Hash images, where they lie, and whose they are."""
    digest = sha256(repr((images.images.shape, images.images.device, list(images.patients))).encode())
    digest.update(images.images.cpu().contiguous().numpy())
    return digest.hexdigest()


def _first_images(images: ImageSet) -> list[int]:
    """Index of the first image of each patient."""
    patients = list(images.patients)
    return [patients.index(patient) for patient in images.different_patients]


def _rows(comparisons: Mapping[str, Comparison], copies: _Copies, real: RealImages) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    count = len(real.training)
    for number, (ratio, is_copy) in enumerate(zip(copies.ratios.tolist(), copies.is_copy.tolist(), strict=True)):
        part, subject = copies.part_and_subject(number)
        # Of a subject with several images the one that is nearest as a whole.
        first = None if subject is None else int(comparisons[JUDGED].synthetic.images[number, subject])
        is_held_out = first is not None and first >= count
        index = None if first is None else real.kept[first - count] if is_held_out else first
        rows.append({"ratio": round(ratio, 6), "copy": is_copy, "part": part, "of": index, "is_held_out": is_held_out})
    for name, comparison in comparisons.items():
        nearness = comparison.synthetic
        parts = {"training": slice(None, comparison.num_training), "held_out": slice(comparison.num_training, None)}
        for part, columns in parts.items():
            similarities, images = nearness.similarities[:, columns], nearness.images[:, columns]
            if similarities.shape[1]:
                values, best = similarities.max(dim=1)
                indices = images.gather(1, best[:, None])[:, 0].tolist()
                if part == "held_out":
                    indices = [real.kept[index - count] for index in indices]
                for row, value, index in zip(rows, values.tolist(), indices, strict=True):
                    row.setdefault(name, {})[part] = {"index": index, "value": round(value, 6)}
    return rows
