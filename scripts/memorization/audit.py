"""The memorization audit: how near synthetic images come to their generator's training images, and what that means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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
from scripts.memorization.suspicious_pairs import SuspiciousPair, write_pairs
from scripts.memorization.verdict import Thresholds, copy_share, judge
from scripts.patches.real_images import RealImages, load_images, real_images, seen_by_generator
from scripts.provenance.leakage import seen_subjects
from scripts.provenance.record import hash_subject
from scripts.running.files import read_json, sha256_file, write_json
from scripts.running.progress import progress
from scripts.splits.parts import default_held_out_part, load_splits, part_subjects

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

    def __call__(self, synthetic: Tensor, training: RealImages, held_out: RealImages) -> dict[str, Any]:
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
        found = {}
        for name, similarity in similarity_measures(synthetic.ndim - 2, self.max_shift).items():
            found[name] = _search(similarity, synthetic, training, held_out, self.block_size)
        if self.features is not None:
            seen, unseen = (self._featured(real) for real in (training, held_out))
            found["features"] = _search(negative_l2, self.features(synthetic), seen, unseen, self.block_size)
        judged = found[JUDGED]
        ratios = copy_ratios(judged.synthetic.similarities[:, : judged.num_training])
        figures: dict[str, Any] = {
            "num_synthetic": len(synthetic),
            "num_training": len(training.images),
            "num_training_subjects": len(training.subjects),
            "num_held_out": len(held_out.images),
            "num_held_out_subjects": len(held_out.subjects),
            "measures": {name: self._compare(name, comparison, cells) for name, comparison in found.items()},
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
        return {**figures, **verdict, "images": _rows(found, ratios, copies)}

    def _featured(self, real: RealImages) -> RealImages:
        assert self.features is not None
        return replace(real, images=self.features(real.images)) if len(real.images) else real

    def _compare(self, name: str, found: Comparison, cells: tuple[Any, Any] | None) -> dict[str, Any]:
        """Return max-similarities with their baselines, AuthPct and C_T by one similarity.

        `synthetic_to_training` and `held_out_to_training`: summaries with the single values; `train_minus_held_out`:
        the gap with its interval; `auth_pct` and `held_out_auth_pct`; `c_t`. None where held-out images are needed.
        """
        to_training = found.synthetic.similarities[:, : found.num_training]
        own = found.training_to_training()
        result: dict[str, Any] = {
            "synthetic_to_training": describe(to_training.max(dim=1).values),
            **dict.fromkeys(("auth_pct", "held_out_auth_pct", "held_out_to_training", "train_minus_held_out", "c_t")),
        }
        if found.num_training > 1:
            result["auth_pct"] = 100 * authentic_share(to_training, own)
        if found.num_held_out:
            baseline = found.held_out[:, : found.num_training]
            perfect = 0.0 if name in DISTANCES else 1.0
            similarities = found.synthetic.similarities
            gap = training_gap(similarities, found.num_training, self.num_permutations, self.seed, perfect)
            limits = {key: getattr(gap, key) for key in ("low", "high", "p_value", "relative", "sample_size")}
            result["held_out_to_training"] = describe(baseline.max(dim=1).values)
            result["train_minus_held_out"] = {**describe(gap.values), **limits}
            if found.num_training > 1:
                result["held_out_auth_pct"] = 100 * authentic_share(baseline, own)
            result["c_t"] = data_copying(to_training.max(dim=1).values, baseline.max(dim=1).values, cells)
        return result

    def _cells(self, synthetic: Tensor, training: RealImages, held_out: RealImages) -> tuple[Any, Any] | None:
        if self.num_cells == 1 or not len(held_out.images):
            return None
        first, second = k_means_cells(training.images, (synthetic, held_out.images), self.num_cells, self.seed)
        return first, second


@dataclass(frozen=True)
class Comparison:
    """Nearness of synthetic and of real images to each real subject, training subjects first.

    Args:
        synthetic: of each synthetic image, (S, T + H).
        training: similarities of each training image to each subject, (M, T + H); own subject -inf.
        held_out: the same of each held-out image.
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
        """d1 / d2 of the held-out images, (number of them,)."""
        return copy_ratios(self.held_out[:, : self.num_training]) if len(self.held_out) else torch.empty(0)

    def unlike_share(self, factor: float) -> float:
        """Share of synthetic images below `factor` times the nearness to others that 9 of 10 real images reach."""
        usual = torch.cat([self.training, self.held_out]).max(dim=1).values.quantile(0.1)
        return float((self.synthetic.similarities.max(dim=1).values < factor * usual).double().mean())


def _search(
    similarity: Callable[[Tensor, Tensor], Tensor],
    synthetic: Tensor,
    training: RealImages,
    held_out: RealImages,
    block_size: int,
) -> Comparison:
    names = [*training.subjects, *held_out.subjects]
    number = {name: index for index, name in enumerate(names)}
    owners = [number[name] for name in (*training.subject_ids, *held_out.subject_ids)]
    real = torch.cat([training.images, held_out.images]) if len(held_out.images) else training.images
    nearest = nearest_by_subject(synthetic, real, owners, similarity, block_size)
    among = nearest_by_subject(real, real, owners, similarity, block_size).similarities
    among[torch.arange(len(owners)), torch.tensor(owners)] = -torch.inf
    count = len(training.images)
    return Comparison(nearest, among[:count], among[count:], torch.tensor(owners[:count]), len(training.subjects))


def _rows(found: Mapping[str, Comparison], ratios: Tensor, copies: Tensor) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"ratio": round(float(ratio), 6), "copy": bool(copy)} for ratio, copy in zip(ratios, copies, strict=True)
    ]
    for name, comparison in found.items():
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


