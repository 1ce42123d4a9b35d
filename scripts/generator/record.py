"""The records of generators and autoencoders: written when the training is over, checked before anything is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.patches.class_balance import class_counts
from scripts.patches.tensors import PatchTensorDataset, patches_header
from scripts.provenance.record import hash_subjects, read_provenance, write_provenance
from scripts.splits.parts import load_part


def checked_provenance(
    generator_path: str,
    class_name: str | None,
    fold: int | None = None,
    patches_path: str | None = None,
    splits_path: str | None = None,
    parametrization: str | None = None,
    space: str | None = None,
) -> dict[str, Any]:
    """Read a generator's record and check that it is the generator that is meant.

    Args:
        generator_path: weights, with `provenance.json` beside them.
        class_name: class that it must draw, its own or one of those that it is conditioned on; None for all classes.
        fold: fold that it must be of; None takes any.
        patches_path: `patches.json`; with `splits_path` and `fold`, no subject outside the fold's training part may
            stand behind the generator.
        splits_path: `splits.json`.
        parametrization: what its network must predict; None takes any. Records of before it had a name are of noise.
        space: in which it must draw, "pixel" or "latent"; None takes any. Older records are of pixels.

    Raises:
        FileNotFoundError: if weights or record are missing.
        ValueError: if class, fold, subjects, parametrization or space are others.
    """
    if not Path(generator_path).is_file():
        raise FileNotFoundError(f"{generator_path} does not exist; write it with configs/train_generator.yaml")
    record = dict(read_provenance(generator_path))
    if record["class_name"] != class_name and record["condition"] is None:
        raise ValueError(
            f"generator_class must be {record['class_name']!r}, the class that {generator_path} was trained on,"
            f" got {class_name!r}"
        )
    known = [name for name in record["class_counts"] if name]
    if class_name is not None and class_name not in known:
        raise ValueError(
            f"generator_class must be one of {', '.join(known)}, the classes that {generator_path} was trained on,"
            f" got {class_name!r}"
        )
    trained = record.get("parametrization", "epsilon")
    if parametrization is not None and trained != parametrization:
        raise ValueError(
            f"generator_parametrization must be {trained!r}, what {generator_path} predicts, got {parametrization!r};"
            f" pass --generator_parametrization {trained}"
        )
    trained_in = record.get("space", "pixel")
    if space is not None and trained_in != space:
        raise ValueError(
            f"generator_space must be {trained_in!r}, in which {generator_path} was trained, got {space!r}; pass"
            f" --generator_space {trained_in}, with the autoencoder_* keys of its training"
        )
    if fold is not None and record["fold"] != fold:
        raise ValueError(f"fold must be {record['fold']}, that of {generator_path}, got {fold!r}")
    if fold is not None and patches_path is not None and splits_path is not None:
        allowed = hash_subjects(entry["subject_id"] for entry in load_part(patches_path, splits_path, fold, "train"))
        strangers = set(record["subjects"]) - set(allowed)
        if strangers:
            raise ValueError(
                f"{generator_path} must be trained on the training part of fold {fold} of {splits_path} only,"
                f" got {len(strangers)} other subjects; train it again on this split"
            )
    return record


class GeneratorRecord:
    """Provenance of a generator, written when its training is over.

    Args:
        weights_path: `model.pt` of the training.
        patches_path: `patches.json` that it was trained on.
        splits_path: `splits.json` that made the fold.
        training: images trained on.
        selection: images that the weights were selected on.
        class_name: class generated; None for all.
        fold: number of the fold.
        method: "ddpm" or "ddpm_mi".
        condition: "label" where the network is conditioned on the class, else None.
        parametrization: what the network predicts, of `scripts.generator.parametrization`.
        label_dropout: share of the labels hidden in the training, without which it cannot be guided.
        autoencoder_path: weights of the autoencoder in whose latents it was trained, whose subjects it has seen, too;
            None for a generator of pixels.
    """

    def __init__(
        self,
        weights_path: str,
        patches_path: str,
        splits_path: str,
        training: PatchTensorDataset,
        selection: PatchTensorDataset,
        class_name: str | None,
        fold: int,
        method: str,
        condition: str | None = None,
        parametrization: str = "epsilon",
        label_dropout: float | None = None,
        autoencoder_path: str | None = None,
    ) -> None:
        self.weights_path = Path(weights_path)
        self.patches_path = patches_path
        self.splits_path = splits_path
        self.training = training
        self.selection = selection
        self.class_name = class_name
        self.fold = fold
        self.method = method
        self.condition = condition
        self.parametrization = parametrization
        self.label_dropout = label_dropout
        self.autoencoder_path = autoencoder_path

    def write(self) -> Path:
        """Write `provenance.json` beside the weights.

        Raises:
            FileNotFoundError: if no validation has written weights.
        """
        _require_validated(self.weights_path, "generator_val_interval must be at most generator_max_epochs")
        header = patches_header(self.patches_path)
        behind = {} if self.autoencoder_path is None else read_provenance(self.autoencoder_path)
        selection = hash_subjects(self.selection.subject_ids)
        return write_provenance(
            self.weights_path,
            cohorts=[header["name"]],
            subjects=self.training.subject_ids,
            hashed_subjects=behind.get("subjects", ()),
            simulated=header["simulated"],
            fold=self.fold,
            method=self.method,
            class_name=self.class_name,
            condition=self.condition,
            parametrization=self.parametrization,
            space="latent" if behind else "pixel",
            autoencoder_sha256=behind.get("weights_sha256"),
            label_dropout=self.label_dropout if self.condition else None,
            selection_subjects=sorted({*selection, *behind.get("selection_subjects", ())}),
            class_counts=class_counts(self.patches_path, self.splits_path, self.fold),
            images=self.training.image_facts,
        )


class AutoencoderRecord:
    """Provenance of an autoencoder, written when its training is over.

    Args:
        weights_path: `model.pt` of the training.
        patches_path: `patches.json` that it was trained on.
        training: images trained on.
        selection: images that the weights were selected on.
        fold: number of the fold.
    """

    def __init__(
        self,
        weights_path: str,
        patches_path: str,
        training: PatchTensorDataset,
        selection: PatchTensorDataset,
        fold: int,
    ) -> None:
        self.weights_path = Path(weights_path)
        self.patches_path = patches_path
        self.training = training
        self.selection = selection
        self.fold = fold

    def write(self) -> Path:
        """Write `provenance.json` beside the weights.

        Raises:
            FileNotFoundError: if no validation has written weights.
        """
        _require_validated(self.weights_path, "run its training, which validates every epoch")
        header = patches_header(self.patches_path)
        return write_provenance(
            self.weights_path,
            cohorts=[header["name"]],
            subjects=self.training.subject_ids,
            simulated=header["simulated"],
            fold=self.fold,
            method="autoencoder",
            selection_subjects=hash_subjects(self.selection.subject_ids),
            images=self.training.image_facts,
        )


def _require_validated(weights_path: Path, way_out: str) -> None:
    if not weights_path.is_file():
        raise FileNotFoundError(f"{weights_path} does not exist because no validation ran; {way_out}")
