"""Where a study left the weights that are packed, and what it says about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from bundle.pins import ROOT
from scripts.classifier.training_distance import FILE_NAME as DISTANCE
from scripts.inference.training_distance import distance_beside
from scripts.provenance.record import read_provenance
from scripts.provenance.study_files import StudyFiles
from scripts.provenance.task import Task
from scripts.running.configs import load_files, parser_of
from scripts.running.files import read_json
from scripts.running.setups import setup_of
from scripts.splits.parts import is_split_by_image

WORDS = re.compile(r"task(_\w+)?")  # keys of the words
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
        files = StudyFiles(study_dir)
        evaluations = files.finished("evaluation", setup=setup)
        if not evaluations:
            known = sorted({str(record.place["setup"]) for record in files.finished("evaluation")})
            raise FileNotFoundError(
                f"{root} must hold a finished evaluation of setup {setup}, got {', '.join(known) or 'none'}; give"
                " --setup one of these, or finish the study first"
            )
        cohorts = {str(record.cohort) for record in evaluations if record.cohort is not None}
        cohort_name = _choose("cohort", cohort, cohorts, f"{root} with a finished evaluation of setup {setup}")
        generators = files.finished("generator", cohort=cohort_name, fold=fold)
        methods = {str(record.place["method"]) for record in generators}
        wanted = method or (setup_of(setup) if setup_of(setup) in methods else None)
        where = f"{root} with a finished generator of cohort {cohort_name} and fold {fold}"
        trained = cls(root, cohort_name, setup, _choose("method", wanted, methods, where), fold)
        _refuse_other_answers(trained.metrics, trained.evaluation_dir)
        return trained

    @property
    def evaluation_dir(self) -> Path:
        """Folder of the ensemble and of its figures."""
        return self._folders("evaluation", setup=self.setup)[0]

    @property
    def classifier_dir(self) -> Path:
        """Folder of the training of one member."""
        return self._folders("classifier", setup=self.setup, fold=self.fold)[0]

    @property
    def patches_dir(self) -> Path:
        """Folder of the patches trained on."""
        return self._folders("patches")[0]

    @property
    def splits_dir(self) -> Path | None:
        """Folder of the splits; None where the study has lost them."""
        return next(iter(self._folders("splits", needed=False)), None)

    @cached_property
    def generators(self) -> dict[str, Path]:
        """Class, or `ALL_CLASSES` -> folder of the generator."""
        folders = self._folders("generator", fold=self.fold, method=self.method)
        return {read_json(folder / "provenance.json")["class_name"] or ALL_CLASSES: folder for folder in folders}

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """Record of the ensemble."""
        return read_provenance(self.evaluation_dir / "model.pt")

    @cached_property
    def distance_path(self) -> Path | None:
        """File by which answers say how far a patch is from the training images; None where there is none of them."""
        distance = distance_beside(self.evaluation_dir / "model.pt")
        is_theirs = distance is not None and distance.weights_sha256 == self.provenance["weights_sha256"]
        return self.evaluation_dir / DISTANCE if is_theirs else None

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """Figures of the ensemble, as the evaluation wrote them."""
        return read_json(self.evaluation_dir / "metrics.json")

    @cached_property
    def task(self) -> Task:
        """Words of the study: those of its report, which can be written anew, else those of the evaluation."""
        report = self.study_dir / "report" / "config.yaml"
        run = run_config(report.parent if report.is_file() else self.evaluation_dir)
        written = load_files([str(ROOT / "configs" / "common.yaml")])
        # Studies of before there were such words have those of the defaults.
        words = {key: value for key, value in {**written, **run}.items() if WORDS.fullmatch(key)}
        task: Task = parser_of(words).get_parsed_content("task")
        return task

    @property
    def is_split_by_image(self) -> bool:
        """Whether nobody recorded which images of the cohort are of one patient."""
        folders = self._folders("splits", needed=False)
        return any(is_split_by_image(read_json(folder / "splits.json")) for folder in folders)

    @property
    def num_members(self) -> int:
        """Networks in the ensemble."""
        return len(self.provenance["members"])

    @property
    def synthetic_dir(self) -> Path:
        """Folder of a synthetic set of these generators, whose sampler is that of the study."""
        sets = self._folders("synthetic", fold=self.fold, method=self.method, needed=False)
        return sets[0] if sets else self.generator_dir

    @property
    def generator_dir(self) -> Path:
        """Folder of the first generator."""
        return next(iter(self.generators.values()))

    @cached_property
    def _files(self) -> StudyFiles:
        return StudyFiles(str(self.study_dir))

    def _folders(self, kind: str, needed: bool = True, **place: Any) -> list[Path]:
        folders = self._files.folders_of(kind, cohort=self.cohort, **place)
        if needed and not folders:
            names = ", ".join(f"{name} {value}" for name, value in {"cohort": self.cohort, **place}.items())
            raise FileNotFoundError(f"{self.study_dir} must hold a {kind} of {names}, got none; finish the study first")
        return folders


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


def _choose(name: str, wanted: str | None, names: set[str], where: str) -> str:
    if not names:
        raise FileNotFoundError(f"there must be a {name} in {where}, got none; finish the study first")
    if wanted is None and len(names) == 1:
        return next(iter(names))
    if wanted not in names:
        raise ValueError(f"{name} must be one of {', '.join(sorted(names))}, got {wanted!r}; give --{name}")
    return wanted
