"""What a classifier trains on: the real patches of a fold and the synthetic images it may see."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, SequentialSampler, WeightedRandomSampler

from scripts.patches.class_balance import synthetic_limits
from scripts.patches.tensors import LabeledImages, batches, full_batches, in_batches
from scripts.provenance.declared import OTHERS, UNKNOWN, names_nobody, unknown_methods
from scripts.provenance.identities import refuse_two_names
from scripts.provenance.image_form import image_facts, require_like_real
from scripts.provenance.leakage import load_synthetic_set, seen_by_generator, seen_subjects
from scripts.provenance.record import hash_subjects, write_provenance
from scripts.running.files import listed_twice
from scripts.splits.lists import read_list
from scripts.splits.parts import held_out_subjects, load_part, selecting_subjects

Items = list[dict[str, Any]]
SAMPLINGS = ("shuffled", "balanced")
SYNTHETIC_LABELS = ("own", "shuffled")


class ClassifierData:
    """The images of one fold: what to train on and what to select the epoch on.

    The fold's training part trains and its inner part selects; with splits made for `selection: validation`, as in the
    paper, the inner part is the validation part.

    Args:
        patches_path: `patches.json` of the cohort.
        splits_path: `splits.json` of the same subjects.
        fold: number of the fold, from 0.
        classes: class name -> label.
        synthetic_paths: `synthetic.json` files to add to the training; each goes through `scripts.provenance.leakage`.
        synthetic_ratio: synthetic images of each class, relative to its real ones; see `synthetic_limits`.
        synthetic_balance: let the smaller classes take more, up to class balance.
        synthetic_method: method that the sets must be of, such as "ddpm"; None where there must be none.
        train_on_real: train on the real images, too; without them the epoch is still selected on real ones.
        synthetic_labels: `own`, or `shuffled`: a check of the protocol, whose labels say nothing of the images; without
            real images those that select the epoch are shuffled, too.
        synthetic_permutation: number of the permutation of shuffled labels, from 0; see `shuffle_labels`.
        seed: of the shuffling.

    Raises:
        ValueError: if the synthetic sets are not of the setup's method, made otherwise than the patches, too small, or
            name subjects of the cohort that have no patch; if a subject has no grade, a class has no training image, or
            there is nothing to train on.
        LeakageError: if a synthetic set's generator saw a validation or test subject, or does not tell; if a patient or
            an image is in two parts of the fold under two names.
    """

    def __init__(
        self,
        patches_path: str,
        splits_path: str,
        fold: int,
        classes: Mapping[str, int],
        synthetic_paths: Sequence[str] = (),
        synthetic_ratio: float = 1.0,
        synthetic_balance: bool = True,
        synthetic_method: str | None = None,
        train_on_real: bool = True,
        synthetic_labels: str = "own",
        synthetic_permutation: int = 0,
        seed: int = 0,
    ) -> None:
        self.patches_path, self.fold, self.classes = patches_path, fold, dict(classes)
        self.train_on_real = train_on_real
        check_synthesis(synthetic_method, train_on_real, synthetic_labels, synthetic_ratio, synthetic_permutation)
        _refuse_twice(synthetic_paths)
        refuse_two_names(patches_path, splits_path, fold)
        held_out, use = held_out_subjects(splits_path, fold), f"validation or test of fold {fold} in {splits_path}"
        only_select = selecting_subjects(splits_path, fold)
        self.synthetic_sets = [load_synthetic_set(path, held_out, use, only_select) for path in synthetic_paths]
        self._refuse_unknown_subjects(synthetic_paths)
        self._refuse_other_method(synthetic_paths, synthetic_method)
        self.images = image_facts(read_list(patches_path, "patches"), patches_path)
        self._refuse_other_images(synthetic_paths)
        self.real: Items = load_part(patches_path, splits_path, fold, "train", self.classes, require_labels=True)
        self.selection: Items = load_part(patches_path, splits_path, fold, "inner", self.classes, require_labels=True)
        self._refuse_missing_class()
        self.synthetic: Items = []
        if synthetic_paths:
            limits = synthetic_limits(self.num_real, synthetic_ratio, synthetic_balance, train_on_real)
            self.synthetic = choose_synthetic(self.synthetic_sets, self.classes, limits)
        if synthetic_labels == "shuffled":
            self.synthetic = shuffle_labels(self.synthetic, seed, synthetic_permutation)
            if not train_on_real:
                # Of epochs that know nothing, true labels would choose the one that is right by chance.
                self.selection = shuffle_labels(self.selection, seed, synthetic_permutation)

    @property
    def num_real(self) -> dict[str, int]:
        """Real images of each class in the training part, whether they train or only say how many synthetic ones do."""
        return _count(self.real, self.classes)

    @property
    def training(self) -> Items:
        """Every training image, the real ones first."""
        return [*(self.real if self.train_on_real else []), *self.synthetic]

    @property
    def class_counts(self) -> list[int]:
        """Training images of each class, in the order of the labels."""
        counts = Counter(item["label"] for item in self.training)
        return [counts[label] for label in sorted(self.classes.values())]

    def record(self, weights_path: str, setup: str) -> None:
        """Write `provenance.json` beside the weights: all subjects that they, or generators behind them, have seen.

        Args:
            weights_path: `model.pt` of this training.
            setup: name of the setup.
        """
        patches = read_list(self.patches_path, "patches")
        records = [item["provenance"] for item in self.synthetic_sets]
        unknown = unknown_methods(records)
        # Weights of images alone whose generators saw nobody here, or nobody knows whom, name no subject, and say why.
        sees_nobody = not self.train_on_real and all(map(names_nobody, records))
        declared = {"trained_on": UNKNOWN if unknown else OTHERS} if sees_nobody else {}
        write_provenance(
            weights_path,
            **declared,
            cohorts=[patches["name"], *(record["cohort"] for record in records)],
            subjects=[item["subject_id"] for item in self.real if self.train_on_real],
            hashed_subjects=set().union(*(seen_subjects(record, "synthetic set", False) for record in records)),
            selection_subjects=sorted(
                {*hash_subjects(item["subject_id"] for item in self.selection)}.union(
                    *(record.get("selection_subjects", ()) for record in records)
                )
            ),
            simulated=patches["simulated"],
            fold=self.fold,
            synthetic=[record["weights_sha256"] for record in records],
            leakage_not_excluded=unknown,
            setup=setup,
            images=self.images,
            num_real_images=_count(self.real if self.train_on_real else [], self.classes),
            num_synthetic_images=_count(self.synthetic, self.classes),
        )

    def _refuse_unknown_subjects(self, paths: Sequence[str]) -> None:
        # Who is of this cohort and in none of its patches can only be named to hide somebody who is.
        patches = read_list(self.patches_path, "patches")
        for path, item in zip(paths, self.synthetic_sets, strict=True):
            if item["provenance"]["cohort"] == patches["name"]:
                seen_by_generator(item["provenance"], patches["training"], path)

    def _refuse_other_method(self, paths: Sequence[str], method: str | None) -> None:
        methods = [item["provenance"]["method"] for item in self.synthetic_sets]
        if set(methods) != ({method} - {None}):
            raise ValueError(
                f"synthetic_paths must be of method {method!r} (null: none),"
                f" got {dict(zip(paths, methods, strict=True))};"
                " give the synthetic_method that they are of, or the synthetic.json files of this one"
            )

    def _refuse_other_images(self, paths: Sequence[str]) -> None:
        for path, item in zip(paths, self.synthetic_sets, strict=True):
            require_like_real(self.images, image_facts(item, path), path, self.patches_path)

    def _refuse_missing_class(self) -> None:
        missing = [name for name, count in self.num_real.items() if count == 0]
        if missing:
            raise ValueError(
                f"fold {self.fold} of {self.patches_path} must train on every class, got no patch of"
                f" {', '.join(missing)}; make splits with fewer folds or add subjects"
            )


def _refuse_twice(synthetic_paths: Sequence[str]) -> None:
    twice = listed_twice(synthetic_paths)
    if twice:
        raise ValueError(
            f"synthetic_paths must list each set once, got {twice} twice: its images would count double; leave one out"
        )


def training_batches(
    dataset: LabeledImages, batch_size: int, epoch_images: int, sampling: str = "shuffled"
) -> DataLoader:
    """Iterate over shuffled batches, all full and as many in every setup of a fold.

    An epoch is a number of optimizer steps, not a pass over the pool: with synthetic images the pool grows and the
    epoch does not. A setup thus differs from another in what it shows, never in how long it trains.

    Args:
        dataset: takes a list of indices.
        batch_size: images per step, at least 2.
        epoch_images: images per epoch, rounded up to full batches: the number of *real* training images by default.
        sampling: `shuffled` shows each image once before any again; `balanced` draws every class alike, with
            replacement, so that the images of a small class come more often.

    Raises:
        ValueError: if `batch_size` is 1, from which BatchNorm cannot learn, or the sampling is unknown.
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"classifier_sampling must be one of {', '.join(SAMPLINGS)}, got {sampling!r}")
    if batch_size < 2:
        raise ValueError(f"classifier_batch_size must be at least 2 for BatchNorm, got {batch_size!r}")
    if sampling == "shuffled":
        return batches(dataset, batch_size, epoch_images)
    labels = torch.tensor([item["label"] for item in dataset.items])
    weights = 1 / labels.bincount()[labels].double()
    sampler = WeightedRandomSampler(weights.tolist(), full_batches(epoch_images, batch_size))
    return in_batches(dataset, sampler, batch_size)


