"""Where the files of a subject lie: the folders of BraTS 2018 to 2024 and of the Medical Decathlon."""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.cohorts.grades import parse_grade
from scripts.running.errors import some_names
from scripts.running.files import read_json
from scripts.volumes.mask_codes import MaskCodes
from scripts.volumes.modality_names import describe_aliases, parse_modality

SUFFIXES = (".nii.gz", ".nii")
SEPARATORS = {"brats_2018": "_", "brats_2023": "-"}  # between the name of the subject and the kind of the file
MASK_KIND = "seg"
NAME_MAPPING = "name_mapping*.csv"


@dataclass
class Subject:
    """One scan of a patient, as found; paths are absolute.

    Args:
        subject_id: name of the scan.
        where: file and row, or folder, for messages.
        images: modality -> file.
        image: 4D file, instead of `images`.
        channel_order: modality of each channel of `image`.
        mask: tumor mask, if there is one.
        mask_source: `expert` or `model`, if it is known.
        mask_codes: declared for this mask alone: a convention by name or a mapping.
        brain_mask: 0 outside the brain, for images that are not skull-stripped.
        grade: class, if it is known.
        site: name, if it is known.
        patient_id: scans of one patient share it.
    """

    subject_id: str
    where: str
    images: dict[str, Path] = field(default_factory=dict)
    image: Path | None = None
    channel_order: list[str] = field(default_factory=list)
    mask: Path | None = None
    mask_source: str | None = None
    mask_codes: str | Mapping[str, Any] | None = None
    brain_mask: Path | None = None
    grade: str | None = None
    site: str | None = None
    patient_id: str = ""

    def __post_init__(self) -> None:
        self.patient_id = self.patient_id or patient_of(self.subject_id)

    def image_paths(self) -> dict[str, Path]:
        """Return the image files: modality -> path, or `image` -> path of the 4D file."""
        return {"image": self.image} if self.image else dict(self.images)


@dataclass
class Found:
    """What a source holds, and all that is wrong with it.

    Args:
        layout: key of `scripts.volumes.mask_codes.CANDIDATES`.
        subjects: in the order of their names, or of the table.
        problems: one sentence each: file, what is wrong, the way out.
        mask_codes: tissue -> code, where the source itself says so.
        notes: further entries of `cohort.json`.
    """

    layout: str
    subjects: list[Subject] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    mask_codes: MaskCodes | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def add_problem(self, subject_id: str, message: str) -> None:
        """Note what is wrong with a subject (or, with an empty name, with the source)."""
        self.problems.append((subject_id, message))


def patient_of(subject_id: str) -> str:
    """Derive the patient from the name of a scan: BraTS-GLI-00001-001 is the second scan of BraTS-GLI-00001."""
    match = re.fullmatch(r"(BraTS-[A-Za-z]+-\d+)-\d{3}", subject_id)
    return match[1] if match else subject_id


def site_of(name: str) -> str | None:
    """Derive the site from a name of BraTS 2017 to 2019: BraTS19_CBICA_AAB_1 is from CBICA; None for other names."""
    match = re.fullmatch(r"BraTS1[789]_([A-Za-z0-9]+)_.+", name, flags=re.IGNORECASE)
    return match[1] if match else None


def detect_layout(source: Path) -> str:
    """Tell the layout of a source.

    Args:
        source: folder or table.

    Returns:
        One of `brats_2018`, `brats_2023`, `decathlon`, `table`.

    Raises:
        FileNotFoundError: if there is nothing at `source`.
        ValueError: if the folder has no layout that is known, or two.
    """
    if source.is_file():
        return "table"
    if not source.is_dir():
        raise FileNotFoundError(f"source_path must be a folder or a table, got {source}, which does not exist")
    if (source / "dataset.json").is_file():
        return "decathlon"
    kinds = {layout for path in _volumes(source) for layout in SEPARATORS if _kind(path, layout, ())[1] is not None}
    if len(kinds) != 1:
        found = "files of both styles" if kinds else "no such file"
        raise ValueError(
            f"{source} must hold files named as in BraTS 2018 (_t1, _t1ce, _t2, _flair, _seg) or 2023 (-t1n, -t1c,"
            f" -t2w, -t2f, -seg), or a dataset.json, got {found}; list the files in a table instead"
            " (docs/reference/data.md)"
        )
    return kinds.pop()


