"""Folders of pictures: one for each class, perhaps inside folders for training and test, as public picture sets are."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from scripts.cohorts.grades import GradeMap, parse_grade
from scripts.cohorts.subjects import Source, Subject
from scripts.cohorts.words import composed, is_unknown, plain
from scripts.running.errors import some_names
from scripts.volumes.file_names import PICTURE_ENDINGS, is_picture
from scripts.volumes.headers import VolumeError
from scripts.volumes.picture_files import require_channels

LAYOUT = "class_folders"
# Names of the outer folders, in any case, with any separator and with "set", "data", "images" behind them.
SPLIT_WORDS = {
    "training": ("training", "train"),
    "validation": ("validation", "valid", "val"),
    "test": ("testing", "test"),
}
BEHIND_SPLIT_WORD = re.compile(r"\s*(set|data|dataset|images?)$")
# Behind the name of a picture, its mask: "benign (1)_mask.png" of "benign (1).png".
BEHIND_PICTURE = re.compile(r"[\s_-](mask|seg|segmentation|label|gt)([\s_-]?\d+)?$", re.IGNORECASE)
LEFTOVERS = ("thumbs.db", "ehthumbs.db", "desktop.ini")  # that Windows leaves beside pictures; no image of anybody


def find_class_folders(
    folder: Path,
    files: Sequence[Path],
    modalities: Sequence[str],
    classes: Collection[str] = (),
    class_map: GradeMap | None = None,
) -> Source:
    """Find the pictures of a folder whose subfolders are classes.

    Nobody says whose pictures they are: each counts as a patient of its own, and `notes` says that patients are
    unknown.

    Args:
        folder: with a folder for each class, at any depth inside which pictures lie; or with folders for training,
            validation and test that hold those.
        files: all files below it.
        modalities: one, for grey, or three, for red, green and blue.
        classes: names of the classes.
        class_map: name of a folder -> class; None leaves the folder out.

    Returns:
        Subjects and problems: a folder of no class, one without pictures, a class that is not in all of training,
        validation and test, a file that is no picture. `notes` lists what was not read.
    """
    source = Source(LAYOUT, notes={"patients": "unknown"})
    not_read: list[Path] = []
    try:
        require_channels(modalities, folder)
    except VolumeError as error:
        source.add_problem("", str(error))
    classes_of_split: dict[str | None, list[str]] = defaultdict(list)
    below: dict[Path, list[Path]] = {}
    for split, place in _splits(folder, source):
        for class_folder in _folders(place):
            below[class_folder] = [path for path in files if path.is_relative_to(class_folder)]
            name = _class_of(class_folder, folder, classes, class_map, source)
            if name is None:
                not_read.append(class_folder)
                continue
            classes_of_split[split].append(name)
            pictures = _pictures_of(class_folder, below[class_folder], not_read, source)
            for path in pictures:
                subject = Subject(_joined(path, folder), str(path), image=path, channel_order=list(modalities))
                subject.grade = name
                subject.facts = {"split_hint": split} if split else {}
                source.subjects.append(subject)
    inside_classes = {path for paths in below.values() for path in paths}
    _sort_out_others([path for path in files if path not in inside_classes], folder, not_read, source)
    _refuse_missing(classes_of_split, source)
    _name_apart(source.subjects, folder)
    source.notes["not_read"] = sorted(str(path.relative_to(folder)) for path in not_read)
    return source


def split_of_folder(name: str) -> str | None:
    """Tell which part of a data set the name of a folder means.

    >>> split_of_folder("Training"), split_of_folder("TEST_SET"), split_of_folder("valid"), split_of_folder("glioma")
    ('training', 'test', 'validation', None)
    """
    word = BEHIND_SPLIT_WORD.sub("", plain(name))
    return next((split for split, words in SPLIT_WORDS.items() if word in words), None)


def safe_id(name: str) -> str:
    """Turn the name of a file into one of letters, digits, _ - + and . alone.

    >>> safe_id("Covid (1)"), safe_id("..a//b b"), safe_id("WBC-Benign-001")
    ('Covid_1', 'a_b_b', 'WBC-Benign-001')
    """
    return re.sub(r"_+", "_", re.sub(r"[^\w.+-]+", "_", composed(name))).strip("_").lstrip(".") or "_"


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def _splits(folder: Path, source: Source) -> Iterator[tuple[str | None, Path]]:
    """(split, folder with the folders of classes); the source itself where no folder is named as a part of a set."""
    inner = _folders(folder)
    named = [(split_of_folder(path.name), path) for path in inner]
    if not any(split for split, _ in named):
        yield None, folder
        return
    for split, path in named:
        if split:
            yield split, path
        else:
            source.add_problem(
                "",
                f"{path} must not lie beside the folders of a split,"
                f" {some_names(other.name for own, other in named if own)}; move it away, or pass --subtree"
                f" {path.name} to read it alone",
            )


def _class_of(
    class_folder: Path, folder: Path, classes: Collection[str], class_map: GradeMap | None, source: Source
) -> str | None:
    """Class of a folder; None where it is left out or, with a problem, of no class."""
    name = class_folder.name
    own = {plain(word): value for word, value in (class_map or {}).items()}
    if plain(name) in own and own[plain(name)] is None:
        return None
    try:
        known = parse_grade(name, classes, class_map) if plain(name) in own or not is_unknown(name) else None
    except ValueError:
        known = None
    if known is None:
        inner = class_folder.relative_to(folder)
        source.add_problem(
            "",
            f"{class_folder} must be named as one of the classes {', '.join(classes)}, got {name!r}; set classes, say"
            f' what it means with --class_map "{{{name!r}: ...}}" (None leaves it out), or pass --subtree "{inner}" if'
            " the folders of the classes lie in it",
        )
    return known


def _pictures_of(class_folder: Path, files: Sequence[Path], not_read: list[Path], source: Source) -> list[Path]:
    """Pictures of a class; a file of another kind is a fault, but for what a system leaves behind."""
    pictures = [path for path in files if is_picture(path)]
    for path in files:
        if path.name.lower() in LEFTOVERS:
            not_read.append(path)
        elif not is_picture(path):
            kinds = ", ".join(PICTURE_ENDINGS)
            source.add_problem(
                "", f"{path} must be a picture ({kinds}), got another ending; convert it, or move it away"
            )
    beside = {path.with_suffix("") for path in pictures}
    bases = [(path, path.with_name(BEHIND_PICTURE.sub("", path.stem) or path.stem)) for path in pictures]
    if masks := [path.name for path, base in bases if base.name != path.stem and base in beside]:
        source.add_problem(
            "",
            f"{class_folder} must hold pictures alone, got {len(masks)} that are named as masks of others"
            f" ({some_names(masks, limit=3)}); move them to a folder outside of the classes",
        )
    if not pictures:
        source.add_problem("", f"{class_folder} must hold pictures, got none; fill it, remove it, or correct class_map")
    return pictures


def _sort_out_others(paths: Sequence[Path], folder: Path, not_read: list[Path], source: Source) -> None:
    """Note files outside of the folders of classes; pictures among them are a fault."""
    not_read += [path for path in paths if not is_picture(path)]
    loose: dict[Path, list[Path]] = defaultdict(list)
    for path in filter(is_picture, paths):
        if path.parent == folder or split_of_folder(path.parent.name):  # others lie in a folder that is told already
            loose[path.parent].append(path)
    for parent, inside in loose.items():
        source.add_problem(
            "",
            f"{parent} must hold its pictures in folders of their classes, got {len(inside)} beside them"
            f" ({some_names((path.name for path in inside), limit=3)}); move them",
        )


def _refuse_missing(classes_of_split: Mapping[str | None, Sequence[str]], source: Source) -> None:
    every = {name for names in classes_of_split.values() for name in names}
    for split, names in classes_of_split.items():
        for name in sorted(every - set(names)):
            others = [str(other) for other, own in classes_of_split.items() if name in own]
            source.add_problem(
                "",
                f"class {name} must be in each part of a data set, got it in {' and '.join(others)} but not in {split};"
                " add its folder there, or leave it out (class_map)",
            )


def _joined(path: Path, folder: Path) -> str:
    relative = path.relative_to(folder)
    return "_".join(safe_id(part) for part in (*relative.parts[:-1], relative.stem))


def _name_apart(subjects: Sequence[Subject], folder: Path) -> None:
    """Give subjects whose names would be alike, up to case and separators, the hash of their path at the end."""
    alike: dict[str, list[Subject]] = defaultdict(list)
    for subject in subjects:
        alike[plain(subject.subject_id)].append(subject)
    for group in alike.values():
        for subject in group if len(group) > 1 else ():
            relative = Path(subject.where).relative_to(folder).as_posix()
            subject.subject_id += f"-{hashlib.sha256(relative.encode()).hexdigest()[:8]}"
    for subject in subjects:
        subject.patient_id = subject.subject_id
