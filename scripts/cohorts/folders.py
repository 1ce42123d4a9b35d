"""The files below a folder, each folder visited once, whatever its links lead to."""

from __future__ import annotations

import os
from pathlib import Path


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
