"""What an answer says about how far its patch is from the training images."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts.classifier.features import FirstAndLast
from scripts.classifier.training_distance import FILE_NAME, TrainingDistance, read_training_distance

logger = logging.getLogger(__name__)


def distance_beside(weights_path: str | Path) -> TrainingDistance | None:
    """Read the file beside weights; None, with a line in the log, where it is damaged, and where there is none."""
    path = Path(weights_path).with_name(FILE_NAME)
    if not path.is_file():
        return None
    try:
        return read_training_distance(path)
    except ValueError as error:
        logger.warning("%s", error)
        return None


@torch.no_grad()
def describe_distance(
    distance: TrainingDistance | None, network: nn.Module, weights_sha256: str, image: Tensor
) -> dict[str, Any] | None:
    """Say how far a patch is from the training images, by one more look of each member at it.

    Args:
        distance: from `distance_beside`.
        network: `FoldEnsemble` in evaluation mode.
        weights_sha256: hash of its weights.
        image: (C, *spatial), on the device of the network.

    Returns:
        `share_nearer` of the held-out images, in [0, 1], their `number`, and `text`, a sentence for people; None
        without a distance, or where it is of other weights, as after a training on labels.
    """
    if distance is None:
        return None
    if distance.weights_sha256 != weights_sha256:
        logger.info("%s is not used: it is of other weights", FILE_NAME)
        return None
    batch = image.as_subclass(Tensor)[None]
    features = [[part.cpu() for part in FirstAndLast(member)(batch)] for member in network.members]
    share = float(distance.shares_nearer(features)[0])
    return {"share_nearer": share, "number": distance.number, "text": sentence(share, distance.number)}


def sentence(share: float, number: int) -> str:
    """Say in words which share of the held-out images is nearer; only all of them are called all.

    >>> sentence(0.999, 2000)
    'Farther from the training images than 99 % of 2000 images held out from training.'

    Args:
        share: in [0, 1].
        number: of the held-out images.
    """
    if share == 0:
        return f"No farther from the training images than any of {number} images held out from training."
    percent = math.floor(100 * share)
    part = "all" if share == 1 else f"{percent} % of" if percent else "hardly any of"
    return f"Farther from the training images than {part} {number} images held out from training."
