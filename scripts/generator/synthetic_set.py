"""A set of synthetic images, written as NIfTI with their provenance, whatever draws them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts.generator.checks import check_drawing
from scripts.memorization.copy_rejection import CopyFilter
from scripts.patches.background import snap_background
from scripts.patches.class_balance import synthetic_limits
from scripts.provenance.image_form import IMAGE_FACTS, ImageForm, recorded_images, require_same_images
from scripts.running.files import read_json, sha256_file, write_json
from scripts.running.progress import progress
from scripts.splits.lists import with_digest
from scripts.volumes.nifti import write_image


class SyntheticSet(ABC):
    """A set of images of one generator: each from (seed, k), whatever the batch it is drawn in.

    A stopped run continues with the batches that are not complete. Batches always start at the same images, so that
    a continued set equals an uninterrupted one byte for byte.

    Args:
        provenance: record of what draws, as `scripts.generator.record.GeneratorRecord` writes it.
        origin: file that the record is about, for messages.
        output_dir: folder for the images and `synthetic.json`.
        class_name: class to generate; None for a generator of all classes.
        form: of the images.
        num_images: images to draw; None means `default_num_images`.
        ratio: synthetic images for each real one, where `num_images` is None.
        balance: make the smaller class as large as the largest, where `num_images` is None.
        batch_size: images drawn at once.
        seed: seed of the set.
        snap_tolerance: as in `scripts.patches.background.snap_background`.
        copy_filter: tells copies of training images, which are left out and replaced by the next k; None keeps all.
        max_draws_per_image: draws for each image wanted, >= 1, after which the run stops where a filter rejects.

    Raises:
        ValueError: if the generator draws images of other modalities, classes, size or spacing, its record does not
            tell, or a number is out of range.
    """

    def __init__(
        self,
        provenance: Mapping[str, Any],
        origin: str,
        output_dir: str,
        class_name: str | None,
        form: ImageForm,
        num_images: int | None = None,
        ratio: float = 1.0,
        balance: bool = True,
        batch_size: int = 64,
        seed: int = 0,
        snap_tolerance: float | None = 0.1,
        copy_filter: CopyFilter | None = None,
        max_draws_per_image: float = 2.0,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.class_name = class_name
        self.form = form
        self.batch_size = batch_size
        self.seed = seed
        self.snap_tolerance = snap_tolerance
        self.copy_filter = copy_filter
        self.max_draws_per_image = max_draws_per_image
        self.provenance = dict(provenance)
        self.image_facts = recorded_images(self.provenance, origin)
        self._refuse_other_images(origin)
        counts = self.provenance["class_counts"]
        wanted = default_num_images(counts, class_name, ratio, balance) if num_images is None else num_images
        check_drawing(wanted, batch_size, max_draws_per_image, snap_tolerance)
        self.num_images = wanted

    @abstractmethod
    def draw_raw(self, numbers: Sequence[int]) -> Tensor:
        """Draw images k of the set, shape (B, C, *spatial), about [-1, 1], on any device."""

    @abstractmethod
    def how_drawn(self) -> dict[str, Any]:
        """Return what the provenance of the set says about the way in which its images were drawn."""

    def run(self) -> Path:
        """Draw and write what is not there yet, then `synthetic.json`.

        Returns:
            Path of `synthetic.json`.
        """
        total = math.ceil(self.num_images / self.batch_size)
        for numbers in progress(self._batches(), total, f"generating {self.class_name or 'images'}"):
            rejected = self.rejected
            if not all(k in rejected or self.path_of(k).is_file() for k in numbers):
                self._write_batch(numbers)
        path = self.output_dir / "synthetic.json"
        write_json(path, with_digest(self.description()))
        return path

    @property
    def rejected(self) -> list[int]:
        """Numbers of the images drawn so far that are copies of training images."""
        return read_json(self._rejected_path)["k"] if self._rejected_path.is_file() else []

    def draw(self, numbers: Sequence[int]) -> Tensor:
        """Draw images k of the set, shape (B, C, *spatial), in [-1, 1] with background -1, on the CPU."""
        images = self.draw_raw(numbers)
        if not torch.isfinite(images).all():
            raise RuntimeError(f"images must be finite, got NaN or infinity in images {numbers[0]} to {numbers[-1]}")
        return snap_background(images.float(), self.snap_tolerance).cpu()

    def are_copies(self, images: Tensor) -> list[bool]:
        """Say of each image, (B, C, *spatial), whether it is a copy to be rejected; none is without a filter."""
        return self.copy_filter(images) if self.copy_filter else [False] * len(images)

    def refuse_too_many_draws(self, num_draws: int, num_accepted: int) -> None:
        """Stop before more draws are made than `max_draws_per_image` allows.

        Args:
            num_draws: how many there would be.
            num_accepted: images so far that are no copies.

        Raises:
            ValueError: with both numbers and the way out.
        """
        if num_draws > self.num_images * self.max_draws_per_image:
            raise ValueError(
                f"num_images must be reached within {self.max_draws_per_image:g} draws per image, got"
                f" {num_accepted} of {self.num_images} without copies of training images;"
                " train the generator on more subjects or for fewer epochs, or raise max_draws_per_image"
            )

    def path_of(self, k: int) -> Path:
        """File of image k."""
        return self.output_dir / f"{self.class_name or 'synthetic'}_{k:04d}.nii.gz"

    def description(self) -> dict[str, Any]:
        """Content of `synthetic.json`: a MONAI decathlon list with the provenance of the set."""
        label = None if self.class_name is None else self.form.classes[self.class_name]
        return {
            "name": f"{self.provenance['cohorts'][0]} {self.class_name or 'all'} {self.provenance['method']}",
            "simulated": self.provenance["simulated"],
            # What the config says of the images; the rest is what the generator learned from.
            **{key: self.image_facts[key] for key in IMAGE_FACTS},
            **self.form.facts(),
            **self.form.names(),
            "provenance": self._set_provenance(),
            **self._about_rejected(),
            "training": [
                {
                    "image": self.path_of(k).name,
                    "label": label,
                    "k": k,
                    "seed": self.seed,
                    "image_sha256": sha256_file(self.path_of(k)),
                }
                for k in self._accepted()
            ],
        }

    def _about_rejected(self) -> dict[str, Any]:
        if self.copy_filter is None:
            return {}
        rejected = self.rejected
        return {"rejected": {"number": len(rejected), "k": rejected, "copy_ratio": self.copy_filter.copy_ratio}}

    def _accepted(self) -> list[int]:
        rejected = set(self.rejected)
        return [k for k in range(self.num_images + len(rejected)) if k not in rejected]

    def _set_provenance(self) -> dict[str, Any]:
        copied = ("method", "fold", "weights_sha256", "subjects", "selection_subjects", "simulated")
        return {
            "cohort": self.provenance["cohorts"][0],
            **{key: self.provenance[key] for key in copied},
            "class_name": self.class_name,
            "seed": self.seed,
            **self.how_drawn(),
            "snap_tolerance": self.snap_tolerance,
        }

    @property
    def _rejected_path(self) -> Path:
        # In the folder that a finished stage drops.
        return self.output_dir / "checkpoints" / "rejected.json"

    def _batches(self) -> Iterator[range]:
        """Numbers of each batch, as many as are missing after the batches before: the same in a continued run."""
        start, missing = 0, self.num_images
        while missing:
            numbers = range(start, start + min(self.batch_size, missing))
            self.refuse_too_many_draws(numbers.stop, self.num_images - missing)
            yield numbers
            start, missing = numbers.stop, missing - len(set(numbers) - set(self.rejected))

    def _write_batch(self, numbers: range) -> None:
        images = self.draw(numbers)
        copies = self.are_copies(images)
        for k, image, is_copy in zip(numbers, images, copies, strict=True):
            if not is_copy:
                write_image(self.path_of(k), image.numpy(), np.diag([self.form.cell_mm] * 3 + [1.0]))
        rejected = [k for k, is_copy in zip(numbers, copies, strict=True) if is_copy]
        if rejected:
            write_json(self._rejected_path, {"k": sorted({*self.rejected, *rejected})})

    def _refuse_other_images(self, generator_path: str) -> None:
        set_here = self.form.facts()
        # Patches of lesion_box have no common spacing.
        keys = [key for key in set_here if self.image_facts[key] is not None]
        require_same_images(self.image_facts, set_here, "the images to generate", generator_path, keys)


def default_num_images(class_counts: Mapping[str, int], class_name: str | None, ratio: float, balance: bool) -> int:
    """Number of synthetic images for a class: `ratio` for each real one, and more for a smaller class.

    >>> default_num_images({"LGG": 50, "HGG": 160}, "HGG", ratio=1.0, balance=True)
    160
    >>> default_num_images({"LGG": 50, "HGG": 160}, "LGG", ratio=1.0, balance=True)
    270

    Args:
        class_counts: class name -> real training images of the fold; "" counts those without a grade, which are of no
            class to be balanced.
        class_name: class to generate; None for a generator of all classes.
        ratio: synthetic images for each real one, > 0.
        balance: give every class as many images, real and synthetic together, as the largest gets.

    Raises:
        ValueError: if there is no such class.
    """
    if class_name is None:
        return math.ceil(ratio * sum(class_counts.values()))
    counts = {name: count for name, count in class_counts.items() if name}
    if class_name not in counts:
        raise ValueError(f"generator_class must be one of {', '.join(counts)}, got {class_name!r}")
    return synthetic_limits(counts, ratio, balance)[class_name][1]  # what a training may take
