"""Folders of BraTS 2018 to 2024: files named after subject and kind, grades from folders and name_mapping.csv."""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from scripts.cohorts.csv_rows import read_csv_rows
from scripts.cohorts.grades import GradeMap, grade_of_folder, parse_grade
from scripts.cohorts.subjects import Source, Subject
from scripts.cohorts.words import composed, name_of, plain
from scripts.running.errors import some_names
from scripts.volumes.file_names import is_nifti, stem_of
from scripts.volumes.modality_names import describe_aliases, parse_modality

SEPARATORS = {"brats_2018": "_", "brats_2023": "-"}  # between the name of the subject and the kind of the file
MASK_KIND = "seg"
PLAIN_KINDS = {"t1n", "t2w"}  # T1 and T2 without more, which scans of anything are called
NAME_MAPPING = "name_mapping*.csv"
COLLECTIONS = ("2013",)  # in place of a site: scans of several hospitals that came to BraTS together

GradeAndSite = tuple[str | None, str | None]


def find_brats(
    folder: Path,
    files: Sequence[Path],
    layout: str,
    modalities: Sequence[str],
    classes: Collection[str] = (),
    grade_map: GradeMap | None = None,
) -> Source:
    """Find the subjects of a BraTS folder.

    Grades come from `name_mapping.csv` and from folders named as a class (HGG, Low Grade), sites from names of BraTS
    2017 to 2019 (those of 2020 by way of `name_mapping.csv`).

    Args:
        folder: the unpacked archive.
        files: all files below it.
        layout: `brats_2018` or `brats_2023`.
        modalities: those wanted.
        classes: names of the classes.
        grade_map: as in `parse_grade`.

    Returns:
        Subjects and problems.
    """
    source = Source(layout)
    mapping = _read_name_mappings(files, source, classes, grade_map)
    for subject_id, paths in _group_by_subject(folder, files, layout, modalities, source).items():
        subject = Subject(subject_id, str(_place_of(paths[0], folder)))
        _sort_files(subject, paths, layout, modalities, source)
        grade, site = mapping.get(subject_id.lower(), (None, None))
        parts = (folder.name, *paths[0].relative_to(folder).parts[:-1])
        by_folder = [name for name in (grade_of_folder(part, classes, grade_map) for part in parts) if name]
        if grade and by_folder and grade != by_folder[-1]:
            source.add_problem(
                subject_id,
                f"{subject.where} must have one grade, got {by_folder[-1]} from its folder and {grade} from"
                " name_mapping.csv; correct one",
            )
        subject.grade = grade or (by_folder[-1] if by_folder else None)
        subject.site = site_of(subject_id) or site
        subject.mask_source = "expert" if subject.mask else None
        subject.images = {
            name: subject.images[name] for name in (*modalities, *subject.images) if name in subject.images
        }
        source.subjects.append(subject)
    return source


def site_of(name: str) -> str | None:
    """Derive the site from a name of BraTS 2017 to 2019.

    >>> site_of("BraTS19_CBICA_AAB_1"), site_of("BraTS19_2013_10_1"), site_of("BraTS2021_00001")
    ('CBICA', None, None)

    Args:
        name: of a scan.

    Returns:
        The second word of the name; None for other names, and for the scans of BraTS 2013, which are of several
        hospitals.
    """
    match = re.fullmatch(r"BraTS1[789]_([A-Za-z0-9]+)_.+", name, flags=re.IGNORECASE)
    return match[1] if match and match[1] not in COLLECTIONS else None


def layouts_of(files: Sequence[Path]) -> set[str]:
    """Tell which of the two styles of BraTS the names of some files have.

    One name tells nothing: `IXI002-Guys-0828-T1.nii.gz` is of neither. A style is that of a subject with files of two
    kinds, one of which is more than a plain T1 or T2, as everybody calls them.
    """
    kinds: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path in filter(is_nifti, files):
        for layout in SEPARATORS:
            subject_id, kind = _split_name(path, layout, ())
            if kind is not None:
                kinds[layout, subject_id].add(kind)
    return {layout for (layout, _), own in kinds.items() if len(own) > 1 and own - PLAIN_KINDS}


def is_name_mapping(path: Path) -> bool:
    """Tell whether a file is the table of BraTS that names subjects over the years, with their grades."""
    return fnmatch.fnmatch(path.name.lower(), NAME_MAPPING)


