"""Quality against steps and against seconds for a trained generator, and the cheapest setting that loses nothing.

python -m benchmarks.samplers runs/small/site_a/fold0/generator_all_ddpm/model.pt runs/small/site_a/patches/patches.json
    --class-name LGG --recipe small --images 2000 --output-dir runs/samplers

A setting is non-inferior if the upper end of the 95 % interval of (its KID - the KID of DDPM with all steps) is below
half the real-versus-real floor, coverage falls by less than its floor, and max-Pearson is above that of all steps and
that of other real patients by less than its own. A flow has no DDPM steps: there all steps are Euler's. Drawn batches
stay in the output folder, so that a stopped run continues.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import torch
import yaml
from matplotlib.figure import Figure
from monai.bundle import ConfigParser
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor

from benchmarks.generator_recipes import cached
from benchmarks.phantom_patches import phantom_patches
from benchmarks.sampler_measures import (
    Floors,
    PixelPCA,
    coverage,
    kid,
    kid_difference,
    mean_max_pearson,
    mean_max_pearson_of_others,
    real_floors,
)
from scripts.generator.diffusion_set import DiffusionSet
from scripts.generator.samplers import sampling_scheduler
from scripts.image_quality.feature_networks import ClassifierFeatures, classifier_features
from scripts.patches.image_sets import read_rows
from scripts.patches.pictures import COLORS, STYLE, save_picture
from scripts.provenance.record import hash_subject
from scripts.running.files import read_json, sha256_text, write_json, write_text
from scripts.running.progress import progress

CONFIGS = Path(__file__).parents[1] / "configs"
SETTINGS = [f"{name}:{n}" for name in ("ddim", "dpm_solver", "unipc") for n in (10, 20, 50)]
PHANTOM = yaml.safe_load((CONFIGS / "phantom.yaml").read_text(encoding="utf-8"))
FURTHER_SEED = 1_000_000  # far from the seeds that a study gives its cohorts
ENOUGH = 2000  # images on a side, below which a verdict is marked as indicative
COLUMNS = ("sampler", "steps", "s/image", "KID", "KID - KID all steps", "coverage", "max-Pearson", "non-inferior")


def run(
    generation: DiffusionSet,
    noise_scheduler: Any,
    reals: Tensor,
    training: Tensor,
    settings: Sequence[tuple[str, int]],
    num_images: int,
    batches_dir: Path,
    features: PixelPCA | ClassifierFeatures | None = None,
) -> dict[str, Any]:
    """Draw the same images with every setting and measure them.

    Args:
        generation: as `configs/generate.yaml` builds it; its scheduler is replaced.
        noise_scheduler: of the training.
        reals: real images, (M, C, *spatial).
        training: those that the generator was trained on.
        settings: (sampler, steps); all steps of the reference are added in front.
        num_images: N of each setting.
        batches_dir: keeps the images of each batch and the seconds it took, for a run that continues.
        features: from images (N, C, *spatial) to (N, F), under a name; None for `PixelPCA` of the reals.

    Returns:
        `features`, numbers of images, `floors`, `margin`, `rows` of every setting and the `cheapest` of those that are
        non-inferior.
    """
    features = PixelPCA(reals) if features is None else features
    real_features = features(reals)
    floors = real_floors(real_features, reals, training)
    real_pearson = mean_max_pearson_of_others(reals, training)
    everything = all_steps(noise_scheduler)
    rows: list[dict[str, Any]] = []
    for sampler, steps in [everything, *(setting for setting in settings if setting != everything)]:
        generation.scheduler = sampling_scheduler(noise_scheduler, sampler, steps)
        images, seconds = draw(generation, num_images, batches_dir, sampler, steps)
        own_features = features(images)
        if not rows:
            baseline = own_features
        measures = {
            "kid": kid(own_features, real_features),
            "kid_difference": kid_difference(own_features, baseline, real_features),
            "coverage": coverage(own_features, real_features),
            "max_pearson": mean_max_pearson(images, training),
        }
        rows.append({"sampler": sampler, "steps": steps, "seconds_per_image": seconds, **measures})
        rows[-1]["non_inferior"] = is_non_inferior(rows[-1], rows[0], floors, real_pearson)
    good = [row for row in rows if row["non_inferior"]]
    return {
        "features": features.name,
        "num_images": num_images,
        "num_reals": len(reals),
        "floors": floors._asdict(),
        "real_max_pearson": real_pearson,
        "margin": floors.kid / 2,
        "rows": rows,
        "cheapest": min(good, key=lambda row: row["seconds_per_image"]),
    }


def all_steps(noise_scheduler: Any) -> tuple[str, int]:
    """Name the sampler that takes every step of the training: DDPM, or Euler's method for a flow."""
    return ("ddpm" if isinstance(noise_scheduler, DDPMScheduler) else "ddim"), noise_scheduler.num_train_timesteps


