"""Published figures, for printing beside ours; never mixed into our tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scripts.running.setups import classifier_of, setup_of

IMAGES = "images"


class PublishedFigure(NamedTuple):
    """One figure of a paper.

    Args:
        setup: of ours that it is to be compared with, such as `ddpm_mi`.
        direction: training cohort -> test cohort, in the paper's words.
        measure: name of the measure.
        value: as printed.
        spread: standard deviation as printed, or None.
        decimals: as printed.
        role: of the tests of ours that it is laid beside, see `scripts.evaluation.answers.ROLES`; `IMAGES` lays it
            beside the measures of images of the method `setup` whose names begin with `measure`; None for none.
    """

    setup: str
    direction: str
    measure: str
    value: float
    spread: float | None = None
    decimals: int = 2
    role: str | None = None


class Publication(NamedTuple):
    """A paper whose figures stand beside those of a study.

    Args:
        reference: the paper, as metadata and model card list it.
        cite: what it is to be cited for, and where it is.
        read: the parts of it that the figures are from.
        data: what they were measured on.
        remark: what a reader must know of them, sentences; empty for nothing.
        figures: as printed.
    """

    reference: str
    cite: str
    read: str
    data: str
    remark: str
    figures: Sequence[PublishedFigure]


MOSHE_FIGURES = (
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
NAFI_FIGURES = (
    PublishedFigure(
        "synthetic_only", "leukemia, 80 % of the smears", "accuracy", 0.9138, decimals=4, role="locked_test"
    ),
)
BASILE_FIGURES = (PublishedFigure("ddpm", "synthetic volumes", "MMD", 0.036, decimals=3, role=IMAGES),)
MOSHE = "moshe_2025_glioma"  # whose gain in accuracy a study is asked whether it could have found
PUBLICATIONS = {
    MOSHE: Publication(
        reference=(
            "Moshe, Teicher, Artzi: synthetic brain MRI by denoising diffusion with mutual-information regularization"
            " for classifying low- and high-grade glioma"
        ),
        cite=(
            "Moshe, Teicher, Artzi, Technology in Cancer Research & Treatment, doi 10.1177/15330338251405180, for the"
            " method"
        ),
        read="abstract, text, Table 1 and Figure 2",
        data="BraTS 2019: 335 subjects (76 LGG, 259 HGG); TASMC: 224 subjects (37 LGG, 187 HGG), private",
        remark="At n = 224 the gain of .89 over .87 is about five subjects.",
        figures=MOSHE_FIGURES,
    ),
    "nafi_2024_leukemia": Publication(
        reference="Nafi et al. 2024: classifiers of medical images trained on images of diffusion models alone",
        cite="Nafi et al., arXiv 2412.16860, for the protocol",
        read="summaries of it, as none of its tables is in a text that we have",
        data="Leukemia smears in four classes: diffusion of 20 % of each class, tests on the other 80 %",
        remark=(
            "The figure is of the best of eight pretrained networks; which one, of how many synthetic images, and what"
            " the others reach is not known, and the percentage is taken for accuracy. Nobody says whose smears they"
            " are, so a split is one by image, there as here, and both figures are optimistic."
        ),
        figures=NAFI_FIGURES,
    ),
    "basile_2024_heads": Publication(
        reference="Basile et al. 2024: unconditional 3D diffusion of healthy T1-weighted volumes of several centers",
        cite="Basile, Calefato, Lanubile, Logroscino, Mallardi, Tafuri, CEUR-WS Vol-3880, paper 24, for the task",
        read="abstract",
        data="Healthy people of several centers; which sets, sizes and preprocessing is in no text that we have",
        remark=(
            "The kernel of the paper's MMD is unknown, and its FID and MS-SSIM are called suboptimal without a figure"
            " that we could read: ours are printed with the kernel of each, and no two of them share a scale."
        ),
        figures=BASILE_FIGURES,
    ),
}


def publications(names: Sequence[str]) -> list[Publication]:
    """Return publications by their names, in that order.

    Raises:
        ValueError: if there is none of a name.
    """
    for name in names:
        if name not in PUBLICATIONS:
            raise ValueError(f"task_published must hold names of {', '.join(PUBLICATIONS)}, got {name!r}; [] is none")
    return [PUBLICATIONS[name] for name in names]


def published_section(names: Sequence[str], metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lay published figures beside those of a study.

    Args:
        names: of publications.
        metrics: what `scripts.evaluation.metrics.compute_metrics` returns of the study; of one without classifiers,
            what `scripts.report.image_quality.image_figures` returns.

    Returns:
        Of each publication `paper`, `has_ours` (whether a figure of the study is laid beside one) and `rows`: `figure`
        and `ours`, rows of `metrics` of the same setup, measure and role, each with its `classifier` or None.

    Raises:
        ValueError: as `publications`.
    """
    sections = []
    for paper in publications(names):
        rows = [{"figure": figure, "ours": _ours(figure, metrics)} for figure in paper.figures]
        sections.append({"paper": paper, "has_ours": any(row["ours"] for row in rows), "rows": rows})
    return sections


def _ours(figure: PublishedFigure, metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if figure.role == IMAGES:
        images = [row for row in metrics if row.get("method") == figure.setup]
        return [
            {**row, "classifier": f"{row['measure']}, {row['network']}"}
            for row in images
            if row["measure"].startswith(figure.measure)
        ]
    metrics = [row for row in metrics if "setup" in row]
    wanted = (figure.setup, figure.measure, figure.role)
    own = [row for row in metrics if (setup_of(row["setup"]), row["measure"], row["role"]) == wanted]
    return [{**row, "classifier": classifier_of(row["setup"])} for row in own]
