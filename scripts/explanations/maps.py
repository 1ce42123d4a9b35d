"""Where a classifier looked: one map of the parts of an image that speak for a class, by GradCAM or by occlusion."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.networks.blocks.selfattention import SABlock
from monai.visualize import GradCAM, OcclusionSensitivity
from torch import Tensor, nn

from scripts.patches.intensities import BACKGROUND

MIN_CELLS = 3  # a coarser map than 3 cells along each side says nothing about where
WITHOUT_GRADCAM = (
    "set explanation (of configs/inference.yaml) to occlusion, or take gradcam out of explain_methods (of"
    " configs/explain.yaml)"
)


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
    """Name the last module of a network whose output still is a map of at least `min_cells` along each side.

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
            f" not maps; {WITHOUT_GRADCAM}"
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
            f" no layer of this network has a map of {min_cells} cells along each side; {WITHOUT_GRADCAM}"
        )
    return layers[-1]


def map_layer(network: nn.Module, image: Tensor, layer: str | None = None) -> str:
    """Name the layer whose map GradCAM weighs: the one that was asked for, else the deepest with a fine enough map.

    Args:
        network: from (1, C, *spatial) to logits.
        image: (1, C, *spatial).
        layer: name of a module; None takes that of `deepest_layer`.

    Raises:
        ValueError: if the network has no such map; see `deepest_layer`.
    """
    if layer is None:
        return deepest_layer(network, image)
    shapes = dict(_shapes_of_outputs(network, image))
    if layer not in shapes or len(shapes[layer][-1]) != image.ndim:
        raise ValueError(
            f"explanation_layer must be a module of {type(network).__name__} that gives a map, got {layer!r};"
            " null takes the deepest whose map is fine enough"
        )
    return layer


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


def _gradcam(member: nn.Module, image: Tensor, label: int, layer: str | int | None) -> Tensor:
    name = map_layer(member, image, None if layer is None else str(layer))
    with torch.enable_grad():
        # A copy, because MONAI leaves its hooks on the network and turns in-place layers off. Its scaling, which puts 1
        # where least speaks for the class, is left out: `normalize` does that.
        cam = GradCAM(nn_module=copy.deepcopy(member), target_layers=name, postprocessing=_as_it_is)
        heat: Tensor = cam(x=image, class_idx=label)[0, 0].detach()
    # Its hooks hold what they noted, and the graph of that holds the hooks, where Python does not look for cycles: the
    # copy would stay in memory for good.
    hooks = cam.nn_module
    hooks.activations, hooks.gradients, hooks.score = {}, {}, None
    return heat


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
