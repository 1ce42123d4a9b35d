"""From a folder or table to `cohort.json`: who, grade, site, files, all of them checked."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.cohorts.layouts import Found, Subject, detect_layout, find_brats, find_decathlon, source_files
from scripts.cohorts.tables import find_table
from scripts.running.errors import some_names
from scripts.running.files import sha256_file, write_json, write_text
from scripts.running.progress import progress
from scripts.volumes.checks import check_grid, check_image, find_mask_codes
from scripts.volumes.mask_codes import MaskCodes, decide_mask_codes

LAYOUTS = ("brats_2018", "brats_2023", "decathlon", "table")
MODALITIES = ("t1n", "t1c", "t2w", "t2f")
CLASSES = ("LGG", "HGG")
NUM_PROBLEMS = 20  # of a cohort that an error message spells out
LISTING = ".source_files.tsv"


class CohortError(ValueError):
    """Everything that is wrong with a cohort, in one message."""


@dataclass
class Reading:
    """What reading the files of one subject gave.

    Args:
        problems: one sentence each.
        mask_codes: codes in the mask; None without a mask, or where it could not be read.
        hashes: file or channel -> sha256 of its voxels.
        contents: `sha256` or `file_stamp` -> modality, `image` or `mask` -> what tells this file from a corrected one.
    """

    problems: list[str] = field(default_factory=list)
    mask_codes: list[int] | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    contents: dict[str, dict[str, str]] = field(default_factory=dict)


def scan_cohort(
    source_path: str | Path,
    output_dir: str | Path,
    name: str | None = None,
    layout: str = "auto",
    modalities: Sequence[str] = MODALITIES,
    classes: Collection[str] = CLASSES,
    grade_map: Mapping[str, str | None] | None = None,
    mask_codes: str | Mapping[str, int] | None = None,
    leave_out: Sequence[str] | Mapping[str, str] = (),
    check_voxels: bool = True,
    require_masks: bool = True,
    require_one_grid: bool = True,
    num_workers: int = 2,
) -> Path:
    """Find the subjects of a cohort, check them, and write `cohort.json`.

    Nothing is repaired and nobody is left out unless asked for: all that is wrong is told at once.

    Args:
        source_path: folder of BraTS 2018 to 2024 or of the Medical Decathlon, or a table (`docs/reference/data.md`).
        output_dir: folder for `cohort.json`.
        name: of the cohort; by default that of the folder or table.
        layout: `auto`, or one of `LAYOUTS`.
        modalities: those wanted, in the order of the channels.
        classes: names of the classes that a grade can mean.
        grade_map: the user's own words for grades -> class, or None for no grade.
        mask_codes: the convention of the masks, by name or as tissue -> code; by default decided from layout and masks.
        leave_out: subjects to leave out, or each with the reason.
        check_voxels: read every image once: truncated files, NaN, constant images, the same image twice.
        require_masks: refuse a cohort in which a mask is missing.
        require_one_grid: refuse subjects whose files lie on several grids; false for registration by patches.yaml.
        num_workers: threads that read files.

    Returns:
        Path of `cohort.json`.

    Raises:
        CohortError: with all problems of the cohort; each names the file and the way out.
    """
    source = _resolve(source_path)
    found = find_subjects(source, layout, modalities, classes, grade_map)
    left_out = _leave_out(found, leave_out)
    problems = [message for _, message in found.problems]
    problems += _check_identities(found.subjects, source)
    problems += [
        message for subject in found.subjects for message in _check_complete(subject, modalities, require_masks)
    ]
    _raise_if_any(problems, source)
    readings = _read_all(found.subjects, check_voxels, require_one_grid, num_workers)
    problems = [message for reading in readings for message in reading.problems] + _check_voxels_differ(readings)
    _raise_if_any(problems, source)
    codes, reason, own = _decide_codes(found, readings, mask_codes)
    path = Path(output_dir).resolve() / "cohort.json"
    cohort = {
        "name": name or (source.stem if source.is_file() else source.name),
        "simulated": False,
        "layout": found.layout,
        "modalities": list(modalities),
        "mask_codes": codes,
        "mask_codes_reason": reason,
        "checked_voxels": check_voxels,
        **found.notes,
        "subjects": [
            _entry(subject, own[i], path.parent) | readings[i].contents for i, subject in enumerate(found.subjects)
        ],
        "left_out": left_out,
    }
    write_json(path, cohort)
    return path


def find_subjects(
    source: Path,
    layout: str = "auto",
    modalities: Sequence[str] = MODALITIES,
    classes: Collection[str] = CLASSES,
    grade_map: Mapping[str, str | None] | None = None,
) -> Found:
    """List the subjects of a folder or table, without opening an image.

    Args:
        source: folder or table.
        layout: `auto`, or one of `LAYOUTS`.
        modalities: those wanted.
        classes: names of the classes.
        grade_map: as in `scan_cohort`.

    Returns:
        Subjects, and what is wrong with them.

    Raises:
        ValueError: if the layout is unknown, or there is nobody.
    """
    if layout not in ("auto", *LAYOUTS):
        raise ValueError(f"layout must be auto or one of {', '.join(LAYOUTS)}, got {layout!r}")
    layout = detect_layout(source) if layout == "auto" else layout
    if layout == "table":
        found = find_table(source, modalities, classes, grade_map)
    elif layout == "decathlon":
        found = find_decathlon(source, modalities)
    else:
        found = find_brats(source, layout, modalities, classes, grade_map)
    if not found.subjects and not found.problems:
        raise ValueError(f"{source} must hold subjects in layout {layout}, got none; see docs/reference/data.md")
    return found


def list_source(
    source_path: str | Path, output_dir: str | Path, layout: str = "auto", modalities: Sequence[str] = MODALITIES
) -> str:
    """Write the names, sizes and dates of all files of a source, so that a stage notices when one of them changes.

    Args:
        source_path: folder or table.
        output_dir: folder for the listing.
        layout: as in `scan_cohort`.
        modalities: as in `scan_cohort`.

    Returns:
        Path of the listing.
    """
    source = _resolve(source_path)
    paths = source_files(source, find_subjects(source, layout, modalities))
    facts = ((path, path.stat()) for path in paths)
    listing = Path(output_dir) / LISTING
    write_text(listing, "".join(f"{path}\t{stat.st_size}\t{stat.st_mtime_ns}\n" for path, stat in facts))
    return str(listing)


def _resolve(source_path: str | Path | None) -> Path:
    if not source_path:
        raise ValueError(f"source_path must be a folder or a table, got {source_path!r}; pass --source_path")
    return Path(source_path).expanduser().resolve()


def _leave_out(found: Found, leave_out: Sequence[str] | Mapping[str, str]) -> list[dict[str, str]]:
    """Drop the subjects that the user named, with their problems, and say so."""
    reasons = dict(leave_out) if isinstance(leave_out, Mapping) else dict.fromkeys(leave_out, "asked for (leave_out)")
    unknown = set(reasons) - {subject.subject_id for subject in found.subjects}
    if unknown:
        raise ValueError(f"leave_out must name subjects of the cohort, got {some_names(unknown)}; correct the names")
    found.subjects = [subject for subject in found.subjects if subject.subject_id not in reasons]
    found.problems = [(subject_id, message) for subject_id, message in found.problems if subject_id not in reasons]
    return [{"subject_id": subject_id, "reason": reason} for subject_id, reason in sorted(reasons.items())]


def _check_identities(subjects: Sequence[Subject], source: Path) -> list[str]:
    """A subject twice: its name twice, or one file under two names."""
    places: dict[str, list[str]] = defaultdict(list)
    users: dict[Path, list[str]] = defaultdict(list)
    for subject in subjects:
        places[subject.subject_id.lower()].append(subject.where)
        for kind, path in (*subject.image_paths().items(), ("mask", subject.mask)):
            if path is not None:
                users[path].append(f"{kind} of {subject.subject_id}")
    problems = [
        f"subject_id must be there once in {source}, got {subject_id} in {some_names(where)}; remove or rename one"
        for subject_id, where in places.items()
        if len(where) > 1
    ]
    problems += [
        f"subject_id must be usable as a file name (letters, digits, _ - + .), got {subject.subject_id!r} in"
        f" {subject.where}; rename it"
        for subject in subjects
        if not re.fullmatch(r"[\w.+-]+", subject.subject_id)
    ]
    return problems + [
        f"{path} must be one file of one subject, got it as {some_names(kinds)}; correct all but one"
        for path, kinds in users.items()
        if len(kinds) > 1
    ]


def _check_complete(subject: Subject, modalities: Sequence[str], require_masks: bool) -> list[str]:
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


def _read_all(
    subjects: Sequence[Subject], check_voxels: bool, require_one_grid: bool, num_workers: int
) -> list[Reading]:
    with ThreadPoolExecutor(num_workers) as pool:
        readings = pool.map(lambda subject: _read_subject(subject, check_voxels, require_one_grid), subjects)
        return list(progress(readings, total=len(subjects), description="checking files"))


def _read_subject(subject: Subject, check_voxels: bool, require_one_grid: bool) -> Reading:
    """Check headers, then the mask, then the voxels; every file that fails is told, not the first alone."""
    reading = Reading()
    images = subject.image_paths()
    channels = subject.channel_order if subject.image else None
    masks = {"mask": subject.mask, "brain_mask": subject.brain_mask}
    grids = {**images, **{kind: path for kind, path in masks.items() if path}}
    for group in [grids] if require_one_grid else [{kind: path} for kind, path in grids.items()]:
        _try(reading, check_grid, group, len(channels) if channels else None)
    if subject.mask:
        reading.mask_codes = _try(reading, find_mask_codes, subject.mask)
    for path in images.values() if check_voxels else ():
        reading.hashes.update(_try(reading, check_image, path, channels) or {})
    if not reading.problems:
        reading.contents = _contents(grids, check_voxels)
    return reading


def _contents(paths: Mapping[str, Path], check_voxels: bool) -> dict[str, dict[str, str]]:
    """What changes with a file, its header included; without reading it, size and date must do."""
    if check_voxels:
        return {"sha256": {kind: sha256_file(path) for kind, path in paths.items()}}
    facts = {kind: path.stat() for kind, path in paths.items()}
    return {"file_stamp": {kind: f"{stat.st_size} {stat.st_mtime_ns}" for kind, stat in facts.items()}}


def _try(reading: Reading, check: Any, *arguments: Any) -> Any:
    try:
        return check(*arguments)
    except (ValueError, OSError) as error:
        # a file that cannot be opened fails in every check, in other words: the first says it
        if not any(str(error).split(" ")[0] == message.split(" ")[0] for message in reading.problems):
            reading.problems.append(str(error))
        return None


def _check_voxels_differ(readings: Iterable[Reading]) -> list[str]:
    owners: dict[str, list[str]] = defaultdict(list)
    for reading in readings:
        for where, digest in reading.hashes.items():
            owners[digest].append(where)
    return [
        f"{some_names(where)} must be different images, got the same voxels; remove the copy, or leave a subject out"
        " (leave_out)"
        for where in owners.values()
        if len(where) > 1
    ]


def _decide_codes(
    found: Found, readings: Sequence[Reading], declared: str | Mapping[str, int] | None
) -> tuple[MaskCodes | None, str, list[MaskCodes | None]]:
    """(codes of the cohort, the reason, codes of each subject that has others); rows that declare alike are a group."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, (subject, reading) in enumerate(zip(found.subjects, readings, strict=True)):
        if reading.mask_codes is not None:
            groups[repr(subject.mask_codes)].append(number)
    own: list[MaskCodes | None] = [None] * len(found.subjects)
    if not groups:
        return None, "no masks", own
    decided = []
    for numbers in sorted(groups.values(), key=len, reverse=True):
        masks = {str(found.subjects[i].mask): readings[i].mask_codes or [] for i in numbers}
        said = found.subjects[numbers[0]].mask_codes or declared or found.mask_codes
        codes, reason = decide_mask_codes(masks, found.layout, said)
        if said is not None and said is found.mask_codes:
            reason = f"from the labels of dataset.json; {reason.split('; ')[-1]}"
        decided.append((codes, f"{reason} ({len(numbers)} masks)"))
        for number in numbers:
            own[number] = codes if codes != decided[0][0] else None
    return decided[0][0], "; ".join(reason for _, reason in decided), own


