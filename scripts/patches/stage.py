"""The patches stage: every subject of a cohort to patches on disk and one list of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from scripts.patches.crop import CROP_FACTS
from scripts.patches.subject_records import SubjectRecords, missing_modalities, require_usable, subject_files
from scripts.provenance.image_form import ImageForm
from scripts.running.files import sha256_file, why_no_file, write_json
from scripts.running.progress import progress
from scripts.splits.lists import read_list
from scripts.volumes.nifti import write_image

Preprocessing = Callable[[dict[str, Any]], Any]
CARRIED = ("patient_id", "mask_source")


def write_patches(
    cohort_path: str,
    output_dir: str,
    preprocessing: Preprocessing,
    form: ImageForm,
    images: Mapping[str, Any],
    num_workers: int = 1,
) -> Path:
    """Write one NIfTI a patch and `patches.json`; subjects that are finished already are kept.

    Args:
        cohort_path: `cohort.json` of the stage before.
        output_dir: folder of the patches.
        preprocessing: transforms from the files of a subject to its patch, or to a list of patches. One of them that
            needs more of a subject than its images says by `problems(subject)` what it lacks, a sentence each.
        form: of the patches: their modalities, and the classes that grades are.
        images: what the patches are made of, from `scripts.provenance.image_form.describe_images`.
        num_workers: subjects at a time (threads: decompression leaves Python's lock).

    Returns:
        Path of `patches.json`.

    Raises:
        ValueError: before any work, if a subject lacks a modality or what a transform needs, or has a grade that is no
            class; at the end, if subjects could not be read: all of them, with file and reason. What was finished is
            kept.
    """
    cohort = read_list(cohort_path, "cohort")
    subjects = locate_subjects(cohort, Path(cohort_path).parent)
    must = f"{cohort_path} must list subjects that patches can be made of"
    require_usable(subjects, lambda subject: _problems(subject, form, preprocessing), must)
    folder = Path(output_dir)
    extract = _Extraction(folder, preprocessing, form.classes)
    walk = progress(_walk(extract, subjects, num_workers), len(subjects), f"patches of {cohort['name']}")
    rows, failures = _separate(walk)
    if failures:
        raise ValueError(f"{len(failures)} of {len(subjects)} subjects gave no patch:\n" + "\n".join(failures))
    write_json(
        folder / "patches.json",
        {
            "name": cohort["name"],
            "simulated": cohort["simulated"],
            **images,
            **form.names(),
            "training": rows,
        },
    )
    return folder / "patches.json"


def locate_subjects(cohort: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Return the subjects of a cohort as the transforms take them: with paths from here, and with the mask codes.

    Args:
        cohort: content of `cohort.json`.
        folder: folder of that file; relative paths start there.
    """
    return [_located(subject, cohort, folder) for subject in cohort["subjects"]]


class _Extraction(SubjectRecords[list[dict[str, Any]]]):
    """Rows of `patches.json` from the files of a subject."""

    def __init__(self, folder: Path, preprocessing: Preprocessing, classes: Mapping[str, int]) -> None:
        super().__init__(folder)
        self.preprocessing = preprocessing
        self.classes = classes

    def make(self, subject: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Cut and write the patches."""
        patches = self.preprocessing(dict(subject))
        return [self._write(subject, patch, several=isinstance(patches, list)) for patch in _as_list(patches)]

    def outputs(self, rows: list[dict[str, Any]]) -> Iterable[tuple[str, str]]:
        """List the patches."""
        return [(row["image"], row["image_sha256"]) for row in rows]

    def _write(self, subject: Mapping[str, Any], patch: Mapping[str, Any], several: bool) -> dict[str, Any]:
        name = f"{subject['subject_id']}_slice{patch['slice']:03d}" if several else subject["subject_id"]
        path = self.folder / f"{name}.nii.gz"
        write_image(path, np.asarray(patch["image"]), np.asarray(patch["image"].affine))
        grade = subject.get("grade")
        return {
            "image": path.name,
            "label": None if grade is None else self.classes[grade],
            "subject_id": subject["subject_id"],
            "site": subject.get("site"),
            **{key: subject[key] for key in CARRIED if key in subject},
            **{key: patch[key] for key in CROP_FACTS},
            "image_sha256": sha256_file(path),
        }


def _walk(extract: _Extraction, subjects: Sequence[dict[str, Any]], num_workers: int) -> Iterator[Any]:
    if num_workers <= 1:
        yield from map(extract, subjects)
        return
    with ThreadPoolExecutor(num_workers) as pool:
        futures = [pool.submit(extract, subject) for subject in subjects]
        try:
            yield from (future.result() for future in futures)
        finally:
            pool.shutdown(cancel_futures=True)


def _separate(results: Iterable[list[dict[str, Any]] | str]) -> tuple[list[dict[str, Any]], list[str]]:
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    for result in results:
        if isinstance(result, str):
            failures.append(result)
        else:
            rows.extend(result)
    return rows, failures


def _as_list(patches: Any) -> list[Any]:
    return patches if isinstance(patches, list) else [patches]


def _located(subject: Mapping[str, Any], cohort: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    located = {"mask_codes": cohort.get("mask_codes"), **subject}
    if subject.get("images"):
        located["images"] = {key: str(folder / path) for key, path in subject["images"].items()}
    return located | {key: str(folder / subject[key]) for key in ("image", "mask", "brain_mask") if subject.get(key)}


def _problems(subject: Mapping[str, Any], form: ImageForm, preprocessing: Preprocessing) -> Iterator[str]:
    yield from missing_modalities(subject, form.modalities)
    for transform in getattr(preprocessing, "transforms", ()):
        yield from getattr(transform, "problems", lambda _: ())(subject)
    if subject.get("grade") is not None and subject["grade"] not in form.classes:
        yield f"grade {subject['grade']!r} is none of the classes {list(form.classes)}"
    yield from (f"{path} {why}; check the path" for path in subject_files(subject) if (why := why_no_file(path)))
