"""Simulated glioma patients and cohorts of them, written as BraTS-style NIfTI."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats.qmc import Halton

from scripts.phantom.lesions import MASK_CODES, MATCHED, Lesion, LesionPlan, make_lesion, plan_lesion
from scripts.phantom.relaxation_times import ContrastAgent, Tissue, relaxation_at
from scripts.phantom.signal_equations import (
    SEQUENCES,
    null_inversion_time,
    relaxation_with_contrast_agent,
    rician_magnitude,
)
from scripts.phantom.smooth_fields import Field, SmoothField
from scripts.phantom.tissue_maps import TissueMaps, make_tissue_maps
from scripts.running.files import PathLike, read_json, write_json
from scripts.running.progress import progress
from scripts.volumes.nifti import write_nifti

FIELD_OF_VIEW_MM = (240.0, 240.0, 155.0)
MAX_MATRIX_SIZE = (240, 240, 155)
BRAIN_LIMITS_MM = (84.0, 104.0, 80.0)  # no brain of scripts/phantom/tissue_maps.py reaches farther from the middle
WHITE_MATTER_LEVEL = 500.0  # stored integer of white matter before the scanner's arbitrary scale


@dataclass
class SimulatedSubject:
    """One simulated patient.

    Args:
        subject_id: "SIM-<site>-<index>".
        site: name of the site.
        grade: name of the class.
        images: modality -> int16 array of the matrix size, background 0.
        mask: int16 codes, 0 background, 1 necrotic or non-enhancing core, 2 edema, 3 enhancing.
        affine: voxel to RAS mm, shape (4, 4).
    """

    subject_id: str
    site: str
    grade: str
    images: dict[str, NDArray[np.int16]]
    mask: NDArray[np.int16]
    affine: NDArray[np.floating]


@functools.cache
def default_settings() -> dict[str, Any]:
    """Read sites, lesion volumes and grades from `configs/phantom.yaml`, the only place where they are written."""
    config = yaml.safe_load((Path(__file__).parents[2] / "configs" / "phantom.yaml").read_text(encoding="utf-8"))
    return {name: config[f"phantom_{name}"] for name in ("sites", "lesion_volume", "grades")}


def subject_grade(index: int, lgg_fraction: float, grades: Sequence[str]) -> str:
    """Grade of subject `index`: of any first n subjects, n x `lgg_fraction` (rounded) have the first grade.

    Args:
        index: number of the subject, >= 0.
        lgg_fraction: share of the first grade, in [0, 1]; the others share the rest equally.
        grades: names, the first one being LGG.

    Returns:
        One of `grades`.
    """
    before, after = (math.floor(count * lgg_fraction + 0.5) for count in (index, index + 1))
    return grades[0] if after > before else grades[1 + (index - after) % (len(grades) - 1)]


def make_subject(
    site: str,
    seed: int,
    index: int,
    matrix_size: Sequence[int],
    lgg_fraction: float | None = None,
    settings: Mapping[str, Any] | None = None,
) -> SimulatedSubject:
    """Simulate one patient in memory.

    It depends on (seed, site, index) and the settings, not on how many others are made; another matrix size samples the
    same anatomy and lesion, with other noise.

    Args:
        site: one of the settings' sites.
        seed: seed of the cohort.
        index: number of the subject, >= 0.
        matrix_size: voxels in x, y, z, each at most 240, 240, 155; the field of view stays 240 x 240 x 155 mm.
        lgg_fraction: share of LGG; None for the site's own.
        settings: `sites`, `lesion_volume` and `grades`; None for those of `configs/phantom.yaml`.

    Returns:
        Four (or as many as the site has sequences) skull-stripped images, mask and affine.

    Raises:
        ValueError: if the site is unknown or the matrix size does not fit.
    """
    settings = default_settings() if settings is None else settings
    protocol = _site_settings(site, settings)
    axes_mm, affine = grid(matrix_size)
    fraction = protocol["lgg_fraction"] if lgg_fraction is None else lgg_fraction
    grade = subject_grade(index, fraction, list(settings["grades"]))
    plan_rng, anatomy_rng, lesion_rng, scanner_rng = _generators(seed, site, index, 4)
    quantiles = matched_quantiles(seed, site, index, fraction, list(settings["grades"]))
    plan = plan_lesion(plan_rng, settings["lesion_volume"], settings["grades"][grade], quantiles)
    # Nothing is computed where no brain reaches; half of the field of view is air.
    box = tuple(_within(axis, limit) for axis, limit in zip(axes_mm, BRAIN_LIMITS_MM, strict=True))
    axes_mm = [axis[part] for axis, part in zip(axes_mm, box, strict=True)]
    tissue = make_tissue_maps(axes_mm, anatomy_rng, functools.partial(_mass_effect, plan))
    lesion = make_lesion(plan, axes_mm, tissue, lesion_rng)
    mask = np.zeros(tissue.brain.shape, np.int16)
    mask[lesion.box] = lesion.mask
    images = scan(tissue, lesion, protocol, axes_mm, scanner_rng)
    images = {modality: _embed(image, box, matrix_size) for modality, image in images.items()}
    mask = _embed(mask, box, matrix_size)
    return SimulatedSubject(f"SIM-{site}-{index:04d}", site, grade, images, mask, affine)


def _within(axis: NDArray[np.floating], limit: float) -> slice:
    inside = np.flatnonzero(np.abs(axis) <= limit)
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _embed(image: NDArray[np.int16], box: tuple[slice, ...], matrix_size: Sequence[int]) -> NDArray[np.int16]:
    whole = np.zeros(tuple(matrix_size), np.int16)
    whole[box] = image
    return whole


def matched_quantiles(seed: int, site: str, index: int, lgg_fraction: float, grades: Sequence[str]) -> dict[str, float]:
    """Quantiles of what the grades share, filling [0, 1) evenly within a grade however many subjects are made.

    Without it, volume or place of the lesion would tell the classes of a small cohort apart by chance.

    Source: the scrambled Halton sequence of Owen 2017, "A randomized Halton algorithm in R".

    Args:
        seed: seed of the cohort.
        site: name of the site.
        index: number of the subject, >= 0.
        lgg_fraction: share of the first grade, in [0, 1].
        grades: names of the grades.

    Returns:
        Name of what is drawn -> quantile in [0, 1).
    """
    grade = subject_grade(index, lgg_fraction, grades)
    rank = sum(subject_grade(earlier, lgg_fraction, grades) == grade for earlier in range(index))
    sequence = Halton(len(MATCHED), scramble=True, rng=_generators(seed, f"{site}/{grade}", 0, 1)[0])
    return dict(zip(MATCHED, sequence.fast_forward(rank).random(1)[0].tolist(), strict=True))


def _site_settings(site: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    if site not in settings["sites"]:
        raise ValueError(
            f"site must be one of {sorted(settings['sites'])}, got {site!r}; describe a new one under phantom_sites"
        )
    return settings["sites"][site]


def _generators(seed: int, site: str, index: int, count: int) -> list[np.random.Generator]:
    site_number = int.from_bytes(hashlib.sha256(site.encode("utf-8")).digest()[:4], "little")
    return [np.random.default_rng(part) for part in np.random.SeedSequence([seed, site_number, index]).spawn(count)]


def grid(matrix_size: Sequence[int]) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Positions of the voxels and affine of a matrix over the field of view, in the voxel order of BraTS (L, P, S).

    Args:
        matrix_size: voxels in x, y, z.

    Returns:
        Three arrays of positions along the RAS axes, mm, and the affine, shape (4, 4).

    Raises:
        ValueError: if the matrix does not have three sizes between 16 and those of BraTS.
    """
    sizes = tuple(int(size) for size in matrix_size)
    if len(sizes) != 3 or any(not 16 <= size <= limit for size, limit in zip(sizes, MAX_MATRIX_SIZE, strict=True)):
        raise ValueError(f"matrix_size must be three sizes from 16 to {MAX_MATRIX_SIZE}, got {list(matrix_size)!r}")
    spacing = np.array(FIELD_OF_VIEW_MM) / sizes * [-1, -1, 1]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(sizes) - 1) / 2
    return [affine[d, 3] + affine[d, d] * np.arange(sizes[d]) for d in range(3)], affine