def _split_name(path: Path, layout: str, modalities: Sequence[str]) -> tuple[str, str | None]:
    """(name of the subject, modality or `seg`) from the name of a file; None for a kind that is not understood."""
    subject_id, _, kind = composed(stem_of(path)).rpartition(SEPARATORS[layout])
    if kind.lower() == MASK_KIND:
        return subject_id, MASK_KIND
    return subject_id, parse_modality(kind, modalities) if subject_id else None


def _place_of(path: Path, folder: Path) -> Path:
    """The folder that a file lies in, but for one that an unpacker made for this file alone and named after it."""
    place = path.parent
    while place != folder and (is_nifti(place) or place.name == stem_of(path)):
        place = place.parent
    return place


def _group_by_subject(
    folder: Path, files: Sequence[Path], layout: str, modalities: Sequence[str], source: Source
) -> dict[str, list[Path]]:
    """Files of each subject: those of a folder that bears its name, else those whose names begin alike."""
    groups: dict[str, list[Path]] = defaultdict(list)
    places: dict[str, set[Path]] = defaultdict(set)
    is_subject = {folder: False}
    for path in filter(is_nifti, files):
        place = _place_of(path, folder)
        if place not in is_subject:
            begins = composed(place.name) + SEPARATORS[layout]
            is_subject[place] = any(composed(entry.name).startswith(begins) for entry in place.iterdir())
        subject_id = composed(place.name) if is_subject[place] else _split_name(path, layout, modalities)[0]
        groups[subject_id].append(path)
        places[subject_id].add(place)
    for subject_id, folders in places.items():
        if len(folders) > 1:
            source.add_problem(
                subject_id,
                f"subject {subject_id} must be in one folder, got {some_names(folders)}; move its files into one, and"
                " those away that are there twice",
            )
    return dict(sorted(groups.items()))


def _sort_files(subject: Subject, paths: list[Path], layout: str, modalities: Sequence[str], source: Source) -> None:
    """Give each file its modality; note files that are unknown and modalities that are there twice."""
    for path in paths:
        name, kind = _split_name(path, layout, modalities)
        if kind is None or name != subject.subject_id:
            source.add_problem(
                subject.subject_id,
                f"{path} must be named {subject.subject_id}{SEPARATORS[layout]}KIND with a kind of"
                f" {describe_aliases(modalities)}; or {MASK_KIND} for the mask; rename it, or move it away",
            )
            continue
        before = subject.mask if kind == MASK_KIND else subject.images.get(kind)
        if before is not None and before.parent == path.parent:
            source.add_problem(
                subject.subject_id,
                f"subject {subject.subject_id} must have one file for {kind}, got {before} and {path}; move one away",
            )
        if kind == MASK_KIND:
            subject.mask = subject.mask or path
        else:
            subject.images.setdefault(kind, path)


def _read_name_mappings(
    files: Sequence[Path], source: Source, classes: Collection[str], grade_map: GradeMap | None
) -> dict[str, GradeAndSite]:
    """(grade, site) of each name, in lower case, that a row of `name_mapping.csv` gives a subject over the years."""
    mapping: dict[str, GradeAndSite] = {}
    for path in filter(is_name_mapping, files):
        columns, rows = read_csv_rows(path)
        grade_columns = [column for column in columns if plain(column) == "grade"]
        name_columns = [column for column in columns if plain(column).endswith("subject id")]
        nearly = [column for column in columns if "grade" in plain(column) and column not in grade_columns]
        if not name_columns or (nearly and not grade_columns):
            source.add_problem(
                "",
                f"{path} must have columns that end in subject_ID, and a column Grade if it gives grades, got"
                f" {', '.join(columns) or 'none'}; rename them, or move the file away",
            )
            continue
        for where, row in rows:
            names = [name for column in name_columns if (name := name_of(row[column]))]
            site = next((site for site in map(site_of, reversed(names)) if site), None)
            try:
                grade = parse_grade(row[grade_columns[0]], classes, grade_map) if grade_columns else None
            except ValueError as error:
                source.add_problem("", f"{where}: {error}")
                continue
            mapping.update({name.lower(): (grade, site) for name in names})
    return mapping