def _entry(subject: Subject, mask_codes: MaskCodes | None, folder: Path) -> dict[str, Any]:
    """A subject of `cohort.json`; files below its folder are named relative to it: the two can move together."""
    entry: dict[str, Any] = {
        "subject_id": subject.subject_id,
        "patient_id": subject.patient_id,
        "site": subject.site,
        "grade": subject.grade,
    }
    if subject.image:
        entry |= {"image": _name(subject.image, folder), "channel_order": subject.channel_order}
    else:
        entry["images"] = {modality: _name(path, folder) for modality, path in subject.images.items()}
    entry["mask"] = _name(subject.mask, folder) if subject.mask else None
    entry["mask_source"] = subject.mask_source
    if subject.brain_mask:
        entry["brain_mask"] = _name(subject.brain_mask, folder)
    return entry | ({"mask_codes": mask_codes} if mask_codes else {})


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _raise_if_any(problems: Sequence[str], source: Path) -> None:
    if not problems:
        return
    shown = list(dict.fromkeys(problems))
    rest = len(shown) - NUM_PROBLEMS
    raise CohortError(
        f"{source} must be without faults, got {len(shown)}:\n- "
        + "\n- ".join(shown[:NUM_PROBLEMS])
        + (f"\n- and {rest} more" if rest > 0 else "")
    )
