"""Small likenesses of the three picture sets of Nafi et al. 2024 as they lie on a disk, odd files included."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

BRAIN_CLASSES = {"glioma": 0, "meningioma": 1, "notumor": 2, "pituitary": 3}
LEUKEMIA_CLASSES = {"Benign": 0, "Early": 1, "Pre": 2, "Pro": 3}
CT_CLASSES = {"COVID": 0, "non-COVID": 1}
COLORS = ["red", "green", "blue"]


def pixels(name: str, label: int = 0, size: Sequence[int] = (24, 24), colors: bool = False) -> np.ndarray:
    """Return a smooth picture that is another one for every name, brighter for a higher label, (rows, columns[, 3])."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    texture = gaussian_filter(random.standard_normal((*size, 3)), (1.5, 1.5, 0))
    shown = 60 + 40 * label + 25 * texture / texture.std()
    return (shown if colors else shown[..., 0]).clip(0, 255).astype(np.uint8)


def save_picture(path: Path, shown: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    """Write a picture, converted to a mode of Pillow if one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(shown)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def write_brain_tumors(folder: Path, num_training: int = 4, num_testing: int = 2) -> Path:
    """Write `Training` and `Testing` with four classes: JPEG, grey, some saved as RGB, `notumor` of other sizes."""
    for split, short, count in (("Training", "Tr", num_training), ("Testing", "Te", num_testing)):
        for label, name in enumerate(BRAIN_CLASSES):
            for index in range(count):
                stem = f"{short}-{name[:2]}_{index:04d}"
                size = (30, 20 + index) if name == "notumor" and index % 2 else (24, 24)
                path = folder / split / name / f"{stem}.jpg"
                save_picture(path, pixels(stem, label, size), "RGB" if index % 2 else "L", quality=95)
        (folder / split / "glioma" / "Thumbs.db").write_bytes(b"leftover")
        (folder / split / ".DS_Store").write_bytes(b"leftover")
    return folder


def write_leukemia(folder: Path, count: int = 4) -> Path:
    """Write `Original` and `Segmented`, each with four classes of RGB smears on a white ground."""
    for tree in ("Original", "Segmented"):
        for label, name in enumerate(LEUKEMIA_CLASSES):
            for index in range(count):
                stem = f"WBC-{name}-{index:03d}"
                shown = 255 - pixels(stem, label, colors=True)
                shown = np.where(shown < 120, 0, shown) if tree == "Segmented" else shown
                save_picture(folder / tree / name / f"{stem}.jpg", shown, quality=95)
    return folder


def write_ct(folder: Path, count: int = 5) -> Path:
    """Write `COVID` and `non-COVID`: PNG of many sizes, blanks and brackets in the names, grey saved as RGB or RGBA."""
    for label, (name, stem) in enumerate((("COVID", "Covid"), ("non-COVID", "Non-Covid"))):
        for index in range(1, count + 1):
            shown = pixels(f"{stem} {index}", label, (24 + index, 30))
            save_picture(folder / name / f"{stem} ({index}).png", shown, ("RGB", "RGBA", "L")[index % 3])
    return folder


def subjects_by_class(cohort: Mapping[str, Any]) -> dict[str, int]:
    """Count the subjects of each class."""
    grades = [subject["grade"] for subject in cohort["subjects"]]
    return {grade: grades.count(grade) for grade in sorted(set(grades))}
