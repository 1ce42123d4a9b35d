"""The mean answer of some networks to some images, and that of the images of one subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import EnsembleEvaluator
from monai.networks.utils import eval_mode
from monai.transforms import Activationsd, CastToTyped, Compose, MeanEnsembled

from scripts.classifier.datasets import ordered_batches
from scripts.classifier.features import FirstAndLast
from scripts.patches.tensors import LabeledImages
from scripts.provenance.image_form import ImageForm

Items = list[dict[str, Any]]


class Predictor:
    """Probabilities of the mean softmax of some networks, through MONAI's `EnsembleEvaluator`, in fp32.

    Args:
        form: of the images.
        batch_size: images at once.
        device: where the networks are.
    """

    def __init__(self, form: ImageForm, batch_size: int = 64, device: torch.device | str = "cpu") -> None:
        if batch_size < 1:
            raise ValueError(f"evaluation_batch_size must be >= 1, got {batch_size!r}")
        self.form = form
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
        dataset = LabeledImages(items, self.form, self.device)
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

    def features(self, network: torch.nn.Module, items: Items) -> tuple[torch.Tensor, ...]:
        """Look at images in the features of a network, `scripts.classifier.features.FirstAndLast`.

        Args:
            network: classifier.
            items: `image` (path) and `label` of each.

        Returns:
            Each of them, (N, D), on the CPU; nothing without items.
        """
        read = FirstAndLast(network)
        blocks = LabeledImages(items, self.form, self.device).blocks(self.batch_size)
        with eval_mode(network):
            features = [read(images) for images in blocks if len(images)]
        return tuple(torch.cat(part).cpu() for part in zip(*features, strict=True))


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
    return [(items[indices[0]], probabilities[indices].mean(axis=0)) for indices in positions.values()]


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
