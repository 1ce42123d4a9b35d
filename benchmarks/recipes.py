"""How to train the classifier: one change of a recipe at a time, judged on validation folds alone.

python -m benchmarks.recipes --workers 2

Every arm is one training a fold. The intervals are over subjects and know nothing of the spread between trainings: the
arm `seed_1`, the start with another seed, shows that. The winner's figures are optimistic: it was chosen by them.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bundle_stages import run_once
from scripts.evaluation.answers import Answers, group_answers
from scripts.evaluation.setups import compare_setups
from scripts.running.configs import Invocation
from scripts.running.files import write_json
from scripts.running.progress import progress
from scripts.statistics.classification_measures import brier, value_of
from scripts.statistics.intervals import balanced_accuracy
from scripts.statistics.multiclass_area import auc

REFERENCE = "start"
START = {"classifier_learning_rate": 0.0003}  # what the search started from, beside the defaults
ROLE = "out_of_fold"  # the only answers that are read: each subject by the network of the fold that held it out


@dataclass(frozen=True)
class Cohort:
    """A simulated cohort of the size of one of the paper's."""

    site: str
    num_subjects: int
    num_lgg: int


@dataclass(frozen=True)
class Arm:
    """A recipe: what differs from train_classifier.yaml."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    overlays: tuple[str, ...] = ()


ONE_CYCLE = {
    "_target_": "torch.optim.lr_scheduler.OneCycleLR",
    "optimizer": "@optimizer",
    "max_lr": "@classifier_learning_rate",
    "total_steps": "$@train#trainer#max_epochs * len(@train#dataloader) + 1",
}
SGD = {
    "_target_": "torch.optim.SGD",
    "params": "$@network.parameters()",
    "lr": "@classifier_learning_rate",
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 0.01,
}
COHORTS = {"A": Cohort("A", 335, 76), "B": Cohort("B", 224, 37)}
ARMS = {
    REFERENCE: Arm(START),
    "seed_1": Arm({**START, "seed": 1}),  # another training of the same: how large a difference means nothing
    "paper": Arm({"classifier_patience": 200}, ("recipes/paper",)),  # it has no early stopping
    "long": Arm({**START, "classifier_max_epochs": 200, "classifier_patience": 40}),  # the bundle's own length
    "rate_001": Arm({"classifier_learning_rate": 0.001}),
    "rate_003": Arm({"classifier_learning_rate": 0.003}),
    "one_cycle_001": Arm({"classifier_learning_rate": 0.001, "classifier_schedule": ONE_CYCLE}),
    "sgd": Arm({"classifier_optimizer": SGD, "classifier_learning_rate": 0.01}),
    "alpha_constant": Arm({**START, "classifier_focal_alpha_mode": "constant"}),
    "balanced_draws": Arm({**START, "classifier_focal_alpha_mode": "constant", "classifier_sampling": "balanced"}),
    "ema": Arm({**START, "classifier_ema_decay": 0.99}),
    "augmentation": Arm(START, ("options/augmentation",)),
}


@dataclass(frozen=True)
class Experiment:
    """Sizes of the experiment, the same in every arm.

    Args:
        output_dir: gets a folder for each cohort; what is finished there is not done again.
        backbone: of `scripts.classifier.networks.BACKBONES`.
        patch_size: pixels of each side; the field of view stays 96 mm.
        num_epochs: at most.
        patience: epochs without a lower Brier score of the fold's inner part before a training stops.
        num_folds: of the cross-validation.
        arm_names: names of the arms beside the reference; None for all.
        subject_share: of the paper's subjects, for a trial of the command itself.
        pretrained_path: local torchvision file of this backbone, which adds an arm; None leaves it out.
    """

    output_dir: str
    backbone: str
    patch_size: int
    num_epochs: int
    patience: int
    num_folds: int
    arm_names: Sequence[str] | None = None
    subject_share: float = 1.0
    pretrained_path: str | None = None

    @property
    def arms(self) -> dict[str, Arm]:
        """The chosen arms, one more where there are pretrained weights."""
        pretrained = {"pretrained": Arm({**START, "classifier_pretrained_path": self.pretrained_path})}
        arms = {**ARMS, **(pretrained if self.pretrained_path else {})}
        return {
            name: arm for name, arm in arms.items() if self.arm_names is None or name in (REFERENCE, *self.arm_names)
        }

    def folder(self, cohort: str) -> Path:
        """Folder of a cohort."""
        return Path(self.output_dir) / cohort

    def prepare(self, name: str) -> None:
        """Simulate a cohort, cut its patches and split its subjects."""
        folder, cohort = self.folder(name), COHORTS[name]
        self.stage(
            "phantom",
            output_dir=folder / "cohort",
            phantom_site=cohort.site,
            phantom_num_subjects=round(cohort.num_subjects * self.subject_share),
            phantom_lgg_fraction=cohort.num_lgg / cohort.num_subjects,
            phantom_matrix_size=[round(size * self.patch_size / 96) for size in (240, 240, 155)],
        )
        self.stage("patches", output_dir=folder / "patches", cohort_path=folder / "cohort" / "cohort.json")
        self.stage("splits", output_dir=folder / "splits", cohort_path=folder / "cohort" / "cohort.json")

    def train(self, cohort: str, arm: str, fold: int) -> None:
        """Train the classifier of one fold in one way."""
        length = {"classifier_max_epochs": self.num_epochs, "classifier_patience": self.patience}
        self.stage(
            "train_classifier",
            self.arms[arm].overlays,
            output_dir=self.classifier(cohort, arm, fold).parent,
            fold=fold,
            setup=arm,
            **{**self.data(cohort), **length, **self.arms[arm].overrides},
        )

    def evaluate(self, cohort: str, arm: str) -> list[dict[str, str]]:
        """Return the rows of `predictions.csv` that belong to validation folds."""
        output_dir = self.folder(cohort) / arm / "evaluation"
        members = [str(self.classifier(cohort, arm, fold)) for fold in range(self.num_folds)]
        self.stage("evaluate", output_dir=output_dir, member_paths=members, setup=arm, **self.data(cohort))
        with (output_dir / "predictions.csv").open(encoding="utf-8", newline="") as stream:
            return [row for row in csv.DictReader(stream) if row["role"] == ROLE]

    def classifier(self, cohort: str, arm: str, fold: int) -> Path:
        """Weights of one training."""
        return self.folder(cohort) / arm / f"fold{fold}" / "model.pt"

    def data(self, cohort: str) -> dict[str, Any]:
        """Patches and splits of a cohort."""
        return {f"{name}_path": self.folder(cohort) / name / f"{name}.json" for name in ("patches", "splits")}

    def stage(self, config: str, overlays: Sequence[str] = (), **overrides: Any) -> None:
        """Run one stage of the bundle, unless it is finished with these settings."""
        sizes = {
            "num_threads": 1,
            "num_folds": self.num_folds,
            "patch_size": [self.patch_size] * 2,
            "patch_spacing_mm": 96 / self.patch_size,
            "classifier_backbone": self.backbone,
            "classifier_stem_stride": 1 if self.patch_size <= 48 else 2,
        }
        files = tuple(f"configs/{name}.yaml" for name in ("common", config, *overlays))
        known = Invocation(files).files_merged().get()
        run_once(files, {**{key: size for key, size in sizes.items() if key in known}, **overrides})


def run(experiment: Experiment, cohorts: Sequence[str], workers: int) -> list[dict[str, str]]:
    """Train every arm on every fold of every cohort, and return the answers of the validation folds."""
    tasks = [
        (cohort, arm, fold) for cohort in cohorts for arm in experiment.arms for fold in range(experiment.num_folds)
    ]
    if workers == 1:
        for cohort in cohorts:
            experiment.prepare(cohort)
        for task in progress(tasks, len(tasks), "classifiers"):
            experiment.train(*task)
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            list(progress(pool.map(experiment.prepare, cohorts), len(cohorts), "cohorts"))
            futures = [pool.submit(experiment.train, *task) for task in tasks]
            for future in progress(as_completed(futures), len(futures), "classifiers"):
                future.result()
    return [row for cohort in cohorts for arm in experiment.arms for row in experiment.evaluate(cohort, arm)]


def table(groups: Sequence[Answers], comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Write a row an arm and cohort: measures with intervals, and the paired difference of AUC to the start."""
    lines = [
        "| cohort | recipe | AUC | balanced accuracy | Brier | AUC less the start's | p, Holm |",
        "|---|---|---|---|---|---|---|",
    ]
    gains = {(row["direction"], row["setup"]): row for row in comparisons if row["measure"] == "auc"}
    for answers in groups:
        area = auc(answers.labels, answers.probabilities, answers.folds)
        balanced = balanced_accuracy(answers.labels.tolist(), answers.predictions.tolist(), len(answers.classes))
        score = value_of(brier, answers.labels, answers.probabilities)
        row = gains.get((answers.direction, answers.setup))
        gain = "|" if row is None else f"{words(row['value'], row['low'], row['high'])} | {row['p_holm']:.3f}"
        lines.append(
            f"| {answers.direction} (n = {answers.n}) | {answers.setup} | {words(*area[:3])} |"
            f" {words(*balanced[:3])} | {score:.3f} | {gain} |"
        )
    return "\n".join(lines)


