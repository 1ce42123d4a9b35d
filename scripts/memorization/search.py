"""The search for copies: the nearest real subjects of each image, however it was turned, moved, scaled or bent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from scripts.memorization.alignment import Alignment, resized_coordinates
from scripts.memorization.coarse_search import CoarseSearch, Lattice, Scores
from scripts.memorization.nearest_images import best_of_subjects, pixels_of_shift
from scripts.memorization.refinement import Refined, affine_basis, bending_basis, refine
from scripts.patches.intensities import BACKGROUND, foreground

LONGEST_SIDE = {2: 48, 3: 16}  # images are compared at no more pixels than this, by the number of dimensions
NUM_NEAREST = 6  # subjects of each image that are looked at closely
NUM_BENT = 3  # of them, that are bent as well
NUM_NEAREST_OF_PART = 4  # subjects looked at closely for one channel or the center alone
SMALLEST = 16  # pixels of a side; smaller images are not refined at half their size first, not bent, and have no parts
CENTER_RADIUS = 1 / 6  # of the side: patches are centered on the lesion, and this is 16 of 96 mm
CENTER_CELLS = 8  # of the middle half of the patch


class Match(NamedTuple):
    """How near each image comes to some of the subjects, by a whole image or a part of it.

    `similarities` (N, k), falling; -inf of the image's own subject; `subjects` (N, k), their numbers.
    """

    similarities: Tensor
    subjects: Tensor


@dataclass(frozen=True)
class Found:
    """What the search found of N images among G subjects.

    Args:
        similarities: (N, G) of the whole image to each subject, in [0, 1]. Of the nearest `NUM_NEAREST` subjects it is
            exact, and bent for `NUM_BENT`; of the others it is the first step's, but never above those.
        images: (N, G) number of the subject's reference that is nearest.
        ways: similarities of the nearest subjects by name of what was compared: "whole image" without bending, "bent",
            "channel 0" and on, "center".
        alignments: how the nearest reference of each image is laid over, (N,).
    """

    similarities: Tensor
    images: Tensor
    ways: Mapping[str, Match]
    alignments: Sequence[Alignment]

    def take(self, rows: Sequence[int]) -> Found:
        """Return what was found of some of the images."""
        index = list(rows)
        return Found(
            self.similarities[index],
            self.images[index],
            {name: Match(*(field[index] for field in match)) for name, match in self.ways.items()},
            [self.alignments[row] for row in index],
        )

    @staticmethod
    def join(pieces: Sequence[Found]) -> Found:
        """Put together what was found of several sets of images among the same references."""
        ways = {
            name: Match(*(torch.cat(fields) for fields in zip(*(piece.ways[name] for piece in pieces), strict=True)))
            for name in pieces[0].ways
        }
        return Found(
            torch.cat([piece.similarities for piece in pieces]),
            torch.cat([piece.images for piece in pieces]),
            ways,
            [alignment for piece in pieces for alignment in piece.alignments],
        )


class CopySearch:
    """Search images for their nearest real subjects: the lattice of `CoarseSearch` first, then `refine` for the best.

    Args:
        references: (M, C, *spatial) in [-1, 1], real images.
        owners: number 0..G-1 of the subject of each reference.
        max_shift: pixels that a copy may have been moved along each axis, about; None is a sixth of the smallest side.
        block_size: images compared at once; bounds memory only.

    Raises:
        ValueError: if a reference shows no brain, or the shift is too large.
    """

    def __init__(
        self, references: Tensor, owners: Sequence[int], max_shift: int | None = None, block_size: int = 64
    ) -> None:
        if not bool(foreground(references, channel_axis=1).flatten(1).any(1).all()):
            raise ValueError("references must show brain, got one that is background everywhere; run patches again")
        self.references = reduced(references.float())
        self.inside = foreground(self.references, channel_axis=1)[:, None].float()
        self.owners = torch.as_tensor(list(owners), device=references.device)
        self.factor = references.shape[-1] / self.references.shape[-1]
        self.max_shift = pixels_of_shift(max_shift, references.shape[2:])
        self.block_size = block_size
        self.whole = CoarseSearch(self.references, round(self.max_shift / self.factor))

    @cached_property
    def centers(self) -> CoarseSearch:
        """The lattice of the middle of the images, of which a disc counts: where patches show the lesion."""
        references = self.references[(..., *_middle(self.references.shape[2:]))]
        sides = references.shape[2:]
        region = disc(sides, 2 * CENTER_RADIUS).to(references)
        return CoarseSearch(references, max(1, min(sides) // CENTER_CELLS), region, CENTER_CELLS)

    def __call__(self, images: Tensor, own: Sequence[int] | None = None, parts: bool = True) -> Found:
        """Search (N, C, *spatial) in [-1, 1].

        Args:
            images: on the device of the references.
            own: subject of each image, with whom it is not compared; None compares with all.
            parts: whether channels and center are searched on their own, too; not of tiny images.
        """
        numbers = None if own is None else torch.as_tensor(list(own), device=images.device)
        pieces = []
        for start in range(0, len(images), self.block_size):
            block = slice(start, start + self.block_size)
            pieces.append(
                self._search(reduced(images[block].float()), None if numbers is None else numbers[block], parts)
            )
        return Found.join(pieces)

    def _search(self, images: Tensor, own: Tensor | None, parts: bool) -> Found:
        scores = self.whole(images, by_channel=parts)
        nearest, best_images = self._by_subject(scores.values[0], own)
        whole, refined = self._whole(images, scores, nearest, best_images)
        ways = dict(whole)
        if parts and min(images.shape[2:]) >= SMALLEST:
            count = min(NUM_NEAREST_OF_PART, nearest.shape[1])
            for channel in range(images.shape[1]) if images.shape[1] > 1 else ():
                of_channel, its_images = self._by_subject(scores.values[channel + 1], own)
                ways[f"channel {channel}"] = self._channel(images, channel, scores, of_channel, its_images, count)
            ways["center"] = self._center(images, own, count)
        last = whole["bent"]
        similarities = nearest.minimum(last.similarities.amin(1, keepdim=True)).clamp_min(0)
        similarities = similarities.scatter(1, last.subjects, last.similarities)
        if own is not None:
            similarities[torch.arange(len(images)), own] = -torch.inf
        on_cpu = {name: Match(match.similarities.cpu(), match.subjects.cpu()) for name, match in ways.items()}
        return Found(similarities.double().cpu(), best_images.cpu(), on_cpu, refined)

    def _by_subject(self, values: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
        """Highest value of each subject but the own, (N, G), and the number of the reference that has it."""
        best, first = best_of_subjects(values, self.owners)
        if own is not None:
            best[torch.arange(len(values)), own] = -torch.inf
        return best, first

    def _whole(
        self, images: Tensor, scores: Scores, nearest: Tensor, best_images: Tensor
    ) -> tuple[dict[str, Match], list[Alignment]]:
        shape = images.shape[2:]
        pairs = _Pairs.nearest(nearest, best_images, NUM_NEAREST)
        lattice = self.whole.lattice
        turn, start = lattice.coordinates(scores.alignments(pairs.rows, pairs.references), shape)
        turned = _turned(images, lattice, turn, pairs.rows)
        references, inside = self.references[pairs.references] - BACKGROUND, self.inside[pairs.references]
        if min(shape) >= SMALLEST:
            start = self._refine_at_half_size(turned, references, inside, start)
        affine = refine(turned, references, inside, start, affine_basis(shape, images.device), 3)
        result = {"whole image": pairs.match(affine.similarities)}
        if min(shape) < SMALLEST:
            order = pairs.order(affine.similarities)
            return {**result, "bent": result["whole image"]}, _alignments(lattice, turn, affine, order[:, 0])
        chosen = pairs.order(affine.similarities)[:, :NUM_BENT].flatten()
        bent = refine(
            turned[chosen],
            references[chosen],
            inside[chosen],
            affine.coordinates[chosen],
            bending_basis(shape, images.device),
            4,
        )
        similarities = affine.similarities.scatter(0, chosen, bent.similarities)
        coordinates = affine.coordinates.clone()
        coordinates[chosen] = bent.coordinates
        final = Refined(affine.correlations, coordinates)
        return {**result, "bent": pairs.match(similarities)}, _alignments(
            lattice, turn, final, pairs.order(similarities)[:, 0]
        )

    def _refine_at_half_size(self, images: Tensor, references: Tensor, inside: Tensor, start: Tensor) -> Tensor:
        """Make a first step at half the size, where a wider valley leads to the best; keep the better of both."""
        half = [size // 2 for size in images.shape[2:]]
        mask = functional.interpolate(inside, half, mode="area")
        small = functional.interpolate(references * inside, half, mode="area") / mask.clamp_min(0.1)
        rough = functional.interpolate(images, half, mode="area")
        basis = affine_basis(half, images.device)
        moved = refine(rough, small, (mask > 0.5).float(), resized_coordinates(start, half), basis, 3).coordinates
        moved = resized_coordinates(moved, images.shape[2:])
        basis = affine_basis(images.shape[2:], images.device)
        before, after = (refine(images, references, inside, where, basis, 0) for where in (start, moved))
        better = (after.similarities > before.similarities).view(-1, *[1] * (start.ndim - 1))
        return torch.where(better, moved, start)

    def _channel(
        self, images: Tensor, channel: int, scores: Scores, nearest: Tensor, best_images: Tensor, count: int
    ) -> Match:
        shape = images.shape[2:]
        pairs = _Pairs.nearest(nearest, best_images, count)
        lattice = self.whole.lattice
        turn, start = lattice.coordinates(scores.alignments(pairs.rows, pairs.references, channel), shape)
        turned = _turned(images[:, channel : channel + 1], lattice, turn, pairs.rows)
        references = self.references[pairs.references, channel : channel + 1] - BACKGROUND
        refined = refine(
            turned, references, self.inside[pairs.references], start, affine_basis(shape, images.device), 3
        )
        return pairs.match(refined.similarities)

    def _center(self, images: Tensor, own: Tensor | None, count: int) -> Match:
        middle = _middle(images.shape[2:])
        images, references = images[(..., *middle)], self.references[(..., *middle)]
        shape, lattice = images.shape[2:], self.centers.lattice
        region = disc(shape, 2 * CENTER_RADIUS).to(images)
        scores = self.centers(images, by_channel=False)
        pairs = _Pairs.nearest(*self._by_subject(scores.values[0], own), count)
        turn, start = lattice.coordinates(scores.alignments(pairs.rows, pairs.references), shape)
        turned = _turned(images, lattice, turn, pairs.rows)
        inside = self.inside[(..., *middle)][pairs.references] * region
        basis = affine_basis(shape, images.device)
        refined = refine(turned, references[pairs.references] - BACKGROUND, inside, start, basis, 3)
        return pairs.match(refined.similarities)


class _Pairs(NamedTuple):
    """Images and subjects that are looked at closely: of each pair the row of its image, its subject and reference.

    `is_other`: whether it is another subject than the image's own; `per_image`: pairs of each image.
    """

    rows: Tensor
    subjects: Tensor
    references: Tensor
    is_other: Tensor
    per_image: int

    @classmethod
    def nearest(cls, nearest: Tensor, best_images: Tensor, count: int) -> _Pairs:
        count = min(count, nearest.shape[1])
        values, subjects = nearest.topk(count, 1)
        rows = torch.arange(len(nearest), device=nearest.device)[:, None].expand_as(subjects)
        images = best_images.gather(1, subjects)
        return cls(rows.flatten(), subjects.flatten(), images.flatten(), values.isfinite().flatten(), count)

    def order(self, similarities: Tensor) -> Tensor:
        """Numbers of the pairs of each image, (N, k), the nearest first."""
        known = torch.where(self.is_other, similarities, -torch.inf)
        best = known.view(-1, self.per_image).argsort(dim=1, descending=True, stable=True)
        return best + torch.arange(len(best), device=best.device)[:, None] * self.per_image

    def match(self, similarities: Tensor) -> Match:
        order = self.order(similarities)
        return Match(torch.where(self.is_other, similarities, -torch.inf)[order], self.subjects[order])


def reduced(images: Tensor) -> Tensor:
    """Average images over whole pixels until no side is longer than `LONGEST_SIDE`; background stays exactly -1.

    A pixel is background where more than half of it is; else the mean over what is not.
    """
    dims = images.ndim - 2
    factor = -(-max(images.shape[2:]) // LONGEST_SIDE[dims])
    if factor == 1:
        return images
    inside = foreground(images, channel_axis=1)[:, None].float()
    grid = [max(1, size // factor) for size in images.shape[2:]]
    share = functional.interpolate(inside, grid, mode="area")
    mean = functional.interpolate(images * inside, grid, mode="area") / share.clamp_min(0.1)
    return torch.where(share > 0.5, mean, BACKGROUND)


def disc(shape: Sequence[int], radius: float) -> Tensor:
    """Mark the pixels nearer to the middle than `radius`, in sides of the image: booleans (*shape)."""
    axes = [(torch.arange(size) + 0.5) / size - 0.5 for size in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0) <= radius**2


def _middle(shape: Sequence[int]) -> list[slice]:
    halves = [-(-size // 2) for size in shape]
    return [slice((size - half) // 2, (size - half) // 2 + half) for size, half in zip(shape, halves, strict=True)]


def _turned(images: Tensor, lattice: Lattice, turn: Tensor, rows: Tensor) -> Tensor:
    every = torch.stack([one(images) for one in lattice.turns])
    return every[turn, rows]


def _alignments(lattice: Lattice, turn: Tensor, refined: Refined, chosen: Tensor) -> list[Alignment]:
    return [Alignment(lattice.turns[int(turn[index])], refined.coordinates[index].cpu()) for index in chosen]
