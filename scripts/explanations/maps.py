"""Where a classifier looked: maps of the parts of an image that speak for a class."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from monai.networks.blocks.selfattention import SABlock
from monai.visualize import GradCAM, OcclusionSensitivity
from torch import Tensor, nn

from scripts.patches.pictures import STYLE

BACKGROUND = -1.0
MIN_CELLS = 3  # a coarser map than 3 cells a side says nothing about where
WARNING = "NOT FOR PATIENTS: the weights were trained on simulated images"


def explain(
    network: nn.Module, image: Tensor, label: int, method: str = "gradcam", layer: str | None = None, mask_size: int = 8
) -> np.ndarray:
    """Compute where an image speaks for a class.

    Args:
        network: classifier in evaluation mode; of one with `members` the maps of all members are averaged.
        image: (C, *spatial), [-1, 1], on the network's device.
        label: class that is explained.
        method: a key of `METHODS`: `gradcam` or `occlusion`.
        layer: of GradCAM, name of a module of a member; None takes the deepest one whose map is fine enough.
        mask_size: of occlusion, side of the part that is covered, pixels.

    Returns:
        (*spatial) float32 in [0, 1]; 1 is where most speaks for the class, all 0 where nothing does.

    Raises:
        ValueError: if the method is unknown, or GradCAM finds no layer with a map; see `deepest_layer`.
    """
    if method not in METHODS:
        raise ValueError(f"explanation must be one of {', '.join(METHODS)}, got {method!r}")
    members = list(getattr(network, "members", [network]))
    plain = torch.as_tensor(image).unsqueeze(0)
    option = layer if method == "gradcam" else mask_size
    maps = [METHODS[method](member, plain, label, option) for member in members]
    return normalize(torch.stack(maps).mean(dim=0))


def normalize(heat: Tensor) -> np.ndarray:
    """Cut off what speaks against the class and divide by the maximum: (*spatial) to [0, 1]."""
    positive = heat.detach().float().clamp(min=0)
    top = positive.max()
    return (positive / top if top > 0 else positive).cpu().numpy()


def deepest_layer(network: nn.Module, image: Tensor, min_cells: int = MIN_CELLS) -> str:
    """Name the last module of a network whose output still is a map of at least `min_cells` a side.

    A map has the image's spatial dimensions, reduced by about one factor. A module that is called more than once, such
    as an activation that all blocks share, has no map of its own; what lies in a block whose own map is too coarse
    sees one branch of it only.

    Args:
        network: from (1, C, *spatial) to logits.
        image: (1, C, *spatial).
        min_cells: cells along the shortest side.

    Returns:
        Name as in `network.named_modules()`.

    Raises:
        ValueError: if no module has such a map, or the network attends to tokens, which have no layout in space.
    """
    if any(isinstance(module, (SABlock, nn.MultiheadAttention)) for module in network.modules()):
        raise ValueError(
            f"explanation must be 'occlusion' for a {type(network).__name__}, got 'gradcam': its layers hold tokens and"
            " not maps; set explanation (of configs/inference.yaml) to occlusion, or take gradcam out of"
            " explain_methods (of configs/explain.yaml)"
        )
    sides = tuple(image.shape[2:])
    maps, coarse = [], []
    for name, shapes in _shapes_of_outputs(network, image):
        if len(shapes) == 1 and _is_map(shapes[0], sides) and min(shapes[0][2:]) >= min_cells:
            maps.append(name)
        elif len(shapes[0]) == image.ndim and not isinstance(network.get_submodule(name), nn.Sequential):
            coarse.append(f"{name}.")
    layers = [name for name in maps if not name.startswith(tuple(coarse))]
    if not layers:
        raise ValueError(
            f"explanation must be 'occlusion' for images of {sides}, got 'gradcam':"
            f" no layer of this network has a map of {min_cells} cells a side"
        )
    return layers[-1]


def _shapes_of_outputs(network: nn.Module, image: Tensor) -> list[tuple[str, list[tuple[int, ...]]]]:
    """List the modules in the order of their last calls, each with the shape of each output; () for no tensor."""
    shapes: dict[str, list[tuple[int, ...]]] = {}

    def note(name: str) -> Callable[[nn.Module, tuple, object], None]:
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            shape = tuple(output.shape) if isinstance(output, Tensor) else ()
            shapes[name] = [*shapes.pop(name, []), shape]

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    return list(shapes.items())


def _is_map(shape: Sequence[int], sides: Sequence[int]) -> bool:
    """Whether an output (B, C, *cells) is the image (*sides) reduced by one factor, up to a cell of rounding."""
    cells = shape[2:]
    if len(cells) != len(sides) or min(cells) < 2:
        return False
    # side / factor is within one cell of `cell` for a factor from side / (cell + 1) to side / (cell - 1).
    lowest = max(side / (cell + 1) for side, cell in zip(sides, cells, strict=True))
    highest = min(side / (cell - 1) for side, cell in zip(sides, cells, strict=True))
    return lowest <= highest


def draw_answer(
    image: np.ndarray, heat: np.ndarray, modalities: list[str], title: str, not_for_patients: bool = False
) -> Figure:
    """Draw a patch, modality by modality, and below it the same with the map laid over it.

    Args:
        image: (C, *spatial), [-1, 1]; of a volume the middle slice along the last axis is shown.
        heat: (*spatial), [0, 1].
        modalities: C names.
        title: what was answered.
        not_for_patients: print the warning across the picture.

    Returns:
        Figure, two rows by C columns.
    """
    if image.ndim == 4:
        image, heat = image[..., image.shape[-1] // 2], heat[..., heat.shape[-1] // 2]
    with rc_context(STYLE):
        figure = Figure(figsize=(2.1 * len(image), 5.0), layout="constrained")
        panels = figure.subplots(2, len(image), squeeze=False)
        for column, (plane, name) in enumerate(zip(image, modalities, strict=True)):
            panels[0, column].set_title(name)
            for row in range(2):
                panels[row, column].imshow(plane.T, cmap="gray", vmin=-1, vmax=1, origin="lower")
                panels[row, column].set_axis_off()
            # Transparent where nothing speaks for the class, so that the anatomy stays visible.
            panels[1, column].imshow(heat.T, cmap="inferno", vmin=0, vmax=1, origin="lower", alpha=0.65 * heat.T)
        _mark_sides(panels[0, 0])
        color = "#b00020" if not_for_patients else "#444444"
        figure.suptitle(title, fontsize=11)
        figure.supxlabel(WARNING if not_for_patients else "For research only", fontsize=10, color=color, weight="bold")
        if not_for_patients:
            style: dict[str, Any] = {
                "color": color,
                "alpha": 0.35,
                "rotation": 18,
                "ha": "center",
                "va": "center",
                "weight": "bold",
            }
            figure.text(0.5, 0.48, "NOT FOR PATIENTS", fontsize=8 * len(image), **style)
    return figure


def draw_attributions(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    modalities: list[str],
    shares: Mapping[str, list[float] | None],
    simulated: bool = False,
) -> Figure:
    """Draw a patch, modality by modality, and below it a row a method with the method's map laid over it.

    Args:
        image: (C, *spatial), [-1, 1]; of a volume the middle slice along the last axis is shown.
        maps: title of a method -> (C, *spatial), or (1, *spatial) for all modalities; above 0 speaks for the answer.
        modalities: C names.
        shares: title of a method -> share of each modality, written into its panel; None writes nothing.
        simulated: print that the weights were trained on simulated images.

    Returns:
        Figure, 1 + methods rows by C columns. Red speaks for the answer and blue against it, each method on a scale of
        its own.
    """
    middle = image.shape[-1] // 2
    planes = image if image.ndim == 3 else image[..., middle]
    with rc_context(STYLE):
        # Small and drawn at many dots an inch: letters stay legible where three pictures share a line.
        size = (1.3 * len(planes) + 0.2, 1.3 * (1 + len(maps)) + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1 + len(maps), len(planes), squeeze=False)
        for axes, plane, name in zip(panels[0], planes, modalities, strict=True):
            axes.set_title(name, fontsize=11)
            _draw_plane(axes, plane)
        for row, (title, found) in zip(panels[1:], maps.items(), strict=True):
            heat = found if image.ndim == 3 else found[..., middle]
            heat = np.broadcast_to(heat / (np.abs(found).max() or 1.0), planes.shape)
            for index, (axes, plane) in enumerate(zip(row, planes, strict=True)):
                _draw_plane(axes, plane)
                _lay_over(axes, heat[index])
                if shares.get(title) is not None:
                    _write_share(axes, shares[title][index])  # type: ignore[index]
            row[0].set_ylabel(title, fontsize=11, weight="bold")
        _mark_sides(panels[0, 0])
        warning = WARNING if simulated else "For research only"
        figure.supxlabel(warning, fontsize=8, color="#b00020" if simulated else "#444444", weight="bold")
    return figure


def _draw_plane(axes: Axes, plane: np.ndarray) -> None:
    axes.imshow(plane.T, cmap="gray", vmin=-1, vmax=1, origin="lower")
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


def _mark_sides(axes: Axes) -> None:
    # Patches run from the patient's left to right; radiologists are used to the mirror image.
    for x, name in ((0.04, "L"), (0.96, "R")):
        axes.text(x, 0.5, name, transform=axes.transAxes, color="#ffd54f", ha="center", va="center", weight="bold")


def _gradcam(member: nn.Module, image: Tensor, label: int, layer: str | int | None) -> Tensor:
    name = str(layer) if layer is not None else deepest_layer(member, image)
    with torch.enable_grad():
        # A copy, because MONAI leaves its hooks on the network and turns in-place layers off. Its scaling, which puts 1
        # where least speaks for the class, is left out: `normalize` does that.
        cam = GradCAM(nn_module=copy.deepcopy(member), target_layers=name, postprocessing=_as_it_is)
        return cam(x=image, class_idx=label)[0, 0]


def _occlusion(member: nn.Module, image: Tensor, label: int, mask_size: str | int | None) -> Tensor:
    # Covered with background, which is what "nothing there" looks like, and not with the grey that 0 is.
    size = int(mask_size or 1)
    # Softmax is named, because MONAI takes the sigmoid where the image has one channel.
    covered = OcclusionSensitivity(
        member, size, n_batch=16, verbose=False, mode=BACKGROUND, overlap=0.5, activate=_softmax
    )
    with torch.no_grad():
        probabilities, _ = covered(image)
        # What the class loses when a part is covered.
        return member(image).softmax(dim=1)[0, label] - probabilities[0, label]


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def _as_it_is(heat: Tensor) -> Tensor:
    return heat


METHODS: dict[str, Callable[[nn.Module, Tensor, int, str | int | None], Tensor]] = {
    "gradcam": _gradcam,
    "occlusion": _occlusion,
}
