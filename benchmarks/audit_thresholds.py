"""Where the thresholds of the audit come from: honest images, altered copies, a fitted Gaussian and noise, on phantoms.

The seeds (1000 and on) are those of no test and of no other bench.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from benchmarks.altered_copies import ALTERATIONS, noisy
from benchmarks.phantom_patches import phantom_patches
from benchmarks.planted_copies import real_images, untrained_noise
from scripts.generator.controls import pca_gaussian
from scripts.memorization.audit import MemorizationAudit
from scripts.memorization.nearest_images import nearest_by_subject, similarity_measures
from scripts.memorization.statistics import copy_ratios

FIRST_SEED = 1000
SIZES = ((12, 6), (30, 10), (60, 20))  # training and held-out patients


def measure(num_training: int, num_held_out: int, num_images: int, seed: int, grade: str, site: str) -> dict[str, Any]:
    """Draw patients and return the figures that the thresholds must part."""
    parts = [num_training, num_held_out, num_images]
    training, held_out, fresh = phantom_patches(sum(parts), seed, site=site, grade=grade).split(parts)
    generator = torch.Generator().manual_seed(seed)
    audit = MemorizationAudit(num_permutations=199)
    real = real_images(training, "training"), real_images(held_out, "held out")
    honest = audit(fresh, *real)
    gaussian = audit(pca_gaussian(training)(num_images, generator), *real)
    noise = audit(untrained_noise(fresh.shape, seed), *real)
    blurred = audit(noisy(fresh, generator, decibel=0.0), *real)
    aligned = similarity_measures(2, audit.max_shift)["aligned"]
    copies = [
        copy_ratios(
            nearest_by_subject(change(training, generator), training, range(num_training), aligned).similarities
        )
        for name, change in ALTERATIONS.items()
    ]
    return {
        "honest ratio, lowest": min(row["ratio"] for row in honest["images"]),
        "copy ratio, highest": float(torch.cat(copies).max()),
        "honest gap, relative": honest["measures"]["aligned"]["train_minus_held_out"]["relative"],
        "Gaussian gap, relative": gaussian["measures"]["aligned"]["train_minus_held_out"]["relative"],
        "honest, unlike": honest["unlike_share"],
        "honest at 0 dB, unlike": blurred["unlike_share"],
        "noise, unlike": noise["unlike_share"],
    }


def main() -> None:
    """Print the worst of several draws for every size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=4, help="draws of patients for every size, grade and site")
    parser.add_argument("--images", type=int, default=100, help="synthetic images per draw")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seed = FIRST_SEED
    for num_training, num_held_out in SIZES:
        rows = []
        for grade in ("LGG", "HGG"):
            for site in ("A", "B"):
                for _ in range(options.draws):
                    rows.append(measure(num_training, num_held_out, options.images, seed, grade, site))
                    seed += 1
        print(f"{num_training} training, {num_held_out} held-out patients, {len(rows)} draws: lowest, median, highest")
        for name in rows[0]:
            values = sorted(row[name] for row in rows)
            print(f"  {name:24s} {values[0]:7.3f} {values[len(values) // 2]:7.3f} {values[-1]:7.3f}", flush=True)


if __name__ == "__main__":
    main()
