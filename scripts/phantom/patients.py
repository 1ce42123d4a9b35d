"""Simulated glioma patients, or healthy people, and cohorts of them, written as BraTS-style NIfTI."""

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
from numpy.typing import NDArray
from scipy.stats.qmc import Halton

from scripts.phantom.grid import grid, part_within
from scripts.phantom.lesions import MASK_CODES, MATCHED, LesionPlan, make_lesion, no_lesion, plan_lesion
from scripts.phantom.relaxation_times import relaxation_at
from scripts.phantom.scanner import scan, with_inversion_time
from scripts.phantom.signal_equations import SEQUENCES
from scripts.phantom.smooth_fields import Field
from scripts.phantom.tissue_maps import make_tissue_maps
from scripts.running.files import PathLike, read_json, write_json
from scripts.running.progress import progress
from scripts.volumes.nifti import write_nifti

BRAIN_LIMITS_MM = (84.0, 104.0, 80.0)  # no brain of scripts/phantom/tissue_maps.py reaches farther from the middle


@dataclass
class SimulatedSubject:
    """One simulated patient.

    Args:
        subject_id: "SIM-<site>-<index>".
        site: name of the site.
        grade: name of the class; None of a healthy person.
        images: modality -> int16 array of the matrix size, background 0.
        mask: int16 codes, 0 background, 1 necrotic or non-enhancing core, 2 edema, 3 enhancing.
        affine: voxel to RAS mm, shape (4, 4).
    """

    subject_id: str
    site: str
    grade: str | None
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
    is_healthy: bool = False,
) -> SimulatedSubject:
    """Simulate one person in memory.

    It depends on (seed, site, index) and the settings, not on how many others are made; another matrix size samples the
    same anatomy and lesion, with other noise.

    Args:
        site: one of the settings' sites.
        seed: seed of the cohort.
        index: number of the subject, >= 0.
        matrix_size: voxels in x, y, z, each at most 240, 240, 155; the field of view stays 240 x 240 x 155 mm.
        lgg_fraction: share of LGG; None for the site's own.
        settings: `sites`, `lesion_volume` and `grades`; None for those of `configs/phantom.yaml`.
        is_healthy: no lesion; the anatomy is that of the patient of this index before it grew.

    Returns:
        Four (or as many as the site has sequences) skull-stripped images, mask and affine.

    Raises:
        ValueError: if the site is unknown or the matrix size does not fit.
    """
    settings = default_settings() if settings is None else settings
    protocol = _site_settings(site, settings)
    axes_mm, affine = grid(matrix_size)
    fraction = protocol["lgg_fraction"] if lgg_fraction is None else lgg_fraction
    grade = None if is_healthy else subject_grade(index, fraction, list(settings["grades"]))
    plan_rng, anatomy_rng, lesion_rng, scanner_rng = _generators(seed, site, index, 4)
    plan = None
    if grade is not None:
        quantiles = matched_quantiles(seed, site, index, fraction, list(settings["grades"]))
        plan = plan_lesion(plan_rng, settings["lesion_volume"], settings["grades"][grade], quantiles)
    # Nothing is computed where no brain reaches; half of the field of view is air.
    box = tuple(part_within(axis, limit) for axis, limit in zip(axes_mm, BRAIN_LIMITS_MM, strict=True))
    axes_mm = [axis[part] for axis, part in zip(axes_mm, box, strict=True)]
    tissue = make_tissue_maps(axes_mm, anatomy_rng, functools.partial(_mass_effect, plan) if plan else None)
    lesion = make_lesion(plan, axes_mm, tissue, lesion_rng) if plan else no_lesion()
    mask = np.zeros(tissue.brain.shape, np.int16)
    mask[lesion.box] = lesion.mask
    images = scan(tissue, lesion, protocol, axes_mm, scanner_rng)
    images = {modality: _embed(image, box, matrix_size) for modality, image in images.items()}
    mask = _embed(mask, box, matrix_size)
    return SimulatedSubject(f"SIM-{site}-{index:04d}", site, grade, images, mask, affine)


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
            f"phantom_site must be one of {sorted(settings['sites'])}, got {site!r}; describe a new one under"
            " phantom_sites"
        )
    return settings["sites"][site]


