"""A picture of synthetic images beside the training images that they resemble most, laid over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from scripts.memorization.alignment import Alignment, align, in_words
from scripts.memorization.parts import WHOLE
from scripts.memorization.search import CopySearch
from scripts.patches.intensities import foreground
from scripts.patches.pictures import STYLE, draw_image, save_picture
from scripts.volumes.file_names import stem_of

PAIRS_PER_ROW = 2
DPI = 110


@dataclass(frozen=True)
class SuspiciousPair:
    """A synthetic image and the real image that it resembles most.

    Args:
        image: (C, *spatial) in [-1, 1].
        reference: the real image, likewise.
        name: file of the synthetic image.
        subject_id: whose real image it is.
        ratio: d1 / d2.
        similarity: correlation inside the brain, aligned.
        is_copy: whether the audit names it a copy.
        part: what of it is a copy; None or "whole image" is all of it.
        is_held_out: whether the real image is of a held-out subject and not a training image.
    """

    image: Tensor
    reference: Tensor
    name: str
    subject_id: str
    ratio: float
    similarity: float
    is_copy: bool
    part: str | None = None
    is_held_out: bool = False

    @property
    def titles(self) -> tuple[str, str, str]:
        """Of the three pictures."""
        real = "held-out image, aligned" if self.is_held_out else "nearest training image, aligned"
        return "synthetic", real, "difference"


def write_pairs(
    path: str | Path, pairs: Sequence[SuspiciousPair], max_shift: int | None, modalities: Sequence[str] = ()
) -> None:
    """Draw pairs as PNG: each image, its aligned real image, their difference, and a caption.

    Args:
        path: file to write.
        pairs: at least one, the most suspicious first.
        max_shift: pixels that a copy may have been moved; None is a sixth of the smallest side.
        modalities: names of the channels; red, green and blue are drawn in their colors.
    """
    rows = -(-len(pairs) // PAIRS_PER_ROW)
    with matplotlib.rc_context({**STYLE, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(4.5 * PAIRS_PER_ROW, 1.95 * rows), layout="constrained", dpi=DPI)
        panels = figure.subfigures(rows, PAIRS_PER_ROW, squeeze=False).ravel()
        for panel, pair in zip(panels, pairs, strict=False):
            (alignment,) = CopySearch(pair.reference[None], [0], max_shift)(pair.image[None], parts=False).alignments
            panel.suptitle(caption(pair, alignment), fontsize=7)
            pictures = (pair.image, align(pair.reference, alignment), difference(pair.image, pair.reference, alignment))
            for axes, image, title in zip(panel.subplots(1, 3), pictures, pair.titles, strict=True):
                axes.imshow(draw_image(image.numpy(), modalities), cmap="gray", vmin=0, vmax=255)
                axes.set_title(title, fontsize=6, fontweight="normal", loc="center")
                axes.axis("off")
        save_picture(figure, path, DPI)


def caption(pair: SuspiciousPair, alignment: Alignment) -> str:
    """Say in a line what a pair is: files, figures, and how the real image was laid over."""
    part = f" ({pair.part})" if pair.part not in (None, WHOLE[0]) else ""
    how = [f"d1/d2 {pair.ratio:.2f}", f"similarity {pair.similarity:.2f}", in_words(alignment)]
    named = f"{'COPY: ' if pair.is_copy else ''}{stem_of(pair.name)} and {pair.subject_id}{part}"
    return f"{named}\n{', '.join(filter(None, how))}"


def difference(image: Tensor, reference: Tensor, alignment: Alignment) -> Tensor:
    """Subtract the aligned reference, with gain and offset of each channel fitted inside its brain.

    Args:
        image: (C, *spatial) in [-1, 1].
        reference: likewise.
        alignment: how the reference is laid over.

    Returns:
        Image less fit, same shape, clipped to [-1, 1]; 0, a mid grey, is equal, and so is everything outside the brain.
    """
    aligned = align(reference, alignment)
    inside = foreground(aligned)
    result = torch.zeros_like(image)
    for channel in range(len(image)):
        x, y = aligned[channel][inside].double().numpy(), image[channel][inside].double().numpy()
        design = np.stack([x, np.ones_like(x)], axis=1)
        fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
        result[channel][inside] = torch.from_numpy(y - fitted).float()
    return result.clamp(-1, 1)