def words(value: float | None, low: float | None, high: float | None) -> str:
    """Write a value with its interval."""
    if value is None or low is None or high is None:
        return "not known" if value is None else f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.add_argument("--output", default="runs/recipes", help="folder of the outputs; finished parts are kept")
    parser.add_argument("--cohorts", nargs="+", default=list(COHORTS), choices=list(COHORTS))
    parser.add_argument(
        "--arms", nargs="+", default=None, help=f"some of {', '.join(ARMS)}, beside {REFERENCE}; else all"
    )
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--patch-size", type=int, default=48, help="pixels over 96 mm; the bundle's own is 96")
    parser.add_argument("--epochs", type=int, default=60, help="at most; the bundle's own is 200")
    parser.add_argument("--patience", type=int, default=20, help="epochs; the bundle's own is 40")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--subjects", type=float, default=1.0, help="share of the paper's subjects, in (0, 1]")
    parser.add_argument("--pretrained", default=None, help="local torchvision file of the backbone: one more arm")
    parser.add_argument("--workers", type=int, default=1, help="classifiers at once, a process each")
    options = parser.parse_args(arguments)
    sizes = options.backbone, options.patch_size, options.epochs, options.patience, options.folds
    experiment = Experiment(options.output, *sizes, options.arms, options.subjects, options.pretrained)
    groups = group_answers(run(experiment, options.cohorts, options.workers))
    comparisons, _ = compare_setups(groups, REFERENCE)
    write_json(Path(options.output) / "recipes.json", comparisons)
    print(table(groups, comparisons))


if __name__ == "__main__":
    main()
