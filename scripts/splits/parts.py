"""Who is in which part: `splits.json` read and checked, and the patches of a part."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.running.errors import some_names
from scripts.splits.lists import FOLD_PARTS, image_path, read_list

PARTS = (*FOLD_PARTS, "test", "all")


def load_splits(splits_path: str | Path) -> dict[str, Any]:
    """Read `splits.json` and check that no subject is in two parts that must not meet.

    Args:
        splits_path: the file written by `write_splits`, or by hand in the same form.

    Returns:
        Its content.

    Raises:
        ValueError: if a subject trains and validates, trains and selects, or is in the test part and in a fold.
    """
    splits = read_list(splits_path, "splits")
    test = set(splits["test"])
    for number, fold in enumerate(splits["folds"]):
        train, inner, validation = (set(fold[part]) for part in FOLD_PARTS)
        shared = (train & (inner | validation)) | (test & (train | inner | validation))
        if splits.get("selection", "inner") == "inner":
            shared |= inner & validation
        if shared:
            raise ValueError(
                f"fold {number} of {splits_path} must keep its parts and the test part apart, got {some_names(shared)}"
                " in two of them; make the splits again with configs/splits.yaml"
            )
    return splits


def is_split_by_image(splits: Mapping[str, Any]) -> bool:
    """Tell whether nobody recorded which images of the cohort are of one patient, so that parts may share patients.

    Args:
        splits: content of `splits.json`.
    """
    return splits.get("patients") == "unknown"


def check_parts(key: str, parts: Sequence[str] | None) -> None:
    """Refuse parts that no split has.

    Args:
        key: of the config, for the message.
        parts: names; None leaves the choice to the stage.

    Raises:
        ValueError: with the names that there are.
    """
    if parts is not None and (not parts or set(parts) - set(PARTS)):
        raise ValueError(f"{key} must be a list of {', '.join(PARTS)}, or null, got {parts!r}")


def part_subjects(splits: Mapping[str, Any], fold: int | None, part: str) -> list[str]:
    """List the subjects of one part.

    Args:
        splits: content of `splits.json`.
        fold: number of the fold, from 0; not read for `test` and `all`.
        part: `train`, `inner`, `validation`, `test`, or `all`: everybody, the ungraded subjects too.

    Returns:
        Subject ids, sorted.

    Raises:
        ValueError: if there is no such part or fold.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    if part == "test":
        return list(splits["test"])
    if part == "all":
        in_folds = [name for one in splits["folds"] for key in FOLD_PARTS for name in one[key]]
        return sorted({*in_folds, *splits["test"], *splits.get("ungraded", ())})
    if fold is None or not 0 <= fold < len(splits["folds"]):
        raise ValueError(f"fold must be from 0 to {len(splits['folds']) - 1} for part {part!r}, got {fold!r}")
    return list(splits["folds"][fold][part])


def default_held_out_part(splits: Mapping[str, Any]) -> str:
    """Return the part that no generator of a fold has seen: `validation`, or `test` where it selects or is empty."""
    is_empty = not any(fold["validation"] for fold in splits["folds"])
    return "test" if is_empty or splits.get("selection", "inner") == "validation" else "validation"


def held_out_subjects(splits_path: str, fold: int) -> set[str]:
    """Return the ids that no network of a fold may know: the test part, and the validation part unless it selects."""
    splits = load_splits(splits_path)
    test, validation, inner = (set(part_subjects(splits, fold, part)) for part in ("test", "validation", "inner"))
    return test | (validation - inner)


def selecting_subjects(splits_path: str, fold: int) -> set[str]:
    """Return the ids that select a fold's networks and validate them too; none unless `selection` is `validation`."""
    splits = load_splits(splits_path)
    return set(part_subjects(splits, fold, "validation")) & set(part_subjects(splits, fold, "inner"))


