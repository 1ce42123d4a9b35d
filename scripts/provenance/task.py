"""The words of a study: what its images are of, and what its classifiers say of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

PACKAGE_NAME = re.compile(r"[a-z][a-z0-9_]*")
MAY_BE_MISSING = ("target", "organ", "dicom_modality")


@dataclass(frozen=True)
class Task:
    """What report, model card, metadata and package call things; the defaults are those of `configs/common.yaml`.

    Nouns are singular, and their plurals are made by rule (`plural`).

    Args:
        package: name of a package: small letters, digits and _.
        summary: what the networks do, in one phrase.
        case: what an image is of, and parts are drawn by: "patient", or "picture" where nobody knows more.
        class_noun: what a class is called, such as "grade".
        target: what an image is cut around; None for whole images.
        organ: what of an image is not background; None for images that fill their frame.
        channel: what a channel is called, such as "modality" or "color".
        input: which files are read, a phrase.
        limits: what the weights do not know, a sentence or more for the model card.
        dicom_modality: how the images were made, as DICOM (PS3.3, C.7.3.1.1.1) writes it; None where it does not say.
        published: names of the published figures that stand beside those of the study, see `scripts.report.published`.

    Raises:
        TypeError: if a text is none, or `published` is no list of names.
        ValueError: if a text is empty, or the name of the package is none.
    """

    package: str = "brats_mri_grade_classification"
    summary: str = (
        "Classification of glioma grade on four-modality MRI patches, trained with and without synthetic images"
    )
    case: str = "patient"
    class_noun: str = "grade"
    target: str | None = "tumor"
    organ: str | None = "brain"
    channel: str = "modality"
    input: str = "NIfTI, four modalities on one grid, with a tumor mask or a click"
    limits: str = (
        "Adult glioma before treatment, skull-stripped; other tumors, treated patients, children and other sequences"
        " are outside what the weights know. Grades follow the histology of their cohort's time. Size and site of a"
        " tumor can give the class away: report by site before believing a figure."
    )
    dicom_modality: str | None = "MR"
    published: Sequence[str] = ("moshe_2025_glioma",)

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name != "published"):
            _require_text(config_key(name), getattr(self, name), name in MAY_BE_MISSING)
        require_package_name(self.package, "task_package")
        if isinstance(self.published, str) or not all(isinstance(name, str) for name in self.published):
            raise TypeError(f"task_published must be a list of names, [] for none, got {self.published!r}")

    @property
    def cases(self) -> str:
        """Several of `case`."""
        return plural(self.case)

    @property
    def subject(self) -> str:
        """One row of a table: a subject where cases are patients."""
        return "subject" if self.of_patients else self.case

    @property
    def subjects(self) -> str:
        """Several of `subject`."""
        return plural(self.subject)

    @property
    def class_nouns(self) -> str:
        """Several of `class_noun`."""
        return plural(self.class_noun)

    @property
    def channels(self) -> str:
        """Several of `channel`."""
        return plural(self.channel)

    @property
    def shown(self) -> str:
        """What the class is a property of: the target, or the whole that an image shows."""
        return self.target or self.case

    @property
    def of_patients(self) -> bool:
        """Whether the images are known to be of patients, each part of the splits of its own."""
        return self.case == "patient"

    @property
    def elsewhere(self) -> str:
        """Whom a study of one cohort says nothing about."""
        return "the patients of another hospital" if self.of_patients else f"{self.cases} from elsewhere"


def config_key(field: str) -> str:
    """Name the key of `configs/common.yaml` that sets a field of `Task`."""
    return "task_class" if field == "class_noun" else f"task_{field}"


def plural(noun: str) -> str:
    """Return the plural of a regular English noun, or of a phrase that ends in one.

    >>> plural("patient"), plural("class"), plural("modality"), plural("blood smear")
    ('patients', 'classes', 'modalities', 'blood smears')
    """
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if re.search(r"(s|x|z|ch|sh)$", noun) else f"{noun}s"


def with_article(noun: str) -> str:
    """Put the indefinite article before a noun, by its first letter.

    >>> with_article("smear"), with_article("image")
    ('a smear', 'an image')
    """
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def require_package_name(name: str, key: str) -> None:
    """Refuse a name that cannot be that of a folder and of Python files.

    Args:
        name: of a package.
        key: what it was given as, for the message.

    Raises:
        ValueError: naming key and value.
    """
    if not PACKAGE_NAME.fullmatch(name):
        raise ValueError(
            f"{key} must be small letters, digits and _, a letter first, got {name!r}; a folder and Python files get it"
        )


def _require_text(key: str, value: object, may_be_missing: bool) -> None:
    if value is None and may_be_missing:
        return
    way_out = " or null" if may_be_missing else ""
    if not isinstance(value, str):
        raise TypeError(f"{key} must be a text{way_out}, got {value!r}")
    if not value.strip():
        raise ValueError(f"{key} must be a text that says something{way_out}, got {value!r}")


GLIOMA = Task()
