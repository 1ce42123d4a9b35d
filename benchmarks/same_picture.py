"""Where the threshold of the guard against one picture under two names lies: between other patients and planted copies.

python -m benchmarks.same_picture --sizes "[32,48,96]" --patients 240
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import shift
from torch import Tensor

from benchmarks.phantom_patches import phantom_patches
from scripts.patches.tensors import load_patch
from scripts.provenance.same_picture import (
    ALIKE_THUMBNAILS,
    SAME_PICTURE,
    SHARE_OF_CROWD,
    correlation,
    crowd_of,
    least_correlation,
    likeness_of,
    thumbnails_of,
)
from scripts.splits.lists import image_path, read_list

Change = Callable[[np.ndarray], np.ndarray]


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Shift (C, H, W) by up to two pixels; what comes in is background, -1."""
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), constant_values=-1)
    return np.roll(padded, (down, right), (1, 2))[:, 2:-2, 2:-2]


def between_pixels(image: np.ndarray) -> np.ndarray:
    """Shift by half a pixel along both axes, linear interpolation; the background stays."""
    moved = np.stack([shift(channel, 0.5, order=1, cval=-1) for channel in image])
    return np.where((image > -1).any(0), moved, -1)


def noisy(image: np.ndarray) -> np.ndarray:
    """Add noise of standard deviation .05 (intensities in [-1, 1]) inside the brain."""
    noise = np.random.default_rng(0).normal(0, 0.05, image.shape)
    return np.where((image > -1).any(0), np.clip(image + noise, -0.999, 1), -1)


CHANGES: dict[str, Change] = {
    "scaled by 1.7 and clipped": lambda image: np.clip((image + 1) * 0.85 - 1, -1, 1),
    "z-scored": lambda image: (image - image.mean()) / image.std(),
    "255 levels": lambda image: np.round((image + 1) * 127) / 127 - 1,
    "float16": lambda image: image.astype(np.float16),
    "shifted by 1 pixel": lambda image: shifted(image, 1, 0),
    "shifted by 2 and -2 pixels": lambda image: shifted(image, 2, -2),
    "mirrored": lambda image: image[:, ::-1],
    "mirrored and shifted by 1": lambda image: shifted(image, -1, 1)[:, ::-1],
    "gamma .7": lambda image: ((image + 1) / 2) ** 0.7 * 2 - 1,
    "noise .05": noisy,
    "shifted by half a pixel": between_pixels,
}


def likenesses(images: np.ndarray) -> Tensor:
    """Compare the thumbnails of (N, C, H, W) images: (N, N), the highest correlation of a pair at a flip and shift."""
    return likeness_of(np.stack([thumbnails_of(image) for image in images], axis=1))


def of_different_patients(
    images: np.ndarray, likeness: Tensor, crowd: Tensor, num_compared: int
) -> tuple[float, float]:
    """Return the highest correlation of different patients, and the least share of the distance to their crowd.

    Args:
        images: (N, C, H, W), one of each patient.
        likeness: (N, N) of their thumbnails.
        crowd: (N,), `crowd_of` them.
        num_compared: pairs compared in full, those whose thumbnails are most alike.
    """
    first, second = pairs = torch.triu_indices(*likeness.shape, offset=1)
    nearest = pairs[:, likeness[first, second].argsort(descending=True)[:num_compared]]
    values = torch.tensor([correlation(images[one], images[other]) for one, other in nearest.T.tolist()])
    shares = (1 - values) / (1 - torch.maximum(*crowd[nearest]))
    return float(values.max()), float(shares.min())


def of_copies(images: np.ndarray, crowd: Tensor, change: Change) -> tuple[float, float]:
    """Lowest correlation of an image with its changed copy, and the share of the copies that are found."""
    values, found = [], 0
    for image, least in zip(images, least_correlation(crowd).tolist(), strict=True):
        copy = np.ascontiguousarray(change(image), dtype=np.float32)
        values.append(correlation(image, copy))
        is_alike = float(likenesses(np.stack([image, copy]))[0, 1]) >= ALIKE_THUMBNAILS
        found += is_alike and values[-1] >= least
    return min(values), found / len(images)


def report(name: str, images: np.ndarray) -> None:
    """Print what different patients and copies reach."""
    likeness = likenesses(images)
    crowd = crowd_of(likeness, torch.arange(len(images)))
    highest, share = of_different_patients(images, likeness, crowd, 300)
    print(f"{name}: {len(images)} patients, different ones at most {highest:.3f} (one picture: {SAME_PICTURE})")
    if (in_crowd := int((crowd > 0).sum())) > 0:
        print(
            f"  in a crowd: {in_crowd}, nearest at a share of {share:.3f} of its distance (one: {SHARE_OF_CROWD:.3f})"
        )
    step = max(1, len(images) // 40)
    for change, function in CHANGES.items():
        lowest, share = of_copies(images[::step], crowd[::step], function)
        print(f"  {change}: at least {lowest:.4f}, found {share:.0%}")


def main() -> None:
    """Print the figures of simulated patients, or of the patches that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=json.loads, default=[32, 48, 96], help="pixels of each side")
    parser.add_argument("--patients", type=int, default=240, help="a quarter of each site and class")
    parser.add_argument("--patches", help="a patches.json of two dimensions, one image per patient, instead")
    arguments = parser.parse_args()
    if arguments.patches:
        listing = read_list(arguments.patches, "patches")
        paths = [image_path(arguments.patches, row) for row in listing["training"]]
        report(arguments.patches, np.stack([load_patch(path, len(listing["modality"])).numpy() for path in paths]))
        return
    for size in arguments.sizes:
        images = [
            phantom_patches(arguments.patients // 4, seed, size, site=site, grade=grade).numpy()
            for seed, site in ((7, "A"), (8, "B"))
            for grade in ("LGG", "HGG")
        ]
        report(f"{size} pixels", np.concatenate(images))


if __name__ == "__main__":
    main()
