"""The set of a control generator: images drawn, without a network, from the training part of a fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scripts.generator.controls import CONTROLS, check_control, require_images
from scripts.generator.noise import image_seed
from scripts.generator.synthetic_set import SyntheticSet
from scripts.patches.class_balance import class_counts
from scripts.patches.tensors import PatchTensorDataset, patches_header
from scripts.provenance.record import hash_subjects
from scripts.running.files import sha256_file, sha256_text


class ControlSet(SyntheticSet):
    """A set of images of one control generator and one class.

    Args:
        control: key of `scripts.generator.controls.CONTROLS`.
        training: images of the class in the training part of the fold; nothing else is read of anybody.
        patches_path: `patches.json` that they are from.
        splits_path: `splits.json` that made the fold.
        fold: number of the fold.
        method: name of this way to draw, in records and reports.
        class_name: class of the images; None for all.
        settings: further arguments of `SyntheticSet`.

    Raises:
        ValueError: as `SyntheticSet`, or if there is no such control generator, or too few training images for it.
    """

    def __init__(
        self,
        control: str,
        training: PatchTensorDataset,
        patches_path: str,
        splits_path: str,
        fold: int,
        method: str,
        class_name: str | None,
        **settings: Any,
    ) -> None:
        check_control(control)
        require_images(control, len(training), f"{class_name or 'any class'} in fold {fold} of {splits_path}")
        header = patches_header(patches_path)
        provenance = {
            "cohorts": [header["name"]],
            "subjects": hash_subjects(training.subject_ids),
            # No weights were chosen, so nobody chose them.
            "selection_subjects": [],
            "simulated": header["simulated"],
            "fold": fold,
            "method": method,
            "class_counts": class_counts(patches_path, splits_path, fold),
            "images": training.image_facts,
            # In place of weights: what the images are drawn from.
            "weights_sha256": sha256_text("\n".join([control, *(sha256_file(row["image"]) for row in training.items)])),
        }
        super().__init__(provenance, patches_path, class_name=class_name, **settings)
        self.control = control
        self.draw_from_training = CONTROLS[control](training.images.cpu())

    def draw_raw(self, numbers: Sequence[int]) -> Tensor:
        """Draw each image k from a generator of its own, seeded by (seed, k)."""
        generators = [torch.Generator().manual_seed(image_seed(self.seed, k)) for k in numbers]
        return torch.cat([self.draw_from_training(1, generator) for generator in generators])

    def how_drawn(self) -> dict[str, Any]:
        """Name the control generator."""
        return {"control": self.control}
