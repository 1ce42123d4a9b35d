"""Draw real and synthetic patches of a study in one picture, a row for each list.

python -m benchmarks.sample_figure docs/figures/samples.png PATCHES/patches.json SET/synthetic.json ...
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from scripts.patches.pictures import mosaic, png_bytes
from scripts.patches.tensors import load_patch
from scripts.running.files import atomic_path
from scripts.splits.lists import read_list


def draw_rows(list_paths: list[str], num_images: int) -> np.ndarray:
    """Lay the first images of each list beside each other, one list a row.

    Args:
        list_paths: `patches.json` or `synthetic.json` files.
        num_images: images of each, at most as many as it holds.

    Returns:
        (height, width) uint8.
    """
    rows = []
    for path in list_paths:
        content = read_list(path, "images")
        names = [Path(path).parent / entry["image"] for entry in content["training"][:num_images]]
        images = [load_patch(str(name), len(content["modality"]), content["spatial_dims"]) for name in names]
        tiles = [np.pad(mosaic(image.numpy(), enlarge_to=80), 3, constant_values=255) for image in images]
        rows.append(np.concatenate(tiles, axis=1))
    return np.concatenate(rows)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("lists", nargs="+")
    parser.add_argument("--images", type=int, default=6)
    arguments = parser.parse_args()
    with atomic_path(arguments.output) as temporary:
        temporary.write_bytes(png_bytes(draw_rows(arguments.lists, arguments.images)))


if __name__ == "__main__":
    main()
