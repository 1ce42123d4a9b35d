"""The report's sections on the cohorts: their subjects, their splits, and their images beside synthetic ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.evaluation.shortcuts import find_shortcuts, graded_rows, image_markers
from scripts.evaluation.subgroups import RECORDED
from scripts.patches.image_sets import ALL, read_rows
from scripts.patches.pictures import draw_image, in_colors
from scripts.provenance.image_form import has_background, names_by_number
from scripts.provenance.study_files import StudyFiles
from scripts.splits.parts import is_split_by_image

# Part of the name of a scheduler's class -> what readers call it.
SAMPLER_NAMES = {"ddpm": "DDPM", "ddim": "DDIM", "dpmsolver": "DPM-Solver++", "unipc": "UniPC"}


def cohort_sections(files: StudyFiles) -> dict[str, Any]:
    """Describe cohorts, patches and splits.

    Returns:
        Items of the template: `cohorts` (one per cohort), `all_whole` (whether the images of all are whole ones),
        `splits` (one per cohort), `split_by_image` and `simulated` (names of cohorts).
    """
    patches = {content["name"]: content for _, content in files.lists("patches")}
    described = [_describe_cohort(cohort, patches.get(cohort["name"])) for _, cohort in files.lists("cohort")]
    known = {cohort["name"] for cohort in described}
    described += [
        _describe_cohort({**p, "subjects": [], "left_out": []}, p) for n, p in patches.items() if n not in known
    ]
    splits = [_describe_splits(files.title(path), content) for path, content in files.lists("splits")]
    with_patches = [cohort for cohort in described if cohort["num_patches"]]
    return {
        "cohorts": described,
        "all_whole": bool(with_patches) and all(cohort["is_whole"] for cohort in with_patches),
        "splits": splits,
        "split_by_image": [split["name"] for split in splits if split["by_image"]],
        "simulated": [cohort["name"] for cohort in described if cohort["simulated"]],
    }


def shortcuts_section(files: StudyFiles) -> list[dict[str, Any]]:
    """Describe each cohort that has patches: one item per cohort, what `find_shortcuts` returns.

    Args:
        files: what the stages left.
    """
    return [find_shortcuts(content, _markers(path, content)) for path, content in files.lists("patches")]


def _markers(path: Path, content: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    modalities = names_by_number(content["modality"])
    # One by one: volumes of a whole cohort need not fit into memory.
    images = ((row, read_rows(path, content, [row]).images[0].numpy()) for row in graded_rows(content))
    return {row["subject_id"]: image_markers(image, modalities, has_background(content)) for row, image in images}


def image_sections(files: StudyFiles, num_samples: int) -> dict[str, Any]:
    """Show samples beside real images.

    Returns:
        Items of the template: `modalities`, `colors` (whether they are red, green and blue), `volumes` (whether images
        have depth), `samples` (one per cohort and class, "all" where there are none; `pictures` of its strips are
        uint8).
    """
    patches = {content["name"]: (path, content) for path, content in files.lists("patches")}
    first = [content for _, content in patches.values()]
    modalities = names_by_number(first[0]["modality"]) if first else []
    return {
        "modalities": modalities,
        "colors": in_colors(modalities),
        "volumes": any(content["spatial_dims"] == 3 for content in first),
        "samples": list(_samples(files, patches, num_samples)),
    }


def _describe_cohort(cohort: Mapping[str, Any], patches: Mapping[str, Any] | None) -> dict[str, Any]:
    entries = patches["training"] if patches else []
    grades = Counter(subject.get("grade") or "without grade" for subject in cohort["subjects"])
    sites = Counter(subject.get("site") or "not stated" for subject in cohort["subjects"])
    return {
        "name": cohort["name"],
        "simulated": bool(cohort["simulated"]),
        "layout": cohort.get("layout", "–"),
        "num_subjects": len(cohort["subjects"]),
        "grades": dict(sorted(grades.items())),
        "sites": dict(sorted(sites.items())),
        "has_sites": any(subject.get("site") for subject in cohort["subjects"]),
        "facts": {
            title: _counted(subject.get(key) for subject in cohort["subjects"])
            for key, title in RECORDED.items()
            if any(subject.get(key) for subject in cohort["subjects"])
        },
        "regions": dict(sorted(Counter(str(entry.get("region")) for entry in entries).items())),
        "is_whole": bool(entries) and all(entry.get("region") is None for entry in entries),
        "num_patches": len(entries),
        "left_out": _unique([*cohort.get("left_out", []), *(patches or {}).get("left_out", [])]),
        "patch_size": (patches or {}).get("patch_size"),
        "spacing_mm": (patches or {}).get("spacing_mm"),
    }


def _counted(values: Iterable[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(value or "not stated" for value in values).items()))


def _unique(left_out: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return list({subject["subject_id"]: subject for subject in left_out}.values())


def _describe_splits(title: str, splits: Mapping[str, Any]) -> dict[str, Any]:
    sites = splits.get("held_out_sites") or [[] for _ in splits["folds"]]
    folds = [
        {"sites": held_out, **{part: len(fold[part]) for part in ("train", "inner", "validation")}}
        for fold, held_out in zip(splits["folds"], sites, strict=True)
    ]
    name = splits.get("cohort") or title
    return {
        "name": name,
        "seed": splits.get("seed", "not stated"),
        "num_test": len(splits["test"]),
        "folds": folds,
        "by_site": any(sites),
        "by_image": is_split_by_image(splits),
    }


def _samples(files: StudyFiles, patches: Mapping[str, tuple[Path, Any]], num_samples: int) -> Iterator[dict[str, Any]]:
    sets = files.lists("synthetic")
    for cohort, (patches_path, content) in patches.items():
        own = [(path, s) for path, s in sets if s["provenance"]["cohort"] == cohort]
        names: dict[int | None, str] = {int(index): name for index, name in sorted_labels(content["labels"])}
        for label, name in (names or {None: ALL}).items():
            strips = [_strip("real", patches_path, content, label, num_samples)]
            methods = list(dict.fromkeys(s["provenance"]["method"] for _, s in own))
            for method in methods:
                path_and_set = _first_with(own, method, label)
                if path_and_set:
                    strips.append(_strip(method, *path_and_set, label, num_samples))
            if len(strips) > 1:
                yield {"cohort": cohort, "class": name, "simulated": content["simulated"], "strips": strips}


def sorted_labels(labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return numbers and names of classes in the order of the numbers, by which a decathlon list gives them."""
    return sorted(labels.items(), key=lambda item: int(item[0]))


def _first_with(sets: Sequence[tuple[Path, Any]], method: str, label: int | None) -> tuple[Path, Any] | None:
    for path, content in sets:
        if content["provenance"]["method"] == method and any(e["label"] == label for e in content["training"]):
            return path, content
    return None


def _strip(method: str, path: Path, content: Mapping[str, Any], label: int | None, count: int) -> dict[str, Any]:
    # The first of the list, never a choice: a picked sample shows the person who picked.
    entries = [entry for entry in content["training"] if entry["label"] == label][:count]
    images = read_rows(path, content, entries).images.numpy()
    return {
        "method": method,
        "pictures": [draw_image(image, names_by_number(content["modality"])) for image in images],
        "fold": content.get("provenance", {}).get("fold"),
        "sampler": _sampler(content.get("provenance", {})),
    }


def _sampler(provenance: Mapping[str, Any]) -> str:
    steps = provenance.get("num_inference_steps")
    scheduler = str(provenance.get("scheduler") or "")
    name = next((name for part, name in SAMPLER_NAMES.items() if part in scheduler.lower()), scheduler)
    guided = f", guidance {scale:g}" if (scale := provenance.get("guidance_scale", 1)) != 1 else ""
    return f"{name}, {steps} steps{guided}" if steps and name else ""