def is_non_inferior(row: dict[str, Any], reference: dict[str, Any], floors: Floors, real_pearson: float) -> bool:
    """Compare a setting with all steps, which are non-inferior to themselves.

    Noise lowers max-Pearson: images that rise to what real patients have who were not trained on are no copies.
    """
    return row is reference or (
        row["kid_difference"].high < floors.kid / 2
        and reference["coverage"] - row["coverage"] < floors.coverage
        and row["max_pearson"] - max(reference["max_pearson"], real_pearson) < floors.max_pearson
    )


def draw(
    generation: DiffusionSet, num_images: int, batches_dir: Path, sampler: str, steps: int
) -> tuple[Tensor, float]:
    """Draw images 0 to N - 1 of the set, or read the batches that were drawn.

    Returns:
        The images, and the seconds that one took: the median over batches, which busy moments do not move.
    """
    starts = range(0, num_images, generation.batch_size)
    folder = batches_dir / how(generation)
    batches = []
    for start in progress(starts, len(starts), f"{sampler}, {steps} steps"):
        numbers = range(start, min(start + generation.batch_size, num_images))
        path = folder / f"{sampler}_{steps}_{numbers.start}_{numbers.stop}.pt"
        batches.append(cached(path, partial(timed, generation, numbers)))
    seconds = [batch["seconds"] / len(batch["images"]) for batch in batches]
    return torch.cat([batch["images"] for batch in batches]), median(seconds)


def timed(generation: DiffusionSet, numbers: Sequence[int]) -> dict[str, Any]:
    """Draw images k of the set: `images` and the `seconds` of wall clock that they took."""
    begin = time.perf_counter()
    images = generation.draw(numbers)
    return {"images": images, "seconds": time.perf_counter() - begin}


def how(generation: DiffusionSet) -> str:
    """Name what decides on the images of a batch but sampler and steps, so that no other batch is read for it."""
    deciding = (
        generation.provenance["weights_sha256"],
        generation.provenance["parametrization"],
        generation.class_name,
        generation.guidance_scale,
        generation.amp,
        generation.seed,
        generation.snap_tolerance,
    )
    return sha256_text(json.dumps(deciding))[:12]


def table(result: dict[str, Any]) -> str:
    """Lay out the result as Markdown, with N, margin, floors and the name of the features."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in result["rows"]:
        difference = "{:.4f} [{:.4f}, {:.4f}]".format(*row["kid_difference"])
        cells = [row["sampler"], row["steps"], f"{row['seconds_per_image']:.3g}", f"{row['kid']:.4f}", difference]
        cells += [f"{row['coverage']:.3f}", f"{row['max_pearson']:.3f}", "yes" if row["non_inferior"] else "no"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    floors, best = result["floors"], result["cheapest"]
    sides = f"N = {result['num_images']} synthetic and {result['num_reals']} real images"
    few = f"; indicative, below {ENOUGH} on a side" if min(result["num_images"], result["num_reals"]) < ENOUGH else ""
    return "\n".join(
        [
            *lines,
            "",
            f"KID (lower is better) and coverage (higher is better) in {result['features']}; {sides}{few}.",
            f"Margin of the KID {result['margin']:.4f}, half the floor of two halves of the real images"
            f" ({floors['kid']:.4f}); coverage may be lower by {floors['coverage']:.3f},"
            f" max-Pearson higher by {floors['max_pearson']:.3f}, or up to that of other real images,"
            f" {result['real_max_pearson']:.3f}.",
            f"Cheapest non-inferior setting: {best['sampler']} with {best['steps']} steps,"
            f" {best['seconds_per_image']:.3g} s per image.",
        ]
    )


def figure(result: dict[str, Any]) -> Figure:
    """Draw the loss of KID against steps and against seconds per image, with intervals and the margin."""
    rows = result["rows"]
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(7.2, 3.0), layout="constrained")
        panels = drawn.subplots(1, 2, sharey=True)
        for axes, key, label in zip(
            panels, ("steps", "seconds_per_image"), ("steps", "seconds per image"), strict=True
        ):
            for color, sampler in zip(COLORS, dict.fromkeys(row["sampler"] for row in rows), strict=False):
                own = sorted((row for row in rows if row["sampler"] == sampler), key=lambda row: row["steps"])
                values, lows, highs = zip(*(row["kid_difference"] for row in own), strict=True)
                places = [row[key] for row in own]
                axes.plot(places, values, "o-", color=color, label=sampler, markersize=4, linewidth=1.3)
                axes.vlines(places, lows, highs, color=color, linewidth=1.3)
            axes.axhline(result["margin"], color="#777777", linestyle="--", linewidth=0.8)
            axes.set_xscale("log")
            axes.set_xlabel(label)
            axes.grid(alpha=0.25)
        panels[0].set_ylabel("KID - KID with all steps")
        panels[0].set_title(f"N = {result['num_images']}, {result['features']}; dashed: margin")
        panels[1].legend()
    return drawn


def configured(recipe: str | None, overrides: dict[str, Any]) -> ConfigParser:
    """Read `configs/generate.yaml` as the recipe and the overrides change it."""
    parser = ConfigParser()
    names = ("common", "generate", *([f"recipes/{recipe}"] if recipe else []))
    parser.read_config([str(CONFIGS / f"{name}.yaml") for name in names])
    parser.update(overrides)
    return parser


def real_images(patches_path: str, class_name: str | None, provenance: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Load the patches of a class, and those of them whose subjects the generator was trained on."""
    listing = read_json(patches_path)
    labels = {name: int(label) for label, name in listing["labels"].items()}
    wanted = [e for e in listing["training"] if class_name is None or e["label"] == labels[class_name]]
    images = read_rows(patches_path, listing, wanted).images
    trained_on = set(provenance["subjects"])
    return images, images[torch.tensor([hash_subject(entry["subject_id"]) in trained_on for entry in wanted])]