def load_part(
    patches_path: str | Path,
    splits_path: str | Path | None,
    fold: int | None,
    part: str,
    classes: Collection[str] | None = None,
    require_labels: bool = False,
) -> list[dict[str, Any]]:
    """List the patches of one part, as a MONAI dataset takes them.

    Args:
        patches_path: `patches.json`; a subject may have several patches, and all of them are in the subject's part.
        splits_path: `splits.json`; None is accepted for part `all`, as for a cohort that only tests.
        fold: number of the fold, from 0; not read for `test` and `all`.
        part: `train`, `inner`, `validation`, `test` or `all`.
        classes: keep the patches of these classes only; a mapping from name to index must be that of the patches.
        require_labels: refuse subjects without grade, as a classifier must.

    Returns:
        `{"image": absolute path, "label": int or None, "subject_id", "site", "lesion_volume_ml"}` for each patch, in
        the order of the file, with `patient_id` and `image_sha256` where the list has them.

    Raises:
        ValueError: if patches and splits are not of the same subjects, a needed grade is missing, a class is unknown,
            or the part has no patch.
    """
    patches = read_list(patches_path, "patches")
    entries = patches["training"]
    if splits_path is not None:
        splits = load_splits(splits_path)
        _check_same_subjects(patches_path, {entry["subject_id"] for entry in entries}, splits_path, splits)
        wanted = set(part_subjects(splits, fold, part))
        entries = [entry for entry in entries if entry["subject_id"] in wanted]
    elif part != "all":
        raise ValueError(f"splits_path must be a file for part {part!r}, got None; only part 'all' needs none")
    if require_labels:
        _check_labels(entries, patches_path)
    if classes is not None:
        labels = _label_indices(patches, classes, patches_path)
        entries = [entry for entry in entries if entry["label"] in labels]
    if not entries:
        raise ValueError(
            f"part {part!r} of fold {fold} must have at least one patch"
            f"{'' if classes is None else ' of ' + ', '.join(classes)}, got none in {patches_path}; see {splits_path}"
        )
    return [
        {
            "image": image_path(patches_path, entry),
            "label": entry["label"],
            "subject_id": entry["subject_id"],
            "site": entry.get("site"),
            "lesion_volume_ml": entry.get("lesion_volume_ml"),
            **{key: entry[key] for key in ("patient_id", "image_sha256") if key in entry},
        }
        for entry in entries
    ]


def _check_same_subjects(
    patches_path: str | Path, patch_subjects: set[str], splits_path: str | Path, splits: Mapping[str, Any]
) -> None:
    split_subjects = set(part_subjects(splits, None, "all"))
    # an ungraded subject is in no part, so its patches may be missing
    missing = split_subjects - patch_subjects - set(splits.get("ungraded", ()))
    for subjects, have, lack in (
        (missing, splits_path, patches_path),
        (patch_subjects - split_subjects, patches_path, splits_path),
    ):
        if subjects:
            raise ValueError(
                f"splits and patches must be of the same subjects, got {some_names(subjects)} in {have} but not in"
                f" {lack}; make both from one cohort.json (configs/patches.yaml, configs/splits.yaml)"
            )


def _check_labels(entries: Sequence[Mapping[str, Any]], patches_path: str | Path) -> None:
    ungraded = {entry["subject_id"] for entry in entries if entry["label"] is None}
    if ungraded:
        raise ValueError(
            f"grade must be known for every subject of a classifier, got none for {some_names(ungraded)} in"
            f" {patches_path}; give it in the cohort (docs/reference/data.md), or leave these subjects out with"
            " `leave_out` of configs/cohort.yaml"
        )


def _label_indices(patches: Mapping[str, Any], classes: Collection[str], patches_path: str | Path) -> set[int]:
    """Label numbers of the classes, by the list in the patches file."""
    if isinstance(classes, str):
        raise TypeError(f"classes must be a list of names, got {classes!r}; write [{classes}]")
    known = {name: int(index) for index, name in patches["labels"].items()}
    indices = dict(classes) if isinstance(classes, Mapping) else {name: known.get(name) for name in classes}
    wrong = [name for name, index in indices.items() if name not in known or known[name] != index]
    if wrong:
        raise ValueError(
            f"classes must be among those of {patches_path}, {known}, got {indices};"
            " use one `classes` for patches and training"
        )
    return {known[name] for name in indices}