def _generators(seed: int, site: str, index: int, count: int) -> list[np.random.Generator]:
    site_number = int.from_bytes(hashlib.sha256(site.encode("utf-8")).digest()[:4], "little")
    return [np.random.default_rng(part) for part in np.random.SeedSequence([seed, site_number, index]).spawn(count)]


def _mass_effect(plan: LesionPlan, coordinates: list[Field]) -> list[Field]:
    """Coordinates at which a brain pushed aside by the lesion shows the undisturbed anatomy."""
    offsets = [axis - np.float32(middle) for axis, middle in zip(coordinates, plan.center_mm, strict=True)]
    reach = np.float32(1.3 * plan.radius_mm)
    squared = (offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2) / reach**2
    pull = np.float32(plan.drawn["mass_effect"]) * np.exp(-squared)
    return [axis - offset * pull for axis, offset in zip(coordinates, offsets, strict=True)]


def sites_name(site: str | Sequence[str]) -> str:
    """Return the sites of a cohort in one word: A, or A_B of two.

    >>> sites_name("A"), sites_name(["A", "B"])
    ('A', 'A_B')
    """
    return "_".join(_sites(site))


def _sites(site: str | Sequence[str]) -> list[str]:
    return [site] if isinstance(site, str) else list(site)


def _protocols(
    site: str | Sequence[str], settings: Mapping[str, Any], modalities: Sequence[str] | None
) -> dict[str, Any]:
    """Settings of which each site has the sequences of some modalities alone.

    Raises:
        ValueError: if there is no site, or one has none of the modalities.
    """
    if not _sites(site):
        raise ValueError("phantom_site must be a site, or a list of at least one, got []")
    protocols = {name: _site_settings(name, settings) for name in _sites(site)}
    if modalities is None:
        return dict(settings)
    chosen = {}
    for name, protocol in protocols.items():
        sequences = {key: value for key, value in protocol["sequences"].items() if key in modalities}
        if not sequences:
            raise ValueError(
                f"modalities must be sequences of the phantom, {', '.join(protocol['sequences'])}, got"
                f" {', '.join(modalities)}; name one of them, or describe it under phantom_sites"
            )
        chosen[name] = {**protocol, "sequences": sequences}
    return {**settings, "sites": {**settings["sites"], **chosen}}


def check_cohort(
    site: str | Sequence[str],
    num_subjects: int,
    matrix_size: Sequence[int],
    lgg_fraction: float | None = None,
    settings: Mapping[str, Any] | None = None,
    modalities: Sequence[str] | None = None,
) -> None:
    """Refuse a cohort that cannot be simulated; arguments as of `make_cohort`.

    Raises:
        ValueError: naming what must be otherwise.
    """
    if num_subjects < 1:
        raise ValueError(f"phantom_num_subjects must be >= 1, got {num_subjects!r}")
    settings = _protocols(site, default_settings() if settings is None else settings, modalities)
    grid(matrix_size)
    for name in _sites(site):
        _check_site(name, settings["sites"][name], lgg_fraction)


def _check_site(site: str, protocol: Mapping[str, Any], lgg_fraction: float | None) -> None:
    fraction = protocol["lgg_fraction"] if lgg_fraction is None else lgg_fraction
    if not 0 <= fraction <= 1:
        raise ValueError(f"phantom_lgg_fraction must be in [0, 1], got {fraction!r}; null is that of the site")
    typical, _ = relaxation_at(float(protocol["field_strength_tesla"]))
    for modality, sequence in protocol["sequences"].items():
        if sequence["sequence"] not in SEQUENCES:
            raise ValueError(
                f"phantom_sites#{site}#sequences#{modality}#sequence must be one of {', '.join(SEQUENCES)}, got"
                f" {sequence['sequence']!r}"
            )
        with_inversion_time(sequence, typical)


