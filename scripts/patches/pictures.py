"""Pictures of the report, drawn the same byte for byte each time and ready to stand inside an HTML file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import image as matplotlib_image
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator

from scripts.running.files import atomic_path
from scripts.volumes.picture_files import RGB

# Colors that stay apart for color-blind readers and in grey print (Okabe and Ito 2008).
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SVG_DPI = 72  # points an inch, in which matplotlib writes SVG
STYLE = {
    "svg.hashsalt": "report",  # else element ids are random and no two reports are equal
    "svg.fonttype": "path",  # a reader's machine may not have the font
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
}


def svg(figure: Figure) -> str:
    """Return a matplotlib figure as an SVG element, without date and without the XML header.

    Args:
        figure: drawn under `STYLE`.

    Returns:
        Text that starts with `<svg`.
    """
    stream = io.StringIO()
    with matplotlib.rc_context(STYLE):
        FigureCanvasSVG(figure)  # words are as wide as in SVG
        _lay_out(figure, SVG_DPI)
        box = figure.get_tightbbox().padded(matplotlib.rcParams["savefig.pad_inches"])
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches=box)
    text = stream.getvalue()
    return text[text.index("<svg") :]


# Draws on a figure, or on a part of one, under `STYLE`.
Panel = Callable[[FigureBase], None]


def draw_svg(panel: Panel, size: tuple[float, float]) -> str:
    """Draw one panel as SVG text, of a size in inches."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        panel(figure)
    return svg(figure)


def save_sheet(path: str | Path, panels: Sequence[Panel], size: tuple[float, float], num_columns: int = 3) -> None:
    """Write panels side by side into one PNG, each of a size in inches."""
    num_columns = min(num_columns, len(panels))
    num_rows = math.ceil(len(panels) / num_columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(num_columns * size[0], num_rows * size[1]), layout="constrained")
        places = figure.subfigures(num_rows, num_columns, squeeze=False).ravel()
        for place, panel in zip(places, panels, strict=False):
            panel(place)
        save_picture(figure, path)


