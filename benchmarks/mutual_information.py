"""What mutual information does: copies, quality and end use of many ways to train, for many patients and for a dozen.

    python -m benchmarks.mutual_information --workers 2

Every seed has training patients of its own (site A), so intervals over seeds are over generators and subjects. All
generators of a cohort are trained for the same process time of one thread, cost of the regularizer included. Images are
audited against subjects that no arm saw, judged in the features of a classifier of other patients, and used: a
classifier of grade learns from real and synthetic images and is tested on both sites. Finished parts lie in
`--output_dir` and are not done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.networks.nets import resnet10
from torch import Tensor

from benchmarks.generator_recipes import (
    DEFAULT,
    FLIPS,
    GRADES,
    MATRIX,
    SMOOTH,
    Judge,
    Patients,
    Recipe,
    cached,
    draw,
    file_name,
    fit_classifier,
    mean_and_interval,
    train,
)
from benchmarks.phantom_patches import phantom_patches
from benchmarks.planted_copies import real_images
from scripts.generator.controls import CONTROLS
from scripts.generator.parametrization import noise_scheduler, training_target
from scripts.memorization.audit import MemorizationAudit
from scripts.memorization.verdict import MEMORIZES
from scripts.patches.background import snap_background
from scripts.patches.pictures import save_picture
from scripts.running.files import read_json, write_json
from scripts.running.process import flush_subnormals
from scripts.running.progress import progress
from scripts.statistics.roc_area import placements

SIZE = 32
FIRST_SEED = 3000  # of the cohorts; no other benchmark has them
REFERENCE = "plain"
NUM_CANDIDATES = 16  # images of each class that the audit looks at before a training is stopped


@dataclass(frozen=True)
class Cohort:
    """Training patients of a seed, and how long a generator of them is trained.

    Args:
        counts: patients of each grade, LGG first.
        seconds: process time of one thread.
        arms: of `ARMS`, that are trained; all control generators are drawn besides.
    """

    counts: tuple[int, int]
    seconds: float
    arms: tuple[str, ...]


@dataclass(frozen=True)
class Arm:
    """A way to train.

    Args:
        recipe: of `benchmarks.generator_recipes`.
        stopped_by: what chooses among the weights of twelve moments: "loss" the lowest denoising loss of a fifth of
            the patients, who are kept out of the training; "audit" the last before the audit says *memorizes*, of the
            same fifth held out; None keeps those of the end.
    """

    recipe: Recipe
    stopped_by: str | None = None


PAPER = Recipe("epsilon", SMOOTH, conditional=False, changes=None)
# Mirrored alone: changing the images is an arm of its own, against which the term is measured.
PLAIN = dataclasses.replace(DEFAULT, changes=FLIPS)
ARMS = {
    REFERENCE: Arm(PLAIN),
    "MI .1": Arm(dataclasses.replace(PLAIN, mi_weight=0.1)),
    "MI .3": Arm(dataclasses.replace(PLAIN, mi_weight=0.3)),
    "MI .6": Arm(dataclasses.replace(PLAIN, mi_weight=0.6)),
    "MI .3, high noise": Arm(dataclasses.replace(PLAIN, mi_weight=0.3, mi_timestep_weighting="high_noise")),
    "stopped by loss": Arm(PLAIN, "loss"),
    "stopped by audit": Arm(PLAIN, "audit"),
    "augmented": Arm(DEFAULT),
    "augmented, MI .1": Arm(dataclasses.replace(DEFAULT, mi_weight=0.1)),
    "paper: plain": Arm(PAPER),
    "paper: MI .1": Arm(dataclasses.replace(PAPER, mi_weight=0.1)),
    "paper: MI .1, bounded": Arm(dataclasses.replace(PAPER, mi_weight=0.1, mi_timestep_weighting="min_snr")),
}
COHORTS = {
    "dozen": Cohort((5, 7), 60.0, tuple(ARMS)),
    # Nothing is copied of many in this time, so only the cost of the term is asked.
    "many": Cohort(
        (19, 29), 30.0, (REFERENCE, "MI .3", "stopped by loss", "augmented", "paper: plain", "paper: MI .1")
    ),
}


# -- training ---------------------------------------------------------------------------------------------------------


def training_patients(cohort: Cohort, seed: int) -> Patients:
    """Simulate the training patients of a seed; a smaller cohort is the beginning of a larger one."""
    images = [
        phantom_patches(count, FIRST_SEED + seed, SIZE, MATRIX[SIZE], "A", grade)
        for count, grade in zip(cohort.counts, GRADES, strict=True)
    ]
    return Patients(torch.cat(images), torch.arange(2).repeat_interleave(torch.tensor(cohort.counts)))


def split_inner(patients: Patients) -> tuple[Patients, Patients]:
    """Part a fifth of each class, at least one patient, from the rest."""
    is_inner = torch.zeros(len(patients.labels), dtype=torch.bool)
    for label in patients.labels.unique():
        own = (patients.labels == label).nonzero()[:, 0]
        is_inner[own[: max(1, len(own) // 5)]] = True
    rest, inner = (Patients(patients.images[chosen], patients.labels[chosen]) for chosen in (~is_inner, is_inner))
    return rest, inner


def make_set(arm: Arm, patients: Patients, seconds: float, seed: int, count: int) -> tuple[Tensor, list[int]]:
    """Train an arm and draw `count` images of each class; returns them and the steps of each training."""
    rest, inner = split_inner(patients) if arm.stopped_by else (patients, None)
    conditional = arm.recipe.conditional
    images, steps = [], []
    for label in (0, 1):
        if label == 0 or not conditional:
            part = rest if conditional else Patients(rest.of(label), rest.labels[rest.labels == label])
            time = seconds if conditional else seconds / 2
            choice = None if inner is None else Choice(arm, part, inner, seed)
            network, number = train(arm.recipe, part.images, part.labels, time, seed, choice)
            if choice is not None:
                network.load_state_dict(choice.weights)
            steps.append(number)
        images.append(draw(arm.recipe, network, label, count, patients.images.shape[1:], seed))
    return torch.cat(images), steps


class Choice:
    """Looks at a network while it is trained and keeps the weights that the arm wants.

    Args:
        arm: with `stopped_by`.
        training: patients of the training.
        inner: patients that are kept out of it.
        seed: of the noise and of the images looked at.
    """

    def __init__(self, arm: Arm, training: Patients, inner: Patients, seed: int) -> None:
        self.arm, self.training, self.inner, self.seed = arm, training, inner, seed
        self.lowest_loss, self.stopped = float("inf"), False
        self.weights: dict[str, Tensor] = {}

    def __call__(self, network: torch.nn.Module) -> None:
        """Keep the weights if they are the best so far."""
        if self.arm.stopped_by == "loss":
            loss = self._loss(network)
            better, self.lowest_loss = loss < self.lowest_loss, min(loss, self.lowest_loss)
        else:
            self.stopped = self.stopped or (bool(self.weights) and self._memorizes(network))
            better = not self.stopped
        if better:
            self.weights = {name: value.clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def _loss(self, network: torch.nn.Module) -> float:
        """Denoising loss of the inner patients, of 16 fixed draws of time and noise each."""
        generator = torch.Generator().manual_seed(self.seed)
        scheduler = noise_scheduler(self.arm.recipe.parametrization)
        labels = self.inner.labels if self.arm.recipe.conditional else None
        losses = []
        for _ in range(16):
            times = torch.randint(scheduler.num_train_timesteps, (len(self.inner.images),), generator=generator)
            noise = torch.randn(self.inner.images.shape, generator=generator)
            noisy = scheduler.add_noise(self.inner.images, noise, times)
            target = training_target(scheduler, self.inner.images, noise, times)
            losses.append(torch.nn.functional.mse_loss(network(noisy, times, labels), target))
        return float(torch.stack(losses).mean())

    def _memorizes(self, network: torch.nn.Module) -> bool:
        for label in (0, 1):
            images = draw(self.arm.recipe, network, label, NUM_CANDIDATES, self.inner.images.shape[1:], self.seed)
            training, held_out = (part.of(label) for part in (self.training, self.inner))
            if audited(images, training, held_out)["verdict"] == MEMORIZES:
                return True
        return False


# -- measuring --------------------------------------------------------------------------------------------------------


def audited(images: Tensor, training: Tensor, held_out: Tensor) -> dict[str, Any]:
    """The audit of the images of one class, at the default settings but for the number of exchanges."""
    audit = MemorizationAudit(num_permutations=199)
    return audit(images, real_images(training, "training "), real_images(held_out, "held out "))


def audit_of_set(synthetic: Patients, training: Patients, held_out: Patients) -> dict[str, Any]:
    """Audit both classes: verdicts, percentage of copies, and the excess of images nearest to a training subject."""
    results = {
        grade: audited(*(part.of(label) for part in (synthetic, training, held_out)))
        for label, grade in enumerate(GRADES)
    }
    excess = []
    for result in results.values():
        rows = [row["aligned"] for row in result["images"]]
        share = np.mean([row["training"]["value"] > row["held_out"]["value"] for row in rows])
        chance = result["num_training_subjects"] / (result["num_training_subjects"] + result["num_held_out_subjects"])
        excess.append((share - chance) / (1 - chance))
    return {
        "verdicts": {grade: result["verdict"] for grade, result in results.items()},
        "copies": 100 * sum(result["copies"]["number"] for result in results.values()) / len(synthetic.images),
        "excess": float(np.mean(excess)),
        "max_pearson": float(
            np.mean([result["measures"]["pearson"]["synthetic_to_training"]["mean"] for result in results.values()])
        ),
    }


def scores_of_end_use(
    judge: Judge, training: Patients, synthetic: Patients | None, seed: int, num_steps: int
) -> dict[str, list[float]]:
    """Log-odds of HGG of the test patients by a classifier of the training patients and a synthetic set."""
    images, labels = training.images, training.labels
    if synthetic is not None:
        images, labels = torch.cat([images, synthetic.images]), torch.cat([labels, synthetic.labels])
    torch.manual_seed(seed)
    network = resnet10(spatial_dims=2, n_input_channels=4, num_classes=2)
    fit_classifier(network, images, labels, num_steps, seed)
    with torch.no_grad():
        logits = {part: network(judge.patients[part].images) for part in ("test_a", "test_b")}
    return {part: [round(float(value), 5) for value in values[:, 1] - values[:, 0]] for part, values in logits.items()}


# -- the experiment ---------------------------------------------------------------------------------------------------


class Experiment:
    """All arms and control generators of both cohorts, seed by seed.

    Args:
        folder: of the outputs; what is there is not done again.
        num_images: synthetic images of each class.
        num_steps: of the classifiers of the end use.
        scale: factor on every process time.
    """

    def __init__(self, folder: Path, num_images: int = 64, num_steps: int = 200, scale: float = 1.0) -> None:
        self.folder, self.num_images, self.num_steps, self.scale = folder, num_images, num_steps, scale
        self.judge = Judge(SIZE, folder)

    def run(self, seed: int, cohort: str, arms: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Do what is missing of a seed and cohort; `arms` None for the cohort's and the control generators."""
        torch.set_num_threads(1)
        flush_subnormals()  # as every stage does
        names = ["real", *([*CONTROLS, *COHORTS[cohort].arms] if arms is None else arms)]
        return [self.row(seed, cohort, name) for name in progress(names, len(names), f"seed {seed}, {cohort}")]

    def row(self, seed: int, cohort: str, arm: str) -> dict[str, Any]:
        """The figures of one arm."""
        path = self.folder / cohort / f"{file_name(arm)}_{seed}.json"
        if not path.is_file():
            write_json(path, {"seed": seed, "cohort": cohort, "arm": arm, **self._measure(seed, cohort, arm)})
        return dict(read_json(path))

    def _measure(self, seed: int, cohort: str, arm: str) -> dict[str, Any]:
        stored = self.folder / cohort / f"training_{seed}.pt"
        training = Patients(**cached(stored, lambda: dataclasses.asdict(training_patients(COHORTS[cohort], seed))))
        if arm == "real":
            return {"scores": scores_of_end_use(self.judge, training, None, seed, self.num_steps)}
        path = self.folder / cohort / f"{file_name(arm)}_{seed}_set.pt"
        content = cached(path, lambda: self._set(training, cohort, arm, seed))
        synthetic = Patients(content["images"], content["labels"])
        return {
            "steps": content["steps"],
            **self.judge.measures(synthetic.images, synthetic.labels),
            **audit_of_set(synthetic, training, self.judge.patients["floor"]),
            "scores": scores_of_end_use(self.judge, training, synthetic, seed, self.num_steps),
        }

    def _set(self, training: Patients, cohort: str, arm: str, seed: int) -> dict[str, Any]:
        steps: list[int] = []
        if arm in CONTROLS:
            generator = torch.Generator().manual_seed(seed)
            drawn = [CONTROLS[arm](training.of(label))(self.num_images, generator) for label in (0, 1)]
            images = snap_background(torch.cat(drawn))
        else:
            images, steps = make_set(ARMS[arm], training, self.scale * COHORTS[cohort].seconds, seed, self.num_images)
        return {"images": images, "labels": torch.arange(2).repeat_interleave(self.num_images), "steps": steps}


