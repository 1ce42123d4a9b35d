"""The answer about one patient: probabilities, the patch, a picture, and what the weights were trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import nn

from scripts.classifier.training_distance import FILE_NAME as DISTANCE
from scripts.explanations.checks import NO_EXPLANATION
from scripts.explanations.maps import explain
from scripts.explanations.pictures import draw_answer, draw_overview
from scripts.inference.patient_files import files_of
from scripts.inference.requests import require_mapping
from scripts.inference.training_distance import describe_distance, distance_beside
from scripts.inference.weights import describe_weights, require_weights
from scripts.patches.crop import Overview
from scripts.patches.pictures import save_picture
from scripts.provenance.image_form import names_by_label
from scripts.provenance.record import record_path
from scripts.running.files import read_json, write_json
from scripts.running.stages import RECORD, Stage
from scripts.volumes.nifti import write_image


class AnswerStage(Stage):
    """The record of an answer: a stage that asks for the weights first and may be asked again after a mistake.

    Args:
        weights_path: `model.pt`, with `provenance.json` beside it.
        images: modality -> path, or None.
        image: 4D file, or what stands for four files, see `scripts.inference.patient_files.files_of`; or None.
        mask: tumor mask, or None.
        brain_mask: of images that are not skull-stripped, or None.
        modalities: the project's names.
        options: further arguments of `Stage`.
    """

    def __init__(
        self,
        weights_path: str,
        images: Mapping[str, str] | None = None,
        image: str | None = None,
        mask: str | None = None,
        brain_mask: str | None = None,
        modalities: Sequence[str] = (),
        **options: Any,
    ) -> None:
        require_mapping(images or {})
        files = files_of(image, modalities) if image else None
        images, image = (files, None) if files else (images, image)
        inputs = [*(images or {}).values(), image, mask, brain_mask, weights_path, str(record_path(weights_path))]
        distance = Path(weights_path).with_name(DISTANCE)
        super().__init__(inputs=[*inputs, *[str(distance)] * distance.is_file()], **options)
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


class AnswerWriter:
    """Evaluator handler: write `answer.json`, `explanation.png`, `place.png` and `patch.nii.gz` of each patient.

    Args:
        output_dir: folder to write to.
        network: classifier on its device.
        weights_path: what it was loaded from; `training_distance.json` beside it, if it is there and of these weights,
            lets an answer say how far its patch is from the training images.
        modalities: modality of each channel.
        classes: class name -> label.
        metadata_path: `metadata.json` of the bundle, for its version.
        explanation: "gradcam", "occlusion", or "none".
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
        self.distance = distance_beside(weights_path)
        self.modalities = list(modalities)
        self.names = names_by_label(classes)
        self.metadata_path = metadata_path
        self.explanation = explanation
        self.explanation_layer = explanation_layer
        self.occlusion_size = occlusion_size

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the answers of a batch."""
        for cropped, item in zip(engine.state.batch, engine.state.output, strict=True):
            overview = Overview(**cropped["overview"]) if "overview" in cropped else None
            self.write(item["image"], item["pred"], json.loads(cropped["patient"]), overview)

    def write(
        self, image: Any, probabilities: torch.Tensor, place: Mapping[str, Any], overview: Overview | None = None
    ) -> dict[str, Any]:
        """Write one answer.

        Args:
            image: patch with its affine, (C, *spatial).
            probabilities: (K,), sum 1.
            place: how the patch was chosen, keys `CHOSEN`.
            overview: the slice that it was cut from.

        Returns:
            Content of `answer.json`.
        """
        answer = self.describe(image, probabilities, place, describe_weights(self.weights_path))
        return self.save(self.folder, image, answer, self.explanation, overview)

    def save(
        self,
        folder: Path,
        image: Any,
        answer: Mapping[str, Any],
        explanation: str,
        overview: Overview | None = None,
    ) -> dict[str, Any]:
        """Write the files of an answer.

        Args:
            folder: gets `answer.json`, `patch.nii.gz` and, unless there is no explanation, `explanation.png` and, of a
                patch of a larger slice, `place.png`.
            image: patch with its affine, (C, *spatial).
            answer: from `describe`.
            explanation: "gradcam", "occlusion" or "none".
            overview: the slice that the patch was cut from.

        Returns:
            Content of `answer.json`.
        """
        files = {"patch": "patch.nii.gz"}
        if explanation != NO_EXPLANATION:
            files["picture"] = "explanation.png"
            self.draw(folder / files["picture"], image, answer, explanation)
            if overview is not None:
                files["place"] = "place.png"
                self.draw_place(folder / files["place"], overview, answer)
        write_image(folder / files["patch"], np.asarray(image.cpu()), np.asarray(image.affine))
        content = {**answer, "explanation": explanation, "files": files}
        write_json(folder / "answer.json", content)  # last: where it lies, the others do
        return content

    def describe(
        self, image: Any, probabilities: torch.Tensor, place: Mapping[str, Any], weights: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Say in an answer what was found, where, and by which weights; nothing is written.

        Args:
            image: patch, (C, *spatial).
            probabilities: (K,), sum 1.
            place: how the patch was chosen, keys `CHOSEN`.
            weights: from `describe_weights`.

        Raises:
            ValueError: if the probabilities are not finite: the first class would be answered for them.
        """
        values = [float(value) for value in probabilities]
        if not np.isfinite(values).all():
            raise ValueError(
                f"{self.weights_path} must give finite probabilities, got {values} for {place.get('subject_id')};"
                " train again with a lower learning rate"
            )
        metadata = read_json(self.metadata_path)
        return {
            "subject_id": place.get("subject_id"),
            "class": self.names[int(np.argmax(values))],
            "probabilities": dict(zip(self.names, values, strict=True)),
            "crop": {
                "center_voxel": place["center_voxel"],
                "center_mm": place["center_mm"],
                "source": {"click": "click", None: "whole image"}.get(place["region"], "mask"),
                "region": place["region"],
                "region_reason": place.get("region_reason"),
                "slice": place["slice"],
                "size": list(image.shape[1:]),
                "spacing_mm": place["spacing_mm"],
            },
            "training_distance": describe_distance(self.distance, self.network, weights["sha256"], image),
            "lesion_volume_ml": place.get("lesion_volume_ml"),
            "mask_codes": place.get("mask_codes_reason"),
            "mask_source": place.get("mask_source"),
            "weights": dict(weights),
            "bundle": {"name": metadata["name"], "version": metadata["version"]},
        }

    def draw_place(self, path: Path, overview: Overview, answer: Mapping[str, Any]) -> None:
        """Write the picture of where the patch lies in its slice.

        Args:
            path: file to write, PNG.
            overview: the slice.
            answer: from `describe`.
        """
        source = answer["crop"]["source"]
        title = f"{answer['subject_id']}: slice {answer['crop']['slice']}; what was graded, around the {source}"
        save_picture(draw_overview(overview, title, answer["weights"]["simulated"]), path)

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
        # Without mm it is a picture, whose sides nobody knows.
        sides = answer["crop"]["spacing_mm"] is not None
        simulated = answer["weights"]["simulated"]
        figure = draw_answer(plain.cpu().numpy(), heat, self.modalities, title, simulated, sides)
        save_picture(figure, path)