def classifier_of(config: ConfigParser, path: str) -> ClassifierFeatures:
    """Take the features of a classifier that was trained as the config says."""
    names = {"backbone": "classifier_backbone", "stem_stride": "classifier_stem_stride", "form": "image_form"}
    return classifier_features(path, **{name: config.get_parsed_content(key) for name, key in names.items()})


def simulated_images(config: ConfigParser, site: str, class_name: str, count: int, folder: Path) -> Tensor:
    """Simulate patients of a class whom no cohort of the phantom's default seed holds, and keep their patches."""
    size, modalities, seed = (config.get_parsed_content(key) for key in ("patch_size", "modalities", "seed"))
    if len(set(size)) > 1:
        raise ValueError(f"patch_size must be a square or a cube for simulated patients, got {size}; leave them out")
    matrix = config.get("phantom_matrix_size") or PHANTOM["phantom_matrix_size"]
    others = FURTHER_SEED + int(seed)
    made_of = sha256_text(json.dumps([size, list(matrix), modalities, others, site, class_name, count]))[:12]
    return cached(
        folder / f"simulated_{made_of}.pt",
        lambda: phantom_patches(count, others, size[0], matrix, site, class_name, len(size), modalities=modalities),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, draw, measure, and write figure, table and numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator_path", help="model.pt with provenance.json beside it")
    parser.add_argument("patches_path", help="patches.json, of the cohort that the generator was trained on")
    parser.add_argument("--class-name", help="class to draw; of a generator of one class, that class")
    parser.add_argument("--recipe", help="name of the recipe in configs/recipes/ that the generator was trained with")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="further keys of configs/generate.yaml"
    )
    parser.add_argument("--settings", nargs="+", default=SETTINGS, metavar="SAMPLER:STEPS")
    parser.add_argument("--images", type=int, default=ENOUGH, help="images of each setting")
    parser.add_argument(
        "--simulated",
        nargs=2,
        metavar=("SITE", "COUNT"),
        help="simulate further patients of the class, for a generator of patients of a site of the phantom",
    )
    parser.add_argument(
        "--classifier-path", help="model.pt of a classifier of other real images, whose features are compared"
    )
    parser.add_argument("--output-dir", type=Path, required=True)
    options = parser.parse_args(arguments)
    overrides = {key: yaml.safe_load(value) for key, _, value in (item.partition("=") for item in options.set)}
    overrides.update(
        generator_path=options.generator_path, generator_class=options.class_name, num_images=options.images
    )
    config = configured(options.recipe, overrides)
    torch.set_num_threads(config.get_parsed_content("num_threads"))
    generation = config.get_parsed_content("generation")
    noise_scheduler = config.get_parsed_content("noise_scheduler")
    reals, training = real_images(options.patches_path, options.class_name, generation.provenance)
    if options.simulated:
        site, count = options.simulated
        further = simulated_images(config, site, options.class_name, int(count), options.output_dir)
        reals = torch.cat([reals, further])
    settings = [(name, int(steps)) for name, _, steps in (item.partition(":") for item in options.settings)]
    generation.scheduler = sampling_scheduler(noise_scheduler, "ddim", 2)
    generation.draw(range(min(generation.batch_size, options.images)))  # to warm up: kernels are chosen, and compiled
    features = classifier_of(config, options.classifier_path) if options.classifier_path else None
    batches_dir = options.output_dir / "batches"
    result = run(generation, noise_scheduler, reals, training, settings, options.images, batches_dir, features)
    write_json(options.output_dir / "samplers.json", result)
    write_text(options.output_dir / "samplers.md", table(result) + "\n")
    save_picture(figure(result), options.output_dir / "samplers.png", dpi=150)
    print(table(result))


if __name__ == "__main__":
    main()
