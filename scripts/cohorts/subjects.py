"""A scan as it is found in a folder or a table, and a source of scans with all that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.splits.patients import patient_by_name, patient_by_pattern
from scripts.volumes.file_names import is_picture
from scripts.volumes.mask_codes import MaskCodes, source_of_masks


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
        facts: what else is recorded of the patient, by `scripts.cohorts.columns.FACTS`.
        patient_id: scans of one patient share it; by default derived from the name.
        orientation: of files that do not say how they lie, see `scripts.volumes.analyze.check_orientation`.
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
    orientation: str | None = None
    facts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.patient_id = self.patient_id or patient_by_name(self.subject_id)

    def image_paths(self) -> dict[str, Path]:
        """Return the image files: modality -> path, or `image` -> path of the 4D file."""
        return {"image": self.image} if self.image else dict(self.images)

    def paths(self) -> dict[str, Path]:
        """Return all files of the scan: modality or `image`, `mask` and `brain_mask` -> path of those that it has."""
        masks = {"mask": self.mask, "brain_mask": self.brain_mask}
        return {**self.image_paths(), **{kind: path for kind, path in masks.items() if path}}


@dataclass
class Source:
    """What a folder or a table holds, and all that is wrong with it.

    Args:
        layout: key of `scripts.volumes.mask_codes.CANDIDATES`.
        subjects: in the order of their names, or of the table.
        problems: subject (empty for the source itself) and a sentence: file, what is wrong, the way out.
        mask_codes: tissue -> code, where the source itself says so.
        labels: what the source says of its masks in words that are not understood.
        notes: further entries of `cohort.json`.
    """

    layout: str
    subjects: list[Subject] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    mask_codes: MaskCodes | None = None
    labels: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    def add_problem(self, subject_id: str, message: str) -> None:
        """Note what is wrong with a subject (or, with an empty name, with the source)."""
        self.problems.append((subject_id, message))

    def name_patients(self, pattern: str, folder: Path) -> None:
        """Give each subject the patient that a regular expression finds in its name.

        A name without a patient is noted as a problem.

        Args:
            pattern: see `scripts.splits.patients.patient_by_pattern`. It is asked of the path of a picture below the
                folder, without its ending, and of the name of any other subject.
            folder: of the source.
        """
        for subject in self.subjects:
            name = subject.subject_id
            if subject.image and is_picture(subject.image) and subject.image.is_relative_to(folder):
                name = subject.image.relative_to(folder).with_suffix("").as_posix()
            patient = patient_by_pattern(pattern, name)
            if patient is None:
                self.add_problem(
                    subject.subject_id,
                    f"patient_pattern {pattern!r} must find the patient in every name, got none in {name}; correct the"
                    " pattern, or leave the subject out (leave_out)",
                )
                continue
            subject.patient_id = patient
        self.notes["patients"] = "by patient_pattern"

    def masks_of(self, subject: Subject) -> str:
        """Say where the mask of a subject is from: the key of `CANDIDATES` that its name or the layout gives."""
        return source_of_masks("unknown" if self.labels else self.layout, subject.subject_id)