def _mass_effect(plan: LesionPlan, coordinates: list[Field]) -> list[Field]:
    """Coordinates at which a brain pushed aside by the lesion shows the undisturbed anatomy."""
    offsets = [axis - np.float32(middle) for axis, middle in zip(coordinates, plan.center_mm, strict=True)]
    reach = np.float32(1.3 * plan.radius_mm)
    squared = (offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2) / reach**2
    pull = np.float32(plan.drawn["mass_effect"]) * np.exp(-squared)
    return [axis - offset * pull for axis, offset in zip(coordinates, offsets, strict=True)]


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
    voxel_mm = [abs(axis[1] - axis[0]) for axis in axes_mm]
    blur_voxels = [protocol["blur_mm"] / size for size in voxel_mm]
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


def make_cohort(
    output_dir: PathLike,
    site: str,
    num_subjects: int,
    matrix_size: Sequence[int],
    seed: int,
    lgg_fraction: float | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write a simulated cohort as NIfTI with its `cohort.json`; subjects that are there already are kept.

    Args:
        output_dir: folder of the cohort; one subfolder a subject.
        site: one of the settings' sites.
        num_subjects: how many, >= 1.
        matrix_size: voxels in x, y, z, each at most 240, 240, 155.
        seed: seed of the cohort.
        lgg_fraction: share of LGG; None for the site's own.
        settings: `sites`, `lesion_volume` and `grades`; None for those of `configs/phantom.yaml`.

    Returns:
        Path of `cohort.json`.

    Raises:
        ValueError: if an argument does not fit, or the folder holds a phantom of other settings.
    """
    if num_subjects < 1:
        raise ValueError(f"num_subjects must be >= 1, got {num_subjects!r}")
    folder = Path(output_dir)
    settings = default_settings() if settings is None else settings
    protocol = _site_settings(site, settings)
    grid(matrix_size)
    fraction = protocol["lgg_fraction"] if lgg_fraction is None else lgg_fraction
    _claim(folder, {"site": site, "matrix_size": list(matrix_size), "seed": seed, "lgg_fraction": fraction, **settings})
    subjects = []
    for index in progress(range(num_subjects), num_subjects, f"simulated patients of site {site}"):
        subject_id = f"SIM-{site}-{index:04d}"
        paths = _subject_paths(subject_id, list(protocol["sequences"]))
        if not all((folder / path).is_file() for path in paths.values()):
            _write_subject(folder, paths, make_subject(site, seed, index, matrix_size, fraction, settings))
        subjects.append(_entry(subject_id, site, subject_grade(index, fraction, list(settings["grades"])), paths))
    cohort = _cohort(site, list(protocol["sequences"]), subjects)
    write_json(folder / "cohort.json", cohort)
    return folder / "cohort.json"


def _claim(folder: Path, made_from: dict[str, Any]) -> None:
    """Write what the subjects are made from, or refuse a folder whose subjects are made from something else."""
    record = folder / "phantom.json"
    if record.is_file() and read_json(record) != made_from:
        raise ValueError(
            f"output_dir must be empty or hold a phantom of the same settings, got {str(folder)!r} with other ones"
            f" in {record.name}; delete the folder or choose another"
        )
    write_json(record, made_from)


def _subject_paths(subject_id: str, modalities: Sequence[str]) -> dict[str, str]:
    return {name: f"{subject_id}/{subject_id}-{name}.nii.gz" for name in (*modalities, "seg")}


def _write_subject(folder: Path, paths: Mapping[str, str], subject: SimulatedSubject) -> None:
    for name, path in paths.items():
        voxels = subject.mask if name == "seg" else subject.images[name]
        write_nifti(folder / path, voxels, subject.affine, b"simulated, not a patient", level=1)


def _entry(subject_id: str, site: str, grade: str, paths: Mapping[str, str]) -> dict[str, Any]:
    images = {name: path for name, path in paths.items() if name != "seg"}
    return {
        "subject_id": subject_id,
        "site": site,
        "grade": grade,
        "images": images,
        "mask": paths["seg"],
        "mask_source": "simulated",
    }


def _cohort(site: str, modalities: list[str], subjects: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": f"phantom_{site}",
        "simulated": True,
        "layout": "phantom",
        "modalities": modalities,
        "mask_codes": MASK_CODES,
        "mask_codes_reason": "declared by the phantom (BraTS 2023 codes)",
        "subjects": subjects,
        "left_out": [],
    }
