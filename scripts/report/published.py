"""The paper's own figures, for printing beside ours; never mixed into our tables."""

from __future__ import annotations

from typing import Any, NamedTuple

SOURCE = (
    "Moshe, Teicher, Artzi: synthetic brain MRI by denoising diffusion with mutual-information regularization for"
    " classifying low- and high-grade glioma; abstract, text, Table 1 and Figure 2"
)
COHORTS = "BraTS 2019: 335 subjects (76 LGG, 259 HGG); TASMC: 224 subjects (37 LGG, 187 HGG), private"


class PublishedFigure(NamedTuple):
    """One figure of the paper.

    Args:
        setup: `real`, `augmentation`, `ddpm` or `ddpm_mi`.
        direction: training cohort -> test cohort, in the paper's words.
        measure: name of the measure.
        value: as printed.
        spread: standard deviation as printed, or None.
    """

    setup: str
    direction: str
    measure: str
    value: float
    spread: float | None = None


FIGURES = (
    PublishedFigure("real", "BraTS -> TASMC", "accuracy", 0.87),
    PublishedFigure("augmentation", "BraTS -> TASMC", "accuracy", 0.85),
    PublishedFigure("ddpm", "BraTS -> TASMC", "accuracy", 0.82),
    PublishedFigure("ddpm_mi", "BraTS -> TASMC", "accuracy", 0.89),
    PublishedFigure("ddpm_mi", "BraTS -> TASMC", "weighted F1", 0.90),
    PublishedFigure("real", "TASMC -> BraTS", "accuracy", 0.80),
    PublishedFigure("augmentation", "TASMC -> BraTS", "accuracy", 0.78),
    PublishedFigure("ddpm", "TASMC -> BraTS", "accuracy", 0.83),
    PublishedFigure("ddpm_mi", "TASMC -> BraTS", "accuracy", 0.85),
    PublishedFigure("ddpm_mi", "TASMC -> BraTS", "weighted F1", 0.86),
    PublishedFigure("real", "BraTS, validation (selected on), 5-fold mean", "accuracy", 0.90, 0.03),
    PublishedFigure("real", "BraTS, validation (selected on), 5-fold mean", "weighted F1", 0.91, 0.03),
    PublishedFigure("real", "BraTS, test, 5-fold mean", "accuracy", 0.86, 0.03),
    PublishedFigure("real", "BraTS, test, 5-fold mean", "weighted F1", 0.86, 0.03),
    PublishedFigure("real", "BraTS, test, ensemble", "accuracy", 0.97),
    PublishedFigure("real", "BraTS, test, ensemble", "weighted F1", 0.97),
    PublishedFigure("ddpm", "generated images", "max Pearson correlation", 0.55, 0.11),
    PublishedFigure("ddpm_mi", "generated images", "max Pearson correlation", 0.47, 0.11),
    PublishedFigure("ddpm", "generated images", "FID", 45.00),
    PublishedFigure("ddpm_mi", "generated images", "FID", 31.47),
    PublishedFigure("ddpm", "generated images", "IS", 1.25),
    PublishedFigure("ddpm_mi", "generated images", "IS", 1.50),
)


def published_section() -> dict[str, Any]:
    """Return the paper's own figures with their source."""
    return {"source": SOURCE, "cohorts": COHORTS, "figures": FIGURES}