# -- the table --------------------------------------------------------------------------------------------------------


def auc_gain(
    rows: Mapping[int, Mapping[str, Any]],
    real: Mapping[int, Mapping[str, Any]],
    labels: np.ndarray,
    part: str,
    num_draws: int = 500,
) -> tuple[float, float, float]:
    """Mean gain of AUC over real images alone, with the 95 % interval over seeds and test patients.

    The interval is that of the percentile bootstrap which draws seeds and, within each class, test patients anew
    (crossed: the same patients are tested in every seed; Owen 2007, "The pigeonhole bootstrap").

    Args:
        rows: seed -> row of an arm, with `scores`.
        real: the same of real images alone.
        labels: of the test patients.
        part: "test_a" or "test_b".
        num_draws: of the bootstrap.
    """
    seeds = sorted(rows)
    with_synthetic, alone = (np.array([table[seed]["scores"][part] for seed in seeds]) for table in (rows, real))
    generator = np.random.default_rng(0)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]

    def gains(patients: np.ndarray) -> np.ndarray:
        own = labels[patients] == 1
        return np.array(
            [
                placements(own, first[patients])[0].mean() - placements(own, second[patients])[0].mean()
                for first, second in zip(with_synthetic, alone, strict=True)
            ]
        )

    draws = []
    for _ in range(num_draws):
        patients = np.concatenate([generator.choice(own, len(own)) for own in classes])
        draws.append(generator.choice(gains(patients), len(seeds)).mean())
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(gains(np.arange(len(labels))).mean()), float(low), float(high)


