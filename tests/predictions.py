"""Rows of `predictions.csv` as several evaluations write them, drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CLASSES = ("LGG", "HGG")
SKILLS = {"real": 1.0, "ddpm": 1.6, "ddpm_mi": 1.0}


def prediction_rows(
    skills: Mapping[str, float] = SKILLS,
    sizes: Sequence[int] = (12, 28),
    role: str = "external",
    classes: Sequence[str] = CLASSES,
    seed: int = 0,
) -> list[dict[str, str]]:
    """Return rows as text: setups whose logits share half their noise, subjects s000, s001, ... at sites X and Y."""
    random = np.random.default_rng(seed)
    labels = np.repeat(range(len(classes)), sizes)
    shared = random.normal(size=(len(labels), len(classes)))
    rows = []
    for setup, skill in skills.items():
        logits = (shared + random.normal(size=shared.shape)) / 1.4 + skill * np.eye(len(classes))[labels]
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for index, label in enumerate(labels):
            row = {"direction": "a", "setup": setup, "role": role, "cohort": "b" if role == "external" else "a"}
            row |= {"subject_id": f"s{index:03d}", "site": "XY"[index % 2], "label": str(label), "fold": "0"}
            row |= {"lesion_volume_ml": repr(5.0 + 7 * index % 13 + 3 * int(label))}
            row |= {f"logit_{name}": repr(float(v)) for name, v in zip(classes, logits[index], strict=True)}
            row |= {f"probability_{n}": repr(float(p)) for n, p in zip(classes, probabilities[index], strict=True)}
            rows.append(row)
    return rows


def prediction_row(subject: str, label: str, probability: float, **changes: Any) -> dict[str, Any]:
    """Return one row: a subject of cohort B, its class, and the probability of HGG that `real` gives it."""
    fixed = {"direction": "A", "setup": "real", "role": "external", "cohort": "B", "site": "0", "fold": "0"}
    answer = {"lesion_volume_ml": "0", "logit_LGG": "0", "logit_HGG": "0"}
    probabilities = {"probability_LGG": repr(1 - probability), "probability_HGG": repr(probability)}
    return {**fixed, "subject_id": subject, "label": label, **answer, **probabilities, **changes}
