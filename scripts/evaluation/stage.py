"""What the classifiers of the folds say about subjects that none of them has seen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import EnsembleEvaluator
from monai.transforms import Activationsd, CastToTyped, Compose, MeanEnsembled

from scripts.classifier.datasets import LabeledImages, even_batches, ordered_batches
from scripts.classifier.networks import FoldEnsemble, assemble
from scripts.evaluation.calibration import fit_temperature
from scripts.evaluation.ensembles import Tempered, average_weights, check_ensemble, combine
from scripts.provenance.identities import refuse_shared_subjects, refuse_two_names
from scripts.provenance.leakage import refuse_leakage, seen_subjects
from scripts.provenance.record import (
    image_facts,
    read_provenance,
    recorded_images,
    require_same_images,
    write_provenance,
)
from scripts.running.files import atomic_path, read_json, write_csv, write_json
from scripts.splits.draw import load_part, load_splits, part_subjects
from scripts.statistics.classification_measures import brier, expected_calibration_error, value_of
from scripts.statistics.intervals import Estimate, accuracy, auc, balanced_accuracy, sensitivities, weighted_f1

logger = logging.getLogger(__name__)

ENSEMBLE = -1  # in the column `fold`
Items = list[dict[str, Any]]


@dataclass(frozen=True)
class Member:
    """The classifier of one fold: its weights and what stands behind them."""

    path: str
    state_dict: Mapping[str, torch.Tensor]
    provenance: Mapping[str, Any]

    @classmethod
    def load(cls, path: str) -> Member:
        """Read `model.pt` and the `provenance.json` beside it."""
        provenance = read_provenance(path)
        return cls(path, torch.load(path, map_location="cpu", weights_only=True), provenance)

    @property
    def fold(self) -> int:
        """Number of the fold."""
        return int(self.provenance["fold"])


@dataclass(frozen=True)
class HeldOut:
    """Images to predict: in which role, from which cohort, and by which networks (`fold` -1 is the ensemble)."""

    role: str
    cohort: str
    fold: int
    networks: list[torch.nn.Module]
    items: Items


class Predictor:
    """Probabilities of the mean softmax of some networks, through MONAI's `EnsembleEvaluator`, in fp32.

    Args:
        num_channels: channels of the images.
        spatial_dims: 2 or 3.
        batch_size: images at once.
        device: where the networks are.
    """

    def __init__(
        self, num_channels: int, spatial_dims: int = 2, batch_size: int = 64, device: torch.device | str = "cpu"
    ) -> None:
        self.num_channels, self.spatial_dims = num_channels, spatial_dims
        self.batch_size, self.device = batch_size, torch.device(device)

    def __call__(self, networks: Sequence[torch.nn.Module], items: Items) -> np.ndarray:
        """Predict images.

        Args:
            networks: classifiers whose probabilities are averaged.
            items: `image` (path) and `label` of each.

        Returns:
            Probabilities, shape (N, K), float64, in the order of the items.
        """
        keys = [f"pred_{index}" for index in range(len(networks))]
        dataset = LabeledImages(items, self.num_channels, self.spatial_dims, self.device)
        evaluator = EnsembleEvaluator(
            device=self.device,
            val_data_loader=ordered_batches(dataset, self.batch_size),
            networks=networks,
            pred_keys=keys,
            postprocessing=_mean_softmax(keys),
        )
        predictions: list[np.ndarray] = []

        @evaluator.on(Events.ITERATION_COMPLETED)
        def collect(engine: Engine) -> None:
            predictions.extend(item["mean"].cpu().numpy() for item in engine.state.output)

        evaluator.run()
        return np.stack(predictions)


class Evaluation:
    """Out-of-fold, locked-test and external predictions of the classifiers of one cohort and setup.

    Args:
        member_paths: `model.pt` of each fold, trained by `train_classifier.yaml` on this cohort with this setup.
        patches_path: `patches.json` of the cohort trained on.
        splits_path: its `splits.json`.
        external_patches_paths: `patches.json` of cohorts to test on; their subjects without grade are left out.
        setup: name of the setup.
        classes: class name -> label.
        network: `FoldEnsemble` with one member a path, on the device of the predictor.
        predictor: turns networks and items into probabilities.
        output_dir: gets `predictions.csv`, `metrics.json`, the ensemble's `model.pt` and `provenance.json`. `model.pt`
            answers with the mean probability; `weight_average` also leaves its network, with one member, in the folder
            of that name.
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
        self.splits = load_splits(splits_path)
        check_ensemble(ensemble, temperature_scaling, self.splits.get("selection", "inner"))
        self.ensemble, self.temperature_scaling = ensemble, temperature_scaling
        self.temperatures: dict[int, float] = {}
        self.members = [Member.load(path) for path in member_paths]
        self.patches_path, self.splits_path = patches_path, splits_path
        self.external_patches_paths = list(external_patches_paths)
        self.setup, self.classes = setup, dict(classes)
        self.network, self.predictor = network, predictor
        self.output_dir = Path(output_dir)
        self.patches = read_json(patches_path)
        self.left_out: dict[str, list[str]] = {}
        self._check_members()
        self.images = image_facts(self.patches, patches_path)
        self._check_images()
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
        self._refuse_two_names()
        tests = [*self.fold_tests(), *self.locked_tests(), *self.external_tests()]
        if self.temperature_scaling:
            self.temperatures = {member.fold: self._temperature(index) for index, member in enumerate(self.members)}
        rows = [row for test in tests for row in self.rows_of(test)]
        if not rows:
            raise ValueError(
                f"{self.splits_path} must hold out a subject, got no validation and no test part; split again"
            )
        rows.sort(key=lambda row: (row["role"], row["cohort"], row["subject_id"], row["fold"]))
        write_csv(self.output_dir / "predictions.csv", rows, list(rows[0]))
        write_json(self.output_dir / "metrics.json", self.metrics(rows))
        self._write_ensemble()

    def fold_tests(self) -> list[HeldOut]:
        """Each fold's validation part, for that fold's classifier alone."""
        selects = self.splits.get("selection", "inner") == "validation"
        role = "validation_selected_on" if selects else "out_of_fold"
        tests = []
        for index, member in enumerate(self.members):
            if part_subjects(self.splits, member.fold, "validation"):
                items = self._items("validation", member.fold)
                self._refuse_seen([member], items, f"validation of fold {member.fold}", with_selection=not selects)
                tests.append(HeldOut(role, self.direction, member.fold, [self.network.members[index]], items))
        return tests

    def locked_tests(self) -> list[HeldOut]:
        """The cohort's test part, for the ensemble; none if the splits have none."""
        if not self.splits["test"]:
            return []
        items = self._items("test", None)
        self._refuse_seen(self.members, items, "the locked test part")
        return [HeldOut("locked_test", self.direction, ENSEMBLE, list(self.network.members), items)]

    def external_tests(self) -> list[HeldOut]:
        """Every graded subject of each other cohort, for the ensemble."""
        tests = []
        for path in self.external_patches_paths:
            cohort = str(read_json(path)["name"])
            items = self._graded(cohort, load_part(path, None, None, "all"))
            self._refuse_seen(self.members, items, f"the external cohort {cohort}")
            if items:
                tests.append(HeldOut("external", cohort, ENSEMBLE, list(self.network.members), items))
        return tests

    def rows_of(self, test: HeldOut) -> list[dict[str, Any]]:
        """Predict one test: one row a subject."""
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
            "left_out": self.left_out,
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
        named = {item["image"]: item for member in self.members for item in self._items("train", member.fold)}
        predictor = self.predictor
        images = LabeledImages(list(named.values()), predictor.num_channels, predictor.spatial_dims, predictor.device)
        batches = (batch["image"] for batch in even_batches(images, predictor.batch_size))
        return average_weights(list(self.network.members), batches)

    def _temperature(self, index: int) -> float:
        fold = self.members[index].fold
        items = self._items("inner", fold)
        probabilities = self.predictor([self.network.members[index]], items)
        labels = np.array([item["label"] for item in items])
        num_subjects = len({item["subject_id"] for item in items})
        return fit_temperature(probabilities, labels, num_subjects, f"inner part of fold {fold}")

    def _scaling(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Brier score and calibration error before and after temperature scaling; nothing without it."""
        if not self.temperature_scaling:
            return {}
        names = sorted(self.classes, key=self.classes.__getitem__)
        labels = np.array([int(row["label"]) for row in rows])
        kinds = {"before_scaling": "unscaled", "after_scaling": "probability"}
        tables = {
            key: np.array([[row[f"{kind}_{name}"] for name in names] for row in rows]) for key, kind in kinds.items()
        }
        measures = {"brier": brier, "ece": expected_calibration_error}
        return {
            key: {name: value_of(measure, labels, table) for name, measure in measures.items()}
            for key, table in tables.items()
        }

    def _items(self, part: str, fold: int | None) -> Items:
        return load_part(self.patches_path, self.splits_path, fold, part, self.classes, require_labels=True)

    def _graded(self, cohort: str, items: Items) -> Items:
        ungraded = sorted({item["subject_id"] for item in items if item["label"] is None})
        if ungraded:
            logger.warning("left out of the external test on %s for want of a grade: %s", cohort, ", ".join(ungraded))
            self.left_out[cohort] = ungraded
        return [item for item in items if item["label"] is not None]

    def _refuse_seen(self, members: Sequence[Member], items: Items, use: str, with_selection: bool = True) -> None:
        for member in members:
            seen = seen_subjects(member.provenance, member.path, with_selection)
            refuse_leakage(seen, [item["subject_id"] for item in items], member.path, use)

    def _refuse_two_names(self) -> None:
        for member in self.members:
            refuse_two_names(self.patches_path, self.splits_path, member.fold)
        for path in self.external_patches_paths:
            refuse_shared_subjects(self.patches_path, path)

    def _write_ensemble(self) -> None:
        weights = self.network.state_dict()
        self._write_weights(self.output_dir / "model.pt", weights)
        if self.ensemble == "weight_average":
            named = {f"members.0.{name}": value for name, value in self.averaged.state_dict().items()}
            self._write_weights(
                self.output_dir / "weight_average" / "model.pt", {**named, "stem_stride": weights["stem_stride"]}
            )

    def _write_weights(self, path: Path, weights: Mapping[str, torch.Tensor]) -> None:
        with atomic_path(path) as temporary:
            torch.save({name: value.cpu() for name, value in weights.items()}, temporary)
        records = [member.provenance for member in self.members]
        write_provenance(
            path,
            cohorts=[name for record in records for name in record["cohorts"]],
            subjects=[],
            hashed_subjects=set().union(*(record["subjects"] for record in records)),
            selection_subjects=sorted(set().union(*(record.get("selection_subjects", ()) for record in records))),
            simulated=any(record["simulated"] for record in records),
            fold=None,
            synthetic=[weights for record in records for weights in record["synthetic"]],
            setup=self.setup,
            images=self.images,
            members=[record["weights_sha256"] for record in records],
        )

    def _check_members(self) -> None:
        folds = [member.fold for member in self.members]
        if not folds or len(set(folds)) != len(folds):
            raise ValueError(f"member_paths must be of one classifier a fold, got folds {folds}; give each fold once")
        for member in self.members:
            setup, cohorts = member.provenance.get("setup"), member.provenance["cohorts"]
            if setup != self.setup or self.direction not in cohorts:
                raise ValueError(
                    f"{member.path} must be of setup {self.setup!r} and cohort {self.direction!r},"
                    f" got {setup!r} and {cohorts}; give the classifiers that were trained on {self.patches_path}"
                )

    def _check_images(self) -> None:
        for member in self.members:
            trained_on = recorded_images(member.provenance, member.path)
            require_same_images(self.images, trained_on, member.path, self.patches_path)
        for path in self.external_patches_paths:
            require_same_images(self.images, image_facts(read_json(path), path), path, self.patches_path)


def _mean_softmax(keys: Sequence[str]) -> Compose:
    # In float64 the logit of a sure answer survives softmax. MONAI's ensemble transforms take a single key for a stack
    # of predictions and would average over the classes, so that one network is listed twice.
    averaged = [*keys, *keys] if len(keys) == 1 else keys
    return Compose(
        [
            CastToTyped(keys, dtype=torch.float64),
            Activationsd(keys, softmax=True),
            MeanEnsembled(averaged, output_key="mean"),
        ]
    )


def average_by_subject(items: Items, probabilities: np.ndarray) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Average the probabilities of the patches of each subject.

    Args:
        items: `subject_id` of each patch.
        probabilities: shape (N, K).

    Returns:
        First item and mean probabilities (K,) of each subject, in order of appearance.
    """
    positions: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        positions.setdefault(item["subject_id"], []).append(index)
    return [(items[found[0]], probabilities[found].mean(axis=0)) for found in positions.values()]


def summarize(rows: Sequence[Mapping[str, Any]], classes: Mapping[str, int]) -> dict[str, Any]:
    """Compute the measures of some rows of `predictions.csv`, each with its interval where one is known.

    Args:
        rows: one a subject.
        classes: class name -> label.
    """
    names = sorted(classes, key=classes.__getitem__)
    labels = [int(row["label"]) for row in rows]
    probabilities = np.array([[row[f"probability_{name}"] for name in names] for row in rows])
    predictions = probabilities.argmax(axis=1).tolist()
    measures: dict[str, Estimate] = {
        "balanced_accuracy": balanced_accuracy(labels, predictions, len(names)),
        "auc": auc(labels, probabilities),
        "accuracy": accuracy(labels, predictions),
        "weighted_f1": weighted_f1(labels, predictions),
    }
    per_class = sensitivities(labels, predictions, len(names))
    return {
        "n": len(rows),
        "n_by_class": {name: labels.count(index) for index, name in enumerate(names)},
        **{name: estimate._asdict() for name, estimate in measures.items()},
        "sensitivity": {name: estimate._asdict() for name, estimate in zip(names, per_class, strict=True)},
    }


def _subject_columns(item: Mapping[str, Any], fold: int) -> dict[str, Any]:
    return {
        "subject_id": item["subject_id"],
        "site": item["site"],
        "label": item["label"],
        "fold": fold,
        "lesion_volume_ml": None if item["lesion_volume_ml"] is None else float(item["lesion_volume_ml"]),
    }


def _answer_columns(probabilities: np.ndarray, classes: Mapping[str, int]) -> dict[str, float]:
    # The log of a mean probability is what FoldEnsemble returns as its logit; for one network it differs from the raw
    # logit by a constant, which no difference of logits sees.
    names = sorted(classes, key=classes.__getitem__)
    logits = {f"logit_{name}": float(np.log(probabilities[index])) for index, name in enumerate(names)}
    return {**logits, **{f"probability_{name}": float(probabilities[index]) for index, name in enumerate(names)}}
