"""Folders of volumes without masks: flat ones, whose names say what is known, and those of BIDS."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scripts.cohorts.class_folders import safe_id
from scripts.cohorts.csv_rows import read_csv_rows
from scripts.cohorts.grades import GradeMap, parse_grade
from scripts.cohorts.subjects import Source, Subject
from scripts.cohorts.words import composed, name_of, plain
from scripts.running.errors import some_names
from scripts.splits.patients import patient_by_name
from scripts.volumes.analyze import check_orientation
from scripts.volumes.file_names import (
    HEADER_ENDING,
    VOXELS_ENDING,
    is_analyze,
    is_nifti,
    is_picture,
    other_half,
    stem_of,
)
from scripts.volumes.modality_names import mask_words, other_modalities, parse_modality

GROUPS = ("patient", "site", "modality", "class")  # that the name of a file may tell
READ_BY = {"pattern": ("flat",), "files": ("flat", "bids"), "orientation": ("flat", "table")}
KEYS = {"pattern": "name_pattern", "files": "source_files", "orientation": "orientation"}
EXAMPLE = r"IXI(?P<patient>\d+)-(?P<site>[A-Za-z]+)-"
PARTICIPANTS = "participants.tsv"
DERIVED = ("derivatives", "sourcedata", "code")  # folders of BIDS with images that are made of others
BIDS_NAME = re.compile(
    r"(?P<sub>sub-[a-zA-Z0-9]+)(_(?P<ses>ses-[a-zA-Z0-9]+))?(?P<more>(_[a-z]+-[a-zA-Z0-9]+)*)_(?P<kind>\w+)"
)
CLASS_COLUMNS = ("grade", "diagnosis", "group")  # of participants.tsv; the first that is there says the class
FACTS = ("age", "sex", "diagnosis")  # of participants.tsv, kept with the subject


@dataclass(frozen=True)
class NameRule:
    """Which files of a folder are read, and what their names say.

    Args:
        pattern: regular expression that is searched in the path of a file below the source, without its ending; it has
            a group named patient and perhaps others of `GROUPS`. None: names say no more than those of scans do.
        files: glob below the source; None reads all volumes.
        orientation: see `scripts.volumes.analyze.check_orientation`.

    Raises:
        ValueError: if the pattern is none, or its groups are others.
    """

    pattern: str | None = None
    files: str | None = None
    orientation: str | None = None

    def __post_init__(self) -> None:
        check_orientation(self.orientation)
        if self.files is not None and (not isinstance(self.files, str) or not self.files or self.files[0] in "/~"):
            raise ValueError(
                f"source_files must be a pattern of names below source_path, such as **/*_T1.nii.gz, got {self.files!r}"
            )
        try:
            groups = set(self.compiled.groupindex) if self.pattern is not None else {"patient"}
        except (re.error, TypeError) as error:
            raise ValueError(f"name_pattern must be a regular expression, got {self.pattern!r} ({error})") from error
        if "patient" not in groups or groups - set(GROUPS):
            raise ValueError(
                f"name_pattern must have a group named patient, and others of {', '.join(GROUPS[1:])} alone, got"
                f" {some_names(sorted(groups)) or 'none'}; write it as {EXAMPLE}"
            )

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The regular expression."""
        return re.compile(self.pattern or "")

    def refuse_for(self, layout: str) -> None:
        """Refuse what a layout would not heed.

        Raises:
            ValueError: naming the key.
        """
        for name, layouts in READ_BY.items():
            if getattr(self, name) is not None and layout not in layouts:
                raise ValueError(
                    f"{KEYS[name]} must be null for the layout {layout}, got {getattr(self, name)!r}; it is read for"
                    f" {', '.join(layouts)}"
                )

    def choose(self, folder: Path, files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
        """Part files into those that are read and the others."""
        wanted = [path for path in files if self.files is None or _matches(path.relative_to(folder), self.files)]
        return wanted, sorted(set(files) - set(wanted))


NO_RULE = NameRule()


def find_flat(
    folder: Path,
    files: Sequence[Path],
    modalities: Sequence[str],
    classes: Collection[str] = (),
    class_map: GradeMap | None = None,
    rule: NameRule = NO_RULE,
) -> Source:
    """Find volumes that are named after their subjects, at any depth.

    Args:
        folder: of the source.
        files: all files below it.
        modalities: those wanted; of several the pattern must tell which one a file is.
        classes: names of the classes, for the group of that name.
        class_map: as in `scripts.cohorts.grades.parse_grade`.
        rule: which files, and what their names say.

    Returns:
        Subjects and problems: a name without a match, or one of a mask or of another modality, names that are alike
        where no pattern tells whose they are, a picture, half of an Analyze pair. `notes` lists what was not read.
    """
    source = Source("flat")
    if len(modalities) > 1 and "modality" not in rule.compiled.groupindex:
        source.add_problem(
            "",
            f"name_pattern must have a group named modality, as {folder} is to give {', '.join(modalities)}, got"
            f" {rule.pattern!r}; add it, or set modalities to the one that the files are",
        )
    volumes, not_read = _volumes(folder, files, rule, source)
    scans: dict[str, Subject] = {}
    odd: dict[str, list[str]] = defaultdict(list)
    for path in volumes:
        name = composed(path.relative_to(folder).with_name(stem_of(path)).as_posix())
        match = rule.compiled.search(name)
        told = {key: text for key, text in (match.groupdict() if match else {}).items() if text}
        if rule.pattern and "patient" not in told:
            source.add_problem(
                "",
                f"{path} must have the patient in its name as name_pattern {rule.pattern!r} finds it, got none; correct"
                " the pattern, or choose the files with source_files",
            )
            continue
        modality = parse_modality(told["modality"], modalities) if "modality" in told else modalities[0]
        if modality is None or modality not in modalities:
            not_read.append(path)
            continue
        untold = _untold(name, match)
        if words := mask_words(untold) or ([] if "modality" in told else other_modalities(untold, modality)):
            odd[words[0]].append(name)
            continue
        subject_id = _without(name, match, "modality")
        subject = scans.setdefault(subject_id, Subject(subject_id, str(path), site=told.get("site")))
        if told.get("patient"):
            subject.patient_id = told["patient"]
        _add_image(subject, modality, path, source)
        _add_class(subject, told.get("class"), classes, class_map, source)
    _refuse_other_images(odd, folder, modalities, source)
    source.subjects = _in_order(scans.values(), modalities)
    _shorten_names(source.subjects, folder, rule, source)
    source.notes["not_read"] = sorted(str(path.relative_to(folder)) for path in not_read)
    return source


def is_bids(folder: Path, files: Iterable[Path]) -> bool:
    """Tell a folder of BIDS by the names of folders and files together: sub-X/[ses-Y/]anat/sub-X_[ses-Y_]..._T1w."""
    return any(_bids_name(path, folder) for path in files if is_nifti(path))


def find_bids(
    folder: Path,
    files: Sequence[Path],
    modalities: Sequence[str],
    classes: Collection[str] = (),
    class_map: GradeMap | None = None,
    rule: NameRule = NO_RULE,
) -> Source:
    """Find the anatomical volumes of a BIDS folder, `sub-*/[ses-*/]anat/*_T1w.nii.gz`, a subject for each session.

    Site, age, sex and diagnosis come from `participants.tsv`, where it has them.

    Source: Gorgolewski et al. 2016, "The brain imaging data structure", and bids-specification.readthedocs.io.

    Args, as of `find_flat`.

    Returns:
        Subjects and problems: two files of one kind of one session, a class that is not understood.
    """
    source = Source("bids")
    chosen, not_read = rule.choose(folder, files)
    participants = _participants(folder / PARTICIPANTS, source)
    groups: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for path in chosen:
        match = _bids_name(path, folder) if is_nifti(path) else None
        kind = parse_modality(_contrast(match), modalities) if match else None
        if match is None or kind is None or kind not in modalities:
            not_read += [path] if is_nifti(path) or is_picture(path) else []
            continue
        groups["_".join(filter(None, (match["sub"], match["ses"])))].append((kind, path))
    for subject_id, images in sorted(groups.items()):
        patient = subject_id.split("_")[0]
        row = participants.get(plain(patient.removeprefix("sub-")), {})
        subject = Subject(
            subject_id, str(images[0][1].parent), patient_id=patient, site=name_of(row.get("site")) or None
        )
        for kind, path in images:
            _add_image(subject, kind, path, source)
        told = next((row[column] for column in CLASS_COLUMNS if column in row), None)
        _add_class(subject, told, classes, class_map, source)
        subject.facts = {column: text for column in FACTS if (text := name_of(row.get(column)))}
        source.subjects += _in_order([subject], modalities)
    source.notes["not_read"] = sorted(str(path.relative_to(folder)) for path in not_read)
    return source


def _volumes(folder: Path, files: Sequence[Path], rule: NameRule, source: Source) -> tuple[list[Path], list[Path]]:
    """Volumes that are read, of an Analyze pair the voxels; and files that are not."""
    chosen, not_read = rule.choose(folder, files)
    every = set(map(_lower, files))
    pictures = [path for path in chosen if is_picture(path)]
    volumes = []
    halves = set(map(_lower, chosen))
    headers = [path for path in chosen if is_analyze(path) and path.suffix.lower() == HEADER_ENDING]
    if headers := [path for path in headers if _lower(other_half(path)) in every - halves]:
        source.add_problem(
            "",
            f"source_files must choose the .img of Analyze pairs, got {rule.files!r} with {len(headers)} .hdr alone"
            f" ({some_names((path.name for path in headers), limit=3)}); end it in .img",
        )
    for path in chosen:
        if is_analyze(path) and _lower(other_half(path)) not in every:
            source.add_problem(
                "",
                f"{path} must lie beside its other half, {other_half(path).name}, got none: an Analyze image is a pair"
                " of .hdr and .img; copy both, or leave it out with source_files",
            )
        elif is_nifti(path) or path.suffix.lower() == VOXELS_ENDING:
            volumes.append(path)
        elif not is_analyze(path) and not is_picture(path):
            not_read.append(path)
    if pictures:
        source.add_problem(
            "",
            f"{folder} must hold volumes (.nii.gz, .nii, or .hdr with .img) in the layout flat, got"
            f" {len(pictures)} pictures ({some_names((path.name for path in pictures), limit=3)}); choose the volumes"
            " with source_files, or take pictures with configs/recipes/pictures.yaml",
        )
    read = {_lower(other_half(path)) for path in volumes if is_analyze(path)}
    return volumes, [path for path in not_read if _lower(path) not in read]


def _lower(path: Path) -> Path:
    """A path with its last name in small letters, as halves of a pair may differ in that."""
    return path.with_name(path.name.lower())


def _matches(path: Path, pattern: str) -> bool:
    """Tell whether a relative path is one of a glob, in which ** stands for any folders, or none."""
    parts = [
        "(.*/)?" if part == "**" else re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") + "/"
        for part in pattern.split("/")
    ]
    return re.fullmatch("".join(parts).removesuffix("/"), path.as_posix()) is not None


def _without(name: str, match: re.Match[str] | None, group: str) -> str:
    """A name without the part that a group matched, and the separators before it."""
    if match is None or group not in match.re.groupindex or match[group] is None:
        return name
    start, end = match.span(group)
    return name[:start].rstrip("_-.") + name[end:]


def _untold(name: str, match: re.Match[str] | None) -> str:
    """A name without what the groups of a pattern matched: a class or a patient may be called PD."""
    spans = [match.span(group) for group in match.re.groupindex if match[group] is not None] if match else []
    for start, end in spans:
        name = name[:start] + " " * (end - start) + name[end:]
    return name


def _refuse_other_images(
    odd: Mapping[str, Sequence[str]], folder: Path, modalities: Sequence[str], source: Source
) -> None:
    for word, names in odd.items():
        source.add_problem(
            "",
            f"{folder} must hold volumes of {', '.join(modalities)} alone, got {len(names)} with {word} in the name"
            f" ({some_names(names, limit=3)}); leave them out with source_files, or let name_pattern tell what they are"
            " by a group named modality",
        )


def _shorten_names(subjects: Sequence[Subject], folder: Path, rule: NameRule, source: Source) -> None:
    """Call subjects by the names of their files where no two are alike, else by their paths.

    Without a pattern files of one name are a problem: visits of one person would pass for several people.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        by_name[plain(safe_id(Path(subject.subject_id).name))].append(subject.subject_id)
    alike = [paths for paths in by_name.values() if len(paths) > 1]
    if alike and not rule.pattern:
        source.add_problem(
            "",
            f"{folder} must not hold files of one name without a name_pattern that tells whose they are, got"
            f" {some_names(alike[0], limit=3)}; set name_pattern with a group named patient, such as"
            r" (?P<patient>[^/]+)/ for folders of patients",
        )
    for subject in subjects:
        path = Path(subject.subject_id)
        subject.subject_id = "_".join(map(safe_id, path.parts)) if alike else safe_id(path.name)
        if not rule.pattern:
            subject.patient_id = patient_by_name(subject.subject_id)


def _in_order(subjects: Iterable[Subject], modalities: Sequence[str]) -> list[Subject]:
    """Put the images of each subject in the order of the channels."""
    for subject in subjects:
        subject.images = {name: subject.images[name] for name in modalities if name in subject.images}
    return list(subjects)


def _add_image(subject: Subject, modality: str, path: Path, source: Source) -> None:
    if modality in subject.images:
        before = subject.images[modality]
        source.add_problem(
            subject.subject_id,
            f"subject {subject.subject_id} must have one file for {modality}, got {before} and {path}; move one away,"
            " or choose with source_files, as in **/*run-1_T1w.nii.gz",
        )
    subject.images.setdefault(modality, path)


def _add_class(
    subject: Subject, told: str | None, classes: Collection[str], class_map: GradeMap | None, source: Source
) -> None:
    """Give a subject the class that its name or row tells, where there are classes to tell apart."""
    try:
        subject.grade = parse_grade(told, classes, class_map) if classes else None
    except ValueError as error:
        source.add_problem(subject.subject_id, f"{subject.where}, subject {subject.subject_id}: {error}")


def _bids_name(path: Path, folder: Path) -> re.Match[str] | None:
    """What the name of a file says, if it lies where BIDS has it and repeats the names of its folders."""
    *folders, _ = path.relative_to(folder).parts
    match = BIDS_NAME.fullmatch(stem_of(path))
    if match is None or not folders or folders[-1] != "anat" or set(folders) & set(DERIVED):
        return None
    expected = [match["sub"], match["ses"]] if match["ses"] else [match["sub"]]
    return match if folders[:-1][-len(expected) :] == expected else None


def _contrast(match: re.Match[str]) -> str:
    """The kind of image: of T1w with a contrast agent (ce-) another one than of T1w."""
    return "t1c" if match["kind"] == "T1w" and "_ce-" in match["more"] else match["kind"]


def _participants(path: Path, source: Source) -> Mapping[str, Mapping[str, str]]:
    """Rows of `participants.tsv` by the name of the participant, columns by their names in small letters."""
    if not path.is_file():
        return {}
    columns, rows = read_csv_rows(path)
    if "participant_id" not in columns:
        source.add_problem("", f"{path} must have a column participant_id, as BIDS has it, got {some_names(columns)}")
        return {}
    return {
        plain(row["participant_id"].removeprefix("sub-")): {plain(name): text for name, text in row.items()}
        for _, row in rows
    }
