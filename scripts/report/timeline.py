"""The report's table of where the time of a study went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.report.study_files import StudyFiles
from scripts.running.files import read_json

UNITS = (("h", 3600), ("min", 60), ("s", 1))


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


def format_seconds(seconds: float) -> str:
    """Say a time in the two largest units that it fills.

    >>> format_seconds(3725), format_seconds(75.2), format_seconds(0.31)
    ('1 h 2 min', '1 min 15 s', '0.3 s')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    left, words = round(seconds), []
    for unit, size in UNITS:
        if left >= size:
            words.append(f"{left // size} {unit}")
            left %= size
    return " ".join(words[:2])


def _kind(folder: str) -> str:
    # "classifier_ddpm_mi" is a classifier, "synthetic_LGG_ddpm" a synthetic set.
    return folder.split("_", 1)[0]
