"""Planted copies: does the audit name them, and nobody else? Prints a table for every alteration, and for controls."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.altered_copies import ALTERATIONS
from benchmarks.phantom_patches import phantom_patches
from scripts.memorization.audit import MemorizationAudit
from scripts.patches.image_sets import ImageSet

NUM_COPIES = 10


def real_images(images: Tensor, prefix: str) -> ImageSet:
    """Give each image a patient of its own."""
    return ImageSet(images, [f"{prefix}{index}" for index in range(len(images))])


def plant(training: Tensor, fresh: Tensor, alteration: str, seed: int) -> Tensor:
    """Replace the first images of a fresh set by altered copies of training images, drawn at random.

    Args:
        training: (T, C, *spatial), T >= 10.
        fresh: (S, C, *spatial) of other patients.
        alteration: key of `ALTERATIONS`.
        seed: of the choice and the alteration.
    """
    generator = torch.Generator().manual_seed(seed)
    sources = training[torch.randperm(len(training), generator=generator)[:NUM_COPIES]]
    return torch.cat([ALTERATIONS[alteration](sources, generator), fresh[NUM_COPIES:]])


def count_named(result: dict[str, Any]) -> tuple[int, int]:
    """Return how many planted copies were named, and how many other images."""
    flags = [row["copy"] for row in result["images"]]
    return sum(flags[:NUM_COPIES]), sum(flags[NUM_COPIES:])


def untrained_noise(shape: Sequence[int], seed: int) -> Tensor:
    """Images of an untrained generator: white noise, clipped to [-1, 1]."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=2000, help="of the patients; the next numbers are used as well")
    parser.add_argument("--training", type=int, default=60, help="training patients")
    parser.add_argument("--held-out", type=int, default=20, help="held-out patients")
    parser.add_argument("--images", type=int, default=200, help="synthetic images, of which 10 are copies")
    parser.add_argument("--fresh-seeds", type=int, default=20, help="fresh draws without any copy")
    parser.add_argument("--patch-size", type=int, default=32, help="pixels of a side, over 96 mm")
    parser.add_argument("--grade", default="HGG", choices=("LGG", "HGG"))
    options = parser.parse_args()
    torch.set_num_threads(1)

    def draw(count: int, seed: int) -> Tensor:
        matrix = (options.patch_size * 5 // 2, options.patch_size * 5 // 2, 16)
        return phantom_patches(count, seed, options.patch_size, matrix, grade=options.grade)

    total = options.training + options.held_out
    real, fresh = draw(total, options.seed), draw(options.images, options.seed + 1)
    training = real_images(real[: options.training], "training")
    held_out = real_images(real[options.training :], "held out")
    audit = MemorizationAudit()
    print(
        f"{options.images} images, {NUM_COPIES} of them copies;"
        f" {options.training} training, {options.held_out} held out"
    )
    print(f"{'alteration':16s} {'named':>6s} {'false':>6s}  verdict")
    for name in ALTERATIONS:
        result = audit(plant(training.images, fresh, name, options.seed), training, held_out)
        num_named, false = count_named(result)
        print(f"{name:16s} {num_named:3d}/{NUM_COPIES} {false:6d}  {result['verdict']}", flush=True)
    noise = audit(untrained_noise(fresh.shape, options.seed), training, held_out)
    print(f"{'untrained noise':16s} {'':6s} {noise['copies']['number']:6d}  {noise['verdict']}", flush=True)
    verdicts = []
    for index in range(options.fresh_seeds):
        patients = draw(total + 60, options.seed + 2 + index)
        parts = patients.split([options.training, options.held_out, 60])
        verdicts.append(audit(parts[2], real_images(parts[0], "t"), real_images(parts[1], "h"))["verdict"])
    for verdict in dict.fromkeys(verdicts):
        print(f"fresh draws, {len(verdicts)} seeds: {verdicts.count(verdict)} {verdict}")


if __name__ == "__main__":
    main()