def ordered_batches(dataset: Dataset, batch_size: int) -> DataLoader:
    """Iterate over all images in their order; the last batch may be smaller."""
    return in_batches(dataset, SequentialSampler(dataset), batch_size)  # type: ignore[arg-type]


def even_batches(dataset: Dataset, batch_size: int) -> DataLoader:
    """Iterate over all images in their order, in batches whose sizes differ by one at most.

    A network in training mode cannot normalize a single image, so a batch holds two at least where there are two.

    Args:
        dataset: images, at least one.
        batch_size: images of a batch at most; of 1 or 2 a batch may hold three.
    """
    count = len(dataset)  # type: ignore[arg-type]
    num_batches = max(1, min(math.ceil(count / batch_size), count // 2))
    parts = [part.tolist() for part in np.array_split(np.arange(count), num_batches)]
    return DataLoader(dataset, sampler=parts, batch_size=None)


def choose_synthetic(
    sets: Sequence[Mapping[str, Any]], classes: Mapping[str, int], limits: Mapping[str, tuple[int, int]]
) -> Items:
    """Take the first images of each class, at most as many as its limit.

    Args:
        sets: contents of `synthetic.json`, with absolute paths.
        classes: class name -> label.
        limits: class -> (fewest, most), from `synthetic_limits`.

    Raises:
        ValueError: if an image has no known label, or a class has fewer images than it needs.
    """
    pool: Items = [entry for item in sets for entry in item["training"]]
    unknown = [entry for entry in pool if entry["label"] not in classes.values()]
    if unknown:
        raise ValueError(
            f"label of a synthetic image must be one of {dict(classes)}, got {unknown[0]['label']!r} for"
            f" {unknown[0]['image']}; train a generator for each class (generator_class)"
        )
    entries: Items = []
    for name, (fewest, most) in limits.items():
        of_class = [entry for entry in pool if entry["label"] == classes[name]]
        if len(of_class) < fewest:
            raise ValueError(
                f"synthetic_paths must hold at least {fewest} images of {name}, got {len(of_class)};"
                " generate more of them (configs/generate.yaml) or lower synthetic_ratio"
            )
        entries += of_class[:most]
    return entries


def shuffle_labels(items: Items, seed: int, permutation: int = 0) -> Items:
    """Give the labels of images to other images, at random, so that images of every class get equal shares of each.

    A plain permutation leaves the classes with unequal shares by chance, and where they are easy to tell apart, a
    network learns that difference: the AUC of one such permutation can lie far from .5. So can that of equal shares,
    since a network that learned nothing still ranks the classes somehow. K permutations in a row are therefore one and
    its K - 1 rotations, in which label l becomes (l + r) mod K, trained from the same weights with rotated logits
    (`FoldEnsemble`). A training that knows these labels alone gives the same network with rotated logits, but for
    rounding, and one-against-rest AUCs of one score, averaged over what the positive class is, are .5 for classes of
    equal size, whatever the score (each pair of classes counts once in each order): in the mean over the rotations
    chance cancels out. True labels do not rotate, so what the protocol lets through of them is left.

    Args:
        items: `label` of each.
        seed: of the permutation.
        permutation: number of the permutation, from 0.

    Returns:
        The items in their order. Of K labels, permutations 0, K, 2 K and so on have as many of each label as before,
        and the number of images of a class that get a label differs from that label's share of the class by less than
        K - 1: of two labels, by less than one image. The permutations between are their rotations.
    """
    labels = np.array([item["label"] for item in items])
    names, counts = np.unique(labels, return_counts=True)
    drawn, rotation = divmod(permutation, len(names))
    random = np.random.default_rng([seed, drawn] if drawn else seed)
    # Images class by class, in random order within; along them each label lies at equal distances.
    places = np.lexsort((random.random(len(items)), labels))
    positions = np.concatenate([(np.arange(count) + random.random()) / count for count in counts])
    spread = np.repeat(np.roll(names, -rotation), counts)[np.argsort(positions, kind="stable")]
    shuffled = np.empty_like(labels)
    shuffled[places] = spread
    return [{**item, "label": int(label)} for item, label in zip(items, shuffled, strict=True)]


def check_synthesis(
    method: str | None, train_on_real: bool, labels: str, ratio: float = 1.0, permutation: int = 0
) -> None:
    """Refuse a share of synthetic images by which nothing would train.

    Args:
        method: `synthetic_method`; None adds no synthetic images.
        train_on_real: whether real images train.
        labels: `synthetic_labels`.
        ratio: `synthetic_ratio`.
        permutation: `synthetic_permutation`.

    Raises:
        ValueError: naming the config key.
    """
    if labels not in SYNTHETIC_LABELS:
        raise ValueError(f"synthetic_labels must be one of {', '.join(SYNTHETIC_LABELS)}, got {labels!r}")
    if type(permutation) is not int or permutation < 0:
        raise ValueError(f"synthetic_permutation must be a whole number >= 0, got {permutation!r}")
    if permutation and (labels != "shuffled" or train_on_real):
        raise ValueError(
            f"synthetic_permutation must be 0 but for synthetic_labels shuffled with train_on_real false, got"
            f" {permutation}: true labels do not rotate"
        )
    if not train_on_real and method is None:
        raise ValueError("train_on_real must be true where synthetic_method is null, got False: nothing would train")
    if not ratio >= 0:
        raise ValueError(f"synthetic_ratio must be >= 0, got {ratio!r}; 1 adds as many images as there are real ones")
    if not train_on_real and ratio == 0:
        raise ValueError("synthetic_ratio must be above 0 where train_on_real is false, got 0: nothing would train")


def _count(items: Sequence[Mapping[str, Any]], classes: Mapping[str, int]) -> dict[str, int]:
    counts = Counter(item["label"] for item in items)
    return {name: counts[label] for name, label in classes.items()}
