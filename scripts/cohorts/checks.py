"""What must hold between the subjects of a cohort, before and after their files are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scripts.cohorts.subjects import Subject
from scripts.cohorts.words import spelled_differently
from scripts.running.errors import some_names
from scripts.running.files import file_state, sha256_file
from scripts.running.progress import progress
from scripts.splits.patients import SUBJECT_ID_RULE, is_subject_id
from scripts.volumes.analyze import is_pair
from scripts.volumes.brain_images import USUAL_LIMITS, BrainLimits
from scripts.volumes.checks import check_grid, check_image, check_picture, find_mask_codes
from scripts.volumes.file_names import is_picture, other_half
from scripts.volumes.picture_files import picture_header


@dataclass
class Reading:
    """What reading the files of one subject gave.

    Args:
        problems: one sentence each.
        mask_codes: codes in the mask; None without a mask, or where it could not be read.
        hashes: file or channel -> sha256 of its voxels.
        contents: `sha256` or `file_stamp` -> modality, `image` or `mask` -> what tells this file from a corrected one;
            `picture` -> size, mode and content of a picture; `grid` -> size and spacing of volumes.
        is_picture: whether it is a picture and no volume.
        grid: size and spacing of the first volume, see `scripts.volumes.checks.check_grid`.
        thumbnail: of a picture that is not small, see `scripts.volumes.picture_files.Picture.thumbnail`.
    """

    problems: list[str] = field(default_factory=list)
    mask_codes: list[int] | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    contents: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_picture: bool = False
    grid: dict[str, Any] | None = None
    thumbnail: np.ndarray | None = None


def check_identities(subjects: Sequence[Subject], source: Path) -> list[str]:
    """Find a subject that is there twice, by its name or by a file, and sites and patients that are spelled two ways.

    Args:
        subjects: of the cohort.
        source: folder or table, for the messages.

    Returns:
        A sentence for each fault.
    """
    places: dict[str, list[str]] = defaultdict(list)
    users: dict[Path, list[str]] = defaultdict(list)
    for subject in subjects:
        places[subject.subject_id.lower()].append(subject.where)
        for kind, path in subject.paths().items():
            users[path.resolve()].append(f"{kind} of {subject.subject_id}")
    problems = [
        f"subject_id must be there once in {source}, got {subject_id} in {some_names(where)}; remove or rename one"
        for subject_id, where in places.items()
        if len(where) > 1
    ]
    problems += [
        f"subject_id must be {SUBJECT_ID_RULE}, got {subject.subject_id!r} in {subject.where}; rename it"
        for subject in subjects
        if not is_subject_id(subject.subject_id)
    ]
    problems += _check_spelling("site", {s.subject_id: s.site for s in subjects if s.site}, source)
    problems += _check_spelling("patient_id", {s.subject_id: s.patient_id for s in subjects}, source)
    problems += _in_two_classes([subject for subject in subjects if picture_of(subject) is not None])
    return problems + [
        f"{path} must be one file of one subject, got it as {some_names(kinds)}; correct all but one"
        for path, kinds in users.items()
        if len(kinds) > 1
    ]


def picture_of(subject: Subject) -> Path | None:
    """Return the picture that is all that a subject has; None of others."""
    paths = list(subject.image_paths().values())
    return paths[0] if len(paths) == 1 and is_picture(paths[0]) else None


def _in_two_classes(subjects: Sequence[Subject]) -> list[str]:
    """Name patients of several classes: of gliomas the higher grade counts, of other classes nobody knows."""
    classes: dict[str, set[str]] = defaultdict(set)
    for subject in subjects:
        if subject.grade is not None:
            classes[subject.patient_id].add(subject.grade)
    return [
        f"patient {patient} must be in one class, got {' and '.join(sorted(own))}; correct patient_pattern or"
        " patient_id, move the pictures, or leave them out (leave_out)"
        for patient, own in classes.items()
        if len(own) > 1
    ]


def check_complete(subject: Subject, modalities: Sequence[str], require_masks: bool) -> list[str]:
    """Find modalities and a mask that are missing.

    Args:
        subject: one scan.
        modalities: those wanted.
        require_masks: a missing mask is a fault.

    Returns:
        A sentence for each fault.
    """
    problems = []
    missing = [name for name in modalities if name not in subject.images]
    if subject.image is None and missing:
        problems.append(
            f"{subject.where}, subject {subject.subject_id} must have {', '.join(modalities)}, got no"
            f" {', '.join(missing)}; add the file, or leave the subject out (leave_out)"
        )
    if require_masks and subject.mask is None:
        problems.append(
            f"{subject.where}, subject {subject.subject_id} must have a mask, got none; add it, leave the subject out"
            " (leave_out), or set require_masks: false for a cohort that configs/segment.yaml segments, or that is only"
            " looked at by click"
        )
    return problems


def read_all(
    subjects: Sequence[Subject],
    check_voxels: bool,
    require_one_grid: bool,
    num_workers: int,
    limits: BrainLimits = USUAL_LIMITS,
) -> list[Reading]:
    """Read the files of all subjects.

    Args:
        subjects: of the cohort.
        check_voxels: read every image, not headers and masks alone.
        require_one_grid: files of a subject must lie on one grid.
        num_workers: threads.
        limits: of what counts as skull-stripped.

    Returns:
        One reading per subject.
    """
    with ThreadPoolExecutor(num_workers) as pool:
        readings = pool.map(lambda subject: _read_subject(subject, check_voxels, require_one_grid, limits), subjects)
        return list(progress(readings, total=len(subjects), description="checking files"))


def check_voxels_differ(readings: Iterable[Reading]) -> list[str]:
    """Find volumes that are there twice, whatever their names; of pictures, `scripts.cohorts.duplicates` finds more.

    Returns:
        A sentence for each image.
    """
    owners: dict[str, list[str]] = defaultdict(list)
    for reading in readings:
        for where, digest in () if reading.is_picture else reading.hashes.items():
            owners[digest].append(where)
    return [
        f"{some_names(where)} must be different images, got the same voxels; remove the copy, or leave a subject out"
        " (leave_out)"
        for where in owners.values()
        if len(where) > 1
    ]


def _check_spelling(column: str, values: dict[str, str], source: Path) -> list[str]:
    """Values that differ in case, separators or zeros only: a hospital would be held out from itself."""
    first = {value: subject_id for subject_id, value in reversed(values.items())}
    return [
        f"{column} must be spelled one way in {source}, got"
        f" {some_names(f'{value!r} (subject {first[value]})' for value in names)}; write one of them, or names that"
        " differ in more"
        for names in spelled_differently(values.values())
    ]


def _read_subject(subject: Subject, check_voxels: bool, require_one_grid: bool, limits: BrainLimits) -> Reading:
    """Check headers, then the mask, then the voxels; every file that fails is told, not the first alone."""
    reading = Reading()
    if (picture := picture_of(subject)) is not None:
        return _read_picture(subject, picture, check_voxels)
    channels = subject.channel_order if subject.image else None
    paths = subject.paths()
    for group in [paths] if require_one_grid else [{kind: path} for kind, path in paths.items()]:
        grid = _try(reading, check_grid, group, len(channels) if channels else None, subject.orientation)
        reading.grid = reading.grid or grid
    if subject.mask:
        reading.mask_codes = _try(reading, find_mask_codes, subject.mask, subject.orientation)
    checked = (channels, None if subject.brain_mask else limits, subject.orientation)
    for path in subject.image_paths().values() if check_voxels else ():
        reading.hashes.update(_try(reading, check_image, path, *checked) or {})
    if not reading.problems:
        reading.contents = {"grid": reading.grid or {}, **_contents(paths, check_voxels)}
    return reading


def _read_picture(subject: Subject, path: Path, check_voxels: bool) -> Reading:
    """Read a picture once; its grey or its three colors may be equal, two pictures may not."""
    reading = Reading(is_picture=True)
    if subject.mask:
        reading.mask_codes = _try(reading, find_mask_codes, subject.mask)
    if check_voxels:
        digest, facts, reading.thumbnail = _try(reading, check_picture, path, subject.channel_order) or ("", {}, None)
        reading.hashes = {str(path): digest} if digest else {}
    else:
        facts = _try(reading, picture_header, path)
    if not reading.problems:
        reading.contents = {"picture": facts, **_contents(subject.paths(), check_voxels)}
    return reading


def _contents(paths: Mapping[str, Path], check_voxels: bool) -> dict[str, dict[str, str]]:
    """What changes with a file, its header included; without reading it, size and date must do."""
    halves = dict(paths)
    halves |= {f"{kind} header": other_half(path) for kind, path in paths.items() if is_pair(path)}
    if check_voxels:
        return {"sha256": {kind: sha256_file(path) for kind, path in halves.items()}}
    return {"file_stamp": {kind: " ".join(map(str, file_state(path))) for kind, path in halves.items()}}


def _try(reading: Reading, check: Any, *arguments: Any) -> Any:
    try:
        return check(*arguments)
    except (ValueError, OSError) as error:
        # a file that cannot be opened fails in every check, in other words: the first says it
        if not any(str(error).split(" ")[0] == message.split(" ")[0] for message in reading.problems):
            reading.problems.append(str(error))
        return None
