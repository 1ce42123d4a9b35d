"""Training on cases that were labeled in MONAI Label, with the config that trains on the folds of a cohort.

MONAI Label puts a list of files where the config has a dataset, `train#dataset#data`, and expects the weights that it
serves to be the trained ones afterwards. A label is a mask of one value, class index + 1, over what the patch shows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.transforms import Compose
from torch import nn
from torch.utils.data import Dataset

from scripts.classifier.datasets import ClassifierData
from scripts.patches.tensors import LabeledImages, NamedDataset
from scripts.provenance.image_form import recorded_images, require_same_images
from scripts.provenance.record import hash_subjects, read_provenance, write_provenance
from scripts.provenance.served_weights import replace_weights
from scripts.provenance.state_dicts import load_state
from scripts.running.folders import (
    begin_journal,
    drop_partial_files,
    empty_folder,
    lock,
    make_folder,
    read_record,
    release_lock,
)
from scripts.running.stages import Stage
from scripts.volumes.file_names import stem_of
from scripts.volumes.nifti import write_image
from scripts.volumes.reading import mask_codes_in, read_mask

COHORT = "labeled in MONAI Label"
Cases = Sequence[Mapping[str, str]]


class FoldData:
    """`ClassifierData` that is made when it is first asked: labeled cases belong to no fold, and need no files of one.

    Args:
        arguments: of `ClassifierData`.
    """

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments

    @cached_property
    def _made(self) -> ClassifierData:
        return ClassifierData(**self._arguments)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._made, name)


class TrainingImages(NamedDataset):
    """What a classifier trains on or is selected on: the images of a fold, or the patches of labeled cases.

    Args:
        data: dataset of a fold; or, put there by MONAI Label, a list of {"image": path, "label": path of the mask}.
        fold_data: where the dataset of a fold comes from.
        answers: `inference.json`, whose transforms cut the patches, so that training sees what answers see.
        device: where the images lie.
        augmentation: random transforms.
        otherwise: images to take where the list is empty, as the validation part of one or two cases is.

    Raises:
        ValueError: if nothing is labeled, or a label is not a mask of one class.
    """

    def __init__(
        self,
        data: Dataset | Cases,
        fold_data: FoldData,
        answers: str,
        device: torch.device | str = "cpu",
        augmentation: Compose | None = None,
        otherwise: TrainingImages | None = None,
    ) -> None:
        self.fold_data = fold_data
        self.cases: list[Mapping[str, str]] | None = None
        self.images: dict[str, Any] = {}
        if not isinstance(data, list):
            super().__init__(data)  # type: ignore[arg-type]
            return
        if not data and otherwise is not None:
            self.cases, self.images = otherwise.cases, otherwise.images
            super().__init__(otherwise.data)
            return
        if not data:
            raise ValueError("train#dataset#data must hold a labeled case, got none; save a final label first")
        config = ConfigParser(ConfigParser.load_config_file(answers))
        self.cases = list(data)
        self.images = config.get_parsed_content("image_facts")
        super().__init__(_patches(self.cases, config, device, augmentation))

    @property
    def num_real(self) -> int:
        """Images of patients to train on, without synthetic ones."""
        return len(self) if self.cases is not None else len(self.fold_data.real)

    @property
    def labels(self) -> torch.Tensor:
        """Label of each image, (N,) integers."""
        return self.data.labels  # type: ignore[attr-defined]

    @property
    def class_counts(self) -> list[int]:
        """Training images of each class, in the order of the labels."""
        if self.cases is None:
            return self.fold_data.class_counts
        return self.labels.bincount(minlength=len(self.images["labels"])).tolist()

    @property
    def subject_ids(self) -> list[str]:
        """Names of the labeled cases' files, without endings."""
        return sorted(stem_of(case["image"]) for case in self.cases or ())


