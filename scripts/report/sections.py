"""What stands in each section of the report, from the files of a study to the items of the template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from scripts.evaluation.answers import class_name
from scripts.patches.pictures import draw_curve, draw_intervals, heat_color, heat_text_color, mosaic, png_data_uri
from scripts.patches.real_images import load_images
from scripts.report import published
from scripts.report.study_files import StudyFiles, read_curves
from scripts.report.tables import MEASURE_NAMES, MEASURES, ROLE_NAMES, metric_table, ordered
from scripts.report.words import name_setup
from scripts.running.files import read_json

# Part of the name of a scheduler's class -> what readers call it.
SAMPLER_NAMES = {"ddpm": "DDPM", "ddim": "DDIM", "dpmsolver": "DPM-Solver++", "unipc": "UniPC"}


def result_sections(
    metrics: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    predictions: Sequence[Mapping[str, str]],
    setups: Sequence[str],
) -> dict[str, Any]:
    """Arrange the measures as heatmaps, as a table and as a figure with intervals.

    Args:
        metrics: what `compute_metrics` returns.
        classes: names of the classes, by label.
        predictions: what `merge_predictions` returns.
        setups: order of the setups.

    Returns:
        Items of the template.
    """
    table = metric_table(metrics)
    names = ordered((row["setup"] for row in table), setups)
    roles = ordered((row["role"] for row in table), list(ROLE_NAMES))
    table.sort(key=lambda row: (row["direction"], roles.index(row["role"]), row["cohort"], names.index(row["setup"])))
    external = [row for row in table if row["role"] == "external"]
    guess = {
        cohort: _always_largest(predictions, classes, cohort) for cohort in sorted({row["cohort"] for row in external})
    }
    return {
        "classes": list(classes),
        "setups": names,
        "measure_names": MEASURE_NAMES,
        "role_names": {role: ROLE_NAMES.get(role, role) for role in roles},
        "directions": list(dict.fromkeys((row["direction"], row["cohort"]) for row in external)),
        "heatmaps": [heatmap(external, names, measure) for measure in MEASURES],
        "results": _grouped(table, ("direction", "role", "cohort")),
        "guess": guess,
        "intervals": [interval_figure(table, measure, 1 / len(classes)) for measure in MEASURES[:2]],
        "selected_on": "validation_selected_on" in roles,
    }


def heatmap(rows: Sequence[Mapping[str, Any]], setups: Sequence[str], measure: str) -> dict[str, Any]:
    """Arrange one measure as the paper does: a row a setup, a column a direction.

    Returns:
        `name`; `rows`: setup and cells, each None or `estimate`, `color`, `text_color` and `best` in its column.
    """
    columns = list(dict.fromkeys((row["direction"], row["cohort"]) for row in rows))
    found = {(row["setup"], row["direction"], row["cohort"]): row[measure] for row in rows}
    tops = {
        column: max((found[(s, *column)]["value"] or 0.0 for s in setups if (s, *column) in found), default=0.0)
        for column in columns
    }
    lines = []
    for setup in setups:
        cells = [found.get((setup, *column)) for column in columns]
        lines.append({"setup": setup, "cells": [_cell(c, tops[k]) for c, k in zip(cells, columns, strict=True)]})
    return {"name": MEASURE_NAMES[measure], "columns": columns, "rows": lines}


def interval_figure(table: Sequence[Mapping[str, Any]], measure: str, chance: float) -> dict[str, str]:
    """Draw one measure with its intervals, one panel a direction and role."""
    rows = [
        {
            "name": name_setup(row["setup"]),
            "group": f"{row['direction']} → {row['cohort']}: {ROLE_NAMES.get(row['role'], row['role'])}",
            **row[measure],
        }
        for row in table
        if row[measure]["value"] is not None and row[measure]["low"] is not None
    ]
    return {"name": MEASURE_NAMES[measure], "svg": draw_intervals(rows, MEASURE_NAMES[measure], chance) if rows else ""}


def cohort_sections(files: StudyFiles) -> dict[str, Any]:
    """Describe cohorts, patches and splits.

    Returns:
        Items of the template: `cohorts` (one a cohort), `splits` (one a cohort), `simulated`.
    """
    cohorts = {path: read_json(path) for path in files.named("cohort.json")}
    patches = {content["name"]: content for content in map(read_json, files.named("patches.json"))}
    described = [_describe_cohort(cohort, patches.get(cohort["name"])) for cohort in cohorts.values()]
    known = {cohort["name"] for cohort in described}
    described += [
        _describe_cohort({**p, "subjects": [], "left_out": []}, p) for n, p in patches.items() if n not in known
    ]
    splits = [_describe_splits(files.title(path), read_json(path)) for path in files.named("splits.json")]
    return {"cohorts": described, "splits": splits, "simulated": [c["name"] for c in described if c["simulated"]]}


def image_sections(files: StudyFiles, num_samples: int) -> dict[str, Any]:
    """Show samples beside real images.

    Returns:
        Items of the template: `modalities`, `samples` (one a cohort and class).
    """
    patches = {content["name"]: (path, content) for path, content in _contents(files.named("patches.json"))}
    first = [content for _, content in patches.values()]
    return {
        "modalities": [first[0]["modality"][key] for key in sorted(first[0]["modality"], key=int)] if first else [],
        "samples": list(_samples(files, patches, num_samples)),
    }


def curve_figure(files: StudyFiles, num_curves: int) -> dict[str, Any]:
    """Draw the training curves of the generators and the classifiers, first folds first.

    Returns:
        `figures`: kind -> SVGs; `left_out`: number of trainings that were not drawn.
    """
    found = {f"{kind}s": sorted(files.trainings(kind), key=_not_first_fold) for kind in ("generator", "classifier")}
    chosen = {kind: paths[:num_curves] for kind, paths in found.items() if paths}
    return {
        "figures": {kind: [_draw_training(files, path) for path in paths] for kind, paths in chosen.items()},
        "left_out": sum(map(len, found.values())) - sum(map(len, chosen.values())),
    }


def _draw_training(files: StudyFiles, path: Path) -> str:
    series = read_curves(path)
    # Of a plain DDPM the loss is the noise loss; the learning rate has another unit.
    repeated = {"learning_rate"} | ({"noise_loss"} if series.get("noise_loss") == series.get("loss") else set())
    shown = {name.replace("_", " "): points for name, points in series.items() if name not in repeated}
    return draw_curve(files.title(path), shown)


def _not_first_fold(path: Path) -> bool:
    return path.parent.parent.name != "fold0"


def published_section() -> dict[str, Any]:
    """Return the paper's own figures with their source."""
    return {"source": published.SOURCE, "cohorts": published.COHORTS, "figures": published.FIGURES}


