"""How much a client may send, and by which names and paths it may ask."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from isal import igzip

from bundle.request_errors import NotFoundError, RequestError, TooLargeError
from scripts.volumes.file_names import is_nifti
from scripts.volumes.headers import GZIP_MAGIC

MOST_VOLUME_BYTES = 2 << 30  # of one file, decompressed
MOST_FILES = 16
BLOCK = 1 << 20
NAME = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+ -]{0,199}")


def check_name(what: str, name: str) -> str:
    """Return a name that cannot lead anywhere: no separators, no leading dot.

    Raises:
        RequestError: if it is another.
    """
    if not NAME.fullmatch(name) or ".." in name:
        raise RequestError(f"{what} must be a plain name without a path, got {name!r}")
    return name


def check_file_name(name: str | None) -> str:
    """Return the name of an uploaded file that may be NIfTI; 3D Slicer sends its path on the client, of any system.

    Raises:
        RequestError: if it has another ending, or is no plain name.
    """
    file_name = check_name("the name of a file", re.split(r"[/\\]", name or "")[-1])
    if not is_nifti(file_name):
        raise RequestError(f"{file_name} must be a NIfTI file (.nii or .nii.gz)")
    return file_name


def check_volume_size(path: Path, most_bytes: int = MOST_VOLUME_BYTES) -> None:
    """Refuse a file that would unfold to more than `most_bytes`, without unfolding it in memory.

    Raises:
        TooLargeError: if it would.
    """
    with path.open("rb") as stream:
        compressed = stream.read(2) == GZIP_MAGIC
    count = 0 if compressed else path.stat().st_size
    if compressed:
        try:
            with igzip.open(path, "rb") as stream:
                while count <= most_bytes and (block := stream.read(BLOCK)):
                    count += len(block)
        except (EOFError, OSError):
            return  # whoever reads it will say what is wrong with it
    if count > most_bytes:
        raise TooLargeError(f"{path.name} must hold at most {most_bytes >> 20} MiB of voxels; send a smaller volume")


def resolve_inside(path: str, roots: Iterable[Path]) -> Path:
    """Return a path of a client, with links followed, if it lies in one of the folders.

    Raises:
        NotFoundError: if it does not, or nothing is there. The two are not told apart.
    """
    real = Path(path).resolve() if path and "\0" not in path else Path("/")
    if not any(real.is_relative_to(root.resolve()) for root in roots) or not real.exists():
        raise NotFoundError(f"image must be one of the studies, got {path!r}; GET /datastore/?output=all lists them")
    return real
