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
from scripts.memorization.coarse_search import CoarseSearch, Lattice, Scores, brain_centers, centered
from scripts.memorization.nearest_images import best_of_subjects, pixels_of_shift
from scripts.memorization.refinement import Refined, affine_basis, bending_basis, refine
from scripts.patches.intensities import BACKGROUND, foreground

LONGEST_SIDE = {2: 48, 3: 16}  # images are compared at no more pixels than this, by the number of dimensions
FINE_SIDE = 32  # of volumes, whose nearest subjects are compared at more: a shift by half a pixel of 16 blurs them
REDUCED_AT_ONCE = 16  # images; bounds memory only
NUM_NEAREST = 6  # subjects of each image that are looked at closely
NUM_BENT = 3  # of them, that are bent as well, and of volumes compared at `FINE_SIDE`
NUM_NEAREST_OF_PART = 4  # subjects looked at closely for one channel or the center alone
SMALLEST = {2: 16, 3: 12}  # of a side; smaller images are not refined at half their size, not bent, and have no parts
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
            exact, and bent for `NUM_BENT`, of volumes for the latter alone; of the others it is the first step's, but
            never above those.
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
        return Found(
            torch.cat([piece.similarities for piece in pieces]),
            torch.cat([piece.images for piece in pieces]),
            _joined([piece.ways for piece in pieces]),
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
        self.inside = _inside(self.references)
        self.fine = finer(references.float())
        self.owners = torch.as_tensor(list(owners), device=references.device)
        self.factor = references.shape[-1] / self.references.shape[-1]
        self.max_shift = pixels_of_shift(max_shift, references.shape[2:])
        self.block_size = block_size
        self.whole = CoarseSearch(self.references, round(self.max_shift / self.factor))
        # The cells of a volume are large, and half of one along each axis is a shift that nothing of it survives. Where
        # all of a brain is to be seen, its middle tells the shift.
        self.by_middle = None if self.fine is None else CoarseSearch(centered(self.fine), 0)

    @property
    def detailed(self) -> Tensor:
        """References of which the middle is compared: of volumes those of `FINE_SIDE`, where it has enough voxels."""
        return self.references if self.fine is None else self.fine

    @cached_property
    def centers(self) -> CoarseSearch:
        """The lattice of the middle of the images, of which a disc counts: where patches show the lesion."""
        references = self.detailed[(..., *_middle(self.detailed.shape[2:]))]
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
            pieces.append(self._search(images[block].float(), None if numbers is None else numbers[block], parts))
        return Found.join(pieces)

    def _search(self, images: Tensor, own: Tensor | None, parts: bool) -> Found:
        fine = finer(images)
        images = reduced(images)
        scores = self.whole(images, by_channel=parts)
        by_middle = None if fine is None or self.by_middle is None else self.by_middle(centered(fine), False)
        values = scores.values[0] if by_middle is None else scores.values[0].maximum(by_middle.values[0])
        nearest, best_images = self._by_subject(values, own)
        pairs = _Pairs.nearest(nearest, best_images, NUM_NEAREST)
        turn, start = self._starts(images, scores, by_middle, pairs)
        whole, refined = self._whole(images, fine, pairs, turn, start)
        ways = {**whole, **(self._parts(images, fine, scores, own) if parts else {})}
        last = whole["bent"]
        similarities = nearest.minimum(last.similarities.amin(1, keepdim=True)).clamp_min(0)
        similarities = similarities.scatter(1, last.subjects, last.similarities)
        if own is not None:
            similarities[torch.arange(len(images)), own] = -torch.inf
        return Found(similarities.double().cpu(), best_images.cpu(), _on_cpu(ways), refined)

    def ways_of_parts(self, images: Tensor, own: Sequence[int]) -> dict[str, Match]:
        """Search channels and center alone of (N, C, *spatial) in [-1, 1]: the `ways` of `Found` but the whole image.

        Args:
            images: on the device of the references.
            own: subject of each image, with whom it is not compared.
        """
        numbers, pieces = torch.as_tensor(list(own), device=images.device), []
        for block, of_block in zip(images.split(self.block_size), numbers.split(self.block_size), strict=True):
            small = reduced(block.float())
            scores = self.whole(small) if small.shape[1] > 1 else None
            pieces.append(_on_cpu(self._parts(small, finer(block.float()), scores, of_block)))
        return _joined(pieces)

    def _parts(
        self, images: Tensor, fine: Tensor | None, scores: Scores | None, own: Tensor | None
    ) -> dict[str, Match]:
        """Search each of several channels by its scores, and the center."""
        ways = dict[str, Match]()
        if is_tiny(images):
            return ways
        count = min(NUM_NEAREST_OF_PART, int(self.owners.max()) + 1)
        if scores is not None and images.shape[1] > 1:
            for channel in range(images.shape[1]):
                of_channel, its_images = self._by_subject(scores.values[channel + 1], own)
                ways[f"channel {channel}"] = self._channel(images, channel, scores, of_channel, its_images, count)
        return {**ways, "center": self._center(images if fine is None else fine, own, count)}

    def _by_subject(self, values: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
        """Highest value of each subject but the own, (N, G), and the number of the reference that has it."""
        best, first = best_of_subjects(values, self.owners)
        if own is not None:
            best[torch.arange(len(values)), own] = -torch.inf
        return best, first

    def _starts(self, images: Tensor, scores: Scores, by_middle: Scores | None, pairs: _Pairs) -> tuple[Tensor, Tensor]:
        """Turn and coordinates of the pairs at which the first step found them to correlate best."""
        shape = images.shape[2:]
        of_pair = (pairs.rows, pairs.references)
        turn, start = self.whole.lattice.coordinates(scores.alignments(*of_pair), shape)
        if by_middle is None or self.by_middle is None:
            return turn, start
        lattice, numbers = self.by_middle.lattice, by_middle.alignments(*of_pair)
        other_turn, other = lattice.coordinates(numbers, shape)
        # Of both the middle of the brain was the origin.
        middle = brain_centers(_turned(images, lattice, other_turn, pairs.rows))
        moved = (lattice.matrix(numbers) @ middle[..., None])[..., 0]
        offset = brain_centers(self.references)[pairs.references] - moved
        other = other + offset.view(-1, *[1] * len(shape), len(shape))
        is_better = by_middle.values[0][of_pair] > scores.values[0][of_pair]
        return torch.where(is_better, other_turn, turn), torch.where(_per_pair(is_better, start), other, start)

    def _whole(
        self, images: Tensor, fine: Tensor | None, pairs: _Pairs, turn: Tensor, start: Tensor
    ) -> tuple[dict[str, Match], list[Alignment]]:
        turned = _turned(images, self.whole.lattice, turn, pairs.rows)
        references, inside = self.references[pairs.references] - BACKGROUND, self.inside[pairs.references]
        if not is_tiny(images):
            start = self._refine_at_half_size(turned, references, inside, start)
        affine = refine(turned, references, inside, start, affine_basis(images.shape[2:], images.device), 3)
        order = pairs.order(affine.similarities)[:, :NUM_BENT]
        chosen = order.flatten()
        of_chosen = (turned[chosen], references[chosen], inside[chosen])
        if fine is not None:
            kept = pairs.take(chosen, order.shape[1])
            return self._whole_of_volumes(fine, of_chosen, kept, turn[chosen], affine.coordinates[chosen])
        result = {"whole image": pairs.match(affine.similarities)}
        if is_tiny(images):
            return {**result, "bent": result["whole image"]}, self._alignments(turn, affine.coordinates, order[:, 0])
        bent = _bend(*of_chosen, affine.coordinates[chosen])
        similarities = affine.similarities.scatter(0, chosen, bent.similarities)
        coordinates = affine.coordinates.clone()
        coordinates[chosen] = bent.coordinates
        best = pairs.order(similarities)[:, 0]
        return {**result, "bent": pairs.match(similarities)}, self._alignments(turn, coordinates, best)

    def _whole_of_volumes(
        self, fine: Tensor, rough: tuple[Tensor, Tensor, Tensor], pairs: _Pairs, turn: Tensor, start: Tensor
    ) -> tuple[dict[str, Match], list[Alignment]]:
        """Compare pairs at `FINE_SIDE`, unbent and bent; bends are found at the size of `rough`, what `_bend` takes."""
        assert self.fine is not None
        shape, size = fine.shape[2:], rough[0].shape[2:]
        turned = _turned(fine, self.whole.lattice, turn, pairs.rows)
        of_pairs = self.fine[pairs.references]
        values, inside, basis = of_pairs - BACKGROUND, _inside(of_pairs), affine_basis(shape, fine.device)
        best = refine(turned, values, inside, resized_coordinates(start, shape, is_affine=True), basis, 2)
        result = {"whole image": pairs.match(best.similarities)}
        if not is_tiny(rough[0]):
            bent = _bend(*rough, resized_coordinates(best.coordinates, size, is_affine=True)).coordinates
            best = best.or_better(refine(turned, values, inside, resized_coordinates(bent, shape), basis, 0))
        nearest = pairs.order(best.similarities)[:, 0]
        # Kept at the size of the others: what is affine stays exact, and bends are smooth.
        coordinates = resized_coordinates(best.coordinates[nearest], size)
        everyone = torch.arange(len(nearest), device=nearest.device)
        result["bent"] = pairs.match(best.similarities)
        return result, self._alignments(turn[nearest], coordinates, everyone)

    def _alignments(self, turn: Tensor, coordinates: Tensor, chosen: Tensor) -> list[Alignment]:
        turns = self.whole.lattice.turns
        return [Alignment(turns[int(turn[index])], coordinates[index].cpu()) for index in chosen]

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
        return before.or_better(after).coordinates

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
        images, references = images[(..., *middle)], self.detailed[(..., *middle)]
        shape, lattice = images.shape[2:], self.centers.lattice
        region = disc(shape, 2 * CENTER_RADIUS).to(images)
        scores = self.centers(images, by_channel=False)
        pairs = _Pairs.nearest(*self._by_subject(scores.values[0], own), count)
        turn, start = lattice.coordinates(scores.alignments(pairs.rows, pairs.references), shape)
        turned = _turned(images, lattice, turn, pairs.rows)
        inside = _inside(self.detailed)[(..., *middle)][pairs.references] * region
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

    def take(self, chosen: Tensor, per_image: int) -> _Pairs:
        """Return some of the pairs, as many of each image, image by image."""
        fields = (self.rows, self.subjects, self.references, self.is_other)
        rows, subjects, references, is_other = (field[chosen] for field in fields)
        return _Pairs(rows, subjects, references, is_other, per_image)

    def order(self, similarities: Tensor) -> Tensor:
        """Numbers of the pairs of each image, (N, k), the nearest first."""
        known = torch.where(self.is_other, similarities, -torch.inf)
        best = known.view(-1, self.per_image).argsort(dim=1, descending=True, stable=True)
        return best + torch.arange(len(best), device=best.device)[:, None] * self.per_image

    def match(self, similarities: Tensor) -> Match:
        order = self.order(similarities)
        return Match(torch.where(self.is_other, similarities, -torch.inf)[order], self.subjects[order])


def is_tiny(images: Tensor) -> bool:
    """Whether a side of images (N, C, *spatial) is below `SMALLEST`."""
    return min(images.shape[2:]) < SMALLEST[images.ndim - 2]


def reduced(images: Tensor, longest_side: int | None = None) -> Tensor:
    """Average images over whole pixels until no side is longer; background stays exactly -1.

    A pixel is background where more than half of it is; else the mean over what is not.

    Args:
        images: (N, C, *spatial) in [-1, 1].
        longest_side: pixels; None is `LONGEST_SIDE`.
    """
    dims = images.ndim - 2
    factor = -(-max(images.shape[2:]) // (longest_side or LONGEST_SIDE[dims]))
    if factor == 1 or not len(images):
        return images
    # A few at once: of large volumes the copies that this takes would not fit into memory.
    return torch.cat([_averaged(block, factor) for block in images.split(REDUCED_AT_ONCE)])


def _averaged(images: Tensor, factor: int) -> Tensor:
    images = images.float()
    inside = _inside(images)
    grid = [max(1, size // factor) for size in images.shape[2:]]
    share = functional.interpolate(inside, grid, mode="area")
    mean = functional.interpolate(images * inside, grid, mode="area") / share.clamp_min(0.1)
    return torch.where(share > 0.5, mean, BACKGROUND)


def finer(images: Tensor) -> Tensor | None:
    """Volumes (N, C, *spatial) reduced to `FINE_SIDE`; None of pictures, and of volumes that are not reduced anyway."""
    if images.ndim != 5 or max(images.shape[2:]) <= LONGEST_SIDE[3]:
        return None
    return reduced(images, FINE_SIDE)


def disc(shape: Sequence[int], radius: float) -> Tensor:
    """Mark the pixels nearer to the middle than `radius`, in sides of the image: booleans (*shape)."""
    axes = [(torch.arange(size) + 0.5) / size - 0.5 for size in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0) <= radius**2


def _middle(shape: Sequence[int]) -> list[slice]:
    halves = [-(-size // 2) for size in shape]
    return [slice((size - half) // 2, (size - half) // 2 + half) for size, half in zip(shape, halves, strict=True)]


def _inside(images: Tensor) -> Tensor:
    return foreground(images, channel_axis=1)[:, None].float()


def _turned(images: Tensor, lattice: Lattice, turn: Tensor, rows: Tensor) -> Tensor:
    result = images.new_empty(len(rows), *images.shape[1:])
    for number, one in enumerate(lattice.turns):
        is_turned = turn == number
        result[is_turned] = one(images[rows[is_turned]])
    return result


def _joined(ways: Sequence[Mapping[str, Match]]) -> dict[str, Match]:
    return {
        name: Match(*(torch.cat(fields) for fields in zip(*(piece[name] for piece in ways), strict=True)))
        for name in ways[0]
    }


def _on_cpu(ways: Mapping[str, Match]) -> dict[str, Match]:
    return {name: Match(match.similarities.cpu(), match.subjects.cpu()) for name, match in ways.items()}


def _bend(images: Tensor, references: Tensor, inside: Tensor, start: Tensor) -> Refined:
    return refine(images, references, inside, start, bending_basis(images.shape[2:], images.device), 4)


def _per_pair(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