class LabelStage(Stage):
    """A stage of the study; or, for labeled cases, a training that ends with its weights being served.

    Args:
        training: images trained on.
        selection: images that select the epoch.
        served_path: weights that are served, with `provenance.json` beside them.
        setup: name of the setup.
        inputs: files that the training of a fold reads.
        options: further arguments of `Stage`.
    """

    def __init__(
        self,
        training: TrainingImages,
        selection: TrainingImages,
        served_path: str,
        setup: str,
        inputs: Sequence[str | None] = (),
        **options: Any,
    ) -> None:
        self.training, self.selection = training, selection
        self.served_path = Path(served_path)
        self.setup = setup
        super().__init__(inputs=inputs, **options)

    def begin(self) -> None:
        """Begin the stage; labeled cases in a folder that is emptied of the last such training and gets no record.

        Raises:
            ValueError: if the weights that are served were trained on other images than the cases' patches, or the
                folder holds files that no training on cases wrote; nothing is deleted then.
        """
        if self.training.cases is None:
            super().begin()
            return
        before = recorded_images(read_provenance(self.served_path), self.served_path)
        require_same_images(before, self.training.images, "the labeled cases", self.served_path)
        self._make_way_for_cases()
        self.set_threads_and_seeds()

    def end(self) -> None:
        """Write the record beside the weights and end; with labeled cases, serve both and keep those of before."""
        weights = self.output_dir / "model.pt"
        if self.training.cases is None:
            self.training.fold_data.record(str(weights), self.setup)
            super().end()
            return
        self._record_cases(weights)
        replace_weights(self.served_path, weights)
        release_lock(self.output_dir)

    def _make_way_for_cases(self) -> None:
        make_folder(self.output_dir)
        lock(self.output_dir)
        if read_record(self.output_dir):
            raise ValueError(
                f"output_dir must be without the training of a fold for labeled cases, got {str(self.output_dir)!r};"
                " move that folder elsewhere, or set another output_dir in configs/train.json"
            )
        empty_folder(self.output_dir, {})
        drop_partial_files(self.output_dir)
        begin_journal(self.output_dir, {})

    def _record_cases(self, weights: Path) -> None:
        before = dict(read_provenance(self.served_path))
        known = ("cohorts", "subjects", "simulated", "fold", "synthetic", "setup", "images", "selection_subjects")
        chosen_by = {*before.get("selection_subjects", ()), *hash_subjects(self.selection.subject_ids)}
        write_provenance(
            weights,
            cohorts=[*before["cohorts"], COHORT],
            subjects=self.training.subject_ids,
            hashed_subjects=before["subjects"],
            # Weights that have seen simulated patients stay unfit for patients.
            simulated=before["simulated"],
            fold=before["fold"],
            synthetic=before["synthetic"],
            setup=before.get("setup"),
            selection_subjects=sorted(chosen_by),
            images=before["images"],
            num_labeled_cases=len(self.training.subject_ids),
            started_from=before["weights_sha256"],
            **{key: value for key, value in before.items() if key not in (*known, *_REPLACED)},
        )


_REPLACED = ("weights_sha256", "num_labeled_cases", "started_from")


class ServedWeights:
    """Trainer handler: labeled cases go on from the weights that are served, whichever file a client has named.

    Args:
        networks: network to train, and the moving average of its weights if there is one.
        training: images trained on; those of a fold begin as their config says.
        served_path: weights that are served.
    """

    def __init__(self, networks: Sequence[nn.Module], training: TrainingImages, served_path: str) -> None:
        self.networks = list(networks)
        self.training = training
        self.served_path = served_path

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, after the loader that MONAI Label puts before all handlers."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load the weights."""
        for network in self.networks if self.training.cases is not None else ():
            network.load_state_dict(load_state(self.served_path))


def label_of(mask_path: str, num_classes: int) -> int:
    """Read the class from a label: a mask that holds one value, class index + 1.

    Args:
        mask_path: NIfTI.
        num_classes: K.

    Returns:
        0 <= label < K.

    Raises:
        ValueError: if it holds no value, several, or one that is no class.
    """
    codes = mask_codes_in(read_mask(mask_path))
    if len(codes) != 1 or not 1 <= codes[0] <= num_classes:
        raise ValueError(
            f"{mask_path} must hold one value from 1 to {num_classes}, class index + 1, where the lesion is, got"
            f" {codes}; take the mask of grade_viewer and give it the value of the right class"
        )
    return codes[0] - 1


def _patches(
    cases: Cases, config: ConfigParser, device: torch.device | str, transform: Compose | None
) -> LabeledImages:
    preprocessing = config.get_parsed_content("preprocessing")
    form = config.get_parsed_content("image_form")
    with tempfile.TemporaryDirectory() as folder:
        items = []
        for index, case in enumerate(cases):
            label = label_of(case["label"], len(form.classes))
            # One value, whatever the class: to the transforms it is a tumor of one tissue.
            files = {"image": case["image"], "mask": case["label"], "mask_codes": {"enhancing": label + 1}}
            patch = preprocessing({"subject_id": stem_of(case["image"]), **files})["image"]
            path = Path(folder) / f"{index}.nii.gz"
            write_image(path, np.asarray(patch), np.asarray(patch.affine))
            items.append({"image": str(path), "label": label})
        return LabeledImages(items, form, device, transform)
