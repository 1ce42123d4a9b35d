"""Pictures of explained answers: the maps laid over the images, modality by modality or in colors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from scripts.patches.crop import Overview
from scripts.patches.pictures import STYLE, in_colors
from scripts.volumes.picture_files import RGB

METHOD_TITLES = {"lime": "LIME", "occlusion": "Occlusion", "gradcam": "GradCAM"}
FRAME_COLOR = "#ffd54f"
WARNING_COLOR = "#b00020"
WARNING = "NOT FOR PATIENTS: the weights were trained on simulated images"


def draw_answer(
    image: np.ndarray,
    heat: np.ndarray,
    modalities: list[str],
    title: str,
    not_for_patients: bool = False,
    sides: bool = True,
) -> Figure:
    """Draw a patch, modality by modality or in its colors, and below it the same with the map laid over it.

    Args:
        image: (C, *spatial), [-1, 1]; of a volume the middle slice along the last axis is shown.
        heat: (*spatial), [0, 1].
        modalities: C names.
        title: what was answered.
        not_for_patients: print the warning across the picture.
        sides: show the patient's right on the left, as radiologists do, and mark both; pictures tell no sides.

    Returns:
        Figure, two rows by C columns, or one of colors.
    """
    if image.ndim == 4:
        image, heat = image[..., image.shape[-1] // 2], heat[..., heat.shape[-1] // 2]
    planes = _planes(image, modalities)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.1 * max(2, len(planes)), 5.0), layout="constrained")
        panels = figure.subplots(2, len(planes), squeeze=False)
        for column, (name, plane) in enumerate(planes.items()):
            panels[0, column].set_title(name)
            for axes in panels[:, column]:
                _draw_plane(axes, plane)
            # Transparent where nothing speaks for the class, so that the anatomy stays visible.
            panels[1, column].imshow(heat.T, cmap="inferno", vmin=0, vmax=1, origin="lower", alpha=0.65 * heat.T)
        if sides:
            _mark_sides(panels[0, 0], "RL")
            for axes in panels.flat:
                axes.invert_xaxis()  # patches run from the patient's left to right
        figure.suptitle(title, fontsize=11)
        _write_use(figure, not_for_patients, fontsize=10)
        if not_for_patients:
            style: dict[str, Any] = {"alpha": 0.35, "rotation": 18, "ha": "center", "va": "center", "weight": "bold"}
            figure.text(0.5, 0.48, "NOT FOR PATIENTS", fontsize=8 * max(2, len(planes)), color=WARNING_COLOR, **style)
    return figure


def draw_overview(overview: Overview, title: str, not_for_patients: bool = False) -> Figure:
    """Draw the slice that a patch was cut from, modality by modality, with the frame of the patch and its center.

    The patient's right is on the left, as in `draw_answer`.

    Args:
        overview: the slice.
        title: whose, and which.
        not_for_patients: print the warning below.

    Returns:
        Figure, one row of modalities, or one panel of colors.
    """
    slices = np.stack([np.asarray(plane) for plane in overview.planes.values()])
    planes = _planes(slices, list(overview.planes))
    column_mm, row_mm = (float(value) for value in overview.voxel_mm)
    # imshow has the middle of the first voxel at 0.
    left, bottom = (float(value) - 0.5 for value in overview.corner)
    width, height = (float(value) for value in overview.sides)
    column, row = (int(value) for value in overview.center)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.4 * max(2, len(planes)), 3.4), layout="constrained")
        panels = figure.subplots(1, len(planes), squeeze=False)[0]
        for axes, (name, plane) in zip(panels, planes.items(), strict=True):
            axes.set_title(name)
            _draw_plane(axes, plane)
            axes.set_aspect(row_mm / column_mm)
            axes.add_patch(Rectangle((left, bottom), width, height, fill=False, edgecolor=FRAME_COLOR, linewidth=1.4))
            axes.plot(column, row, "+", color=FRAME_COLOR, markersize=7)
            axes.set_xlim(min(-0.5, left), max(plane.shape[1] - 0.5, left + width))
            axes.set_ylim(min(-0.5, bottom), max(plane.shape[0] - 0.5, bottom + height))
            axes.invert_xaxis()
        _mark_sides(panels[0], "RL")
        figure.suptitle(title, fontsize=11)
        _write_use(figure, not_for_patients, fontsize=10)
    return figure


def draw_attributions(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    modalities: list[str],
    shares: Mapping[str, list[float] | None],
    simulated: bool = False,
    sides: bool = True,
) -> Figure:
    """Draw a patch, modality by modality, and below it one row per method with its map laid over it.

    A picture in colors is one column where no map parts its colors.

    Args:
        image: (C, *spatial), [-1, 1]; of a volume the middle slice along the last axis is shown.
        maps: title of a method -> (C, *spatial), or (1, *spatial) for all modalities; above 0 speaks for the answer.
        modalities: C names.
        shares: title of a method -> share of each modality, written into its panel; None writes nothing.
        simulated: print that the weights were trained on simulated images.
        sides: mark the patient's left and right, left on the left; pictures tell no sides.

    Returns:
        Figure, 1 + methods rows by C columns, or one of colors. Red speaks for the answer and blue against it, each
        method on a scale of its own.
    """
    middle = image.shape[-1] // 2
    shown = image if image.ndim == 3 else image[..., middle]
    parted = any(
        len(values) > 1 and not np.array_equal(values, values[:1].repeat(len(values), 0)) for values in maps.values()
    )
    planes = dict(zip(modalities, [plane.T for plane in shown], strict=True)) if parted else _planes(shown, modalities)
    with rc_context(STYLE):
        # Small and drawn at many dots an inch: letters stay legible where three pictures share a line.
        size = (1.3 * len(planes) + 0.2, 1.3 * (1 + len(maps)) + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1 + len(maps), len(planes), squeeze=False)
        for axes, (name, plane) in zip(panels[0], planes.items(), strict=True):
            axes.set_title(name, fontsize=11)
            _draw_plane(axes, plane)
        for row, (title, values) in zip(panels[1:], maps.items(), strict=True):
            heat = values if image.ndim == 3 else values[..., middle]
            heat = np.broadcast_to(heat / (np.abs(values).max() or 1.0), shown.shape)
            for index, (axes, plane) in enumerate(zip(row, planes.values(), strict=True)):
                _draw_plane(axes, plane)
                _lay_over(axes, heat[index])
                if shares.get(title) is not None and len(planes) == len(shown):
                    _write_share(axes, shares[title][index])  # type: ignore[index]
            row[0].set_ylabel(title, fontsize=11, weight="bold")
        if sides:
            _mark_sides(panels[0, 0], "LR")
        _write_use(figure, simulated, fontsize=8)
    return figure


def _write_use(figure: Figure, not_for_patients: bool, fontsize: int) -> None:
    color, words = (WARNING_COLOR, WARNING) if not_for_patients else ("#444444", "For research only")
    figure.supxlabel(words, fontsize=fontsize, color=color, weight="bold")


def _planes(image: np.ndarray, modalities: list[str]) -> dict[str, np.ndarray]:
    """Name what is drawn side by side: grey planes (rows, columns) in [-1, 1], or one (rows, columns, 3) in [0, 1]."""
    if not in_colors(modalities):
        return {name: plane.T for name, plane in zip(modalities, image, strict=True)}
    colors = np.stack([image[modalities.index(name)].T for name in RGB], axis=-1)
    return {"in colors": (colors.clip(-1, 1) + 1) / 2}


def _draw_plane(axes: Axes, plane: np.ndarray) -> None:
    axes.imshow(plane, cmap="gray", vmin=-1, vmax=1, origin="lower")
    # Not set_axis_off, which would take the row's title away as well.
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _lay_over(axes: Axes, heat: np.ndarray) -> None:
    # Transparent where nothing speaks for or against the answer, so that the anatomy stays visible.
    axes.imshow(heat.T, cmap="bwr", vmin=-1, vmax=1, origin="lower", alpha=0.7 * np.abs(heat.T))


def _write_share(axes: Axes, share: float) -> None:
    style: dict[str, Any] = {"color": "white", "ha": "right", "va": "bottom", "fontsize": 9, "weight": "bold"}
    text = axes.text(0.97, 0.03, f"{100 * share:.0f} %", transform=axes.transAxes, **style)
    text.set_path_effects([withStroke(linewidth=2, foreground="black")])  # white letters on white matter


def _mark_sides(axes: Axes, sides: str) -> None:
    for x, name in zip((0.04, 0.96), sides, strict=True):
        axes.text(x, 0.5, name, transform=axes.transAxes, color="#ffd54f", ha="center", va="center", weight="bold")
