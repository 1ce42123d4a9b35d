"""The verdict of the audit: what the figures say about memorization, in words, at stated thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.stats import fisher_exact

from scripts.statistics.intervals import wilson

MEMORIZES = "memorizes"
NO_SIGN = "no sign of memorization"
UNUSABLE = "unusable"
TOO_FEW = "too few images to tell"
VERDICTS = (MEMORIZES, UNUSABLE, TOO_FEW, NO_SIGN)  # the gravest first


@dataclass(frozen=True)
class Thresholds:
    """Where the audit draws its lines; fixed by `python -m benchmarks.audit_thresholds`, on seeds of no test.

    Args:
        copy_ratio: an image is a copy whose d1 / d2 is below this. Honest images of other patients have .65 and more,
            copies altered as in `benchmarks/altered_copies.py` .2 and less.
        gap_p_value: a gap counts where exchanged subjects reach it with at most this probability ...
        min_relative_gap: ... and it is at least this share of what held-out subjects leave to a perfect similarity. A
            Gaussian fitted to 30 or more patients, which copies nobody, stays below.
        usable_similarity: a set is unusable where more than half of the images are less similar to their nearest real
            subject than this times what 9 of 10 real subjects reach.
        min_images: synthetic images, without which "no sign" would say little: none among 29 leaves room for 1 in 10.
        min_training: subjects; the ratio needs two, and among few everything is far from the second.
        min_held_out: subjects of the baselines.
    """

    copy_ratio: float = 0.5
    gap_p_value: float = 0.01
    min_relative_gap: float = 0.1
    usable_similarity: float = 0.5
    min_images: int = 29
    min_training: int = 5
    min_held_out: int = 5

    def __post_init__(self) -> None:
        for name in ("copy_ratio", "gap_p_value", "min_relative_gap", "usable_similarity"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"audit_{name} must be in (0, 1), got {value!r}")
        for name in ("min_images", "min_training", "min_held_out"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"audit_{name} must be >= 1, got {value!r}")


def judge(figures: Mapping[str, Any], thresholds: Thresholds) -> dict[str, Any]:
    """Say what the figures of one class mean.

    Copies come first: they are a fact about single patients. Then whether the images are images at all, since noise is
    near nobody; then the gap; then whether there was enough to see anything.

    Args:
        figures: `num_synthetic`, `num_training_subjects`, `num_held_out_subjects`; `copies`, `held_out_copies`: numbers
            (the latter of `num_held_out_subjects`); `unlike_share`: share of images that resemble no real subject;
            `gap`: `mean`, `low`, `high`, `p_value`, `relative`, or None without held-out subjects.
        thresholds: see there.

    Returns:
        `verdict`, one of `VERDICTS`, and `evidence`, sentences.
    """
    evidence = [_about_copies(figures, thresholds), _about_likeness(figures, thresholds)]
    if figures["gap"] is not None:
        evidence.append(_about_gap(figures["gap"], thresholds))
    missing = _missing(figures, thresholds)
    if _has_copies(figures, thresholds):
        verdict = MEMORIZES
    elif figures["unlike_share"] > 0.5:
        verdict = UNUSABLE
        evidence.append("No copies among images that resemble nobody say nothing about memorization.")
    elif _has_gap(figures["gap"], thresholds):
        verdict = MEMORIZES
    elif missing:
        verdict = TOO_FEW
    else:
        verdict = NO_SIGN
    return {"verdict": verdict, "evidence": [*evidence, *missing]}


def copy_share(copies: int, total: int) -> dict[str, float | None]:
    """Share of copies with its 95 % Wilson limits."""
    estimate = wilson(copies, total)
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _has_copies(figures: Mapping[str, Any], thresholds: Thresholds) -> bool:
    copies, baseline = figures["copies"], figures["held_out_copies"]
    if not baseline:
        return copies > 0
    # Real images that count as copies (a patient with two identifiers, say) take the meaning from a few of them.
    table = [[copies, figures["num_synthetic"] - copies], [baseline, figures["num_held_out_subjects"] - baseline]]
    return bool(fisher_exact(table, alternative="greater").pvalue <= thresholds.gap_p_value)


def _has_gap(gap: Mapping[str, Any] | None, thresholds: Thresholds) -> bool:
    if gap is None:
        return False
    return gap["p_value"] <= thresholds.gap_p_value and gap["relative"] >= thresholds.min_relative_gap


def _missing(figures: Mapping[str, Any], thresholds: Thresholds) -> list[str]:
    names = {
        "num_synthetic": ("synthetic images", thresholds.min_images, "generate more"),
        "num_training_subjects": ("training subjects", thresholds.min_training, "train on more"),
        "num_held_out_subjects": ("held-out subjects", thresholds.min_held_out, "hold out more"),
    }
    return [
        f"{figures[key]} {name}, of which the audit needs {needed}; {way_out}."
        for key, (name, needed, way_out) in names.items()
        if figures[key] < needed
    ]


def _about_copies(figures: Mapping[str, Any], thresholds: Thresholds) -> str:
    copies, total = figures["copies"], figures["num_synthetic"]
    share = wilson(copies, total)
    low, high = (100 * limit for limit in (share.low, share.high) if limit is not None)
    said = (
        f"{copies} of {total} images {'is a copy' if copies == 1 else 'are copies'}: less than"
        f" {thresholds.copy_ratio:g} times as far from one training subject as from the next, flips and shifts"
        f" undone (95 % of the share: {low:.1f} to {high:.1f} %)"
    )
    return f"{said}; of {figures['num_held_out_subjects']} real held-out subjects {figures['held_out_copies']}."


def _about_likeness(figures: Mapping[str, Any], thresholds: Thresholds) -> str:
    return (
        f"{100 * figures['unlike_share']:.0f} % of the images reach less than {thresholds.usable_similarity:g} times"
        " the similarity to their nearest real subject that 9 of 10 real subjects reach."
    )


def _about_gap(gap: Mapping[str, Any], thresholds: Thresholds) -> str:
    return (
        f"Images are nearer to training than to held-out subjects by {gap['mean']:.3f} (95 % {gap['low']:.3f} to"
        f" {gap['high']:.3f}, p {gap['p_value']:.3f}), {100 * gap['relative']:.0f} % of what held-out subjects leave;"
        f" it counts from {100 * thresholds.min_relative_gap:.0f} % at p {thresholds.gap_p_value:g}."
    )
