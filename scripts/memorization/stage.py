"""The stage of the memorization audit: a synthetic set, the images behind its generator and held-out ones, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.memorization.audit import JUDGED, MemorizationAudit
from scripts.memorization.nearest_images import pixels_of_shift
from scripts.memorization.parts import CENTER
from scripts.memorization.statistics import Losses, infer_membership, membership_in_words
from scripts.memorization.suspicious_pairs import SuspiciousPair, write_pairs
from scripts.memorization.verdict import KNOWS_HELD_OUT, Thresholds
from scripts.patches.image_sets import ALL, ImageSet, read_rows
from scripts.provenance.declared import holds_out_nobody, names_nobody
from scripts.provenance.image_form import image_facts, names_by_number, require_like_real
from scripts.provenance.leakage import LeakageError, known_subjects, seen_by_generator, seen_subjects
from scripts.running.errors import some_names
from scripts.running.files import sha256_file, write_json
from scripts.running.progress import progress
from scripts.splits.lists import read_list
from scripts.splits.parts import default_held_out_part, load_splits, part_subjects

SUSPICIOUS_PAIRS = "suspicious_pairs.png"
HELD_OUT_PARTS = ("validation", "test", "inner")


def audit_images(
    synthetic_path: str,
    patches_path: str,
    splits_path: str,
    output_dir: str,
    audit: MemorizationAudit,
    held_out_part: str | None = None,
    num_pairs: int = 10,
    device: str | torch.device = "cpu",
    losses: Losses | None = None,
    generator_path: str | None = None,
) -> Path:
    """Write `audit.json` of one synthetic set, and `suspicious_pairs.png` with its most suspicious pairs.

    Args:
        synthetic_path: `synthetic.json`, whose provenance names the generator's subjects.
        patches_path: `patches.json` that the generator was trained on.
        splits_path: `splits.json`; gives the real held-out images.
        output_dir: folder to write to.
        audit: what compares and judges the images of a class.
        held_out_part: part that the generator neither trained nor was selected on; None is `validation`, or `test`
            where the splits were made with `selection: validation`.
        num_pairs: pairs shown.
        device: where the images are compared.
        losses: of the generator itself, for membership inference; None leaves that out.
        generator_path: weights behind `losses`, which must be those that drew the set.

    Returns:
        Path of `audit.json`: what `audit` returns for each class, with cohort, method, fold and the part held out, and
        what the generator is declared to be `trained_on` (None of a recorded one). An imported set whose
        generator saw all, others or unknown people is compared with all patients, and none are held out.
        Images of a class are compared with real images of that class alone, also where the generator, conditioned on
        the class, was trained on all: else the gap would measure the class.

    Raises:
        LeakageError: if the synthetic set has no provenance, or images copy subjects that its generator cannot have
            seen: `audit.json` is written before.
        ValueError: if the sets are made otherwise or do not say how, the generator has seen a subject of the held-out
            part, or patches and generator do not fit.
    """
    synthetic, patches = read_list(synthetic_path, "synthetic"), read_list(patches_path, "patches")
    seen_subjects(synthetic.get("provenance"), str(synthetic_path))
    of_patches, of_synthetic = image_facts(patches, patches_path), image_facts(synthetic, synthetic_path)
    require_like_real(of_patches, of_synthetic, synthetic_path, patches_path)
    provenance = synthetic["provenance"]
    if generator_path is not None:
        _require_weights_of_set(provenance, generator_path, synthetic_path)
    behind = _compared_with(provenance, patches)
    splits = load_splits(splits_path)
    part = held_out_part or default_held_out_part(splits)
    unseen = [] if holds_out_nobody(provenance) else _held_out(patches, splits, provenance, part)
    if audit.features is not None:
        audit.features.refuse_known([entry["subject_id"] for entry in (*behind, *unseen)])
    if all(row.get("region") is None for row in (*behind, *unseen)):
        audit.center_name = CENTER
    names, classes, pairs = names_by_number(patches["modality"]), {}, []
    for label, name in progress(class_names(synthetic), description="memorization audit"):
        entries = [entry for entry in synthetic["training"] if entry["label"] == label]
        images = read_rows(synthetic_path, synthetic, entries).to(device)
        training, held_out = (
            read_rows(patches_path, patches, [row for row in rows if label is None or row["label"] == label]).to(device)
            for rows in (behind, unseen)
        )
        result = audit(images.images, training, held_out, names)
        pairs += suspicious(result["images"], entries, images.images, training, held_out)
        name_images(result["images"], entries, {"training": training, "held_out": held_out})
        if losses is not None:
            result["membership"] = infer_membership(losses, training, held_out, label)
            result["evidence"] = [*result["evidence"], *membership_in_words(result["membership"])]
        classes[name] = result
    shown = sorted(pairs, key=lambda pair: (not pair.is_copy, pair.ratio))[:num_pairs]
    write_pairs(Path(output_dir) / SUSPICIOUS_PAIRS, shown, audit.max_shift, names)
    content = {
        "cohort": provenance["cohort"],
        "method": provenance["method"],
        "fold": provenance["fold"],
        "trained_on": provenance.get("trained_on"),
        "simulated": bool(synthetic["simulated"]),
        "synthetic_sha256": sha256_file(synthetic_path),
        "num_training": len(behind),
        "held_out_part": part,
        "center": audit.center_name,
        "thresholds": vars(audit.thresholds),
        "classes": classes,
    }
    path = Path(output_dir) / "audit.json"
    write_json(path, content)
    _refuse_held_out_copies(path, classes, synthetic_path, splits_path)
    return path


def check_audit(
    thresholds: Thresholds,
    max_shift: int | None,
    patch_size: Sequence[int],
    num_cells: int,
    num_permutations: int,
    block_size: int,
    num_pairs: int,
    held_out_part: str | None = None,
) -> None:
    """Refuse settings by which no set can be judged.

    Args:
        thresholds: see `MemorizationAudit`, as the four numbers below.
        max_shift: likewise.
        patch_size: cells of each axis.
        num_cells: likewise.
        num_permutations: likewise.
        block_size: likewise.
        num_pairs: `audit_num_pairs`.
        held_out_part: part of the real images of the baselines; None is the one that no generator of a fold has seen.

    Raises:
        ValueError: naming the config key and the way out.
    """
    pixels_of_shift(max_shift, patch_size)
    MemorizationAudit(thresholds, max_shift, None, num_cells, num_permutations, block_size=block_size)
    if num_pairs < 1:
        raise ValueError(f"audit_num_pairs must be >= 1, got {num_pairs!r}")
    if held_out_part not in (None, *HELD_OUT_PARTS):
        raise ValueError(
            f"held_out_part must be one of {', '.join(HELD_OUT_PARTS)}, or null, got {held_out_part!r}: what a"
            " generator was trained on is no baseline"
        )


def class_names(listing: Mapping[str, Any]) -> list[tuple[int | None, str]]:
    """List the labels that occur in a decathlon list with their names; images without a label are called `ALL`."""
    names = {int(index): name for index, name in listing["labels"].items()}
    labels = {entry["label"] for entry in listing["training"]}
    return [(label, ALL if label is None else names[label]) for label in sorted(labels, key=lambda x: (x is None, x))]


def _compared_with(provenance: Mapping[str, Any], patches: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Patches behind a generator; all, where it is declared that nobody is, or that nobody knows."""
    entries: list[dict[str, Any]] = patches["training"]
    return list(entries) if names_nobody(provenance) else seen_by_generator(provenance, entries)