def methods_section(files: StudyFiles) -> dict[str, Any]:
    """Collect settings, versions, seeds and thread counts from the records of the stages.

    Returns:
        `versions`; `settings`: kind of stage -> what its config says; `seeds`; `num_threads`.
    """
    settings: dict[str, dict[str, Any]] = {}
    records = []
    for folder in files.folders:
        kind = folder.name.split("_")[0]
        if (folder / "config.yaml").is_file() and kind not in settings:
            settings[kind] = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        if (folder / "stage.json").is_file():
            records.append(read_json(folder / "stage.json"))
    identities = [record["identity"] for record in records]
    return {
        "versions": records[0]["versions"] if records else {},
        "seeds": sorted({identity["seed"] for identity in identities}),
        "num_threads": sorted({i["num_threads"] for i in identities if i["num_threads"] is not None}),
        "settings": {kind: _plain_settings(config) for kind, config in settings.items()},
        "num_stages": len(records),
    }


def _cell(estimate: Mapping[str, Any] | None, top: float) -> dict[str, Any] | None:
    if estimate is None:
        return None
    value = estimate["value"]
    colors = {"color": heat_color(value), "text_color": heat_text_color(value)}
    return {"estimate": estimate, **colors, "best": value is not None and value == top}


def _grouped(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in names)
        groups.setdefault(key, {**dict(zip(names, key, strict=True)), "rows": []})["rows"].append(row)
    return list(groups.values())


