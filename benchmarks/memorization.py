"""What mutual information does to memorization: few training subjects, several seeds, every arm trained alike.

python -m benchmarks.memorization --workers 2
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import t

from benchmarks.bundle_stages import run_once
from scripts.patches.pictures import save_picture
from scripts.running.files import read_json
from scripts.running.progress import progress

REFERENCE = "ddpm"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Arm:
    """A way to train: overlays of train_generator, and the part that the best weights are chosen on.

    Chosen on the training images themselves, the weights are those of the end, when memorization has set in.
    """

    overlays: tuple[str, ...] = ()
    selection: str = "train"
    method: str = "ddpm"


# What the bounded weighting is made for; with velocity or flow the term is bounded by itself.
PAPERS_PARAMETRIZATION = {
    "generator_parametrization": "epsilon",
    "generator_condition": None,
    "generator_gaussian_rank": 0,
}
ARMS = {
    REFERENCE: Arm(),
    "ddpm_mi": Arm(("options/mutual_information",), method="ddpm_mi"),
    "ddpm_mi_bounded": Arm(("options/mutual_information", "options/mutual_information_bounded"), method="ddpm_mi"),
    "ddpm_early": Arm(selection="inner"),
}
TITLES = {REFERENCE: "DDPM", "ddpm_mi": "MI,\npaper", "ddpm_mi_bounded": "MI,\nbounded", "ddpm_early": "DDPM,\nstopped"}
FIGURES = {
    "copies": "copies, % of the images",
    "gap": "nearness to training less held-out subjects",
    "auth_pct": "AuthPct",
    "max_pearson": "max-Pearson with training images",
    "held_out_pearson": "the same of real held-out images",
    "kd": "kernel distance (KD) in the classifier's features",
    "precision": "precision",
    "coverage": "coverage",
}


@dataclass(frozen=True)
class Experiment:
    """Sizes of the experiment.

    Args:
        output_dir: gets a folder a seed.
        num_subjects: simulated subjects of a seed; half are held out, seven of twenty train.
        num_epochs: of 1600 images, for every generator.
        num_images: synthetic images.
        class_name: the one that is drawn.
        recipe: config file that makes networks and patches small.
    """

    output_dir: str
    num_subjects: int
    num_epochs: int
    num_images: int
    class_name: str = "HGG"
    recipe: str = "configs/recipes/quick.yaml"

    def run(self, seed: int) -> dict[str, dict[str, float]]:
        """Train and audit every arm of a seed; what is finished is not done again.

        Returns:
            Arm -> figure -> value.
        """
        data = self.prepare(seed)
        return {name: self.run_arm(seed, name, data) for name in progress(list(ARMS), description=f"seed {seed}")}

    def prepare(self, seed: int) -> dict[str, Any]:
        """Make cohort, patches, splits and the classifier in whose features images are compared."""
        folder = self.folder(seed)
        cohort: dict[str, Any] = {"cohort_path": folder / "cohort" / "cohort.json"}
        subjects: dict[str, Any] = {"phantom_num_subjects": self.num_subjects, "phantom_site": "A"}
        self.stage("phantom", seed, output_dir=folder / "cohort", **subjects)
        self.stage("patches", seed, output_dir=folder / "patches", **cohort)
        splits: dict[str, Any] = {"test_fraction": 0.5, "num_folds": 5}
        self.stage("splits", seed, output_dir=folder / "splits", **cohort, **splits)
        data = {name: str(folder / name / f"{name}.json") for name in ("patches", "splits")}
        paths = {f"{name}_path": path for name, path in data.items()}
        self.stage(
            "train_classifier",
            seed,
            output_dir=folder / "classifier",
            fold=0,
            synthetic_paths=[],
            **paths,
        )
        return paths

    def run_arm(self, seed: int, name: str, data: Mapping[str, Any]) -> dict[str, float]:
        """Train the generator of an arm, draw with it, audit and measure the images."""
        folder, arm = self.folder(seed) / name, ARMS[name]
        own: dict[str, Any] = {"generator_class": self.class_name, "fold": 0, **PAPERS_PARAMETRIZATION, **data}
        self.stage(
            "train_generator",
            seed,
            arm.overlays,
            output_dir=folder / "generator",
            generator_selection=arm.selection,
            generator_max_epochs=self.num_epochs,
            generator_epoch_images=1600,
            generator_learning_rate=0.003,
            generator_ema_decay=0.995,
            **own,
        )
        synthetic, audit, measures = (folder / kind for kind in ("synthetic", "audit", "measures"))
        self.stage(
            "generate",
            seed,
            output_dir=synthetic,
            generator_path=folder / "generator" / "model.pt",
            num_images=self.num_images,
            sampler="ddim",
            num_inference_steps=50,
            **own,
        )
        # Judged against subjects that no arm saw, neither for training nor for selection.
        listing: dict[str, Any] = {"synthetic_path": synthetic / "synthetic.json", "splits_path": data["splits_path"]}
        self.stage("audit", seed, output_dir=audit, held_out_part="test", patches_path=data["patches_path"], **listing)
        real: dict[str, Any] = {"real_path": data["patches_path"], "measure_real_parts": ["test"], "fold": 0}
        classifier = self.folder(seed) / "classifier" / "model.pt"
        self.stage("measure_images", seed, output_dir=measures, classifier_path=classifier, **real, **listing)
        contents = [read_json(path) for path in (audit / "audit.json", measures / "measures.json")]
        return collect(contents[0], contents[1], self.class_name)

    def folder(self, seed: int) -> Path:
        """Folder of a seed."""
        return Path(self.output_dir) / f"seed{seed}"

    def stage(self, config: str, seed: int, overlays: Sequence[str] = (), **overrides: Any) -> None:
        """Run one stage of the bundle, unless it is finished with these settings."""
        names = ("common", config, *overlays)
        files = (*(f"configs/{name}.yaml" for name in names), self.recipe)
        run_once(files, {"seed": seed, "num_threads": 1, **overrides})


def collect(audit: Mapping[str, Any], measures: Mapping[str, Any], class_name: str) -> dict[str, float]:
    """Pick the figures of one class.

    Raises:
        ValueError: if there are too few images for one of them.
    """
    audited = audit["classes"][class_name]
    measured = {row["measure"]: row for row in measures["classes"][class_name]["measures"]}
    for row in measured.values():
        if row["value"] is None:
            raise ValueError(f"--subjects and --images must be enough for every measure, got: {row['reason']}")
    rows = {name: row["value"] for name, row in measured.items()}
    pearson, aligned = (audited["measures"][name] for name in ("pearson", "aligned"))
    return {
        "copies": 100 * audited["copies"]["number"] / audited["num_synthetic"],
        "gap": aligned["train_minus_held_out"]["mean"],
        "auth_pct": aligned["auth_pct"],
        "max_pearson": pearson["synthetic_to_training"]["mean"],
        "held_out_pearson": pearson["held_out_to_training"]["mean"],
        "kd": rows["KD"],
        "precision": rows["precision"],
        "coverage": rows["coverage"],
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval by Student's t; infinite for one value."""
    count = len(values)
    half = (
        float(t.ppf((1 + CONFIDENCE) / 2, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
        if count > 1
        else math.inf
    )
    return float(np.mean(values)), half


def table(results: Mapping[int, Mapping[str, Mapping[str, float]]]) -> str:
    """Write arms as columns and figures as rows: mean over seeds, and the paired difference to plain DDPM."""
    lines = ["| mean over seeds | " + " | ".join(ARMS) + " |", "|---" * (len(ARMS) + 1) + "|"]
    for key, words in FIGURES.items():
        values = {arm: np.array([result[arm][key] for result in results.values()]) for arm in ARMS}
        cells = [f"{values[REFERENCE].mean():.3f}"]
        for arm in [name for name in ARMS if name != REFERENCE]:
            mean, half = interval(values[arm] - values[REFERENCE])
            cells.append(f"{values[arm].mean():.3f} ({mean:+.3f} ± {half:.3f})")
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(results: Mapping[int, Mapping[str, Mapping[str, float]]], path: str) -> None:
    """Draw gap, max-Pearson and kernel distance of every arm, a dot per seed; a dashed line is real held-out images."""
    panels = {
        "gap": "nearness to training\nless held-out subjects",
        "max_pearson": "max-Pearson",
        "kd": "kernel distance",
    }
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    for axes, (key, words) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for result in results.values():
            axes.plot(range(len(ARMS)), [result[arm][key] for arm in ARMS], "o", color="#1f6f8b", alpha=0.7)
        if key == "max_pearson":
            held_out = np.mean([result[REFERENCE]["held_out_pearson"] for result in results.values()])
            axes.axhline(float(held_out), color="#777777", linestyle="--", linewidth=1)
        if key == "gap":
            axes.axhline(0, color="#777777", linewidth=1)
        axes.set_xticks(range(len(ARMS)), [TITLES[arm] for arm in ARMS], fontsize=8)
        axes.set_title(words, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    save_picture(figure, path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memorization", description=__doc__)
    parser.add_argument("--output", default="runs/memorization", help="folder of the outputs; finished parts are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--subjects",
        type=int,
        default=60,
        help="simulated subjects per seed; seven of twenty train, three fifths of them HGG",
    )
    parser.add_argument("--epochs", type=int, default=12, help="of 1600 images")
    parser.add_argument("--images", type=int, default=100, help="synthetic images an arm")
    parser.add_argument("--recipe", default="configs/recipes/quick.yaml")
    parser.add_argument("--workers", type=int, default=1, help="seeds at once, a process each")
    parser.add_argument("--figure", default=None, help="PNG that gets a dot per seed")
    options = parser.parse_args(arguments)
    experiment = Experiment(options.output, options.subjects, options.epochs, options.images, recipe=options.recipe)
    if options.workers == 1:
        outcomes = [experiment.run(seed) for seed in options.seeds]
    else:
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
            outcomes = list(pool.map(experiment.run, options.seeds))
    results = dict(zip(options.seeds, outcomes, strict=True))
    print(json.dumps(results, indent=1))
    print(table(results))
    if options.figure is not None:
        draw(results, options.figure)


if __name__ == "__main__":
    main()