def _require_weights_of_set(provenance: Mapping[str, Any], generator_path: str, synthetic_path: str) -> None:
    if provenance.get("weights_sha256") != sha256_file(generator_path):
        raise ValueError(
            f"audit_generator_path must be the generator that drew {synthetic_path}, got {generator_path} with another"
            " hash; give its model.pt, or null"
        )


def _refuse_held_out_copies(
    path: Path, classes: Mapping[str, Mapping[str, Any]], synthetic_path: str, splits_path: str
) -> None:
    """Stop where images know subjects that their generator must not know: every figure behind them would be wrong."""
    known = [name for name, result in classes.items() if result["verdict"] == KNOWS_HELD_OUT]
    if known:
        raise LeakageError(
            f"the images of {' and '.join(known)} in {synthetic_path} are copies of held-out subjects of {splits_path},"
            f" see {path} and {SUSPICIOUS_PAIRS} beside it; train the generator again, by these splits, and generate"
            " anew"
        )


def _held_out(
    patches: Mapping[str, Any], splits: Mapping[str, Any], provenance: Mapping[str, Any], part: str
) -> list[dict[str, Any]]:
    fold = provenance["fold"]
    subjects = set() if fold is None and part != "test" else set(part_subjects(splits, fold, part))
    seen = known_subjects(seen_subjects(provenance, "synthetic.json"), subjects)
    if seen:
        raise ValueError(
            f"held_out_part must hold subjects that the generator was neither trained nor selected on, got {part!r}"
            f" with {some_names(seen, limit=3)}; pass --held_out_part test, or its generator's own splits"
        )
    return [dict(entry) for entry in patches["training"] if entry["subject_id"] in subjects]


def name_images(
    rows: Sequence[dict[str, Any]], entries: Sequence[Mapping[str, Any]], real: Mapping[str, ImageSet]
) -> None:
    """Put the names of images in the place of their numbers, in `images` of an audit.

    Args:
        rows: `images` of what `MemorizationAudit` returns; changed.
        entries: `image` of each.
        real: "training" and "held_out" images that the numbers are of.
    """
    for row, entry in zip(rows, entries, strict=True):
        for nearest in [value for value in row.values() if isinstance(value, dict)]:
            for part, match in nearest.items():
                match["image"] = real[part].names[match.pop("index")]
        row["image"] = entry["image"]
        if row["of"] is not None:
            row["of"] = real["held_out" if row["is_held_out"] else "training"].names[row["of"]]


def suspicious(
    rows: Sequence[Mapping[str, Any]],
    entries: Sequence[Mapping[str, Any]],
    images: Tensor,
    training: ImageSet,
    held_out: ImageSet,
) -> list[SuspiciousPair]:
    """Put each synthetic image beside the real one that it copies, or else the training image that it resembles most.

    Args:
        rows: `images` of what `MemorizationAudit` returns, before `name_images`.
        entries: `image` of each, its name.
        images: (S, C, *spatial) in [-1, 1].
        training: images compared with.
        held_out: likewise.
    """
    pairs = []
    for image, row, entry in zip(images, rows, entries, strict=True):
        match = row[JUDGED]["training"]
        real, index = training, match["index"]
        if row["of"] is not None:
            real, index = held_out if row["is_held_out"] else training, row["of"]
        pairs.append(
            SuspiciousPair(
                image.cpu(),
                real.images[index].cpu(),
                entry["image"],
                str(real.patients[index]),
                row["ratio"],
                match["value"],
                row["of"] is not None,
                row["part"],
                row["of"] is not None and row["is_held_out"],
            )
        )
    return pairs