def _always_largest(predictions: Sequence[Mapping[str, str]], classes: Sequence[str], cohort: str) -> dict[str, Any]:
    chosen = [row for row in predictions if row["cohort"] == cohort and row["role"] == "external"]
    labels = {row["subject_id"]: class_name(row["label"], classes) for row in chosen}
    name, count = Counter(labels.values()).most_common(1)[0]
    return {"class": name, "accuracy": count / len(labels)}


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
        "regions": dict(sorted(Counter(str(entry.get("region")) for entry in entries).items())),
        "num_patches": len(entries),
        "left_out": _unique([*cohort.get("left_out", []), *(patches or {}).get("left_out", [])]),
        "patch_size": (patches or {}).get("patch_size"),
        "spacing_mm": (patches or {}).get("spacing_mm"),
    }


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
        "seed": splits["seed"],
        "num_test": len(splits["test"]),
        "folds": folds,
        "by_site": any(sites),
    }


def _contents(paths: Iterable[Path]) -> Iterator[tuple[Path, Any]]:
    return ((path, read_json(path)) for path in paths)


def _samples(files: StudyFiles, patches: Mapping[str, tuple[Path, Any]], num_samples: int) -> Iterator[dict[str, Any]]:
    sets = list(_contents(files.named("synthetic.json")))
    for cohort, (patches_path, content) in patches.items():
        own = [(path, s) for path, s in sets if s["provenance"]["cohort"] == cohort]
        for index, name in sorted(content["labels"].items(), key=lambda item: int(item[0])):
            strips = [_strip("real", patches_path, content, int(index), num_samples)]
            methods = list(dict.fromkeys(s["provenance"]["method"] for _, s in own))
            for method in methods:
                path_and_set = _first_with(own, method, int(index))
                if path_and_set:
                    strips.append(_strip(method, *path_and_set, int(index), num_samples))
            if len(strips) > 1:
                yield {"cohort": cohort, "class": name, "simulated": content["simulated"], "strips": strips}


def _first_with(sets: Sequence[tuple[Path, Any]], method: str, label: int) -> tuple[Path, Any] | None:
    for path, content in sets:
        if content["provenance"]["method"] == method and any(e["label"] == label for e in content["training"]):
            return path, content
    return None


def _strip(method: str, path: Path, content: Mapping[str, Any], label: int, count: int) -> dict[str, Any]:
    # The first of the list, never a choice: a picked sample shows the person who picked.
    entries = [entry for entry in content["training"] if entry["label"] == label][:count]
    images = load_images(path, content, entries).numpy()
    return {
        "method": method,
        "images": [png_data_uri(mosaic(image)) for image in images],
        "fold": content.get("provenance", {}).get("fold"),
        "sampler": _sampler(content.get("provenance", {})),
    }


def _sampler(provenance: Mapping[str, Any]) -> str:
    steps = provenance.get("num_inference_steps")
    scheduler = str(provenance.get("scheduler") or "")
    name = next((name for part, name in SAMPLER_NAMES.items() if part in scheduler.lower()), scheduler)
    guided = f", guidance {scale:g}" if (scale := provenance.get("guidance_scale", 1)) != 1 else ""
    return f"{name}, {steps} steps{guided}" if steps and name else ""


def _plain_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what a person sets: top-level numbers, words and short lists, without places and expressions."""
    plain = {}
    for key, value in config.items():
        place = key.endswith(("_dir", "_path", "_paths", "_root"))
        expression = isinstance(value, str) and value.startswith(("$", "@", "%"))
        short = isinstance(value, (bool, int, float, str)) or isinstance(value, list) and len(value) <= 8
        if short and not place and not expression and key not in ("imports", "initialize", "run", "finalize"):
            plain[key] = value
    return plain
