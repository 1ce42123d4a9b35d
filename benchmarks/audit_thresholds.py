"""Where the thresholds of the audit come from: honest images, altered copies, a fitted Gaussian and noise, on phantoms.

The seeds (1000 and on) are those of no test and of no other bench.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

from benchmarks import altered_copies as copies
from benchmarks.phantom_patches import phantom_patches
from benchmarks.planted_copies import real_images, untrained_noise
from scripts.generator.controls import pca_gaussian
from scripts.memorization.audit import MemorizationAudit, RealImages
from scripts.memorization.duplicates import nearest_others
from scripts.memorization.parts import compare_parts
from scripts.memorization.verdict import Thresholds

FIRST_SEED = 1000
SIZES = ((12, 6), (40, 14), (80, 25))  # training and held-out patients, none of a test or of the table of attacks
ALTERATIONS = {
    **copies.ALTERATIONS,
    "rotation 15": lambda images, generator: copies.rotated(images, generator, 15.0),
    "zoom 1.2": copies.zoomed,
    "elastic 4 mm": copies.bent,
    "gamma .3": copies.darkened,
}


def measure(num_training: int, num_held_out: int, num_images: int, seed: int, grade: str, site: str) -> dict[str, Any]:
    """Draw patients and return the figures that the thresholds must part."""
    parts = [num_training, num_held_out, num_images]
    training, held_out, fresh = phantom_patches(sum(parts), seed, site=site, grade=grade).split(parts)
    generator = torch.Generator().manual_seed(seed)
    audit = MemorizationAudit(num_permutations=1)
    real = audit.prepare(real_images(training, "training"), real_images(held_out, "held out"))
    result: dict[str, Any] = {"real, nearest distance over the median": _closeness(real)}
    ratios = _ratios(fresh, real)
    result["honest ratio, lowest"] = ratios["whole image"]
    result["honest ratio of a part, lowest"] = min(value for name, value in ratios.items() if name != "whole image")
    sources = training[: min(num_training, 12)]
    for name, change in ALTERATIONS.items():
        altered = change(sources, generator)
        whole = compare_parts(real.search(altered, parts=False), altered, real.images, real.owners.tolist())[0]
        result[f"ratio of copies, highest: {name}"] = float(whole.ratios.max()) if whole.ratios is not None else 1.0
    sets = {
        "honest": fresh,
        "Gaussian": pca_gaussian(training)(num_images, generator),
        "noise": untrained_noise(fresh.shape, seed),
        "honest at 0 dB": copies.noisy(fresh, generator, decibel=0.0),
        "mean": training.mean(0).expand(fresh.shape),
    }
    for name, images in sets.items():
        judged = audit.judge(images, real, real.search(images))
        result[f"{name}: relative share"] = judged["shares"]["whole image"]["relative"]
        result[f"{name}: unlike"] = judged["unlike_share"]
        for key in ("farther", "average", "smoother", "repeated"):
            result[f"{name}: {key}"] = judged["usability"][key]
    return result


def _ratios(images: Tensor, real: RealImages) -> dict[str, float]:
    """Lowest ratio of each part."""
    parts = compare_parts(real.search(images), images, real.images, real.owners.tolist())
    return {part.name: float(part.ratios.min()) for part in parts if part.ratios is not None}


def _closeness(real: RealImages) -> float:
    distances = nearest_others(real.by_subject(), Thresholds().copy_ratio)
    return float(distances.min() / distances.median())


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
            print(f"  {name:40s} {values[0]:7.3f} {values[len(values) // 2]:7.3f} {values[-1]:7.3f}", flush=True)


if __name__ == "__main__":
    main()
