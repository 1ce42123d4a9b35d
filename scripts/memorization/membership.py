"""Membership inference: whether a generator denoises its training images better than held-out ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from scripts.patches.image_sets import ImageSet
from scripts.splits.patients import number_patients
from scripts.statistics.roc_area import delong

MIN_SUBJECTS = 2  # of each kind, without which there is no variance
Losses = Callable[[Tensor, int | None], Tensor]


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


def _of_subjects(losses: Tensor, images: ImageSet) -> np.ndarray:
    """Mean loss of each subject at each timestep."""
    values, owners = losses.double().cpu().numpy(), number_patients(images.patients)
    return np.stack([values[owners == owner].mean(0) for owner in range(owners.max() + 1)])
