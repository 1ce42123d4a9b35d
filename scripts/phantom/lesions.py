"""Simulated gliomas: where the parts of a tumor are and how much contrast agent they take up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from scripts.phantom.grid import part_within, voxel_size_mm
from scripts.phantom.smooth_fields import Field, SmoothField
from scripts.phantom.tissue_maps import TissueMaps, edge_softness_mm, step

MASK_CODES = {"necrotic": 1, "edema": 2, "enhancing": 3}
MATCHED = ("volume", "style", "azimuth", "height", "eccentricity")  # distributed alike in every grade
MAX_RADIUS_MM = 62.0
KNOTS_MM = {"core": 11.0, "edema": 13.0, "ring": 7.0, "nodules": 7.0, "texture": 3.5}  # of what deforms a part


@dataclass
class LesionPlan:
    """What was drawn about a lesion before it is laid into a brain.

    Args:
        center_mm: x, y, z, mm.
        volume_ml: of the whole lesion, ml.
        axes: relative semi-axes of the ellipsoid it is deformed from, product 1.
        rotation: orthogonal matrix of that ellipsoid, shape (3, 3).
        style: "ring", "nodules" or "none": how contrast agent is taken up.
        drawn: values drawn from the ranges of the grade's settings.
    """

    center_mm: NDArray[np.floating]
    volume_ml: float
    axes: NDArray[np.floating]
    rotation: NDArray[np.floating]
    style: str
    drawn: dict[str, float]

    @property
    def radius_mm(self) -> float:
        """Radius of the ball of the same volume, mm."""
        return float((3 * 1000 * self.volume_ml / (4 * np.pi)) ** (1 / 3))


@dataclass
class Lesion:
    """A lesion on the part of the grid that holds it.

    Args:
        box: slices of the whole grid.
        fractions: "edema", "solid", "enhancing", "necrosis" -> fraction in [0, 1] on the box.
        mask: codes of `MASK_CODES`, 0 outside, on the box.
        concentration_mmol: contrast agent in the enhancing part, mmol/l, on the box.
        texture: factor on T1 and T2 of the solid parts, around 1, on the box.
    """

    box: tuple[slice, ...]
    fractions: dict[str, Field]
    mask: NDArray[np.int16]
    concentration_mmol: Field
    texture: Field


def no_lesion() -> Lesion:
    """Return what grows in a healthy brain: nothing, on an empty box."""
    nothing = np.zeros((0, 0, 0), np.float32)
    return Lesion((slice(0, 0),) * 3, {}, nothing.astype(np.int16), nothing, nothing)


def plan_lesion(
    rng: np.random.Generator, volume: Mapping[str, float], grade: Mapping[str, Any], quantiles: Mapping[str, float]
) -> LesionPlan:
    """Draw place, size and style of a lesion.

    Args:
        rng: source of randomness.
        volume: `median_ml`, `log_std`, `min_ml`, `max_ml` of the whole lesion; the same for every grade.
        grade: `styles` (name -> probability) and ranges [low, high] of everything else.
        quantiles: for each of `MATCHED`, where in its distribution this lesion lies, in [0, 1).

    Returns:
        The plan, independent of any grid.
    """
    normal = float(ndtri(np.clip(quantiles["volume"], 1e-6, 1 - 1e-6)))
    limits = volume["min_ml"], volume["max_ml"]
    volume_ml = float(np.clip(volume["median_ml"] * np.exp(volume["log_std"] * normal), *limits))
    axes = np.exp(rng.normal(0, 0.16, 3))
    rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    cumulated = np.cumsum(list(grade["styles"].values()))
    style = list(grade["styles"])[int(np.searchsorted(cumulated / cumulated[-1], quantiles["style"], side="right"))]
    drawn = {name: float(rng.uniform(*limits)) for name, limits in grade.items() if name != "styles"}
    return LesionPlan(_center(quantiles), volume_ml, axes / np.cbrt(axes.prod()), rotation, style, drawn)


def _center(quantiles: Mapping[str, float]) -> NDArray[np.floating]:
    """A point in white matter of either hemisphere, away from the midline and from the base of the brain."""
    azimuth, height = 2 * np.pi * quantiles["azimuth"], 2 * quantiles["height"] - 1
    direction = np.array([np.cos(azimuth), np.sin(azimuth), 0]) * np.sqrt(1 - height**2) + [0, 0, height]
    reach = (0.35 + 0.33 * quantiles["eccentricity"]) * np.array([62.0, 76.0, 48.0])
    center = np.array([0.0, -2.0, 14.0]) + direction * reach
    return np.array([center[0] + 10 * np.sign(center[0]), center[1], max(center[2], -8.0)])


def make_lesion(
    plan: LesionPlan, axes_mm: Sequence[NDArray[np.floating]], tissue: TissueMaps, rng: np.random.Generator
) -> Lesion:
    """Lay a planned lesion into a brain; its volume on the grid is the planned one.

    Args:
        plan: what to make.
        axes_mm: positions of the voxels, mm.
        tissue: the brain that it grows in; ventricles and outside stay free.
        rng: source of the shape; the same draws whatever the grid.

    Returns:
        The lesion on its box.
    """
    fields = {name: SmoothField(rng, knots, half_width_mm=70.0) for name, knots in KNOTS_MM.items()}
    box = tuple(part_within(axis, MAX_RADIUS_MM, middle) for axis, middle in zip(axes_mm, plan.center_mm, strict=True))
    axes = [axis[part] - middle for axis, part, middle in zip(axes_mm, box, plan.center_mm, strict=True)]
    sampled = {name: field(axes) for name, field in fields.items()}
    voxel_mm = voxel_size_mm(axes_mm)
    core_depth, edema_depth = _depths(plan, axes, tissue, box, sampled, float(np.prod(voxel_mm)) / 1000)
    return _compose(plan, box, core_depth, edema_depth, sampled, edge_softness_mm(voxel_mm))


def _depths(
    plan: LesionPlan,
    axes: Sequence[NDArray[np.floating]],
    tissue: TissueMaps,
    box: tuple[slice, ...],
    sampled: Mapping[str, Field],
    voxel_ml: float,
) -> tuple[Field, Field]:
    """Depth below the surface of the core and of the whole lesion, mm, positive inside."""
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)
    local = offsets @ (plan.rotation / plan.axes).astype(np.float32)
    radius = np.sqrt((local**2).sum(axis=-1))
    blocked = (tissue.depth_mm[box] < 1.0) | (tissue.ventricles[box] > 0.5)
    blocked_mm = np.where(blocked, np.float32(1e3), np.float32(0))
    core_level = radius + plan.drawn["core_roughness_mm"] * sampled["core"] + blocked_mm
    core_depth = _depth_of_volume(core_level, plan.volume_ml * plan.drawn["core_fraction"], voxel_ml)
    gray = 6 * tissue.fractions["gm"][box]
    edema_level = radius + plan.drawn["edema_roughness_mm"] * sampled["edema"] + gray + blocked_mm
    edema_level = np.where(core_depth > 0, -core_depth - np.float32(1e3), edema_level)
    return core_depth, _depth_of_volume(edema_level, plan.volume_ml, voxel_ml)


def _depth_of_volume(level_mm: Field, volume_ml: float, voxel_ml: float) -> Field:
    count = int(np.clip(round(volume_ml / voxel_ml), 1, level_mm.size - 1))
    return np.partition(level_mm, count, axis=None)[count] - level_mm


def _compose(
    plan: LesionPlan,
    box: tuple[slice, ...],
    core_depth: Field,
    edema_depth: Field,
    sampled: Mapping[str, Field],
    softness: float,
) -> Lesion:
    inside = step(core_depth, softness)
    necrosis_depth, enhancing_depth = _inner_depths(plan, core_depth, sampled)
    necrosis = np.minimum(inside, step(necrosis_depth, softness))
    enhancing = np.minimum(inside - necrosis, step(enhancing_depth, softness))
    solid = inside - necrosis - enhancing
    edema = np.maximum(step(edema_depth, softness) - inside, 0)
    mask = np.where(edema_depth > 0, MASK_CODES["edema"], 0).astype(np.int16)
    mask[core_depth > 0] = MASK_CODES["necrotic"]
    mask[(core_depth > 0) & (necrosis_depth <= 0) & (enhancing_depth > 0)] = MASK_CODES["enhancing"]
    fractions = {"edema": edema, "solid": solid, "enhancing": enhancing, "necrosis": necrosis}
    patchiness = np.clip(1 + 0.35 * sampled["ring"], 0.3, 1.7)
    concentration = np.float32(plan.drawn["concentration_mmol"]) * patchiness
    texture = 1 + np.float32(plan.drawn["texture"]) * sampled["texture"]
    return Lesion(box, fractions, mask, concentration, np.clip(texture, 0.5, 1.6))


def _inner_depths(plan: LesionPlan, core_depth: Field, sampled: Mapping[str, Field]) -> tuple[Field, Field]:
    """Depth inside the necrosis and inside the enhancing part, mm; a large negative number where there is none."""
    nowhere = np.full_like(core_depth, -1e3)
    if plan.style == "none":
        return nowhere, nowhere
    if plan.style == "ring":
        thickness = np.float32(plan.drawn["ring_mm"]) * np.maximum(1 + 0.45 * sampled["ring"], 0)
        return core_depth - thickness, thickness - core_depth
    inside = core_depth > 1.0
    level = np.where(inside, sampled["nodules"], np.float32(-10))
    threshold = np.quantile(level[inside], 1 - plan.drawn["nodule_fraction"]) if inside.any() else np.float32(10)
    return nowhere, (level - threshold) * np.float32(KNOTS_MM["nodules"])