def draw_strips(figure: FigureBase, title: str, strips: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Draw rows of pictures, a row per source of images, onto a panel.

    Args:
        figure: panel.
        title: of all.
        strips: name of the source -> pictures of equal size, uint8, grey or in colors.
    """
    rows = figure.subplots(len(strips), 1, squeeze=False)[:, 0]
    for axes, (name, images) in zip(rows, strips.items(), strict=True):
        separated = [np.pad(image, ((0, 0), (0, 6), (0, 0))[: image.ndim], constant_values=255) for image in images]
        axes.imshow(np.concatenate(separated, axis=1), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(name, fontsize=8, fontweight="normal")
        axes.set_axis_off()
    figure.suptitle(title, fontsize=9, fontweight="bold")


def png_data_uri(image: np.ndarray) -> str:
    """Return an image as a `data:` address of a PNG.

    Args:
        image: (height, width) grey or (height, width, 3) colors, uint8.

    Returns:
        The address, usable as `src` of an `<img>`.
    """
    return data_uri(png_bytes(image))


def data_uri(png: bytes) -> str:
    """Return a PNG as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def png_bytes(image: np.ndarray) -> bytes:
    """Encode a (height, width) or (height, width, 3) uint8 image as PNG, without metadata."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(f"image must be uint8 of two or three dimensions, got {image.dtype} {image.shape}")
    stream = io.BytesIO()
    unnamed: dict[str, Any] = {"Software": None}
    colors = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    matplotlib_image.imsave(stream, colors, format="png", metadata=unnamed)
    return stream.getvalue()


def mosaic(patch: np.ndarray, enlarge_to: int = 96, gap: int = 2, num_columns: int | None = None) -> np.ndarray:
    """Lay the channels of a patch side by side; of a volume, each channel in three planes through its middle.

    Args:
        patch: (C, *spatial), intensities in [-1, 1]; the planes of a 3D patch are axial, coronal and sagittal.
        enlarge_to: pixels that a channel is wide at least; small patches grow by a whole factor, so pixels stay square.
        gap: white pixels between channels.
        num_columns: channels in a row; None is the square root of their number, and one of volumes.

    Returns:
        (height, width) uint8; -1 is black, 1 is white, values outside are shown as the nearest of them.
    """
    if patch.ndim not in (3, 4):
        raise ValueError(f"patch must have shape (C, H, W) or (C, H, W, D), got {patch.shape}")
    is_volume = patch.ndim == 4
    planes = _middle_planes(patch) if is_volume else patch
    # NIfTI counts its first axis from left to right: transposed and flipped, the picture stands upright.
    planes = np.flip(np.swapaxes(planes, 1, 2), axis=1)
    factor = max(1, enlarge_to // planes.shape[2])
    planes = planes.repeat(factor, axis=1).repeat(factor, axis=2)
    columns = (num_columns or 1) * 3 if is_volume else num_columns or math.ceil(math.sqrt(len(planes)))
    rows = math.ceil(len(planes) / columns)
    height, width = planes.shape[1:]
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), 1.0, dtype=np.float32)
    for index, plane in enumerate(planes):
        row, column = (
            position * (side + gap) for position, side in zip(divmod(index, columns), plane.shape, strict=True)
        )
        canvas[row : row + height, column : column + width] = plane
    return np.rint((np.clip(canvas, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)


def _middle_planes(volume: np.ndarray) -> np.ndarray:
    """Axial, coronal and sagittal plane of each channel, (C * 3, W, H), with black around the smaller ones."""
    middles = [side // 2 for side in volume.shape[1:]]
    planes = [volume[..., middles[2]], volume[:, :, middles[1]], volume[:, middles[0]]]
    sides = np.max([plane.shape[1:] for plane in planes], axis=0)
    padded = []
    for plane in planes:
        missing = sides - plane.shape[1:]
        around = [(0, 0), *((gap // 2, gap - gap // 2) for gap in missing)]
        padded.append(np.pad(plane, around, constant_values=-1.0))
    return np.stack(padded, axis=1).reshape(-1, *sides)


def draw_image(image: np.ndarray, modalities: Sequence[str], enlarge_to: int = 96) -> np.ndarray:
    """Draw an image as people look at it: in its colors, or else its channels side by side.

    Args:
        image: (C, *spatial), as for `mosaic`.
        modalities: names of the C channels.
        enlarge_to: as for `mosaic`, of the image where it has colors.

    Returns:
        (height, width, 3) uint8 of red, green and blue; (height, width) uint8 of other channels.
    """
    if not in_colors(modalities):
        return mosaic(image, enlarge_to)
    return np.stack([mosaic(image[list(modalities).index(name)][None], enlarge_to) for name in RGB], axis=-1)


def in_colors(modalities: Sequence[str]) -> bool:
    """Tell whether channels are red, green and blue, in any order."""
    return sorted(modalities) == sorted(RGB)


def heat_color(value: float | None, low: float = 0.4, high: float = 1.0) -> str:
    """Return the background color of a heatmap cell: white at `low`, deep blue at `high`, grey without a value."""
    if value is None:
        return "#eeeeee"
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    start, end = np.array([247, 251, 255]), np.array([33, 113, 181])
    red, green, blue = np.rint(start + share * (end - start)).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def heat_text_color(value: float | None, low: float = 0.4, high: float = 1.0) -> str:
    """Return the text color that can be read on `heat_color`."""
    return "#ffffff" if value is not None and (value - low) / (high - low) > 0.89 else "#1a1a1a"


def draw_curve(figure: FigureBase, title: str, series: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Draw the curves of one training onto a panel.

    Args:
        figure: panel.
        title: what was trained.
        series: name of a scalar -> (epoch, value) by epoch.
    """
    axes = figure.subplots()
    for color, (name, points) in zip(COLORS, series.items(), strict=False):
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, color=color, label=name, linewidth=1.3, marker="." if len(points) < 12 else None)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    figure.legend(fontsize=7, loc="outside lower center", ncols=2)  # inside it would cover the curves


def draw_intervals(rows: Sequence[Mapping[str, Any]], label: str, reference: float | None = None) -> str:
    """Draw estimates with their intervals, one panel per group and one line per row.

    Args:
        rows: each with `name`, `value`, `low`, `high` and `group`.
        label: of the horizontal axis, which the panels share.
        reference: where a dashed line stands, such as the value of guessing.

    Returns:
        SVG text.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    sizes = [len(members) for members in groups.values()]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 0.4 + 0.35 * len(groups) + 0.2 * sum(sizes)), layout="constrained")
        panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=sizes).ravel()
        for axes, color, (group, members) in zip(panels, COLORS * len(groups), groups.items(), strict=False):
            _draw_estimates(axes, members, color, reference)
            axes.set_title(group)
        panels[-1].set_xlabel(label)
    return svg(figure)


def _draw_estimates(axes: Axes, rows: Sequence[Mapping[str, Any]], color: str, reference: float | None) -> None:
    for position, row in enumerate(rows):
        axes.plot([row["low"], row["high"]], [position, position], color=color, linewidth=1.6)
        axes.plot(row["value"], position, "o", color=color, markersize=4.5)
    if reference is not None:
        axes.axvline(reference, color="#777777", linestyle="--", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.25)


def save_picture(figure: Figure, path: str | Path, dpi: int = 120) -> None:
    """Write a figure as PNG, whole or not at all, and the same byte for byte each time."""
    stream = io.BytesIO()
    unnamed: dict[str, Any] = {"Software": None}
    _lay_out(figure, dpi)
    figure.savefig(stream, format="png", dpi=dpi, metadata=unnamed)
    with atomic_path(path) as temporary:
        temporary.write_bytes(stream.getvalue())


def _lay_out(figure: Figure, dpi: float) -> None:
    """Place the axes for good: `savefig` would draw everything once for that, and once more to write it."""
    figure.set_dpi(dpi)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
