"""Real pictures that lie inside installed packages, as a user's files would: a first study without a download."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from scripts.running.errors import some_names
from scripts.running.files import atomic_path

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TILE, BLOCK = 32, 64  # pixels a side, of the picture of tissue
POSITIVE_SHARE = 0.5  # of a tile's pixels that are stained, from which it counts as positive
TABLE = "tiles.csv"


def write_example(name: str, folder: str | Path) -> Path:
    """Write the pictures of an example; those that are there already are kept.

    Args:
        name: key of `EXAMPLES`.
        folder: gets the files.

    Returns:
        What `source_path` of `configs/cohort.yaml` reads: the folder, or a table in it.

    Raises:
        ValueError: if there is no such example, or the folder holds a file that is none of it, or another of its name.
    """
    if name not in EXAMPLES:
        raise ValueError(f"the example must be one of {', '.join(EXAMPLES)}, got {name!r}")
    root, files = Path(folder), EXAMPLES[name]()
    there = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()] if root.exists() else []
    if foreign := [path for path in there if path not in files or (root / path).read_bytes() != files[path]]:
        raise ValueError(
            f"{root} must be empty or hold the example {name} alone, got {some_names(foreign)}; choose another folder"
        )
    for path in sorted(set(files) - set(there)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(root / path) as temporary:
            temporary.write_bytes(files[path])
    return root / TABLE if TABLE in files else root


def digits() -> dict[str, bytes]:
    """Make the 1,797 handwritten digits of scikit-learn (UCI, 8 x 8, 43 writers whose names were not kept).

    Returns:
        Path, such as `zero/0000.png`, -> grey PNG of 8 x 8 pixels; their intensities, 0 to 16, become 0 to 255.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    return {
        f"{DIGIT_NAMES[label]}/{index:04d}.png": _png(image)
        for index, (image, label) in enumerate(zip(images, data.target, strict=True))
    }


def histology() -> dict[str, bytes]:
    """Cut scikit-image's picture of colon glands, of one patient, into 256 tiles.

    The stain, DAB, is brown and marks the protein FHL2. How much of it a pixel holds is told by color deconvolution
    (`skimage.color.rgb2hed`: Ruifrok, Johnston, Analytical and Quantitative Cytology and Histology 23, 2001); a pixel
    above Otsu's threshold is stained, and a tile is positive where half of its pixels are. Site is the block of 64 x 64
    pixels that a tile lies in, so that tiles side by side can be kept in one part (`splits_hold_out: sites`).

    Returns:
        Path, such as `tiles/r00_c15.png`, -> RGB PNG of 32 x 32 pixels, and `tiles.csv` with their classes, `positive`
        and `negative`, and blocks.
    """
    from skimage import data
    from skimage.color import rgb2hed
    from skimage.filters import threshold_otsu

    picture = data.immunohistochemistry()
    stain = rgb2hed(picture)[..., 2]
    stained = stain > threshold_otsu(stain)
    files, rows = {}, []
    for top in range(0, picture.shape[0], TILE):
        for left in range(0, picture.shape[1], TILE):
            tile, name = np.s_[top : top + TILE, left : left + TILE], f"r{top // TILE:02d}_c{left // TILE:02d}"
            files[f"tiles/{name}.png"] = _png(picture[tile])
            grade = "positive" if stained[tile].mean() >= POSITIVE_SHARE else "negative"
            block = f"r{top // BLOCK}_c{left // BLOCK}"
            rows.append({"subject_id": name, "image": f"tiles/{name}.png", "grade": grade, "site": block})
    return {**files, TABLE: _table(rows)}


EXAMPLES: Mapping[str, Callable[[], dict[str, bytes]]] = {"digits": digits, "histology": histology}


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _table(rows: list[dict[str, str]]) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()