def make_cohort(
    output_dir: PathLike,
    site: str | Sequence[str],
    num_subjects: int,
    matrix_size: Sequence[int],
    seed: int,
    lgg_fraction: float | None = None,
    settings: Mapping[str, Any] | None = None,
    modalities: Sequence[str] | None = None,
    is_healthy: bool = False,
) -> Path:
    """Write a simulated cohort as NIfTI with its `cohort.json`; subjects that are there already are kept.

    Args:
        output_dir: folder of the cohort; one subfolder a subject.
        site: one of the settings' sites, or several, which the subjects are of in turn.
        num_subjects: how many, >= 1.
        matrix_size: voxels in x, y, z, each at most 240, 240, 155.
        seed: seed of the cohort.
        lgg_fraction: share of LGG; None for the site's own.
        settings: `sites`, `lesion_volume` and `grades`; None for those of `configs/phantom.yaml`.
        modalities: of the sequences of a site those that are scanned; None for all.
        is_healthy: nobody has a lesion, and nobody a grade or a mask.

    Returns:
        Path of `cohort.json`.

    Raises:
        ValueError: if an argument does not fit, or the folder holds a phantom of other settings.
    """
    check_cohort(site, num_subjects, matrix_size, lgg_fraction, settings, modalities)
    folder, sites = Path(output_dir), _sites(site)
    settings = _protocols(site, default_settings() if settings is None else settings, modalities)
    fractions = {
        name: settings["sites"][name]["lgg_fraction"] if lgg_fraction is None else lgg_fraction for name in sites
    }
    made_from = {"site": site, "matrix_size": list(matrix_size), "seed": seed, "healthy": is_healthy}
    _claim(folder, {**made_from, "lgg_fraction": fractions, **settings})
    modalities = list(settings["sites"][sites[0]]["sequences"])
    subjects = []
    for number in progress(range(num_subjects), num_subjects, f"simulated subjects of {sites_name(site)}"):
        name, index = sites[number % len(sites)], number // len(sites)
        subject_id = f"SIM-{name}-{index:04d}"
        paths = _subject_paths(subject_id, [*modalities, *([] if is_healthy else ["seg"])])
        if not all((folder / path).is_file() for path in paths.values()):
            subject = make_subject(name, seed, index, matrix_size, fractions[name], settings, is_healthy)
            _write_subject(folder, paths, subject)
        grade = None if is_healthy else subject_grade(index, fractions[name], list(settings["grades"]))
        subjects.append(_entry(subject_id, name, grade, paths))
    cohort = _cohort(sites_name(site), modalities, subjects, is_healthy)
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


def _subject_paths(subject_id: str, kinds: Sequence[str]) -> dict[str, str]:
    return {name: f"{subject_id}/{subject_id}-{name}.nii.gz" for name in kinds}


def _write_subject(folder: Path, paths: Mapping[str, str], subject: SimulatedSubject) -> None:
    for name, path in paths.items():
        voxels = subject.mask if name == "seg" else subject.images[name]
        write_nifti(folder / path, voxels, subject.affine, b"simulated, not a patient", level=1)


def _entry(subject_id: str, site: str, grade: str | None, paths: Mapping[str, str]) -> dict[str, Any]:
    images = {name: path for name, path in paths.items() if name != "seg"}
    return {
        "subject_id": subject_id,
        "site": site,
        "grade": grade,
        "images": images,
        "mask": paths.get("seg"),
        "mask_source": "simulated" if "seg" in paths else None,
    }


def _cohort(site: str, modalities: list[str], subjects: list[dict[str, Any]], is_healthy: bool) -> dict[str, Any]:
    return {
        "name": f"phantom_{site}",
        "simulated": True,
        "layout": "phantom",
        "modalities": modalities,
        "mask_codes": None if is_healthy else MASK_CODES,
        "mask_codes_reason": "no masks" if is_healthy else "declared by the phantom (BraTS 2023 codes)",
        "subjects": subjects,
        "left_out": [],
    }
