"""From a folder or table to `cohort.json`: who, grade, site, files, all of them checked."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.cohorts.checks import check_complete, check_identities, check_voxels_differ, read_all
from scripts.cohorts.columns import MOLECULAR
from scripts.cohorts.duplicates import check_duplicates, settle_copies
from scripts.cohorts.grades import GradeMap, check_grade_map
from scripts.cohorts.layouts import check_layout, find_subjects, require_source, resolve_source
from scripts.cohorts.mask_conventions import decide_conventions
from scripts.cohorts.subjects import Source, Subject
from scripts.cohorts.volume_folders import NO_RULE, NameRule
from scripts.cohorts.words import name_of
from scripts.running.errors import some_names
from scripts.running.files import file_state, write_json, write_text
from scripts.splits.patients import check_pattern, patient_by_name, perhaps_one_patient
from scripts.volumes.brain_images import USUAL_LIMITS, BrainLimits
from scripts.volumes.mask_codes import MaskCodes, parse_mask_codes

logger = logging.getLogger(__name__)

MODALITIES = ("t1n", "t1c", "t2w", "t2f")
CLASSES = ("LGG", "HGG")
NUM_PROBLEMS = 20  # of a cohort that an error message spells out
LISTING = ".source_files.tsv"

LeftOut = str | int | Sequence[str | int] | Mapping[str, str] | None


class CohortError(ValueError):
    """Everything that is wrong with a cohort, in one message."""


def scan_cohort(
    source_path: str | Path,
    output_dir: str | Path,
    name: str | None = None,
    layout: str = "auto",
    modalities: Sequence[str] = MODALITIES,
    classes: Collection[str] = CLASSES,
    grade_map: GradeMap | None = None,
    mask_codes: str | Mapping[str, int] | None = None,
    leave_out: LeftOut = (),
    check_voxels: bool = True,
    require_masks: bool = True,
    require_one_grid: bool = True,
    num_workers: int = 2,
    brain_limits: BrainLimits = USUAL_LIMITS,
    class_column: str = "grade",
    subtree: str | None = None,
    duplicates: str = "refuse",
    patient_pattern: str | None = None,
    rule: NameRule = NO_RULE,
) -> Path:
    """Find the subjects of a cohort, check them, and write `cohort.json`.

    Nothing is repaired, and no subject is left out unless named in `leave_out`: all faults are listed at once.

    Args:
        source_path: folder of BraTS 2018 to 2024, of the Medical Decathlon, of BIDS, of pictures in folders of their
            classes or of volumes without masks, or a table (`docs/reference/data.md`).
        output_dir: folder for `cohort.json`.
        name: of the cohort; by default that of the folder or table.
        layout: `auto`, or one of `scripts.cohorts.layouts.LAYOUTS`.
        modalities: those wanted, in the order of the channels.
        classes: names of the classes that a grade can mean.
        grade_map: the user's own words for grades, or names of folders of pictures -> class; None for no grade, or for
            a folder that is not read.
        mask_codes: the convention of the masks, by name or as tissue -> code; by default decided from layout and masks.
        leave_out: subjects to leave out, one or several, or each with the reason.
        check_voxels: read every image once: truncated files, NaN, constant images, the same image twice.
        require_masks: refuse a cohort in which a mask is missing.
        require_one_grid: refuse subjects whose files lie on several grids; false for registration by patches.yaml.
        num_workers: threads that read files.
        brain_limits: what counts as skull-stripped, where voxels are checked and there is no brain mask.
        class_column: column of a table that says the class: `grade`, or one of `scripts.cohorts.columns.MOLECULAR`.
        subtree: folder below `source_path` that alone is read; None reads all of it.
        duplicates: what becomes of pictures that are there twice, see `scripts.cohorts.duplicates.WAYS`.
        patient_pattern: regular expression that finds the patient in a name, see
            `scripts.cohorts.subjects.Source.name_patients`.
        rule: which files of a folder are read, what their names say, and how those lie that do not say it.

    Returns:
        Path of `cohort.json`.

    Raises:
        CohortError: with all problems of the cohort; each names the file and the way out.
    """
    check_scan(
        source_path,
        layout,
        classes,
        grade_map,
        mask_codes,
        num_workers,
        class_column,
        duplicates,
        patient_pattern,
        check_voxels,
    )
    folder = resolve_source(source_path, subtree)
    source, _ = find_subjects(folder, layout, modalities, classes, grade_map, class_column, rule)
    if patient_pattern:
        source.name_patients(patient_pattern, folder)
    left_out = _leave_out(source, leave_out)
    problems = [message for _, message in source.problems]
    problems += check_identities(source.subjects, folder)
    incomplete = {subject.subject_id: check_complete(subject, modalities, require_masks) for subject in source.subjects}
    problems += [message for messages in incomplete.values() for message in messages]
    at_fault = {subject_id for subject_id, _ in source.problems} | {name for name, own in incomplete.items() if own}
    # What can be read is read before anything is refused: all faults of a cohort are in one message.
    readable = [subject for subject in source.subjects if subject.subject_id not in at_fault]
    readings = read_all(readable, check_voxels, require_one_grid, num_workers, brain_limits)
    problems += [message for reading in readings for message in reading.problems] + check_voxels_differ(readings)
    copies, copies_left_out = settle_copies(readable, readings, duplicates)
    _raise_if_any(problems + copies, folder)
    source.subjects = readable
    _say_what_is_not_known(source, folder, bool(classes))
    codes, reason, own = decide_conventions(source, readings, mask_codes)
    path = Path(output_dir).resolve() / "cohort.json"
    cohort = {
        "name": name or _name_of_source(require_source(source_path)),
        "simulated": False,
        "layout": source.layout,
        "modalities": list(modalities),
        "mask_codes": codes,
        "mask_codes_reason": reason,
        "checked_voxels": check_voxels,
        **source.notes,
        "subjects": [
            _entry(subject, own[i], path.parent) | readings[i].contents for i, subject in enumerate(source.subjects)
        ],
        "left_out": left_out + copies_left_out,
    }
    write_json(path, cohort)
    return path


def check_scan(
    source_path: str | Path | None,
    layout: str = "auto",
    classes: Collection[str] = CLASSES,
    grade_map: GradeMap | None = None,
    mask_codes: str | Mapping[str, int] | None = None,
    num_workers: int = 2,
    class_column: str = "grade",
    duplicates: str = "refuse",
    patient_pattern: str | None = None,
    check_voxels: bool = True,
) -> None:
    """Refuse settings by which no source can be scanned, without looking at it; arguments as of `scan_cohort`.

    Raises:
        TypeError: if `grade_map` or `mask_codes` is of another kind.
        ValueError: naming the config key and the way out.
    """
    require_source(source_path)
    check_layout(layout)
    check_grade_map(grade_map, classes)
    check_duplicates(duplicates)
    check_pattern(patient_pattern)
    if duplicates != "refuse" and not check_voxels:
        raise ValueError(
            f"duplicates must be refuse where check_voxels is false, got {duplicates!r}: copies are looked for in the"
            " pixels; set check_voxels to true"
        )
    if mask_codes is not None:
        parse_mask_codes(mask_codes)
    if num_workers < 1:
        raise ValueError(f"cohort_num_workers must be >= 1, got {num_workers!r}")
    if class_column not in ("grade", *MOLECULAR):
        raise ValueError(f"class_column must be one of grade, {', '.join(MOLECULAR)}, got {class_column!r}")


def list_source(
    source_path: str | Path,
    output_dir: str | Path,
    layout: str = "auto",
    modalities: Sequence[str] = MODALITIES,
    subtree: str | None = None,
    rule: NameRule = NO_RULE,
) -> str:
    """Write the names, sizes and dates of all files of a source, so that a stage notices when one of them changes.

    Args:
        source_path: folder or table.
        output_dir: folder for the listing.
        layout: as in `scan_cohort`.
        modalities: as in `scan_cohort`.
        subtree: as in `scan_cohort`.
        rule: likewise.

    Returns:
        Path of the listing.
    """
    _, paths = find_subjects(resolve_source(source_path, subtree), layout, modalities, CLASSES, rule=rule)
    listing = Path(output_dir) / LISTING
    text = "".join(f"{path}\t{_stamp(path)}\n" for path in paths)
    if not listing.is_file() or listing.read_text(encoding="utf-8") != text:  # a finished stage may be read-only
        write_text(listing, text)
    return str(listing)


def _name_of_source(source: Path) -> str:
    return source.stem if source.is_file() else source.name


def _stamp(path: Path) -> str:
    try:
        return "\t".join(map(str, file_state(path)))
    except OSError:
        return "not there"  # the scan says why


def _leave_out(source: Source, leave_out: LeftOut) -> list[dict[str, str]]:
    """Drop the subjects that the user named, with their problems, and say so."""
    if isinstance(leave_out, Mapping):
        reasons = {name_of(name): str(reason) for name, reason in leave_out.items()}
    else:
        names = [leave_out] if isinstance(leave_out, str | int) else leave_out or ()
        reasons = dict.fromkeys(map(name_of, names), "asked for (leave_out)")
    ids = {subject.subject_id for subject in source.subjects}
    if unknown := set(reasons) - ids:
        near = difflib.get_close_matches(min(unknown), ids, 3)
        hint = f"did you mean {', '.join(near)}?" if near else "correct the names"
        raise ValueError(f"leave_out must name subjects of the cohort, got {some_names(unknown)}; {hint}")
    source.subjects = [subject for subject in source.subjects if subject.subject_id not in reasons]
    source.problems = [(subject_id, message) for subject_id, message in source.problems if subject_id not in reasons]
    return [{"subject_id": subject_id, "reason": reason} for subject_id, reason in sorted(reasons.items())]


def _say_what_is_not_known(source: Source, folder: Path, asks_grades: bool) -> None:
    """Name aloud what the scan passes over: columns, cells, grades and sites not given, names that may be of one."""
    if ignored := source.notes.get("ignored_columns"):
        logger.warning("%s: columns that are not read: %s", folder, some_names(ignored))
    if unread := source.notes.get("unread_facts"):
        logger.warning("%s: cells that are not understood, and count as not stated: %s", folder, some_names(unread))
    if not_read := source.notes.get("not_read"):
        logger.warning("%s: files that are not read: %s", folder, some_names(not_read))
    for what in ("grade", "site") if asks_grades else ("site",):
        without = [subject.subject_id for subject in source.subjects if not getattr(subject, what)]
        if without and (what == "grade" or len(without) < len(source.subjects)):
            which = "no subject" if len(without) == len(source.subjects) else "not every subject"
            logger.warning("%s: %s has a %s; without: %s", folder, which, what, some_names(without))
    if source.notes.get("patients") == "unknown":
        logger.warning(
            "%s: nobody says which pictures are of one patient; a split by image makes every result optimistic", folder
        )
        return
    by_name = [s.subject_id for s in source.subjects if s.patient_id == patient_by_name(s.subject_id)]
    for names in perhaps_one_patient(by_name):
        logger.warning(
            "%s: %s are taken for as many patients; if they are scans of one, give a patient_id in a table",
            folder,
            some_names(names),
        )


def _entry(subject: Subject, mask_codes: MaskCodes | None, folder: Path) -> dict[str, Any]:
    """A subject of `cohort.json`; files below its folder are named relative to it: the two can move together."""
    entry: dict[str, Any] = {
        "subject_id": subject.subject_id,
        "patient_id": subject.patient_id,
        "site": subject.site,
        "grade": subject.grade,
        **subject.facts,
    }
    if subject.image:
        entry |= {"image": _name(subject.image, folder), "channel_order": subject.channel_order}
    else:
        entry["images"] = {modality: _name(path, folder) for modality, path in subject.images.items()}
    entry["mask"] = _name(subject.mask, folder) if subject.mask else None
    entry["mask_source"] = subject.mask_source
    if subject.brain_mask:
        entry["brain_mask"] = _name(subject.brain_mask, folder)
    if subject.orientation:
        entry["orientation"] = subject.orientation
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
