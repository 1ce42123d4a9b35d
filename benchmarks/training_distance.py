"""Say how far images of several kinds are from the training images of a finished evaluation, as its answers would.

python -m benchmarks.training_distance runs/demo/site_a/evaluation_ddpm_mi --fresh 100

Of images like those of the cohort the shares are about uniform: 5 % of them lie beyond 95 % of the held-out images.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml
from monai.networks.utils import eval_mode
from scipy.stats import kstest
from torch import Tensor

from benchmarks.phantom_patches import phantom_patches
from scripts.classifier.features import FirstAndLast
from scripts.classifier.training_distance import TrainingDistance, write_training_distance
from scripts.evaluation.stage import Evaluation
from scripts.patches.tensors import LabeledImages
from scripts.running.configs import parser_of

LIMITS = (0.95, 0.99)
FRESH_SEED = 20260  # no study of the repository simulates patients of this seed


def main() -> None:
    """Read the command line, fit and print a row for each kind of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "evaluation", type=Path, help="folder of a finished evaluation; its config's paths count from here"
    )
    parser.add_argument("--fresh", type=int, default=0, help="simulated patients of each site that no study has seen")
    parser.add_argument("--write", type=Path, help="gets the distances, as configs/evaluate.yaml writes them")
    arguments = parser.parse_args()
    config = yaml.safe_load((arguments.evaluation / "config.yaml").read_text(encoding="utf-8"))
    evaluation = parser_of({**config, "output_dir": str(arguments.evaluation)}).get_parsed_content("evaluation")
    distance = evaluation.training_distance()
    if distance is None:
        parser.error(f"{arguments.evaluation} has no distances; the log says why")
    if arguments.write is not None:
        write_training_distance(arguments.write, distance)
    print(f"{distance.number} images held out of {len(distance.members)} members")
    print("| images | number | median share nearer | beyond 95 % | beyond 99 % | uniform: p |")
    print("|---|---|---|---|---|---|")
    for name, images in kinds(evaluation, arguments.fresh, config):
        print(describe(name, shares_nearer(evaluation, distance, images)))


def kinds(evaluation: Evaluation, num_fresh: int, config: dict) -> Iterator[tuple[str, Tensor]]:
    """Name the images (N, C, *spatial) that are compared: tests as they are, altered ones, and fresh patients."""
    tests = [*evaluation.tests.locked_tests(), *evaluation.tests.external_tests()]
    for test in tests:
        images = LabeledImages(test.items, evaluation.predictor.form).images
        yield f"{test.role}, {test.cohort}", images
        if test.role == "locked_test":
            yield from altered(test.cohort, images)
    for site in ("A", "B") if num_fresh else ():
        yield f"fresh patients, site {site}", fresh_patients(evaluation, site, num_fresh, config)


def altered(cohort: str, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Alter images (N, C, *spatial) in ways that a user may, by mistake; the background stays background."""
    random = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    yield f"{cohort}, upside down", images.flip(3)
    yield f"{cohort}, modalities in reverse order", images.flip(1)
    yield f"{cohort}, inverted", torch.where(images > -1, -images, images)
    yield f"{cohort}, noise in the place of the brain", torch.where(images > -1, random, images)
    yield f"{cohort}, blank", torch.full_like(images[:1], -1)


def fresh_patients(evaluation: Evaluation, site: str, number: int, config: dict) -> Tensor:
    """Simulate patients as the demo does, with the grades in the shares of the cohort."""
    labels = [item["label"] for item in evaluation.patches["training"]]
    num_high = round(number * sum(labels) / len(labels))
    settings = {"patch_size": config["patch_size"][0], "matrix_size": (80, 80, 52), "site": site}
    high = phantom_patches(num_high, FRESH_SEED, grade="HGG", **settings)
    return torch.cat([high, phantom_patches(number - num_high, FRESH_SEED + 1, grade="LGG", **settings)])


def shares_nearer(evaluation: Evaluation, distance: TrainingDistance, images: Tensor) -> Tensor:
    """Compute which share of the held-out images is nearer, of images (N, C, *spatial)."""
    blocks = images.to(evaluation.predictor.device).split(evaluation.predictor.batch_size)
    features = []
    for member in evaluation.network.members:
        read = FirstAndLast(member)
        with eval_mode(member):
            parts = zip(*(read(block) for block in blocks), strict=True)
            features.append([torch.cat(part).cpu() for part in parts])
    return distance.shares_nearer(features)


def describe(name: str, shares: Tensor) -> str:
    """Write a row of the table."""
    beyond = " | ".join(f"{float((shares > limit).double().mean()):.2f}" for limit in LIMITS)
    p_value = kstest(shares.numpy(), "uniform").pvalue
    return f"| {name} | {len(shares)} | {float(shares.median()):.2f} | {beyond} | {p_value:.2g} |"


if __name__ == "__main__":
    main()
