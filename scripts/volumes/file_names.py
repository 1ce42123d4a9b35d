"""Names of image files: which are NIfTI, Analyze, pictures, without their ending, and where a link keeps its name."""

from __future__ import annotations

import os
from pathlib import Path

NIFTI_ENDINGS = (".nii.gz", ".nii")
HEADER_ENDING, VOXELS_ENDING = ".hdr", ".img"  # the halves of an Analyze pair
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def is_nifti(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file is NIfTI, in capitals or not; ._NAME is what macOS leaves beside it, and none.

    >>> is_nifti("a.nii"), is_nifti("a.NII.GZ"), is_nifti("._a.nii"), is_nifti("a.nrrd")
    (True, True, False, False)
    """
    name = os.path.basename(path)
    return name.lower().endswith(NIFTI_ENDINGS) and not name.startswith(".")


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file is a picture that Pillow reads, in capitals or not.

    >>> is_picture("a.png"), is_picture("a.JPG"), is_picture("._a.png"), is_picture("a.gif")
    (True, True, False, False)
    """
    name = os.path.basename(path)
    return name.lower().endswith(PICTURE_ENDINGS) and not name.startswith(".")


def is_analyze(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file is half of an Analyze pair, .hdr or .img, in capitals or not.

    >>> is_analyze("a.img"), is_analyze("a.HDR"), is_analyze("._a.img"), is_analyze("a.nii")
    (True, True, False, False)
    """
    name = os.path.basename(path)
    return name.lower().endswith((HEADER_ENDING, VOXELS_ENDING)) and not name.startswith(".")


def other_half(path: str | os.PathLike[str]) -> Path:
    """Return the other file of an Analyze pair, its ending in capitals where that of the first one is.

    >>> other_half("a/b.img").name, other_half("a/B.HDR").name
    ('b.hdr', 'B.IMG')
    """
    path = Path(path)
    ending = HEADER_ENDING if path.suffix.lower() == VOXELS_ENDING else VOXELS_ENDING
    return path.with_suffix(ending.upper() if path.suffix.isupper() else ending)


def stem_of(path: str | os.PathLike[str]) -> str:
    """Return the name of a file without its folder and without the ending of NIfTI or Analyze.

    >>> stem_of("folder/case.v2.NII.GZ"), stem_of("case.nii"), stem_of("case.img"), stem_of("case.txt")
    ('case.v2', 'case', 'case', 'case.txt')
    """
    name = os.path.basename(path)
    ending = next(
        (ending for ending in (*NIFTI_ENDINGS, HEADER_ENDING, VOXELS_ENDING) if name.lower().endswith(ending)), ""
    )
    return name[: len(name) - len(ending)]


def as_named(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path under the name that was given.

    A store of files (the cache of a hub, git-annex) keeps them under names without meaning or ending and leaves links.
    Links on the way are followed, the last one is not: its name says what the file is.
    """
    folder, name = os.path.split(os.path.expanduser(path))
    if name in ("", ".", ".."):
        return Path(os.path.realpath(os.path.join(folder, name)))
    return Path(os.path.realpath(folder), name)
