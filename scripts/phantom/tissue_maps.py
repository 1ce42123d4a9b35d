"""Healthy brain as maps of tissue fractions, made by code from ellipsoids and smooth random fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.phantom.grid import voxel_size_mm
from scripts.phantom.smooth_fields import Field, SmoothField

# (center, semi-axes) in mm, RAS axes with the middle of the field of view as origin; x is mirrored where it is not 0.
BRAIN_PARTS = {
    "cerebrum": ((0, 0, 12), (67, 84, 55)),
    "temporal": ((40, 12, -24), (25, 42, 22)),
    "cerebellum": ((22, -48, -38), (30, 30, 22)),
    "brainstem": ((0, -18, -40), (13, 14, 28)),
}
VENTRICLES = {
    "body": ((9, -4, 20), (6, 30, 6)),
    "frontal_horn": ((11, 24, 12), (7, 13, 9)),
    "atrium": ((21, -36, 8), (7, 18, 9)),
    "third": ((0, -6, 2), (2.5, 14, 11)),
    "fourth": ((0, -36, -34), (6, 6, 9)),
}
DEEP_GRAY_MATTER = {
    "thalamus": ((11, -14, 6), (8, 14, 9)),
    "putamen": ((27, 4, 2), (6, 17, 10)),
    "caudate": ((19, 18, 12), (4.5, 13, 9)),
}
CORTEX_THICKNESS_MM = 3.0


@dataclass
class TissueMaps:
    """Fractions of each tissue on a grid, their sum 1 inside the brain, and where the brain is.

    Args:
        fractions: tissue name -> fraction in [0, 1], shape (I, J, K).
        ventricles: the part of "csf" that lies in the ventricles, same shape.
        brain: True inside the (skull-stripped) brain, same shape.
        depth_mm: approximate distance below the surface of the brain, mm, negative outside.
    """

    fractions: dict[str, Field]
    ventricles: Field
    brain: NDArray[np.bool_]
    depth_mm: Field


def make_tissue_maps(
    axes_mm: Sequence[NDArray[np.floating]],
    rng: np.random.Generator,
    warp: Callable[[list[Field]], list[Field]] | None = None,
) -> TissueMaps:
    """Draw one anatomy and sample it on a grid.

    Folded cortex is the set of points near a zero of a random field: its zeros are sheets, as sulci are.

    Args:
        axes_mm: positions of the voxels along x, y, z (right-left, posterior-anterior, inferior-superior), mm.
        rng: source of the anatomy; the same draws whatever the grid.
        warp: moves the three coordinate arrays at which the inner structures are sampled (mass effect).

    Returns:
        Fractions of "wm", "gm", "deep_gm", "csf" and "blood".
    """
    scale = rng.normal(1.0, 0.035, 3)
    vein_threshold = rng.uniform(0.5, 1.3)
    ventricle_scale = float(np.clip(rng.lognormal(0.0, 0.25), 0.6, 1.7))
    shape_field, fold_field, reach_field, inner_field, vein_field = (
        SmoothField(rng, spacing) for spacing in (45.0, 6.5, 25.0, 18.0, 9.0)
    )
    coordinates = _scaled_grid(axes_mm, scale)
    softness = edge_softness_mm(voxel_size_mm(axes_mm))
    depth = _union_depth(coordinates, BRAIN_PARTS) + 2.5 * shape_field(axes_mm)
    inner = coordinates if warp is None else warp(coordinates)
    sulcus_mm = _distance_to_zero(fold_field, axes_mm)
    reach = np.hypot(sulcus_mm, np.maximum(depth - 16 - 5 * reach_field(axes_mm), 0))
    midline_mm = _distance_to_midline(inner)
    pial_mm = np.minimum(np.minimum(depth, reach), midline_mm)
    # Veins run in the sulci; the sagittal sinus along the upper edge of the fissure.
    sinus_mm = 4.0 - np.hypot(coordinates[0], depth - 3.0) - np.maximum(8.0 - coordinates[2], 0)
    vein_mm = np.minimum(1.5 - np.minimum(reach, midline_mm), 5.0 * (vein_field(axes_mm) - vein_threshold))
    wobble = 1.2 * inner_field(axes_mm)
    ventricle_mm = _union_depth(inner, VENTRICLES, ventricle_scale) + wobble
    deep_mm = _union_depth(inner, DEEP_GRAY_MATTER) + wobble
    return _fractions(depth, pial_mm, ventricle_mm, deep_mm, np.maximum(sinus_mm, vein_mm), softness)


def _fractions(
    depth: Field, pial_mm: Field, ventricle_mm: Field, deep_mm: Field, vessel_mm: Field, softness: float
) -> TissueMaps:
    ventricles = step(ventricle_mm, softness)
    csf = np.maximum(step(0.7 - pial_mm, softness), ventricles)
    deep = (1 - csf) * step(deep_mm, softness)
    gray = (1 - csf - deep) * step(0.7 + CORTEX_THICKNESS_MM - pial_mm, softness)
    blood = step(vessel_mm, softness)
    fractions = {"csf": csf, "deep_gm": deep, "gm": gray, "wm": 1 - csf - deep - gray}
    fractions = {name: fraction * (1 - blood) for name, fraction in fractions.items()} | {"blood": blood}
    return TissueMaps(fractions, ventricles, depth > 0, depth)


def edge_softness_mm(voxel_mm: Sequence[float]) -> float:
    """Return the width of the transition at a surface: about a third of a voxel, and half a mm at least."""
    return max(0.35 * float(np.mean(voxel_mm)), 0.5)


def step(distance_mm: Field, softness_mm: float) -> Field:
    """Fraction of a voxel inside a surface.

    Args:
        distance_mm: signed distance of the voxel's center, mm, positive inside.
        softness_mm: width of the transition, > 0 mm; see `edge_softness_mm`.

    Returns:
        Fraction in [0, 1].
    """
    return np.clip(0.5 + distance_mm * np.float32(0.25 / softness_mm), 0, 1)


def _scaled_grid(axes_mm: Sequence[NDArray[np.floating]], scale: NDArray[np.floating]) -> list[Field]:
    axes = [np.asarray(axis / factor, np.float32) for axis, factor in zip(axes_mm, scale, strict=True)]
    return list(np.meshgrid(*axes, indexing="ij", sparse=True))


def _union_depth(coordinates: list[Field], parts: dict, scale: float = 1.0) -> Field:
    depths = [ellipsoid_depth(coordinates, center, [scale * axis for axis in axes]) for center, axes in parts.values()]
    return np.maximum.reduce(depths)


def ellipsoid_depth(coordinates: list[Field], center: Sequence[float], semi_axes: Sequence[float]) -> Field:
    """Approximate depth below the surface of an ellipsoid, mirrored in x unless it lies on the midline.

    Args:
        coordinates: x, y, z arrays that broadcast, mm.
        center: of the ellipsoid, mm.
        semi_axes: of the ellipsoid, mm.

    Returns:
        Depth in mm, positive inside; exact at the surface and along the shortest axis.
    """
    x, y, z = coordinates
    x = np.abs(x) if center[0] else x
    terms = [((c - m) / a) ** 2 for c, m, a in zip((x, y, z), center, semi_axes, strict=True)]
    radius = np.sqrt(terms[0] + terms[1] + terms[2])
    return (1 - radius) * np.float32(min(semi_axes))


def _distance_to_zero(field: SmoothField, axes_mm: Sequence[NDArray[np.floating]]) -> Field:
    squared_slope = sum(field(axes_mm, derivative=dimension) ** 2 for dimension in range(len(axes_mm)))
    return np.asarray(np.abs(field(axes_mm)) / np.sqrt(squared_slope + 1e-4), np.float32)


def _distance_to_midline(coordinates: list[Field]) -> Field:
    x, y, z = coordinates
    # The corpus callosum and what lies below it join the hemispheres.
    joined = ellipsoid_depth([np.zeros_like(x), y, z], (0, -4, 4), (1e6, 40, 30)) * np.float32(40 / 30)
    return np.hypot(np.abs(x), np.maximum(joined, 0))
