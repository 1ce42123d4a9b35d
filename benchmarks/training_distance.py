"""Say how far images of several kinds are from the training images of a finished evaluation, as its answers would.

python -m benchmarks.training_distance runs/demo/site_a/evaluation_ddpm_mi --fresh 100

Of images like those of the cohort the shares are about uniform: 5 % of them lie beyond 95 % of the held-out images. The
last column is of what the last layer reads alone, which tells the classes and need not tell the scanner.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
    parser.add_argument(
        "--matrix_size", type=int, nargs=3, default=(80, 80, 52), help="voxels of those, as phantom_matrix_size"
    )
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
    print(f"One more look of each network: {seconds_of_a_look(evaluation):.3f} s an image")
    print(
        "| images | number | median share nearer | beyond 95 % | beyond 99 % | uniform: p | last layer: beyond 95 % |"
    )
    print("|---|---|---|---|---|---|---|")
    last = last_layer_alone(evaluation, distance)
    for name, images in kinds(evaluation, arguments.fresh, arguments.matrix_size, config):
        features = features_of(evaluation, images)
        shares = last.shares_nearer([parts[-1:] for parts in features])
        print(f"{describe(name, distance.shares_nearer(features))} {beyond(shares, LIMITS[0])} |")


def last_layer_alone(evaluation: Evaluation, distance: TrainingDistance) -> TrainingDistance:
    """Fit the distance in what the last layer reads, of the same images as `distance`."""
    parts = evaluation.features_of_folds()
    assert parts is not None, "that of both layers is there"
    seen, unseen = ([features[-1:] for features in part] for part in parts)
    return TrainingDistance.fit(distance.weights_sha256, seen, unseen)


def seconds_of_a_look(evaluation: Evaluation) -> float:
    """Time the features of one image, after one that is not timed."""
    images = LabeledImages(next(iter(evaluation.tests.fold_tests())).items[:1], evaluation.predictor.form).images
    features_of(evaluation, images)
    start = time.perf_counter()
    features_of(evaluation, images)
    return time.perf_counter() - start


def kinds(
    evaluation: Evaluation, num_fresh: int, matrix_size: Sequence[int], config: dict
) -> Iterator[tuple[str, Tensor]]:
    """Name the images (N, C, *spatial) that are compared: tests as they are, altered ones, and fresh patients."""
    tests = [*evaluation.tests.locked_tests(), *evaluation.tests.external_tests()]
    for test in tests:
        images = LabeledImages(test.items, evaluation.predictor.form).images
        yield f"{test.role}, {test.cohort}", images
        if test.role == "locked_test":
            yield from altered(test.cohort, images)
    for site in ("A", "B") if num_fresh else ():
        for name, of_healthy in (("", False), (", a click on the healthy side", True)):
            settings = {"site": site, "matrix_size": matrix_size, "healthy_side": of_healthy}
            yield f"fresh patients, site {site}{name}", fresh_patients(evaluation, num_fresh, config, settings)


def altered(cohort: str, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Alter images (N, C, *spatial) in ways that a user may, by mistake; the background stays background."""
    random = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    yield f"{cohort}, upside down", images.flip(3)
    yield f"{cohort}, modalities in reverse order", images.flip(1)
    yield f"{cohort}, inverted", torch.where(images > -1, -images, images)
    yield f"{cohort}, noise in the place of the brain", torch.where(images > -1, random, images)
    yield f"{cohort}, blank", torch.full_like(images[:1], -1)


def fresh_patients(evaluation: Evaluation, number: int, config: dict, settings: dict[str, Any]) -> Tensor:
    """Simulate patients as the demo does, with the grades in the shares of the cohort."""
    labels = [item["label"] for item in evaluation.patches["training"]]
    num_high = round(number * sum(labels) / len(labels))
    settings = {"patch_size": config["patch_size"][0], **settings}
    high = phantom_patches(num_high, FRESH_SEED, grade="HGG", **settings)
    return torch.cat([high, phantom_patches(number - num_high, FRESH_SEED + 1, grade="LGG", **settings)])


def features_of(evaluation: Evaluation, images: Tensor) -> list[list[Tensor]]:
    """Let each member read images (N, C, *spatial): of each the features of its first and its last layer."""
    blocks = images.to(evaluation.predictor.device).split(evaluation.predictor.batch_size)
    features = []
    for member in evaluation.network.members:
        read = FirstAndLast(member)
        with eval_mode(member):
            parts = zip(*(read(block) for block in blocks), strict=True)
            features.append([torch.cat(part).cpu() for part in parts])
    return features


def describe(name: str, shares: Tensor) -> str:
    """Write a row of the table, but for its last cell."""
    limits = " | ".join(beyond(shares, limit) for limit in LIMITS)
    p_value = kstest(shares.numpy(), "uniform").pvalue
    return f"| {name} | {len(shares)} | {float(shares.median()):.2f} | {limits} | {p_value:.2g} |"


def beyond(shares: Tensor, limit: float) -> str:
    """Write which part of the shares is above a limit."""
    return f"{float((shares > limit).double().mean()):.2f}"


if __name__ == "__main__":
    main()