# Name of a figure -> its title, decimals, and the least and greatest value that it can have.
FIGURES = {
    "copies": ("copies, %", 0, (0, 100)),
    "excess": ("nearest is a training patient, beyond chance", 2, (-np.inf, 1)),
    "max_pearson": ("max-Pearson", 2, (-1, 1)),
    "kernel_distance": ("kernel distance", 2, (-np.inf, np.inf)),
    "coverage": ("coverage", 2, (0, 1)),
    "label_auc": ("label AUC", 2, (0, 1)),
}


def table(rows: Sequence[Mapping[str, Any]], judge: Judge) -> str:
    """Markdown table of a cohort: every arm's figures with intervals over seeds, paired gains of AUC on both sites."""
    by_arm = _by_arm(rows)
    real = by_arm.pop("real")
    titles = [title for title, _, _ in FIGURES.values()]
    columns = ["", "steps", "memorizes", *titles, "gain of AUC, same site", "other site"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    labels = _labels(judge)
    alone = [f"AUC {_cell(_clipped([_auc(row, labels, part) for row in real.values()], (0, 1)), 3)}" for part in labels]
    lines.append(f"| real images alone |{' |' * (len(columns) - 3)} {' | '.join(alone)} |")
    for arm, own in by_arm.items():
        verdicts = [verdict for row in own.values() for verdict in row["verdicts"].values()]
        steps = int(np.mean([sum(row["steps"]) for row in own.values()]))
        cells = [arm, str(steps or ""), f"{verdicts.count(MEMORIZES)} of {len(verdicts)}"]
        for name, (_, digits, bounds) in FIGURES.items():
            cells.append(_cell(_clipped([row[name] for row in own.values()], bounds), digits))
        cells += [_cell(auc_gain(own, real, labels[part], part), 3, "+") for part in ("test_a", "test_b")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def differences(rows: Sequence[Mapping[str, Any]], judge: Judge) -> str:
    """Markdown table of a cohort: what every arm has more than `REFERENCE`, paired by seed; empty without that arm.

    Intervals are Student's over seeds, and of AUC those of `auc_gain`; none is corrected for their number.
    """
    by_arm = _by_arm(rows)
    plain, labels = by_arm.get(REFERENCE), _labels(judge)
    if plain is None:
        return ""
    titles = [title for title, _, _ in FIGURES.values()]
    columns = [f"less {REFERENCE}", *titles, "AUC, same site", "other site"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for arm, own in by_arm.items():
        if arm in ("real", REFERENCE):
            continue
        paired = {seed: row for seed, row in plain.items() if seed in own}
        cells = [arm]
        for name, (_, digits, _) in FIGURES.items():
            cells.append(
                _cell(mean_and_interval([own[seed][name] - paired[seed][name] for seed in paired]), digits, "+")
            )
        cells += [
            _cell(auc_gain({seed: own[seed] for seed in paired}, paired, labels[part], part), 3, "+") for part in labels
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_arm(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, Mapping[str, Any]]]:
    by_arm: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        by_arm.setdefault(row["arm"], {})[row["seed"]] = row
    return by_arm


def _labels(judge: Judge) -> dict[str, np.ndarray]:
    return {part: judge.patients[part].labels.numpy() for part in ("test_a", "test_b")}


def _auc(row: Mapping[str, Any], labels: Mapping[str, np.ndarray], part: str) -> float:
    return float(placements(labels[part] == 1, np.array(row["scores"][part]))[0].mean())


def _clipped(values: Sequence[float], bounds: tuple[float, float]) -> tuple[float, float, float]:
    """Mean and interval over seeds, of which Student's t knows no bounds."""
    mean, low, high = mean_and_interval(values)
    return mean, max(low, bounds[0]), min(high, bounds[1])


def _cell(values: tuple[float, float, float], digits: int, sign: str = "") -> str:
    mean, low, high = (format(value, f"{sign}.{digits}f") for value in values)
    return mean if low == high else f"{mean} ({low} to {high})"


def frontier(rows: Sequence[Mapping[str, Any]], path: str) -> None:
    """Draw copies against quality, a panel for each cohort, a point for each arm: mean over seeds."""
    cohorts = list(dict.fromkeys(row["cohort"] for row in rows))
    figure = Figure(figsize=(5.2 * len(cohorts), 4.2), layout="constrained")
    panels = figure.subplots(1, len(cohorts), squeeze=False)[0]
    for axes, cohort in zip(panels, cohorts, strict=True):
        own = [row for row in rows if row["cohort"] == cohort and row["arm"] != "real"]
        for arm in dict.fromkeys(row["arm"] for row in own):
            values = {
                name: np.mean([row[name] for row in own if row["arm"] == arm]) for name in ("excess", "kernel_distance")
            }
            kind = "s" if arm in CONTROLS else "^" if "MI" in arm else "o"
            color = "#777777" if arm in CONTROLS else "#b5452c" if "MI" in arm else "#1f6f8b"
            axes.plot(values["kernel_distance"], values["excess"], kind, color=color, markersize=6)
            axes.annotate(
                arm, (values["kernel_distance"], values["excess"]), (4, 3), textcoords="offset points", fontsize=7
            )
        axes.set_title(f"{cohort}: {sum(COHORTS[cohort].counts)} training patients", fontsize=9)
        axes.set_xlabel("kernel distance to other patients (better to the left)", fontsize=8)
        axes.axhline(0, color="#bbbbbb", linewidth=1)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("nearest is a training patient, beyond chance\n(1: always; better below)", fontsize=8)
    save_picture(figure, path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, print the tables and draw the figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutual_information", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--cohorts", nargs="+", default=list(COHORTS), choices=list(COHORTS))
    parser.add_argument("--arms", nargs="+", choices=[*CONTROLS, *ARMS], metavar="ARM", help="the cohort's by default")
    parser.add_argument("--images", type=int, default=64, help="synthetic images of each class")
    parser.add_argument("--steps", type=int, default=200, help="of the classifiers of the end use")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the process time of every generator")
    parser.add_argument("--workers", type=int, default=1, help="seeds at once, a process each")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/mutual_information"))
    parser.add_argument("--figure", help="PNG of copies against quality")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    experiment = Experiment(options.output_dir, options.images, options.steps, options.scale)
    run = partial(experiment.run, arms=options.arms)
    # Seed by seed, so that a stopped experiment compares all arms on fewer seeds.
    parts = zip(*((seed, cohort) for seed in options.seeds for cohort in options.cohorts), strict=True)
    if options.workers == 1:
        rows = [row for own in map(run, *parts) for row in own]
    else:
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
            rows = [row for own in pool.map(run, *parts) for row in own]
    for cohort in options.cohorts:
        own = [row for row in rows if row["cohort"] == cohort]
        print(f"\n{cohort}\n\n{table(own, experiment.judge)}\n\n{differences(own, experiment.judge)}")
    if options.figure:
        frontier(rows, options.figure)


if __name__ == "__main__":
    main()
