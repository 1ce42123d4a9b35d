"""Where a study left the weights that are packed, and what it says about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from scripts.provenance.record import read_provenance
from scripts.running.files import read_json

ALL_CLASSES = "all"  # folder of a generator that draws every class


@dataclass(frozen=True)
class Trained:
    """Weights of one cohort and setup: the ensemble of the folds, and the generators of one fold.

    Args:
        study_dir: folder of a finished study.
        cohort: cohort trained on, as the study calls its folder.
        setup: setup of the classifiers.
        method: method of the generators.
        fold: fold of the generators.
    """

    study_dir: Path
    cohort: str
    setup: str
    method: str
    fold: int = 0

    @classmethod
    def find(
        cls, study_dir: str, setup: str, cohort: str | None = None, method: str | None = None, fold: int = 0
    ) -> Trained:
        """Find the weights in the folder of a study.

        Args:
            study_dir: folder of the study.
            setup: setup of the classifiers.
            cohort: cohort trained on; None where the study has one.
            method: method of the generators; None takes that of the setup, or the only one of the study.
            fold: fold of the generators.

        Raises:
            FileNotFoundError: if the study has no finished evaluation or generator of these names.
            ValueError: if there are several to choose from, or the evaluation's figures are not of its `model.pt`.
        """
        root = Path(study_dir)
        if not root.is_dir():
            raise FileNotFoundError(f"{root} does not exist; run `make demo` or `make study`, which write one")
        cohorts = {path.parent.parent.name for path in root.glob(f"*/evaluation_{setup}/metrics.json")}
        cohort_name = _choose("cohort", cohort, cohorts, f"{root} with a finished evaluation_{setup}")
        generators = (root / cohort_name / f"fold{fold}").glob("generator_*/provenance.json")
        methods = {str(read_json(path)["method"]) for path in generators}
        wanted = method or (setup if setup in methods else None)
        method_name = _choose(
            "method", wanted, methods, f"{root / cohort_name / f'fold{fold}'} with a finished generator"
        )
        trained = cls(root, cohort_name, setup, method_name, fold)
        _refuse_other_answers(trained.metrics, trained.evaluation_dir)
        return trained

    @property
    def evaluation_dir(self) -> Path:
        """Folder of the ensemble and of its figures."""
        return self.study_dir / self.cohort / f"evaluation_{self.setup}"

    @property
    def fold_dir(self) -> Path:
        """Folder of the generators' fold."""
        return self.study_dir / self.cohort / f"fold{self.fold}"

    @property
    def classifier_dir(self) -> Path:
        """Folder of the training of one member."""
        return self.fold_dir / f"classifier_{self.setup}"

    @property
    def patches_dir(self) -> Path:
        """Folder of the patches trained on."""
        return self.study_dir / self.cohort / "patches"

    @cached_property
    def generators(self) -> dict[str, Path]:
        """Class, or `ALL_CLASSES` -> folder of the generator."""
        folders = sorted(self.fold_dir.glob(f"generator_*_{self.method}"))
        records = {folder: read_json(folder / "provenance.json") for folder in folders}
        own = {folder: record for folder, record in records.items() if record["method"] == self.method}
        return {record["class_name"] or ALL_CLASSES: folder for folder, record in own.items()}

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """Record of the ensemble."""
        return read_provenance(self.evaluation_dir / "model.pt")

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """Figures of the ensemble, as the evaluation wrote them."""
        return read_json(self.evaluation_dir / "metrics.json")

    @property
    def num_members(self) -> int:
        """Networks in the ensemble."""
        return len(self.provenance["members"])

    @property
    def synthetic_dir(self) -> Path:
        """Folder of a synthetic set of these generators, whose sampler is that of the study."""
        return next(iter(sorted(self.fold_dir.glob(f"synthetic_*_{self.method}"))), self.generator_dir)

    @property
    def generator_dir(self) -> Path:
        """Folder of the first generator."""
        return next(iter(self.generators.values()))


def run_config(folder: Path) -> dict[str, Any]:
    """Read the merged config of a stage.

    Raises:
        FileNotFoundError: if the folder holds no finished stage.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; finish the study, which writes it beside every output")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _refuse_other_answers(metrics: Mapping[str, Any], folder: Path) -> None:
    said = metrics.get("ensemble", "mean_probability") + (" with temperatures" if "temperatures" in metrics else "")
    if said != "mean_probability":
        raise ValueError(
            f"{folder / 'metrics.json'} must be of the mean probability, with which model.pt answers, got {said};"
            " evaluate again without --ensemble and --temperature_scaling"
        )


def _choose(name: str, wanted: str | None, found: set[str], where: str) -> str:
    if not found:
        raise FileNotFoundError(f"{name} must be a folder of {where}, got none; finish the study first")
    if wanted is None and len(found) == 1:
        return next(iter(found))
    if wanted not in found:
        raise ValueError(f"{name} must be one of {', '.join(sorted(found))}, got {wanted!r}; give --{name}")
    return wanted
