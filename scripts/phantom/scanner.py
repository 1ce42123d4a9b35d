"""The simulated scanner: from tissue and lesion to the images of every sequence of a site."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from scripts.phantom.grid import voxel_size_mm
from scripts.phantom.lesions import Lesion
from scripts.phantom.relaxation_times import ContrastAgent, Tissue, relaxation_at
from scripts.phantom.signal_equations import (
    SEQUENCES,
    null_inversion_time,
    relaxation_with_contrast_agent,
    rician_magnitude,
)
from scripts.phantom.smooth_fields import Field, SmoothField
from scripts.phantom.tissue_maps import TissueMaps

WHITE_MATTER_LEVEL = 500.0  # stored integer of white matter before the scanner's arbitrary scale


def scan(
    tissue: TissueMaps,
    lesion: Lesion,
    protocol: Mapping[str, Any],
    axes_mm: Sequence[NDArray[np.floating]],
    rng: np.random.Generator,
) -> dict[str, NDArray[np.int16]]:
    """Image a brain with a lesion by every sequence of a site.

    Signals of the tissues in a voxel add up (partial volume); then receive bias field, resolution, and Rician noise.

    Args:
        tissue: the healthy brain.
        lesion: what grows in it.
        protocol: settings of the site.
        axes_mm: positions of the voxels, mm.
        rng: source of the patient's tissue variation, bias field and noise.

    Returns:
        Modality -> int16 image, background 0, brain >= 1, in arbitrary units.
    """
    typical, agent = relaxation_at(float(protocol["field_strength_tesla"]))
    spread = {name: 3.0 if name in lesion.fractions else 1.0 for name in typical}
    table = {name: _individual(values, rng, spread[name]) for name, values in typical.items()}
    texture = 1 + 0.025 * SmoothField(rng, 6.0)(axes_mm)
    bias = np.exp(np.float32(protocol["bias_log_std"]) * SmoothField(rng, 75.0)(axes_mm))
    blur_voxels = [protocol["blur_mm"] / size for size in voxel_size_mm(axes_mm)]
    images = {}
    for modality, sequence in protocol["sequences"].items():
        signal, reference = _noise_free(tissue, lesion, with_inversion_time(sequence, typical), table, agent)
        if protocol["blur_mm"]:
            signal = gaussian_filter(signal, blur_voxels, truncate=2.5)
        gain = np.float32(WHITE_MATTER_LEVEL * rng.uniform(0.6, 1.6) / reference)
        noisy = rician_magnitude(signal * texture * bias, protocol["noise_fraction"] * reference, rng)
        images[modality] = _as_stored(noisy * gain, tissue.brain)
    return images


def with_inversion_time(sequence: Mapping[str, Any], typical: Mapping[str, Tissue]) -> dict[str, Any]:
    """Return the parameters of a sequence, with `nulls: TISSUE` as the inversion time that a scanner is set to for it.

    Args:
        sequence: parameters as `configs/phantom.yaml` lists them.
        typical: tissue name -> relaxation times of nobody in particular: a protocol is not tuned to the patient.

    Raises:
        ValueError: if there is no such tissue.
    """
    parameters = dict(sequence)
    nulled = parameters.pop("nulls", None)
    if nulled is None:
        return parameters
    if nulled not in typical:
        raise ValueError(f"nulls must be one of {', '.join(typical)}, got {nulled!r}; correct phantom_sites")
    return {**parameters, "ti_ms": null_inversion_time(typical[nulled].t1_ms, parameters["tr_ms"])}


def _individual(tissue: Tissue, rng: np.random.Generator, spread: float) -> Tissue:
    t1, t2, density = np.exp(spread * rng.normal(0, (0.05, 0.05, 0.01)))
    return Tissue(tissue.t1_ms * t1, tissue.t2_ms * t2, min(tissue.proton_density * density, 1.0))


def _noise_free(
    tissue: TissueMaps,
    lesion: Lesion,
    sequence: Mapping[str, Any],
    table: Mapping[str, Tissue],
    agent: ContrastAgent,
) -> tuple[Field, float]:
    """Signal of every voxel, and that of white matter."""
    parameters = {name: value for name, value in sequence.items() if name not in ("sequence", "contrast_agent")}
    equation = functools.partial(SEQUENCES[sequence["sequence"]], **parameters)
    doses = sequence.get("contrast_agent") or {"blood_mmol": 0.0, "tumor_factor": 0.0}
    signal = np.zeros(tissue.brain.shape, np.float32)
    for name, fraction in tissue.fractions.items():
        concentration = doses["blood_mmol"] if name == "blood" else 0.0
        signal += fraction * np.float32(equation(*_with_agent(table[name], concentration, agent)))
    inside = signal[lesion.box]
    inside *= 1 - sum(lesion.fractions.values())
    for name, fraction in lesion.fractions.items():
        part = fraction > 0
        concentration = doses["tumor_factor"] * lesion.concentration_mmol[part] if name == "enhancing" else 0.0
        t1_ms, t2_ms, density = _with_agent(table[name], concentration, agent)
        texture = lesion.texture[part]
        inside[part] += fraction[part] * equation(t1_ms * texture, t2_ms * texture, density).astype(np.float32)
    return signal, float(equation(*table["wm"]))


def _with_agent(tissue: Tissue, concentration_mmol: ArrayLike, agent: ContrastAgent) -> tuple[Any, Any, float]:
    t1_ms = relaxation_with_contrast_agent(tissue.t1_ms, concentration_mmol, agent.r1)
    t2_ms = relaxation_with_contrast_agent(tissue.t2_ms, concentration_mmol, agent.r2)
    return t1_ms, t2_ms, tissue.proton_density


def _as_stored(image: Field, brain: NDArray[np.bool_]) -> NDArray[np.int16]:
    stored = np.clip(np.rint(image), 1, np.iinfo(np.int16).max)
    return np.where(brain, stored, 0).astype(np.int16)
