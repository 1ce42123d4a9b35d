"""What of an image is a copy: the whole of it, one channel, its center, a quarter, or many small blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scripts.memorization.alignment import turns
from scripts.memorization.coarse_search import brain, standardized
from scripts.memorization.nearest_images import best_of_subjects
from scripts.memorization.search import Found, Match, is_tiny, reduced
from scripts.memorization.statistics import Share, copy_ratios, nearest_share

WHOLE = ("whole image", "bent")  # what the ratio of whole images is compared by: the smaller counts
BLOCKS = {"quarters": 2, "blocks of 1/4 of the side": 4, "blocks of 1/8 of the side": 8}
LESION = "lesion"  # around which patches are cut
CENTER = "center"  # of images of which nothing says that a lesion lies there
SMALLEST_BLOCK = 2  # pixels of a side: one pixel correlates with nothing
OTHER_CHANNELS = "channels in another order"
IMAGES_AT_ONCE = 64  # whose blocks are compared; bounds memory only
MIN_NORM = 1e-2  # of a channel of a block, in standard deviations, below which it shows nothing


@dataclass(frozen=True)
class Part:
    """How near images come to real subjects by one part of them.

    Args:
        name: "whole image", "channel 0" and on, "lesion", "quarters", ...
        ratios: d1 / d2 of each image, (N,) in [0, 1]; None where the part is too small to name single images by.
        subjects: nearest subject of each image, (N,) or, of several blocks, (N, B); -1 where nothing is to be seen.
        subject_of_ratio: whom the ratio is of, (N,).
    """

    name: str
    ratios: Tensor | None
    subjects: Tensor
    subject_of_ratio: Tensor

    def share(self, num_training: int, count: int, seed: int = 0) -> Share:
        """Share of images nearest to training subjects, see `nearest_share`."""
        return nearest_share(self.subjects, num_training, count, seed=seed)


def compare_parts(
    found: Found,
    images: Tensor,
    references: Tensor,
    owners: Sequence[int],
    channel_names: Sequence[str] | None = None,
    center_name: str = LESION,
    own: Sequence[int] | None = None,
) -> list[Part]:
    """List the parts of images with their ratios and nearest subjects, the whole image first.

    Args:
        found: what the search found of `images` among `references`.
        images: see `other_parts`, as all that follow.
        references: likewise.
        owners: likewise.
        channel_names: likewise.
        center_name: likewise.
        own: likewise.
    """
    others = other_parts(found.ways, images, references, owners, channel_names, center_name, own)
    return [whole_image(found), *others]


def other_parts(
    ways: Mapping[str, Match],
    images: Tensor,
    references: Tensor,
    owners: Sequence[int],
    channel_names: Sequence[str] | None = None,
    center_name: str = LESION,
    own: Sequence[int] | None = None,
) -> list[Part]:
    """List all parts but the whole image.

    Args:
        ways: of `Found`.
        images: (N, C, *spatial) in [-1, 1].
        references: (M, C, *spatial) real images.
        owners: number 0..G-1 of the subject of each reference.
        channel_names: of the C channels; None numbers them.
        center_name: what the middle of the images shows.
        own: subject of each of `images`, with whom it was not compared; None if it was compared with all.

    Returns:
        None of images smaller than `SMALLEST`.
    """
    names = channel_names or [f"channel {number}" for number in range(images.shape[1])]
    parts = []
    for way, match in ways.items():
        if way not in WHOLE:
            name = names[int(way.split()[1])] if way.startswith("channel ") else center_name
            subjects = match.subjects[:, 0]
            parts.append(Part(name, copy_ratios(match.similarities), subjects, subjects))
    small, real = reduced(images.float()), reduced(references.float())
    return parts if is_tiny(small) else [*parts, *_blocks(small, real, owners, own)]


def block_correlations(images: Tensor, references: Tensor, per_side: int) -> Tensor:
    """Correlate each block of each image with the same block of each reference, at the best turn of the whole image.

    Args:
        images: (N, C, *spatial) in [-1, 1].
        references: (M, C, *spatial), same device.
        per_side: blocks along each axis; pixels that are left over at the end count for nothing.

    Returns:
        (B, N, M) float32 in [-1, 1], mean over the channels in which the block of the reference shows something; 0
        where there is none.
    """
    theirs = _unit_blocks(standardized(references, brain(references)), per_side)
    shown = (theirs.square().sum(-1) > 0.5).sum(1)
    best = torch.full((theirs.shape[0], len(images), len(references)), -1.0, device=images.device)
    ours = standardized(images, brain(images))
    for turn in turns(images.shape[2:]):
        blocks = _unit_blocks(turn(ours), per_side)
        total = sum(blocks[:, channel] @ theirs[:, channel].mT for channel in range(images.shape[1]))
        best = torch.maximum(best, torch.as_tensor(total) / shown.clamp_min(1)[:, None])
    return best


def permuted_correlations(images: Tensor, references: Tensor) -> Tensor:
    """Correlate images with references whose channels are in another order, at the best turn.

    Returns:
        (N, M) float32: mean over channels of the image of the highest correlation with another channel of the
        reference; -1 where there is one channel only.
    """
    best = torch.full((len(images), len(references)), -1.0, device=images.device)
    channels = images.shape[1]
    if channels == 1:
        return best
    theirs = _unit_blocks(standardized(references, brain(references)), 1)[0]
    ours = standardized(images, brain(images))
    for turn in turns(images.shape[2:]):
        turned = _unit_blocks(turn(ours), 1)[0]
        total = torch.zeros_like(best)
        for channel in range(channels):
            others = [turned[channel] @ theirs[other].T for other in range(channels) if other != channel]
            total += torch.stack(others).amax(0)
        best = torch.maximum(best, total / channels)
    return best


def whole_image(found: Found) -> Part:
    """Return the whole image as a part: the smaller ratio of what was bent and what was not."""
    best = [found.ways[way] for way in WHOLE]
    ratios = torch.stack([copy_ratios(match.similarities) for match in best])
    lowest = ratios.min(0)
    subjects = torch.stack([match.subjects[:, 0] for match in best])
    return Part(WHOLE[0], lowest.values, found.similarities.argmax(1), subjects.gather(0, lowest.indices[None])[0])


def _blocks(images: Tensor, references: Tensor, owners: Sequence[int], own: Sequence[int] | None) -> Iterator[Part]:
    numbers = torch.as_tensor(list(owners), device=images.device)
    for name, per_side in BLOCKS.items():
        if min(images.shape[2:]) < SMALLEST_BLOCK * per_side:
            continue
        near = torch.cat(
            [
                best_of_subjects(block_correlations(part, references, per_side), numbers).similarities.cpu()
                for part in images.split(IMAGES_AT_ONCE)
            ],
            dim=1,
        )
        _leave_out(near, own)
        subjects = torch.where(near.amax(2) > 0, near.argmax(2), -1).T
        best = copy_ratios(near).min(0)
        told = best.values if per_side == 2 else None
        yield Part(name, told, subjects, near.argmax(2).gather(0, best.indices[None])[0])
    if images.shape[1] > 1:
        near = best_of_subjects(permuted_correlations(images, references), numbers).similarities.cpu()
        _leave_out(near, own)
        subjects = near.argmax(1)
        yield Part(OTHER_CHANNELS, copy_ratios(near), subjects, subjects)


def _leave_out(near: Tensor, own: Sequence[int] | None) -> None:
    """Set the nearness (..., N, G) of images to their own subject to -inf, in place."""
    if own is not None:
        near[..., torch.arange(near.shape[-2]), torch.as_tensor(list(own))] = -torch.inf


def _unit_blocks(images: Tensor, per_side: int) -> Tensor:
    """Cut images into blocks, each channel of mean 0 and length 1: (B, C, N, pixels)."""
    dims = images.ndim - 2
    sizes = [size // per_side for size in images.shape[2:]]
    trimmed = images[(..., *[slice(size * per_side) for size in sizes])]
    for axis in range(dims):
        trimmed = trimmed.unflatten(2 + 2 * axis, (per_side, sizes[axis]))
    order = [*range(2, 2 + 2 * dims, 2), 1, 0, *range(3, 3 + 2 * dims, 2)]
    blocks = trimmed.permute(order).flatten(0, dims - 1).flatten(3)
    centered = blocks - blocks.mean(-1, keepdim=True)
    norm = centered.norm(dim=-1, keepdim=True)
    return torch.where(norm > MIN_NORM * blocks.shape[-1] ** 0.5, centered / norm.clamp_min(1e-6), 0.0)
