"""One patient in, a graded answer out: probabilities, the patch, a picture, and what the weights were trained on."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import list_data_collate
from torch import nn

from scripts.explanations.maps import draw_answer, explain
from scripts.inference.patient_files import files_of, link_steps
from scripts.patches.crop import CROP_FACTS
from scripts.patches.pictures import save_picture
from scripts.patches.subject_volumes import ReadVolumesd
from scripts.provenance.image_form import recorded_images, require_same_images
from scripts.provenance.record import FILE_NAME, read_provenance
from scripts.provenance.state_dicts import load_state
from scripts.running.files import read_json, sha256_file, write_json
from scripts.running.stages import RECORD, Stage
from scripts.volumes.file_names import is_nifti
from scripts.volumes.mask_codes import decide_mask_codes
from scripts.volumes.mask_marks import read_mask_source
from scripts.volumes.modality_names import describe_aliases, parse_modality
from scripts.volumes.nifti import write_image
from scripts.volumes.reading import mask_codes_in

HOW_TO_GET_WEIGHTS = (
    "make them with `python -m monai.bundle run --config_file \"['configs/common.yaml','configs/study.yaml']\"` and"
    " give the model.pt of one of its evaluation folders as --weights_path, or copy that and the provenance.json"
    " beside it to models/"
)
CHOSEN = ("subject_id", *CROP_FACTS, "mask_codes_reason", "mask_source")
NOTICE = "Simulated weights: trained on simulated images only. Not for patients."
RESEARCH = "For research only. Not a medical device."


class ReadPatientd(ReadVolumesd):
    """Read one patient as a user gives it: four files or one 4D file, with a mask or a click.

    Takes `images` (name of a modality, or an alias -> path) or `image` (a 4D file) with `channel_order`, and `mask`
    or `click` ([i, j, k], voxel indices of the file). Where both are given the click decides and the mask measures.
    MONAI Label's names for these are understood too, see `parse_request`.
    Adds what `ReadVolumesd` adds, `center` for a click, `mask_codes`, `mask_codes_reason` and `mask_source` for a mask.

    Args:
        modalities: modalities to read, in the order of the patch's channels.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read the patient's files.

        Raises:
            ValueError: if the request is incomplete or not understood, or a file cannot be used.
        """
        given = parse_request(data, self.modalities)
        if not given.get("mask") and "click" not in given:
            raise ValueError(
                'mask or click must say where the tumor is, got neither; give --mask FILE or --click "[i,j,k]" (voxels)'
            )
        subject: dict[Hashable, Any] = {**given, **self._files(given), "center": given.get("click")}
        read = super().__call__(subject)
        return {**read, **self._codes(read)}

    def _files(self, given: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if bool(given.get("images")) == bool(given.get("image")):
            raise ValueError(
                f"images (one file for each of {', '.join(self.modalities)}) or image (one 4D file) must be given, got"
                f" {'both' if given.get('image') else 'neither'}"
            )
        if given.get("image"):
            order = given.get("channel_order") or stored_channel_order(given["image"])
            return {"images": None, "channel_order": parse_channels(order, given["image"], self.modalities)}
        return {"image": None, "images": parse_images(given["images"], self.modalities)}

    @staticmethod
    def _codes(read: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        mask = read["mask_volume"]
        if mask is None:
            return {}
        codes, reason = decide_mask_codes({str(mask.path): mask_codes_in(mask)}, "table", read.get("mask_codes"))
        return {"mask_codes": codes, "mask_codes_reason": reason, "mask_source": read_mask_source(read["mask"])}


def parse_request(data: Mapping[Hashable, Any], modalities: Sequence[str]) -> dict[Hashable, Any]:
    """Bring a request to the keys of this bundle, whoever asks.

    MONAI Label gives one path as `image`, a mask as `label` (which is a segment's name in other requests), clicks as
    `foreground`, and options as text.

    Args:
        data: keys of `ReadPatientd`, or `image` (folder of four files, or one of four that lie together), `label`,
            `foreground` ([[i, j, k], ...], the last counts; an empty list says nothing) and `channel_order` (names
            with commas).
        modalities: the project's names.

    Returns:
        The keys of `ReadPatientd`, without those that say nothing; others stay as they are.

    Raises:
        ValueError: if clicks are no list of points, or the files are not those of one patient.
    """
    given = {key: value for key, value in data.items() if not (value is None or isinstance(value, str) and not value)}
    label = given.get("label")
    if "mask" not in given and isinstance(label, str) and is_nifti(label) and Path(label).is_file():
        given["mask"] = label
    if "click" not in given and given.get("foreground"):
        given["click"] = _last_point(given["foreground"])
    if isinstance(given.get("channel_order"), str):
        given["channel_order"] = [name for name in re.split(r"[,\s]+", given["channel_order"]) if name]
    if "images" not in given and isinstance(given.get("image"), str):
        images = files_of(given["image"], modalities)
        if images is not None:
            given = {**given, "images": images, "image": None}
    return given


def _last_point(foreground: Any) -> Any:
    if not isinstance(foreground, list) or not all(isinstance(point, list) for point in foreground):
        raise ValueError(f"foreground must be a list of points [[i, j, k], ...], got {foreground!r}")
    return foreground[-1]


def parse_images(images: Mapping[str, str], modalities: Sequence[str]) -> dict[str, str]:
    """Bring the names of a patient's files to those of the project.

    Args:
        images: modality, or an alias such as "flair" -> path.
        modalities: the project's names.

    Returns:
        Modality -> path, in the order of `modalities`.

    Raises:
        TypeError: if it is no mapping.
        ValueError: if a modality is missing, there twice, or not understood.
    """
    _require_mapping(images)
    found: dict[str, str] = {}
    for name, path in images.items():
        modality = parse_modality(name, modalities)
        if modality is None or modality not in modalities:
            raise ValueError(f"images must be named as in {describe_aliases(modalities)}; got {name!r} ({path})")
        if modality in found:
            raise ValueError(
                f"images must hold one file for {modality}, got {found[modality]} and {path}; leave one out"
            )
        found[modality] = str(path)
    missing = [modality for modality in modalities if modality not in found]
    if missing:
        raise ValueError(
            f"images must hold a file for each of {', '.join(modalities)}, got none for {', '.join(missing)}"
        )
    return {modality: found[modality] for modality in modalities}


def _require_mapping(images: object) -> None:
    if not isinstance(images, Mapping):
        raise TypeError(
            f"images must be a mapping from modality to file, got {images!r}; write it as"
            " --images \"{'t1n': PATH, 't1c': PATH, ...}\", or give the folder of the files as --image"
        )


def parse_channels(channel_order: Sequence[str] | None, image: str, modalities: Sequence[str]) -> list[str]:
    """Bring the names of a 4D file's channels to those of the project.

    Args:
        channel_order: name or alias of each channel; None if nobody said.
        image: path of the file, for messages.
        modalities: the project's names; each must be there once.

    Returns:
        Modality of each channel.

    Raises:
        ValueError: if the order is not given: never guessed, since exchanged channels give a plausible wrong answer.
    """
    if not channel_order:
        raise ValueError(
            f"channel_order must be declared for {image}, got none, and no dataset.json beside it stores one;"
            f' give --channel_order "{list(modalities)}" in the order of the file'
        )
    order = [parse_modality(name, modalities) or name for name in channel_order]
    if sorted(set(order) & set(modalities)) != sorted(modalities) or len(set(order)) != len(order):
        raise ValueError(
            f"channel_order must name each of {', '.join(modalities)} once, got {list(channel_order)!r} for {image};"
            f" understood are {describe_aliases(modalities)}"
        )
    return order


def stored_channel_order(image: str) -> list[str] | None:
    """Find the channel order of a 4D file in a `dataset.json` (Medical Decathlon) in its folder or the one above.

    Returns:
        Names of the channels; None if there is no such file.
    """
    for folder in (parent for step in link_steps(Path(image)) for parent in step.parents[:2]):
        if (folder / "dataset.json").is_file():
            names = read_json(folder / "dataset.json").get("modality", {})
            return [names[key] for key in sorted(names, key=int)] or None
    return None


class AnswerStage(Stage):
    """The record of an answer: a stage that asks for the weights first and may be asked again after a mistake.

    Args:
        weights_path: `model.pt`, with `provenance.json` beside it.
        images: modality -> path, or None.
        image: 4D file, or what stands for four files, see `scripts.inference.patient_files.files_of`; or None.
        mask: tumor mask, or None.
        modalities: the project's names.
        options: further arguments of `Stage`.
    """

    def __init__(
        self,
        weights_path: str,
        images: Mapping[str, str] | None = None,
        image: str | None = None,
        mask: str | None = None,
        modalities: Sequence[str] = (),
        **options: Any,
    ) -> None:
        _require_mapping(images or {})
        found = files_of(image, modalities) if image else None
        images, image = (found, None) if found else (images, image)
        provenance = str(Path(weights_path).parent / FILE_NAME)
        super().__init__(inputs=[*(images or {}).values(), image, mask, weights_path, provenance], **options)
        self.weights_path = weights_path

    def identity(self) -> dict[str, Any]:
        """Return what the answer depends on.

        Raises:
            FileNotFoundError: naming the path of the weights and the command that makes them.
        """
        require_weights(self.weights_path)
        return super().identity()

    def begin(self) -> None:
        """Begin as any stage does, but a request that failed does not stand in the way of the corrected one."""
        record = self.output_dir / RECORD
        if record.is_file() and not read_json(record).get("finished"):
            self.overwrite = True
        super().begin()


def require_weights(weights_path: str | Path) -> None:
    """Check that weights and the record of what they were trained on are there.

    Raises:
        FileNotFoundError: naming the path and the command that makes them.
    """
    for path in (Path(weights_path), Path(weights_path).parent / FILE_NAME):
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: {HOW_TO_GET_WEIGHTS}")


def load_classifier(
    network_def: nn.Module,
    weights_path: str,
    images: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Put trained weights into the classifier, ready to answer.

    Args:
        network_def: `FoldEnsemble` as it was trained; other weights are refused by it.
        weights_path: `model.pt`, a bare state dict.
        images: what patches it is given, from `scripts.provenance.image_form.describe_images`; it must be trained on
            such. None where the caller compares them, as it can with patches that lie in files and say of what they
            are made.
        device: where to compute.

    Returns:
        The network on the device, in evaluation mode.

    Raises:
        FileNotFoundError: if there are no weights.
        ValueError: if they are of another network or of other images, or their record is about other weights or does
            not tell the images.
    """
    require_weights(weights_path)
    if images is not None:
        trained_on = recorded_images(read_provenance(weights_path), weights_path)
        require_same_images(trained_on, images, "the patch to grade", weights_path)
    network_def.load_state_dict(load_state(weights_path))
    return network_def.to(device).eval()


def describe_weights(weights_path: str) -> dict[str, Any]:
    """Say what weights were trained on, as every answer carries it.

    Returns:
        `simulated`, `cohorts`, `num_subjects`, `setup`, `fold` (None for an ensemble), `num_synthetic_sets`, `sha256`
        and `notice`, a sentence for people.
    """
    record = read_provenance(weights_path)
    return {
        "simulated": bool(record["simulated"]),
        "cohorts": record["cohorts"],
        "num_subjects": len(record["subjects"]),
        "setup": record.get("setup"),
        "fold": record["fold"],
        "num_synthetic_sets": len(record["synthetic"]),
        "sha256": sha256_file(weights_path),
        "notice": NOTICE if record["simulated"] else RESEARCH,
    }


def collate_patients(items: Sequence[Mapping[Hashable, Any]]) -> dict[str, Any]:
    """Batch patches as MONAI does, with what was chosen for each as JSON text in `patient`.

    Lists of numbers would come out of MONAI's own collation as tensors, transposed.
    """
    chosen = [{key: item[key] for key in CHOSEN if key in item} for item in items]
    batch = list_data_collate([{"image": item["image"]} for item in items])
    return {"image": batch["image"], "patient": [json.dumps(row) for row in chosen]}


class AnswerWriter:
    """Evaluator handler: write `answer.json`, `explanation.png` and `patch.nii.gz` of each patient.

    Args:
        output_dir: folder to write to.
        network: classifier on its device.
        weights_path: what it was loaded from.
        modalities: modality of each channel.
        classes: class name -> label.
        metadata_path: `metadata.json` of the bundle, for its version.
        explanation: "gradcam" or "occlusion".
        explanation_layer: of GradCAM; None takes the deepest layer whose map is fine enough.
        occlusion_size: of occlusion, pixels.
    """

    def __init__(
        self,
        output_dir: str,
        network: nn.Module,
        weights_path: str,
        modalities: Sequence[str],
        classes: Mapping[str, int],
        metadata_path: str,
        explanation: str = "gradcam",
        explanation_layer: str | None = None,
        occlusion_size: int = 8,
    ) -> None:
        self.folder = Path(output_dir)
        self.network = network
        self.weights_path = weights_path
        self.modalities = list(modalities)
        self.names = sorted(classes, key=lambda name: classes[name])
        self.metadata_path = metadata_path
        self.explanation = explanation
        self.explanation_layer = explanation_layer
        self.occlusion_size = occlusion_size

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the answers of a batch."""
        for given, item in zip(engine.state.batch, engine.state.output, strict=True):
            self.write(item["image"], item["pred"], json.loads(given["patient"]))

    def write(self, image: Any, probabilities: torch.Tensor, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Write one answer.

        Args:
            image: patch with its affine, (C, *spatial).
            probabilities: (K,), sum 1.
            chosen: how the patch was chosen, keys `CHOSEN`.

        Returns:
            Content of `answer.json`.
        """
        answer = self.describe(image, probabilities, chosen, describe_weights(self.weights_path))
        files = {"patch": "patch.nii.gz", "picture": "explanation.png"}
        answer = {**answer, "explanation": self.explanation, "files": files}
        self.draw(self.folder / files["picture"], image, answer, self.explanation)
        write_image(self.folder / files["patch"], np.asarray(image.cpu()), np.asarray(image.affine))
        write_json(self.folder / "answer.json", answer)
        return answer

    def describe(
        self, image: Any, probabilities: torch.Tensor, chosen: Mapping[str, Any], weights: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Say in an answer what was found, where, and by which weights; nothing is written.

        Args:
            image: patch, (C, *spatial).
            probabilities: (K,), sum 1.
            chosen: how the patch was chosen, keys `CHOSEN`.
            weights: from `describe_weights`.
        """
        values = [float(value) for value in probabilities]
        metadata = read_json(self.metadata_path)
        return {
            "subject_id": chosen.get("subject_id"),
            "class": self.names[int(np.argmax(values))],
            "probabilities": dict(zip(self.names, values, strict=True)),
            "crop": {
                "center_voxel": chosen["center_voxel"],
                "center_mm": chosen["center_mm"],
                "source": "click" if chosen["region"] == "click" else "mask",
                "region": chosen["region"],
                "region_reason": chosen.get("region_reason"),
                "slice": chosen["slice"],
                "size": list(image.shape[1:]),
                "spacing_mm": chosen["spacing_mm"],
            },
            "lesion_volume_ml": chosen.get("lesion_volume_ml"),
            "mask_codes": chosen.get("mask_codes_reason"),
            "mask_source": chosen.get("mask_source"),
            "weights": dict(weights),
            "bundle": {"name": metadata["name"], "version": metadata["version"]},
        }

    def draw(self, path: Path, image: Any, answer: Mapping[str, Any], method: str) -> None:
        """Write the picture of where the network looked.

        Args:
            path: file to write, PNG.
            image: patch, (C, *spatial).
            answer: from `describe`.
            method: "gradcam" or "occlusion".
        """
        plain, label = torch.as_tensor(image).as_subclass(torch.Tensor), self.names.index(answer["class"])
        heat = explain(self.network, plain, label, method, self.explanation_layer, self.occlusion_size)
        shares = ", ".join(f"{name} {value:.2f}" for name, value in answer["probabilities"].items())
        by_model = ", mask by a model" if answer["mask_source"] == "model" else ""
        first = f"{answer['subject_id']}: {shares}{by_model}"
        title = f"{first}\nbrighter: speaks more for {answer['class']} ({method})"
        figure = draw_answer(plain.cpu().numpy(), heat, self.modalities, title, answer["weights"]["simulated"])
        save_picture(figure, path)
