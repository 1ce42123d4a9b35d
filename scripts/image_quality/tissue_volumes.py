"""Tissue volumes by intensity: whether synthetic brains have as much dark, middle and bright tissue as real ones."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import ks_2samp, norm
from skimage.filters import threshold_multiotsu
from torch import Tensor

from scripts.image_quality.spectrum import mean_by_patient
from scripts.patches.intensities import BACKGROUND

TISSUES = ("dark", "middle", "bright")  # in a T1-weighted volume about fluid, gray matter, white matter
ALL_TISSUE = "all"
PREFERRED = "t1n"  # channel, where there is one
NEARLY_BACKGROUND = 0.1  # of [-1, 1], above -1: drawn images are snapped to the background from here on
MIN_PATIENTS = 5  # in each set
CONFIDENCE = 0.95


def tissue_volumes(volumes: Tensor) -> np.ndarray:
    """Count the voxels of dark, middle and bright tissue in each volume.

    Two thresholds for each volume part the intensities of its foreground so that they vary least within the three
    parts: no gain and no offset changes the counts.

    Source: Liao, Chen, Chung 2001, "A fast algorithm for multilevel thresholding", by scikit-image.

    Args:
        volumes: (N, *spatial) of one channel, in [-1, 1], background -1; what lies within 0.1 of it counts for
            background, too, as it does where images are drawn.

    Returns:
        (N, 3) float64, voxels; NaN of a volume whose foreground has fewer than three intensities.
    """
    counts = np.full((len(volumes), len(TISSUES)), np.nan)
    for row, volume in zip(counts, volumes.cpu().numpy(), strict=True):
        inside = volume[volume > BACKGROUND + NEARLY_BACKGROUND]
        if len(np.unique(inside[:1000])) >= len(TISSUES) or len(np.unique(inside)) >= len(TISSUES):
            thresholds = threshold_multiotsu(inside, classes=len(TISSUES))
            row[:] = np.bincount(np.digitize(inside, thresholds), minlength=len(TISSUES))
    return counts


def standardized_difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Difference of two means in standard deviations, with its 95 % interval; 0 for equal means, not bounded.

    Hedges' g, the difference over the pooled standard deviation, less its bias of few values; the interval is that of
    its large-sample variance.

    Source: Hedges 1981, "Distribution theory for Glass's estimator of effect size and related estimators".

    Args:
        first: (N,), any unit.
        second: (M,), same unit.

    Returns:
        Value, lower and upper limit.

    >>> [round(value, 3) for value in standardized_difference(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0]))]
    [1.6, -0.239, 3.439]
    """
    count, other = len(first), len(second)
    freedom = count + other - 2
    pooled = math.sqrt(((count - 1) * first.var(ddof=1) + (other - 1) * second.var(ddof=1)) / freedom)
    value = float((first.mean() - second.mean()) / pooled) * (1 - 3 / (4 * freedom - 1))
    error = math.sqrt((count + other) / (count * other) + value**2 / (2 * (count + other)))
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * error
    return value, value - half, value + half


def compare_tissue_volumes(
    images: Tensor,
    num_synthetic: int,
    modalities: Sequence[str],
    patients: Sequence[Hashable],
    spacing_mm: float | None = None,
    with_background: bool = True,
) -> dict[str, Any]:
    """Compare how much tissue synthetic and real volumes have, in all and by intensity.

    Args:
        images: (N, C, X, Y, Z) in [-1, 1], the synthetic ones first.
        num_synthetic: synthetic volumes.
        modalities: names of the channels; t1n is looked at, or the first where there is none.
        patients: whose each volume is; those of one patient are averaged.
        spacing_mm: side of a voxel; None gives volumes in voxels.
        with_background: whether the images have one; without, skull and air would count for tissue.

    Returns:
        `channel`, `unit`, `num_synthetic` and `num_real` patients; `tissues`: a row for all, dark, middle and bright
        tissue with means and standard deviations of both sets, `difference` with `low` and `high`, see
        `standardized_difference`, the `ks` statistic of Kolmogorov and Smirnov in [0, 1] with its `ks_p_value`, and
        whether it `differs` (p below .05, divided by the number of rows); `sentence`; `reason` why there are none.
    """
    channel = modalities.index(PREFERRED) if PREFERRED in modalities else 0
    names = (patients[:num_synthetic], patients[num_synthetic:])
    counts = [len(set(part)) for part in names]
    result: dict[str, Any] = {
        "channel": modalities[channel],
        "unit": "voxels" if spacing_mm is None else "ml",
        "num_synthetic": counts[0],
        "num_real": counts[1],
        "tissues": [],
        "sentence": None,
        "reason": None,
    }
    if not with_background:
        return {**result, "reason": "images have no background (image_background), so skull and air would count"}
    if min(counts) < MIN_PATIENTS:
        few = f"tissue volumes need volumes of at least {MIN_PATIENTS} subjects in each set"
        return {**result, "reason": f"{few}, got {counts[0]} synthetic and {counts[1]} real"}
    voxels = tissue_volumes(images[:, channel])
    flat = int(np.isnan(voxels[:, 0]).sum())
    if flat:
        return {**result, "reason": f"{flat} of {len(voxels)} volumes have no three intensities; look at them"}
    scale = 1.0 if spacing_mm is None else spacing_mm**3 / 1000
    table = torch.from_numpy(scale * np.column_stack([voxels.sum(1), voxels]))
    sets = (table[:num_synthetic], table[num_synthetic:])
    synthetic, real = (mean_by_patient(values, part).numpy() for values, part in zip(sets, names, strict=True))
    if not (synthetic.std(0).all() and real.std(0).all()):
        return {**result, "reason": "all volumes of a set have as much tissue; look at them"}
    rows = [
        _compare(name, *columns) for name, *columns in zip((ALL_TISSUE, *TISSUES), synthetic.T, real.T, strict=True)
    ]
    return {**result, "tissues": rows, "sentence": _in_words(rows)}


def _compare(name: str, synthetic: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    difference, low, high = standardized_difference(synthetic, real)
    test = ks_2samp(synthetic, real)
    return {
        "tissue": name,
        "mean_synthetic": float(synthetic.mean()),
        "sd_synthetic": float(synthetic.std(ddof=1)),
        "mean_real": float(real.mean()),
        "sd_real": float(real.std(ddof=1)),
        "difference": difference,
        "low": low,
        "high": high,
        "ks": float(test.statistic),
        "ks_p_value": float(test.pvalue),
        "differs": bool(test.pvalue < (1 - CONFIDENCE) / (1 + len(TISSUES))),
    }


def _in_words(rows: Sequence[dict[str, Any]]) -> str:
    named = [
        f"{'less' if row['difference'] < 0 else 'more'} {_noun(row['tissue'])} by {abs(row['difference']):.1f} standard"
        f" deviations (KS {row['ks']:.2f})"
        for row in rows
        if row["differs"]
    ]
    if not named:
        return "Synthetic and real volumes were not told apart by how much tissue they have."
    return f"Synthetic volumes differ from real ones: {', '.join(named)}."


def _noun(tissue: str) -> str:
    return "tissue in all" if tissue == ALL_TISSUE else f"{tissue} tissue"
