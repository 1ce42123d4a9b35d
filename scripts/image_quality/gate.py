"""Whether synthetic images are finished: told by measurement, not by how their generator was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from scripts.image_quality.feature_networks import FeatureNetwork
from scripts.patches.image_sets import ALL, ImageSet
from scripts.statistics.multiclass_area import auc

UNFINISHED, UNDECIDED, FINISHED = "unfinished", "cannot be told", "finished"
VERDICTS = (UNFINISHED, UNDECIDED, FINISHED)  # the gravest first
ROUNDING = 1e-9  # an AUC of 12 pairs in 15 is .7999...
NO_CLASSIFIER = "no classifier of real images; give classifier_path"


@dataclass(frozen=True)
class Gate:
    """What a synthetic set must reach to be called finished; real images that do not reach it leave it open.

    Args:
        label_auc: in [0, 1]; of a classifier of real images that tells the classes of the synthetic ones. One that does
            not reach it on other real images tells something, but not the classes: its verdict is open.
        coverage: in [0, 1]; share of real images that have a synthetic one near, at the number of images of the floor:
            with more synthetic images it can only rise, and real images are not judged with as many.

    Raises:
        ValueError: if one is out of range.
    """

    label_auc: float = 0.8
    coverage: float = 0.6

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"gate_{name} must be in [0, 1], got {value!r}; 0 lets every set pass")

    def judge(
        self, label_auc: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], classifier: str | None
    ) -> dict[str, Any]:
        """Judge the images of one class.

        Args:
            label_auc: what `label_area` returns.
            rows: of `measures.json`.
            classifier: name of the network that tells the classes, whose coverage counts; None where there is none.

        Returns:
            `verdict`, one of `VERDICTS`, and `reasons`, a sentence for each gate that was not passed; `coverage` and
            `real_coverage`, the values that counted, both at the number of images of the floor, or None.
        """
        row = next((row for row in rows if (row["measure"], row["network"]) == ("coverage", classifier)), None)
        coverage, floor = (row["value_at_floor_n"], row["floor"]) if row else (None, None)
        real_coverage = floor["mean"] if floor else None
        missing = row["reason"] if row else NO_CLASSIFIER
        judged = [
            self._judge_label_auc(label_auc),
            _judge("coverage", coverage, real_coverage, self.coverage, missing),
        ]
        return {
            "verdict": min((verdict for verdict, _ in judged), key=VERDICTS.index),
            "reasons": [reason for _, reason in judged if reason],
            "coverage": coverage,
            "real_coverage": real_coverage,
        }

    def _judge_label_auc(self, label_auc: Mapping[str, Any]) -> tuple[str, str]:
        value, real = label_auc["value"], label_auc["real"]
        verdict, reason = _judge("label AUC", value, real, self.label_auc, label_auc["reason"])
        if verdict != FINISHED or (real is not None and real > self.label_auc - ROUNDING):
            return verdict, reason
        reached = "no real images were measured" if real is None else f"of real images it reaches {real:.2f} only"
        return UNDECIDED, f"label AUC {value:.2f} is of a classifier that may not know the classes: {reached}"


def label_area(
    network: FeatureNetwork | None,
    synthetic: ImageSet,
    real: ImageSet,
    class_names: Sequence[str],
    batch_size: int = 32,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Measure how well a classifier of real images tells the classes that synthetic images were drawn for.

    Args:
        network: classifier whose logits are of the classes; None where there is none.
        synthetic: images of all classes.
        real: held-out real images, for what the classifier reaches at all.
        class_names: in the order of the logits.
        batch_size: images at once.
        device: where the network runs.

    Returns:
        `value`, `low` and `high`: the AUC in [0, 1], higher is better, of more than two classes the mean of one against
        the rest; `num_images`; `real` and `num_real`: the same of the real images; `reason`: why there
        is no value.
    """
    nothing = dict.fromkeys(("value", "low", "high", "num_images", "real", "num_real", "reason"))
    if network is None:
        return {**nothing, "reason": NO_CLASSIFIER}
    missing = [name for name in class_names if name not in synthetic.class_names]
    if missing:
        return {**nothing, "reason": f"no synthetic images of {', '.join(missing)}; give their lists in label_paths"}

    def area(images: ImageSet) -> tuple[Any, int]:
        graded = images.take([index for index, name in enumerate(images.class_names) if name != ALL])
        if not len(graded):
            return auc([], np.empty((0, len(class_names)))), 0
        logits = network.extract(graded.images, batch_size, device)[0].logits
        labels = [class_names.index(name) for name in graded.class_names]
        return auc(labels, logits.softmax(1).cpu().numpy()), len(graded)

    estimate, num_images = area(synthetic)
    of_real, num_real = area(real)
    limits = {name: getattr(estimate, name) for name in ("value", "low", "high")}
    return {**nothing, **limits, "num_images": num_images, "real": of_real.value, "num_real": num_real}


def _judge(name: str, value: float | None, real: float | None, gate: float, missing: str | None) -> tuple[str, str]:
    if value is None:
        return UNDECIDED, f"{name} was not measured: {missing}"
    if value >= gate:
        return FINISHED, ""
    if real is None or real < gate:
        reached = "were not measured" if real is None else f"reach {real:.2f} only"
        return UNDECIDED, f"{name} {value:.2f} is below the gate {gate:g}, but real images {reached}"
    return UNFINISHED, f"{name} {value:.2f} is below the gate {gate:g}; real images reach {real:.2f}"
