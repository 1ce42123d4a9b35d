"""The report's methods, from the records of the stages: settings, versions, seeds, threads, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from scripts.report.study_files import StudyFiles
from scripts.running.files import read_json
from scripts.running.progress import format_seconds


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


def timeline_section(files: StudyFiles) -> dict[str, Any]:
    """Add up the seconds that the stages recorded, by kind of stage, in the order in which kinds come first.

    Returns:
        `rows`: `kind`, `stages`, `total` and `longest` as words, `share` of all seconds in [0, 1]; `total` as words.
        A stage that was interrupted recorded its last run only, one that trained in turns the time of all beside it.
    """
    seconds: dict[str, list[float]] = {}
    for path in files.named("stage.json"):
        record: Mapping[str, Any] = read_json(path)
        if record.get("finished") and "seconds" in record:
            seconds.setdefault(_kind(path.parent.name), []).append(float(record["seconds"]))
    total = sum(sum(values) for values in seconds.values())
    rows = [
        {
            "kind": kind,
            "stages": len(values),
            "total": format_seconds(sum(values)),
            "longest": format_seconds(max(values)),
            "share": sum(values) / total if total else 0.0,
        }
        for kind, values in seconds.items()
    ]
    return {"rows": rows, "total": format_seconds(total)}


def _kind(folder: str) -> str:
    # "classifier_ddpm_mi" is a classifier, "synthetic_LGG_ddpm" a synthetic set.
    return folder.split("_", 1)[0]


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
