"""The stage that asks what the classifiers of the folds say about subjects that none of them has seen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.classifier.datasets import even_batches
from scripts.classifier.networks import FoldEnsemble, assemble
from scripts.classifier.training_distance import FILE_NAME, Features, TrainingDistance, write_training_distance
from scripts.evaluation.ensembles import Tempered, average_weights, check_ensemble, combine
from scripts.evaluation.held_out import ENSEMBLE, HeldOut, HeldOutTests
from scripts.evaluation.members import Member, refuse_other_members, write_ensemble
from scripts.evaluation.metrics import answers_of, summarize
from scripts.evaluation.predictor import Predictor, average_by_subject
from scripts.patches.tensors import LabeledImages
from scripts.provenance.image_form import image_facts, names_by_label, recorded_images, require_same_images
from scripts.running.files import sha256_file, write_csv, write_json
from scripts.splits.lists import read_list
from scripts.splits.patients import patient_of
from scripts.statistics.calibration import fit_temperature
from scripts.statistics.classification_measures import brier, expected_calibration_error, value_of

logger = logging.getLogger(__name__)


class Evaluation:
    """Out-of-fold, locked-test and external predictions of the classifiers of one cohort and setup.

    Args:
        member_paths: `model.pt` of each fold, trained by `train_classifier.yaml` on this cohort with this setup.
        patches_path: `patches.json` of the cohort trained on.
        splits_path: its `splits.json`.
        external_patches_paths: `patches.json` of cohorts to test on; their subjects without grade are left out.
        setup: name of the setup.
        classes: class name -> label.
        network: `FoldEnsemble` with one member per path, on the device of the predictor.
        predictor: turns networks and items into probabilities.
        output_dir: gets `predictions.csv`, `inner_predictions.csv` (each fold's inner part by its own network, on which
            a threshold can be chosen), `metrics.json`, the ensemble's `model.pt` and `provenance.json`, and
            `training_distance.json`, where there is what `training_distance` needs. `model.pt` answers with the mean
            probability; `weight_average` also leaves its network, with one member, in the folder of that name.
        ensemble: how the networks of the folds answer together, one of `scripts.evaluation.ensembles.ENSEMBLES`.
        temperature_scaling: divide the logits of each fold's network by a temperature fitted on its inner part;
            `metrics.json` then holds the temperatures, and the probabilities before are columns `unscaled_<class>`.

    Raises:
        ValueError: if the members are not of this cohort, of this setup and each of another fold, if members or
            external patches are of images that are made otherwise than the patches, or if `check_ensemble` refuses.
    """

    def __init__(
        self,
        member_paths: Sequence[str],
        patches_path: str,
        splits_path: str,
        external_patches_paths: Sequence[str],
        setup: str,
        classes: Mapping[str, int],
        network: FoldEnsemble,
        predictor: Predictor,
        output_dir: str,
        ensemble: str = "mean_probability",
        temperature_scaling: bool = False,
    ) -> None:
        self.ensemble, self.temperature_scaling = ensemble, temperature_scaling
        self.temperatures: dict[int, float] = {}
        self.setup, self.classes = setup, dict(classes)
        self.network, self.predictor = network, predictor
        self.output_dir = Path(output_dir)
        self.members = [Member.load(path) for path in member_paths]
        self.tests = HeldOutTests(
            self.members, network.members, patches_path, splits_path, list(external_patches_paths), self.classes
        )
        check_ensemble(ensemble, temperature_scaling, self.tests.splits.get("selection", "inner"))
        self.patches = read_list(patches_path, "patches")
        refuse_other_members(self.members, setup, self.direction, patches_path)
        self.images = image_facts(self.patches, patches_path)
        self._refuse_other_images()
        self.network.load_state_dict(assemble([member.state_dict for member in self.members]))

    @property
    def direction(self) -> str:
        """Name of the cohort trained on."""
        return str(self.patches["name"])

    def run(self) -> None:
        """Check every test for leakage, predict, then write predictions, metrics and the ensemble.

        Raises:
            LeakageError: if a network has seen a subject that it is to be tested on, or a person is in two parts or in
                two cohorts under two names.
        """
        tests = self.tests.all()
        if self.temperature_scaling:
            self.temperatures = {member.fold: self._temperature(index) for index, member in enumerate(self.members)}
        rows = [row for test in tests for row in self.rows_of(test)]
        if not rows:
            raise ValueError(
                f"{self.tests.splits_path} must hold out a subject, got no validation and no test part; split again"
            )
        rows.sort(key=lambda row: (row["role"], row["cohort"], row["subject_id"], row["fold"]))
        write_csv(self.output_dir / "predictions.csv", rows, list(rows[0]))
        inner = [row for test in self.tests.inner_tests() for row in self.rows_of(test)]
        write_csv(self.output_dir / "inner_predictions.csv", inner, list(rows[0]))
        write_json(self.output_dir / "metrics.json", self.metrics(rows))
        self._write_ensemble()
        distance = self.training_distance()
        if distance is not None:
            write_training_distance(self.output_dir / FILE_NAME, distance)

    def training_distance(self) -> TrainingDistance | None:
        """Fit how far images are from those that the members were trained on, by the validation part of each fold.

        Returns:
            None, with a line in the log, for members trained on no real images, or on images of other sites, too; and
            where no fold has a validation part, or a network gives all images the same features.
        """
        features = self.features_of_folds()
        try:
            return features and TrainingDistance.fit(sha256_file(self.output_dir / "model.pt"), *features)
        except ValueError as error:
            logger.warning("no %s: %s", FILE_NAME, error)
            return None

    def features_of_folds(self) -> tuple[list[Features], list[Features]] | None:
        """Let each member read the real images of its own fold, as `TrainingDistance.fit` takes them.

        Returns:
            Of each member the features of the training images, and of the validation part; None, with a line in the
            log, for members trained on no real images, or on images of other sites, too.
        """
        training = [self.tests.items("train", member.fold) for member in self.members]
        for member, items in zip(self.members, training, strict=True):
            # Other trainings than that of a fold on these patches record no such counts.
            if sum(member.provenance.get("num_real_images", {}).values()) != len(items):
                logger.info("no %s: %s was trained on other images than its fold's real ones", FILE_NAME, member.path)
                return None
        held_out = {test.fold: test.items for test in self.tests.fold_tests()}
        of_folds = [held_out.get(member.fold, []) for member in self.members]
        networks = self.network.members

        def read(parts: Sequence[list[dict[str, Any]]]) -> list[Features]:
            return [self.predictor.features(network, items) for network, items in zip(networks, parts, strict=True)]

        return read(training), read(of_folds)

    def rows_of(self, test: HeldOut) -> list[dict[str, Any]]:
        """Predict one test: one row per subject."""
        probabilities = self.predictor(self._answering(test), test.items)
        fixed = {"direction": self.direction, "setup": self.setup, "role": test.role, "cohort": test.cohort}
        rows = [
            {**fixed, **_subject_columns(first, test.fold), **_answer_columns(mean, self.classes)}
            for first, mean in average_by_subject(test.items, probabilities)
        ]
        if self.temperature_scaling:
            before = self.predictor(self._answering(test, scaled=False), test.items)
            for row, (_, mean) in zip(rows, average_by_subject(test.items, before), strict=True):
                row.update({f"unscaled_{name}": float(mean[label]) for name, label in self.classes.items()})
        return rows

    def metrics(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Summarize rows by role and cohort, as `metrics.json` holds it."""
        groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for row in rows:
            groups.setdefault((row["role"], row["cohort"]), []).append(row)
        return {
            "direction": self.direction,
            "setup": self.setup,
            "simulated": bool(self.patches["simulated"]),
            "classes": self.classes,
            "left_out": self.tests.left_out,
            "ensemble": self.ensemble,
            **({"temperatures": self.temperatures} if self.temperature_scaling else {}),
            "roles": [
                {"role": role, "cohort": cohort, **summarize(members, self.classes), **self._scaling(members)}
                for (role, cohort), members in groups.items()
            ],
        }

    def _answering(self, test: HeldOut, scaled: bool = True) -> list[torch.nn.Module]:
        """Return the networks whose mean probability is the answer of a test."""
        networks = list(test.networks)
        if self.temperature_scaling and scaled:
            folds = {network: member.fold for network, member in zip(self.network.members, self.members, strict=True)}
            networks = [Tempered(network, self.temperatures[folds[network]]).eval() for network in networks]
        if test.fold != ENSEMBLE:
            return networks
        return [self.averaged] if self.ensemble == "weight_average" else combine(networks, self.ensemble)

    @cached_property
    def averaged(self) -> torch.nn.Module:
        """The network of the mean weights, its BatchNorm taken again on every image that a member was trained on."""
        rows = {item["image"]: item for member in self.members for item in self.tests.items("train", member.fold)}
        predictor = self.predictor
        images = LabeledImages(list(rows.values()), predictor.form, predictor.device)
        batches = (batch["image"] for batch in even_batches(images, predictor.batch_size))
        return average_weights(list(self.network.members), batches)

    def _temperature(self, index: int) -> float:
        fold = self.members[index].fold
        items = self.tests.items("inner", fold)
        probabilities = self.predictor([self.network.members[index]], items)
        labels = np.array([item["label"] for item in items])
        num_subjects = len({item["subject_id"] for item in items})
        return fit_temperature(probabilities, labels, num_subjects, f"inner part of fold {fold}")

    def _scaling(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Brier score and calibration error before and after temperature scaling; nothing without it."""
        if not self.temperature_scaling:
            return {}
        answers = answers_of(rows, self.classes)
        tables = {"before_scaling": answers.table("unscaled"), "after_scaling": answers.probabilities}
        measures = {"brier": brier, "ece": expected_calibration_error}
        return {
            key: {name: value_of(measure, answers.labels, table) for name, measure in measures.items()}
            for key, table in tables.items()
        }

    def _write_ensemble(self) -> None:
        weights = self.network.state_dict()
        write_ensemble(self.output_dir / "model.pt", weights, self.members, self.setup, self.images)
        if self.ensemble == "weight_average":
            state = {f"members.0.{name}": value for name, value in self.averaged.state_dict().items()}
            averaged = {**state, "stem_stride": weights["stem_stride"]}
            path = self.output_dir / "weight_average" / "model.pt"
            write_ensemble(path, averaged, self.members, self.setup, self.images)

    def _refuse_other_images(self) -> None:
        for member in self.members:
            trained_on = recorded_images(member.provenance, member.path)
            require_same_images(self.images, trained_on, member.path, self.tests.patches_path)
        for path in self.tests.external_patches_paths:
            require_same_images(
                self.images, image_facts(read_list(path, "patches"), path), path, self.tests.patches_path
            )


def _subject_columns(item: Mapping[str, Any], fold: int) -> dict[str, Any]:
    return {
        "subject_id": item["subject_id"],
        "patient_id": patient_of(item),
        "site": item["site"],
        "label": item["label"],
        "fold": fold,
        "lesion_volume_ml": None if item["lesion_volume_ml"] is None else float(item["lesion_volume_ml"]),
    }


def _answer_columns(probabilities: np.ndarray, classes: Mapping[str, int]) -> dict[str, float]:
    # The log of a mean probability is what FoldEnsemble returns as its logit; for one network it differs from the raw
    # logit by a constant, which no difference of logits sees.
    names = names_by_label(classes)
    logits = {f"logit_{name}": float(np.log(probabilities[index])) for index, name in enumerate(names)}
    return {**logits, **{f"probability_{name}": float(probabilities[index]) for index, name in enumerate(names)}}