def audit_images(
    synthetic_path: str,
    patches_path: str,
    splits_path: str,
    output_dir: str,
    audit: MemorizationAudit,
    held_out_part: str | None = None,
    num_pairs: int = 10,
    device: str | torch.device = "cpu",
) -> Path:
    """Write `audit.json` of one synthetic set, and `suspicious_pairs.png` with its most suspicious pairs.

    Args:
        synthetic_path: `synthetic.json`, whose provenance names the generator's subjects.
        patches_path: `patches.json` that the generator was trained on.
        splits_path: `splits.json`; gives the real held-out images.
        output_dir: folder to write to.
        audit: what compares and judges the images of a class.
        held_out_part: part that the generator neither trained nor was selected on; None is `validation`, or `test`
            where the splits were made with `selection: validation`.
        num_pairs: pairs shown.
        device: where the images are compared.

    Returns:
        Path of `audit.json`: what `audit` returns for each class, with cohort, method, fold and the part held out.
        Images of a class are compared with real images of that class alone, also where the generator, conditioned on
        the class, was trained on all: else the gap would measure the class.

    Raises:
        LeakageError: if the synthetic set has no provenance.
        ValueError: if the sets have other modalities or sizes, the generator has seen a subject of the held-out part,
            or patches and generator do not fit.
    """
    synthetic, patches = read_json(synthetic_path), read_json(patches_path)
    seen_subjects(synthetic.get("provenance"), str(synthetic_path))
    require_same_form(synthetic, patches)
    provenance = synthetic["provenance"]
    behind = seen_by_generator(provenance, patches["training"])
    splits = load_splits(splits_path)
    part = held_out_part or default_held_out_part(splits)
    unseen = _held_out(patches, splits, provenance, part)
    if audit.features is not None:
        audit.features.refuse_known([entry["subject_id"] for entry in (*behind, *unseen)])
    classes, pairs = {}, []
    for label, name in progress(class_names(synthetic), description="memorization audit"):
        entries = [entry for entry in synthetic["training"] if entry["label"] == label]
        images = load_images(synthetic_path, synthetic, entries).to(device)
        training, held_out = (real_images(patches_path, patches, real, label, device) for real in (behind, unseen))
        result = audit(images, training, held_out)
        pairs += _pairs(result["images"], entries, images, training)
        _name_images(result["images"], entries, {"training": training, "held_out": held_out})
        classes[name] = result
    chosen = sorted(pairs, key=lambda pair: pair.ratio)[:num_pairs]
    write_pairs(Path(output_dir) / "suspicious_pairs.png", chosen, audit.max_shift)
    content = {
        "cohort": provenance["cohort"],
        "method": provenance["method"],
        "fold": provenance["fold"],
        "simulated": bool(synthetic["simulated"]),
        "synthetic_sha256": sha256_file(synthetic_path),
        "num_training": len(behind),
        "held_out_part": part,
        "thresholds": vars(audit.thresholds),
        "classes": classes,
    }
    write_json(Path(output_dir) / "audit.json", content)
    return Path(output_dir) / "audit.json"


def require_same_form(synthetic: Mapping[str, Any], patches: Mapping[str, Any]) -> None:
    """Refuse a synthetic set whose images are made otherwise than the real ones.

    Args:
        synthetic: content of `synthetic.json`.
        patches: content of `patches.json`.

    Raises:
        ValueError: if modalities or their order, dimensions, size or spacing differ.
    """
    for key in ("modality", "spatial_dims", "patch_size", "spacing_mm"):
        ours, theirs = synthetic.get(key), patches.get(key)
        if ours is not None and theirs is not None and ours != theirs:
            raise ValueError(
                f"{key} of the synthetic set must be that of the patches {theirs!r}, got {ours!r};"
                " give the patches.json that the generator was trained on"
            )


def class_names(listing: Mapping[str, Any]) -> list[tuple[int | None, str]]:
    """List the labels that occur in a decathlon list with their names; images without a label are called "all"."""
    names = {int(index): name for index, name in listing["labels"].items()}
    found = {entry["label"] for entry in listing["training"]}
    return [(label, "all" if label is None else names[label]) for label in sorted(found, key=lambda x: (x is None, x))]


def _held_out(
    patches: Mapping[str, Any], splits: Mapping[str, Any], provenance: Mapping[str, Any], part: str
) -> list[dict[str, Any]]:
    fold = provenance["fold"]
    subjects = set() if fold is None and part != "test" else set(part_subjects(splits, fold, part))
    known = seen_subjects(provenance, "synthetic.json")
    seen = {subject for subject in subjects if hash_subject(subject) in known}
    if seen:
        raise ValueError(
            f"held_out_part must hold subjects that the generator was neither trained nor selected on, got {part!r}"
            f" with {sorted(seen)[:3]}; pass --held_out_part test, or the splits that the generator was trained with"
        )
    return [dict(entry) for entry in patches["training"] if entry["subject_id"] in subjects]


def _name_images(
    rows: Sequence[dict[str, Any]], entries: Sequence[Mapping[str, Any]], real: Mapping[str, RealImages]
) -> None:
    for row, entry in zip(rows, entries, strict=True):
        for nearest in [value for value in row.values() if isinstance(value, dict)]:
            for part, found in nearest.items():
                found["image"] = real[part].names[found.pop("index")]
        row["image"] = entry["image"]


def _pairs(
    rows: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]], images: Tensor, training: RealImages
) -> list[SuspiciousPair]:
    nearest = [row[JUDGED]["training"] for row in rows]
    return [
        SuspiciousPair(
            image.cpu(),
            training.images[found["index"]].cpu(),
            entry["image"],
            training.subject_ids[found["index"]],
            row["ratio"],
            found["value"],
            row["copy"],
        )
        for image, row, entry, found in zip(images, rows, entries, nearest, strict=True)
    ]
