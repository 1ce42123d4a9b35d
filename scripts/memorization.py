"""How near synthetic images come to the images their generator was trained on, beside what real images do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import gammaln

from scripts.figures import mosaic, png_bytes
from scripts.files import atomic_path, read_json, sha256_file, write_json
from scripts.leakage import seen_subjects
from scripts.patch_tensors import load_patch
from scripts.progress import progress
from scripts.provenance import hash_subject
from scripts.splits import load_splits, part_subjects


def pearson_matrix(images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Compute Pearson's correlation of each image with each reference, over all channels and pixels together.

    Args:
        images: (N, C, *spatial), any intensity unit; none constant.
        references: (M, C, *spatial), same unit.

    Returns:
        (N, M) float64 in [-1, 1].

    Raises:
        ValueError: if the shapes differ or an image is constant, which correlates with nothing.
    """
    if images.shape[1:] != references.shape[1:]:
        raise ValueError(
            f"references must have the shape of images {tuple(images.shape[1:])}, got {tuple(references.shape[1:])}"
        )
    return _standardized(images, "images") @ _standardized(references, "references").T


def max_pearson(
    images: torch.Tensor, references: torch.Tensor, sample_size: int | None = None, block_size: int = 256
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the reference that correlates highest with each image: exact, in blocks of bounded memory.

    The highest of many correlations grows with the number of references. To compare two sets of references of
    different size, give both the same `sample_size`: the value is then the expected maximum over all subsets of that
    size, in closed form (order statistics), so no draw and no seed is involved.

    Args:
        images: (N, C, *spatial).
        references: (M, C, *spatial), M >= 1.
        sample_size: number of references compared with, 1 to M; None is all.
        block_size: images correlated at once.

    Returns:
        The maximum of each image, (N,) float64, and the index of the nearest of all references, (N,) int64.
    """
    count = len(references)
    size = count if sample_size is None else sample_size
    if not 1 <= size <= count:
        raise ValueError(f"sample_size must lie between 1 and the number of references {count}, got {sample_size!r}")
    weights = torch.from_numpy(maximum_weights(count, size)).to(references.device)
    values, nearest = [], []
    for block in images.split(block_size):
        ordered, order = pearson_matrix(block, references).sort(dim=1)
        values.append(ordered @ weights)
        nearest.append(order[:, -1])
    return torch.cat(values).cpu(), torch.cat(nearest).cpu()


def maximum_weights(count: int, size: int) -> np.ndarray:
    """Return the probability that each of `count` ordered values is the maximum of a random subset of `size`.

    The i-th smallest of n is the maximum of C(i - 1, m - 1) of the C(n, m) subsets.

    Args:
        count: n.
        size: m, 1 <= m <= n.

    Returns:
        (n,) float64, from the smallest value to the largest; sums to 1.
    """
    ranks = np.arange(size, count + 1, dtype=np.float64)
    log_weights = _log_binomial(ranks - 1, size - 1) - _log_binomial(count, size)
    return np.concatenate([np.zeros(size - 1), np.exp(log_weights)])


def audit(
    synthetic: torch.Tensor, training: torch.Tensor, held_out: torch.Tensor, block_size: int = 256
) -> dict[str, Any]:
    """Measure the nearness of synthetic images to the training images, with its two baselines.

    A maximum on its own says nothing about memorization, since real images of other people are similar too. Baseline
    one is the same figure for real held-out images. Baseline two is the gap: nearness to the training images less
    nearness to held-out images, both to equally many; a generator that does not copy has a gap of about 0.

    Args:
        synthetic: (S, C, *spatial).
        training: (T, C, *spatial), the images that the generator was trained on.
        held_out: (H, C, *spatial), real images that it never saw; may be empty, then the baselines are None.
        block_size: images correlated at once.

    Returns:
        `synthetic_to_training` and `held_out_to_training`: summaries with the single values; `train_minus_held_out`:
        `synthetic` and the number of images compared with (`sample_size`); `nearest_training`: index of each image.
    """
    values, nearest = max_pearson(synthetic, training, block_size=block_size)
    result: dict[str, Any] = {
        "synthetic_to_training": describe(values),
        "held_out_to_training": None,
        "train_minus_held_out": None,
        "nearest_training": nearest.tolist(),
    }
    if len(held_out):
        baseline, _ = max_pearson(held_out, training, block_size=block_size)
        size = min(len(training), len(held_out))
        near_training, _ = max_pearson(synthetic, training, size, block_size)
        near_held_out, _ = max_pearson(synthetic, held_out, size, block_size)
        result["held_out_to_training"] = describe(baseline)
        result["train_minus_held_out"] = {**describe(near_training - near_held_out), "sample_size": size}
    return result


def describe(values: torch.Tensor) -> dict[str, Any]:
    """Summarize values: number, mean, standard deviation (n - 1; None for one value), median, largest, and all."""
    array = values.double().numpy()
    return {
        "n": len(array),
        "mean": float(array.mean()),
        "sd": float(array.std(ddof=1)) if len(array) > 1 else None,
        "median": float(np.median(array)),
        "max": float(array.max()),
        "values": [round(float(value), 6) for value in array],
    }


def load_images(
    list_path: str | Path, listing: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]
) -> torch.Tensor:
    """Load some of the images of a decathlon list.

    Args:
        list_path: the list; its entries' `image` is relative to its folder.
        listing: its content, of which `modality` and `spatial_dims` count.
        entries: those to load, or none.

    Returns:
        (N, C, *spatial) float32 in [-1, 1]; (0,) when there are no entries.

    Raises:
        ValueError: if an image has other channels, dimensions or range than it must have.
    """
    folder, num_channels, spatial_dims = Path(list_path).parent, len(listing["modality"]), int(listing["spatial_dims"])
    images = [load_patch(str(folder / entry["image"]), num_channels, spatial_dims) for entry in entries]
    return torch.stack(images) if images else torch.empty(0)


def seen_by_generator(provenance: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Pick the patches of the subjects that stand, hashed, in a generator's provenance.

    Raises:
        ValueError: if a subject of the provenance is not in the list: the two do not belong together.
    """
    hashed = {hash_subject(entry["subject_id"]) for entry in entries}
    missing = set(provenance["subjects"]) - hashed
    if missing:
        raise ValueError(
            f"patches must hold all {len(provenance['subjects'])} subjects behind the generator,"
            f" got a list without {len(missing)} of them; give the patches.json it was trained on"
        )
    return [dict(entry) for entry in entries if hash_subject(entry["subject_id"]) in set(provenance["subjects"])]


def measure_images(
    synthetic_path: str,
    patches_path: str,
    splits_path: str,
    output_dir: str,
    held_out_part: str | None = None,
    block_size: int = 256,
    device: str | torch.device = "cpu",
) -> Path:
    """Write `max_pearson.json` of one synthetic set, and `nearest.png` with its most similar pairs.

    Args:
        synthetic_path: `synthetic.json`, whose provenance names the generator's subjects.
        patches_path: `patches.json` that the generator was trained on.
        splits_path: `splits.json`; gives the real held-out images.
        output_dir: folder to write to.
        held_out_part: part that the generator neither trained nor was selected on; None is `validation`, or `test`
            where the splits were made with `selection: validation`.
        block_size: images correlated at once.
        device: where the correlations are computed, in float64.

    Returns:
        Path of `max_pearson.json`: what `audit` returns for each class, with cohort, method, fold and the part held
        out. Images of a class are compared with real images of that class alone, also where the generator, conditioned
        on the class, was trained on all: else the gap would measure the class.

    Raises:
        ValueError: if the generator has seen a subject of the held-out part, or patches and generator do not fit.
    """
    synthetic, patches = read_json(synthetic_path), read_json(patches_path)
    provenance = synthetic["provenance"]
    behind = seen_by_generator(provenance, patches["training"])
    splits = load_splits(splits_path)
    part = held_out_part or default_held_out_part(splits)
    unseen = _held_out(patches, splits, provenance, part)
    classes, pairs = {}, []
    for label, name in progress(class_names(synthetic), description="max-Pearson"):
        entries = [entry for entry in synthetic["training"] if entry["label"] == label]
        images = load_images(synthetic_path, synthetic, entries).to(device)
        training, held_out = (
            load_images(patches_path, patches, _of_class(real, label)).to(device) for real in (behind, unseen)
        )
        classes[name] = {"num_training": len(training), **audit(images, training, held_out, block_size)}
        pairs += _most_similar(classes[name], images, training)
    _write_pairs(Path(output_dir) / "nearest.png", pairs)
    content = {
        "cohort": provenance["cohort"],
        "method": provenance["method"],
        "fold": provenance["fold"],
        "simulated": bool(synthetic["simulated"]),
        "synthetic_sha256": sha256_file(synthetic_path),
        "num_training": len(behind),
        "held_out_part": part,
        "classes": classes,
    }
    write_json(Path(output_dir) / "max_pearson.json", content)
    return Path(output_dir) / "max_pearson.json"


def default_held_out_part(splits: Mapping[str, Any]) -> str:
    """Return the part that no generator of a fold has seen: `validation`, or `test` where validation selects."""
    return "test" if splits.get("selection", "inner") == "validation" else "validation"


def class_names(listing: Mapping[str, Any]) -> list[tuple[int | None, str]]:
    """List the labels that occur in a decathlon list with their names; images without a label are called "all"."""
    names = {int(index): name for index, name in listing["labels"].items()}
    found = {entry["label"] for entry in listing["training"]}
    return [(label, "all" if label is None else names[label]) for label in sorted(found, key=lambda x: (x is None, x))]


def _held_out(
    patches: Mapping[str, Any], splits: Mapping[str, Any], provenance: Mapping[str, Any], part: str
) -> list[dict[str, Any]]:
    fold = provenance["fold"]
    subjects = set() if fold is None and part != "test" else set(part_subjects(splits, fold, part))
    known = seen_subjects(provenance, "synthetic.json")
    seen = {subject for subject in subjects if hash_subject(subject) in known}
    if seen:
        raise ValueError(
            f"held_out_part must hold subjects that the generator was neither trained nor selected on, got {part!r}"
            f" with {sorted(seen)[:3]}; pass --held_out_part test, or the splits that the generator was trained with"
        )
    return [dict(entry) for entry in patches["training"] if entry["subject_id"] in subjects]


def _of_class(entries: Sequence[Mapping[str, Any]], label: int | None) -> list[Mapping[str, Any]]:
    return [entry for entry in entries if label is None or entry["label"] == label]


def _standardized(images: torch.Tensor, name: str) -> torch.Tensor:
    flat = images.double().flatten(1)
    centered = flat - flat.mean(dim=1, keepdim=True)
    norm = centered.norm(dim=1, keepdim=True)
    # The mean of a constant image is exact only up to rounding, so compare with its size, not with 0.
    if bool((norm <= 1e-9 * flat.norm(dim=1, keepdim=True)).any()):
        raise ValueError(
            f"{name} must not be constant, got an image without any contrast; look at the set it came from"
        )
    return centered / norm


def _log_binomial(n: np.ndarray | int, k: int) -> Any:
    return gammaln(np.asarray(n) + 1.0) - gammaln(k + 1.0) - gammaln(np.asarray(n) - k + 1.0)


def _most_similar(
    result: Mapping[str, Any], images: torch.Tensor, training: torch.Tensor, count: int = 3
) -> list[np.ndarray]:
    values = np.array(result["synthetic_to_training"]["values"])
    chosen = np.argsort(-values, kind="stable")[:count]
    pair = [(images[i], training[result["nearest_training"][i]]) for i in chosen.tolist()]
    return [np.concatenate([mosaic(a.cpu().numpy()), mosaic(b.cpu().numpy())]) for a, b in pair]


def _write_pairs(path: Path, pairs: Sequence[np.ndarray]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(png_bytes(np.concatenate(list(pairs), axis=1)))
