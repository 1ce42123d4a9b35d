"""How long the audit of volumes takes, and which copies among them it names."""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from benchmarks import altered_copies as copies
from benchmarks.phantom_patches import phantom_volumes
from benchmarks.planted_copies import real_images
from scripts.memorization.audit import MemorizationAudit

ALTERATIONS: dict[str, copies.Alteration] = {
    "none": copies.ALTERATIONS["none"],
    "flip": copies.flipped,
    "1-voxel shift": lambda volumes, generator: copies.shifted(volumes, generator, 1),
    "2-voxel shift": lambda volumes, generator: copies.shifted(volumes, generator, 2),
    "rotation 8": lambda volumes, generator: copies.rotated(volumes, generator, 8.0),
    "zoom 1.2": copies.zoomed,
    "flip, shift, rotation": lambda volumes, generator: copies.rotated(
        copies.shifted(copies.flipped(volumes, generator), generator, 3), generator, 8.0
    ),
}
COPIES_OF_EACH = 3


def planted(training: Tensor, fresh: Tensor, seed: int) -> Tensor:
    """Replace the first of the fresh volumes by copies of training volumes, three of every alteration."""
    generator = torch.Generator().manual_seed(seed)
    changed = [
        change(training[COPIES_OF_EACH * number :][:COPIES_OF_EACH], generator)
        for number, change in enumerate(ALTERATIONS.values())
    ]
    return torch.cat([*changed, fresh[COPIES_OF_EACH * len(changed) :]])


def main() -> None:
    """Print the time, how many copies of each kind were named, and how many others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=100, help="synthetic volumes, of which 21 are copies")
    parser.add_argument("--training", type=int, default=150, help="training patients, at least 21")
    parser.add_argument("--held-out", type=int, default=50, help="held-out patients")
    parser.add_argument("--size", type=int, default=32, help="voxels of a side")
    parser.add_argument("--seed", type=int, default=4000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = [options.training, options.held_out, options.images]
    training, held_out, fresh = phantom_volumes(sum(counts), options.seed, options.size).split(counts)
    synthetic = planted(training, fresh, options.seed)
    start = time.process_time()
    result = MemorizationAudit()(synthetic, real_images(training, "training"), real_images(held_out, "held out"))
    print(f"{time.process_time() - start:.0f} s of one thread, {counts} volumes of {options.size}^3")
    flags = [row["copy"] for row in result["images"]]
    for number, name in enumerate(ALTERATIONS):
        print(f"{name:22s} {sum(flags[COPIES_OF_EACH * number :][:COPIES_OF_EACH])} of {COPIES_OF_EACH} named")
    print(f"{sum(flags[COPIES_OF_EACH * len(ALTERATIONS) :])} others named; {result['verdict']}")


if __name__ == "__main__":
    main()
