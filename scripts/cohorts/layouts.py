"""Which layout a source has, who is in it, and which files it is read from."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from scripts.cohorts import class_folders, volume_folders
from scripts.cohorts.brats import find_brats, is_name_mapping, layouts_of
from scripts.cohorts.decathlon import DESCRIPTION, find_decathlon, is_decathlon
from scripts.cohorts.grades import GradeMap
from scripts.cohorts.subjects import Source
from scripts.cohorts.tables import find_table
from scripts.cohorts.volume_folders import NO_RULE, NameRule
from scripts.running.errors import some_names
from scripts.running.files import why_no_file
from scripts.volumes.file_names import as_named, is_analyze, is_nifti, is_picture, other_half

LAYOUTS = ("brats_2018", "brats_2023", "decathlon", class_folders.LAYOUT, "flat", "bids", "table")
VOLUMES = ("flat", "bids")  # layouts whose files may be Analyze pairs, too


def require_source(source_path: str | Path | None) -> Path:
    """Return the path of a source that was given, as it was named.

    Raises:
        ValueError: if none was given.
    """
    if not source_path:
        raise ValueError(f"source_path must be a folder or a table, got {source_path!r}; pass --source_path")
    return as_named(source_path)


def _is_volume(path: Path) -> bool:
    return is_nifti(path) or is_analyze(path)


def resolve_source(source_path: str | Path | None, subtree: str | None = None) -> Path:
    """Return the path of a source under the name that was given; relative paths of a table start beside that name.

    Args:
        source_path: folder or table.
        subtree: folder below `source_path` that alone is read; None reads all of it.

    Raises:
        ValueError: if no source was given, or the subtree is none of its folders.
        FileNotFoundError: if it is no folder and no file.
    """
    source = require_source(source_path)
    if not source.is_dir() and (why := why_no_file(source)):
        raise FileNotFoundError(f"source_path must be a folder or a table, got {source}, which {why}")
    if not subtree:
        return source
    if not (source / subtree).is_dir() or ".." in Path(subtree).parts or Path(subtree).is_absolute():
        folders = sorted(path.name for path in source.iterdir() if path.is_dir()) if source.is_dir() else []
        raise ValueError(
            f"subtree must be a folder below {source}, got {subtree!r}; there are {some_names(folders) or 'none'}"
        )
    return source / subtree


def check_layout(layout: str) -> None:
    """Refuse a layout that there is not.

    Raises:
        ValueError: with those that there are.
    """
    if layout not in ("auto", *LAYOUTS):
        raise ValueError(f"cohort_layout must be auto or one of {', '.join(LAYOUTS)}, got {layout!r}")


def detect_layout(source: Path, files: Sequence[Path]) -> str:
    """Tell the layout of a source.

    Args:
        source: folder or table.
        files: all files below it.

    Returns:
        One of `LAYOUTS`.

    Raises:
        ValueError: if the folder has no layout that is known, or two.
    """
    if not source.is_dir():
        return "table"
    if is_decathlon(source):
        return "decathlon"
    if volume_folders.is_bids(source, files):
        return "bids"
    kinds = layouts_of(files)
    if not kinds and (source / DESCRIPTION).is_file():
        return "decathlon"  # of another program, which will be told
    if not kinds and not any(map(is_nifti, files)) and any(map(is_picture, files)):
        return class_folders.LAYOUT
    if len(kinds) != 1:
        which = "files of both styles" if kinds else _described(files)
        raise ValueError(
            f"{source} must hold subjects with several files named as in BraTS 2018 (_t1, _t1ce, _t2, _flair, _seg) or"
            f" 2023 (-t1n, -t1c, -t2w, -t2f, -seg), folders of pictures, of BIDS, or a dataset.json, got {which}; list"
            " the files in a table instead, or declare cohort_layout, flat for one file of each subject"
            " (docs/reference/data.md)"
        )
    return kinds.pop()


def _described(files: Sequence[Path]) -> str:
    volumes = [path.name for path in files if is_nifti(path) or is_analyze(path)]
    return f"files such as {some_names(volumes, limit=3)}" if volumes else "no such file"


def find_subjects(
    source: Path,
    layout: str = "auto",
    modalities: Sequence[str] = (),
    classes: Collection[str] = (),
    grade_map: GradeMap | None = None,
    class_column: str = "grade",
    rule: NameRule = NO_RULE,
) -> tuple[Source, list[Path]]:
    """List the subjects of a folder or table, without opening an image.

    Args:
        source: folder or table.
        layout: `auto`, or one of `LAYOUTS`.
        modalities: those wanted.
        classes: names of the classes that a grade can mean.
        grade_map: as in `scripts.cohorts.grades.parse_grade`.
        class_column: as in `scripts.cohorts.tables.find_table`; other layouts know grades only.
        rule: which files of a folder are read, and what their names say.

    Returns:
        Subjects with what is wrong with them, and the files that they are read from: the table and those that it names,
        or all images of a folder and the tables among them. A link that leads nowhere is among them.

    Raises:
        ValueError: if the layout is unknown, has no column for the class, or there is nobody.
    """
    check_layout(layout)
    files = files_below(source) if source.is_dir() else []
    if layout == "auto":
        layout = "flat" if rule.pattern and source.is_dir() else detect_layout(source, files)
    rule.refuse_for(layout)
    if layout != "table" and class_column != "grade":
        raise ValueError(
            f"class_column must be grade for {source} in layout {layout}, got {class_column!r}; list its files in a"
            " table with that column"
        )
    if layout == "table":
        contents = find_table(source, modalities, classes, grade_map, class_column)
    elif layout == class_folders.LAYOUT:
        contents = class_folders.find_class_folders(source, files, modalities, classes, grade_map)
    elif layout == "decathlon":
        contents = find_decathlon(source, modalities)
    elif layout == "flat":
        contents = volume_folders.find_flat(source, files, modalities, classes, grade_map, rule)
    elif layout == "bids":
        contents = volume_folders.find_bids(source, files, modalities, classes, grade_map, rule)
    else:
        contents = find_brats(source, files, layout, modalities, classes, grade_map)
    if not contents.subjects and not contents.problems:
        raise ValueError(f"{source} must hold subjects in layout {layout}, got none; see docs/reference/data.md")
    for subject in contents.subjects:
        if any(map(is_analyze, subject.paths().values())):
            subject.orientation = rule.orientation
    listed = {path for subject in contents.subjects for path in subject.paths().values()}
    listed |= {other_half(path) for path in listed if is_analyze(path)}
    tables = [path for path in files if is_name_mapping(path)] + [source / DESCRIPTION] * (layout == "decathlon")
    tables += [source / volume_folders.PARTICIPANTS] * (layout == "bids")
    is_image = is_picture if layout == class_folders.LAYOUT else _is_volume if layout in VOLUMES else is_nifti
    own = [source] if layout == "table" else [path for path in files if is_image(path)] + tables
    return contents, sorted({*own, *listed})


def files_below(folder: Path) -> list[Path]:
    """List the files below a folder and below the folders that its links lead to.

    Folders come before links to them, so that a file is named by the folder where it lies if that is below, too. Names
    that begin with a dot are left out: macOS leaves such files in archives, git-annex keeps its store in such a folder.

    Args:
        folder: where to begin.

    Returns:
        Paths under the names of links, sorted; broken links are among them.

    Raises:
        PermissionError: if a folder cannot be listed: its subjects must not be left out silently.
    """
    files: list[Path] = []
    visited: set[str] = set()
    waiting = [folder]
    while waiting:
        links: list[Path] = []
        for start in waiting:
            if os.path.realpath(start) not in visited:
                _walk(start, files, visited, links)
        waiting = sorted(links)
    return sorted(files)


def _walk(start: Path, all_files: list[Path], visited: set[str], links: list[Path]) -> None:
    """Add the files below a folder, and the links to folders, which are not followed yet."""
    for parent, names, files in os.walk(start, onerror=_refuse):
        visited.add(os.path.realpath(parent))
        folders = [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
        links += [path for path in folders if path.is_symlink()]
        names[:] = [path.name for path in folders if not path.is_symlink() and os.path.realpath(path) not in visited]
        all_files += [Path(parent, name) for name in files if not name.startswith(".")]


def _refuse(error: OSError) -> None:
    raise type(error)(
        error.errno, f"{error.filename} cannot be listed ({error.strerror}); make it readable, or move it out"
    ) from error