def find_brats(
    folder: Path,
    layout: str,
    modalities: Sequence[str],
    classes: Collection[str] = (),
    grade_map: Mapping[str, str | None] | None = None,
) -> Found:
    """Find the subjects of a BraTS folder.

    Grades come from `name_mapping.csv` and from folders named as a class (HGG, LGG), sites from names of BraTS 2017 to
    2019 (those of 2020 by way of `name_mapping.csv`).

    Args:
        folder: the unpacked archive.
        layout: `brats_2018` or `brats_2023`.
        modalities: those wanted.
        classes: names of the classes.
        grade_map: as in `parse_grade`.

    Returns:
        Subjects and problems.
    """
    found = Found(layout)
    mapping = _read_name_mapping(folder, found, classes, grade_map)
    for subject_id, paths in _group_by_subject(folder, layout, modalities, found).items():
        subject = Subject(subject_id, str(paths[0].parent), mask_source="expert")
        _sort_files(subject, paths, layout, modalities, found)
        grade, site = mapping.get(subject_id.lower(), (None, None))
        by_folder = [part for part in paths[0].relative_to(folder).parts if part in classes]
        if grade and by_folder and grade != by_folder[-1]:
            found.add_problem(
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
        found.subjects.append(subject)
    return found


def find_decathlon(folder: Path, modalities: Sequence[str]) -> Found:
    """Find the training subjects of a Medical Decathlon task.

    Channel order and, where they are in words that are understood, mask codes come from its `dataset.json`.

    Args:
        folder: the unpacked archive, such as Task01_BrainTumour.
        modalities: those wanted.

    Returns:
        Subjects and problems.
    """
    found = Found("decathlon")
    description = read_json(folder / "dataset.json")
    names = [description["modality"][key] for key in sorted(description["modality"], key=int)]
    order = [parse_modality(name, modalities) or name for name in names]
    _check_channels(folder / "dataset.json", order, modalities, found)
    found.mask_codes = _decathlon_codes(description.get("labels", {}))
    for entry in description["training"]:
        path = (folder / entry["image"]).resolve()
        subject_id = _stem(path)
        mask = (folder / entry["label"]).resolve() if entry.get("label") else None
        where = f"{folder / 'dataset.json'} ({entry['image']})"
        source = "expert" if mask else None
        found.subjects.append(
            Subject(subject_id, where, image=path, channel_order=order, mask=mask, mask_source=source)
        )
    return found


def source_files(source: Path, found: Found) -> list[Path]:
    """List the files that a cohort is read from, those of a table or all of a folder.

    Args:
        source: folder or table.
        found: its subjects.

    Returns:
        Files that exist, sorted.
    """
    if source.is_dir():
        return sorted({*_volumes(source), *source.rglob(NAME_MAPPING), *source.glob("dataset.json")})
    named = [path for s in found.subjects for path in (*s.image_paths().values(), s.mask, s.brain_mask)]
    return sorted({source, *(path for path in named if path and path.is_file())})


def _volumes(folder: Path) -> list[Path]:
    """All NIfTI files below a folder and its links; names with a leading dot are what macOS leaves in archives."""
    files = (Path(parent, name) for parent, _, names in os.walk(folder, followlinks=True) for name in names)
    paths = (path for path in files if path.name.endswith(SUFFIXES))
    return sorted(path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(suffix) for suffix in SUFFIXES if path.name.endswith(suffix))


def _kind(path: Path, layout: str, modalities: Sequence[str]) -> tuple[str, str | None]:
    """(name of the subject, modality or `seg`) from the name of a file; None for a kind that is not understood."""
    subject_id, _, kind = _stem(path).rpartition(SEPARATORS[layout])
    if kind.lower() == MASK_KIND:
        return subject_id, MASK_KIND
    return subject_id, parse_modality(kind, modalities) if subject_id else None


def _group_by_subject(folder: Path, layout: str, modalities: Sequence[str], found: Found) -> dict[str, list[Path]]:
    """Files of each subject: those of a folder that bears its name, else those whose names begin alike."""
    groups: dict[str, list[Path]] = defaultdict(list)
    folders: dict[str, set[Path]] = defaultdict(set)
    for path in _volumes(folder):
        siblings_start = path.parent != folder and any(
            sibling.name.startswith(path.parent.name + SEPARATORS[layout]) for sibling in path.parent.iterdir()
        )
        subject_id = path.parent.name if siblings_start else _kind(path, layout, modalities)[0]
        groups[subject_id].append(path)
        folders[subject_id].add(path.parent)
    for subject_id, places in folders.items():
        if len(places) > 1:
            found.add_problem(
                subject_id, f"subject {subject_id} must be in one folder, got {some_names(places)}; remove all but one"
            )
    return dict(sorted(groups.items()))


def _sort_files(subject: Subject, paths: list[Path], layout: str, modalities: Sequence[str], found: Found) -> None:
    """Give each file its modality; note files that are unknown and modalities that are there twice or not at all."""
    for path in paths:
        name, kind = _kind(path, layout, modalities)
        if kind is None or name != subject.subject_id:
            found.add_problem(
                subject.subject_id,
                f"{path} must be named {subject.subject_id}{SEPARATORS[layout]}KIND with a kind of"
                f" {describe_aliases(modalities)}; or {MASK_KIND} for the mask; rename it, or move it away",
            )
        elif kind == MASK_KIND:
            _put(subject, "mask", subject.mask, path, found)
            subject.mask = subject.mask or path
        else:
            _put(subject, kind, subject.images.get(kind), path, found)
            subject.images.setdefault(kind, path)


def _put(subject: Subject, kind: str, before: Path | None, path: Path, found: Found) -> None:
    if before is not None and before.parent == path.parent:
        found.add_problem(
            subject.subject_id,
            f"subject {subject.subject_id} must have one file for {kind}, got {before} and {path}; move one away",
        )


def _read_name_mapping(
    folder: Path, found: Found, classes: Collection[str], grade_map: Mapping[str, str | None] | None
) -> dict[str, tuple[str | None, str | None]]:
    """(grade, site) of each name, in lower case, that a row of `name_mapping.csv` gives a subject over the years."""
    mapping: dict[str, tuple[str | None, str | None]] = {}
    for path in sorted(folder.rglob(NAME_MAPPING)):
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
        for number, row in enumerate(rows, start=2):
            names = [name for key, name in row.items() if key and key.lower().endswith("subject_id") and name]
            site = next((site for site in map(site_of, reversed(names)) if site), None)
            try:
                grade = parse_grade(row.get("Grade"), classes, grade_map)
            except ValueError as error:
                found.add_problem("", f"{path} row {number}: {error}")
                continue
            mapping.update({name.lower(): (grade, site) for name in names})
    return mapping


def _check_channels(path: Path, order: list[str], modalities: Sequence[str], found: Found) -> None:
    """Note channels that are unknown, there twice, or missing."""
    unknown = [name for name in order if parse_modality(name, modalities) is None]
    if unknown:
        found.add_problem(
            "",
            f"{path} must name channels of {describe_aliases(modalities)}, got {', '.join(unknown)}; correct the names",
        )
    if len(set(order)) < len(order) or set(modalities) - set(order):
        found.add_problem(
            "", f"{path} must name each of {', '.join(modalities)} once, got {', '.join(order)}; correct it"
        )


def _decathlon_codes(labels: Mapping[str, str]) -> MaskCodes | None:
    """Mask codes from the words of `dataset.json`; None unless all three tissues are understood."""
    codes: MaskCodes = {}
    for code, words in labels.items():
        text = words.lower()
        if "edema" in text or "oedema" in text:
            codes["edema"] = int(code)
        elif "non-enhanc" in text or "non enhanc" in text or "necro" in text:
            codes["necrotic"] = int(code)
        elif "enhanc" in text:
            codes["enhancing"] = int(code)
    return codes if len(codes) == 3 else None
