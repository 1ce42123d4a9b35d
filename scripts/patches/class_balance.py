"""How many images each class has, and how many synthetic ones it gets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from scripts.splits.lists import read_list
from scripts.splits.parts import load_part


def class_counts(patches_path: str, splits_path: str, fold: int) -> dict[str, int]:
    """Count the training patches of a fold by class name; "" stands for those without a grade."""
    names = {int(label): name for label, name in read_list(patches_path, "patches")["labels"].items()}
    labels = Counter(entry["label"] for entry in load_part(patches_path, splits_path, fold, "train"))
    return {names.get(label, ""): labels[label] for label in sorted(labels, key=str)}


def synthetic_limits(
    num_real: Mapping[str, int], ratio: float = 1.0, balance: bool = True, with_real: bool = True
) -> dict[str, tuple[int, int]]:
    """How many synthetic images of each class a training needs and may take.

    Args:
        num_real: real training images of each class.
        ratio: wanted synthetic images of each class, relative to its real ones, >= 0.
        balance: let smaller classes take more, until all are as large as the largest with its synthetic images.
        with_real: the real images train, too, and count for the balance.

    Returns:
        Class -> (fewest, most).

    >>> synthetic_limits({"LGG": 76, "HGG": 259})
    {'LGG': (76, 442), 'HGG': (259, 259)}
    >>> synthetic_limits({"LGG": 76, "HGG": 259}, with_real=False)
    {'LGG': (76, 259), 'HGG': (259, 259)}
    """
    if ratio < 0:
        raise ValueError(f"synthetic_ratio and generated_ratio must be at least 0, got {ratio!r}")
    wanted = {name: math.ceil(ratio * count) for name, count in num_real.items()}
    held = {name: count if with_real else 0 for name, count in num_real.items()}
    largest = max(held[name] + wanted[name] for name in held)
    return {name: (wanted[name], largest - held[name] if balance else wanted[name]) for name in held}


def needed_images(
    patches_path: str, splits_path: str | None, fold: int | None, class_name: str | None, ratio: float
) -> int:
    """How many synthetic images of a class a training of a fold needs at least; 1 where no fold is given.

    Args:
        patches_path: `patches.json`.
        splits_path: `splits.json`; None where the images are for no fold.
        fold: number of the fold; likewise.
        class_name: class of the images; None where they have none, which no training takes.
        ratio: synthetic images for each real one, >= 0.

    Raises:
        ValueError: if the fold trains on no image of such a class.
    """
    if splits_path is None or fold is None or class_name is None or ratio == 0:
        return 1
    counts = {name: count for name, count in class_counts(patches_path, splits_path, fold).items() if name}
    if class_name not in counts:
        raise ValueError(f"generator_class must be one of {', '.join(counts)}, got {class_name!r}")
    return max(1, synthetic_limits(counts, ratio)[class_name][0])
