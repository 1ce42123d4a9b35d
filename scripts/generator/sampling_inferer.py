"""Synthetic images drawn by an evaluator, for programs that run a bundle by its `dataset` and `evaluator`."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from scripts.generator.synthetic_set import SyntheticSet


def image_numbers(num_images: int) -> list[dict[str, Tensor]]:
    """Number the images of a set: items {"image": k, shape (1,)}, k from 0."""
    return [{"image": torch.tensor([k])} for k in range(num_images)]


class DrawingInferer(Inferer):
    """Draws image k of a set where it is given the number k: the images that `SyntheticSet.run` writes.

    Args:
        generation: the set, whose own network draws.
    """

    def __init__(self, generation: SyntheticSet) -> None:
        super().__init__()
        self.generation = generation

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Draw a batch.

        Args:
            inputs: numbers of the images, shape (B, 1).
            network: not asked; that of the set is.
            args: not used.
            kwargs: not used.

        Returns:
            Images, shape (B, C, *spatial), in [-1, 1] with background -1, on the device of the numbers.
        """
        return self.generation.draw(inputs.flatten().long().tolist()).to(inputs.device)
