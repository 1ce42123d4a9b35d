"""The memorization audit in the report: a line per cohort, class and method, all folds together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from scripts.memorization.audit import JUDGED
from scripts.memorization.statistics import pool_gaps
from scripts.memorization.verdict import MEMORIZES, UNUSABLE, VERDICTS
from scripts.patches.pictures import data_uri
from scripts.report.study_files import StudyFiles
from scripts.running.files import read_json
from scripts.statistics.intervals import mean_of_known

Result = Mapping[str, Any]
GRAVE = (MEMORIZES, UNUSABLE)


def audit_section(files: StudyFiles, num_pictures: int = 4) -> dict[str, Any]:
    """Arrange what the audits left.

    Args:
        files: what the stages left.
        num_pictures: pictures of suspicious pairs shown at most, those with most copies first.

    Returns:
        `rows`: what `pool` returns, with `cohort`, `class` and `method`; `evidence`: title -> sentences of every audit;
        `pictures`: `title` and `src`; `copy_ratio`: the threshold, or None without audits.
    """
    audits = [(path, read_json(path)) for path in files.named("audit.json")]
    pooled: dict[tuple[str, str, str], list[Result]] = {}
    parts: dict[tuple[str, str, str], set[str | None]] = {}
    evidence = {}
    for path, content in audits:
        for name, result in content["classes"].items():
            key = (content["cohort"], name, content["method"])
            pooled.setdefault(key, []).append(result)
            parts.setdefault(key, set()).add(content.get("held_out_part"))
            title = files.title(path) + (f", {name}" if len(content["classes"]) > 1 else "")
            evidence[title] = {"verdict": result["verdict"], "sentences": result["evidence"]}
    copies = {path.parent: sum(r["copies"]["number"] for r in c["classes"].values()) for path, c in audits}
    pictures = sorted(files.named("suspicious_pairs.png"), key=lambda path: -copies.get(path.parent, 0))
    return {
        "rows": [
            {**dict(zip(("cohort", "class", "method"), key, strict=True)), **pool(results, parts[key] == {"test"})}
            for key, results in sorted(pooled.items())
        ],
        "evidence": evidence,
        "pictures": [
            {"title": files.title(path), "src": data_uri(path.read_bytes())} for path in pictures[:num_pictures]
        ],
        "copy_ratio": audits[0][1]["thresholds"]["copy_ratio"] if audits else None,
    }


def pool(results: Sequence[Result], same_held_out: bool = False) -> dict[str, Any]:
    """Put the audits of the folds of one cohort, class and method together.

    The gap is the mean over folds, with limits by `pool_gaps`. The verdict is the gravest; a fold that memorizes is not
    outvoted.

    Args:
        results: item of `classes` of each `audit.json`.
        same_held_out: whether all folds are compared with the same held-out images: they are then counted once.

    Returns:
        `synthetic`, `held_out` (mean, sd, n, max of max-Pearson), `gap` (mean, low, high), `copies`, `num_synthetic`,
        `auth_pct` and `held_out_auth_pct` (mean over folds), `c_t` (lowest and highest), `verdict`, `verdicts`, and
        `is_grave`: images that must not be used as they are.
    """
    pearson = [result["measures"]["pearson"] for result in results]
    l2, judged = ([result["measures"][name] for result in results] for name in ("l2", JUDGED))
    scores = _present(measure["c_t"] for measure in l2)
    verdicts = Counter(result["verdict"] for result in results)
    return {
        "synthetic": _spread(measure["synthetic_to_training"] for measure in pearson),
        "held_out": _spread((measure["held_out_to_training"] for measure in pearson), same_held_out),
        "gap": pool_gaps(_present(measure["train_minus_held_out"] for measure in judged), same_held_out),
        "copies": sum(result["copies"]["number"] for result in results),
        "num_synthetic": sum(result["num_synthetic"] for result in results),
        "auth_pct": mean_of_known(measure["auth_pct"] for measure in l2),
        "held_out_auth_pct": mean_of_known(measure["held_out_auth_pct"] for measure in l2),
        "c_t": (min(scores), max(scores)) if scores else None,
        "verdict": min(verdicts, key=VERDICTS.index),
        "is_grave": any(name in GRAVE for name in verdicts),
        "verdicts": {name: verdicts[name] for name in VERDICTS if name in verdicts},
    }


def _spread(summaries: Iterable[Mapping[str, Any] | None], same_images: bool = False) -> dict[str, Any] | None:
    present = _present(summaries)
    values = [value for summary in present for value in summary["values"]]
    if not values:
        return None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    count = max(len(summary["values"]) for summary in present) if same_images else len(values)
    return {"n": count, "mean": float(np.mean(values)), "sd": sd, "max": float(np.max(values))}


def _present(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value is not None]
