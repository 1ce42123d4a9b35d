"""Synthetic images drawn by an evaluator, for programs that run a bundle by its `dataset` and `evaluator`."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from scripts.generator.synthetic_set import SyntheticSet


def image_numbers(num_images: int) -> list[dict[str, Tensor]]:
    """Number the images of a set: items {"image": place, shape (1,)}, from 0."""
    return [{"image": torch.tensor([place])} for place in range(num_images)]


class SamplingInferer(Inferer):
    """Draws the images that `SyntheticSet.run` writes: where it is given n, the n-th that is no rejected copy.

    Args:
        generation: the set, whose own network draws.
    """

    def __init__(self, generation: SyntheticSet) -> None:
        super().__init__()
        self.generation = generation
        self._accepted: list[int] = []
        self._num_drawn = 0

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Draw a batch.

        Args:
            inputs: places of the images in the set, shape (B, 1), whole numbers from 0.
            network: not asked; that of the set is.
            args: not used.
            kwargs: not used.

        Returns:
            Images, shape (B, C, *spatial), in [-1, 1] with background -1, on the device of the numbers.

        Raises:
            ValueError: if a copy filter rejects so many that the set would be refused.
        """
        places = inputs.flatten().long().tolist()
        if self.generation.copy_filter is None:
            return self.generation.draw(places).to(inputs.device)
        drawn = self._draw_accepted(max(places) + 1)
        missing = [place for place in places if place not in drawn]
        if missing:
            again = self.generation.draw([self._accepted[place] for place in missing])
            drawn.update(zip(missing, again, strict=True))
        return torch.stack([drawn[place] for place in places]).to(inputs.device)

    def _draw_accepted(self, count: int) -> dict[int, Tensor]:
        """Draw on until `count` images are accepted; return those that were accepted now, by their places."""
        images: dict[int, Tensor] = {}
        while len(self._accepted) < count:
            numbers = range(self._num_drawn, self._num_drawn + count - len(self._accepted))
            self.generation.refuse_too_many_draws(numbers.stop, len(self._accepted))
            batch = self.generation.draw(numbers)
            for k, image, is_copy in zip(numbers, batch, self.generation.are_copies(batch), strict=True):
                if not is_copy:
                    images[len(self._accepted)] = image
                    self._accepted.append(k)
            self._num_drawn = numbers.stop
        return images
