"""The memorization audit in the report: a line per cohort, class and method, all folds together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.memorization.audit import JUDGED
from scripts.memorization.parts import CENTER, LESION
from scripts.memorization.statistics import pool_gaps
from scripts.memorization.verdict import COLLAPSED, KNOWS_HELD_OUT, MEMORIZES, NO_SIGN, UNUSABLE, VERDICTS
from scripts.patches.pictures import data_uri
from scripts.provenance.study_files import StudyFiles
from scripts.report.words import DECLARED_NAMES
from scripts.running.files import read_json
from scripts.statistics.intervals import mean_of_known

Result = Mapping[str, Any]
GRAVE = (KNOWS_HELD_OUT, MEMORIZES, UNUSABLE, COLLAPSED)


@dataclass(frozen=True)
class Audit:
    """An audit as its stage left it.

    Args:
        title: for a reader.
        content: of `audit.json`.
        picture: of its most suspicious pairs; None if there is none.
    """

    title: str
    content: Mapping[str, Any]
    picture: Path | None = None

    @property
    def num_copies(self) -> int:
        """Copies found, of all classes."""
        return sum(result["copies"]["number"] for result in self.content["classes"].values())


def audit_section(files: StudyFiles, num_pictures: int = 4) -> dict[str, Any]:
    """Arrange what the audits left.

    Args:
        files: what the stages left.
        num_pictures: pictures of suspicious pairs shown at most, those with most copies first.

    Returns:
        `rows`: what `pool` returns, with `cohort`, `class`, `method` and `declared` (what the generator of an imported
        set is said to be trained on, or None); `evidence`: title -> sentences of every audit;
        `pictures`: `title` and `src`; `copy_ratio`: those used, or None without audits;
        `center`: what the middle of the images shows; `has_membership`: whether a generator's own loss was looked at.
    """
    pictures = {path.parent: path for path in files.named("suspicious_pairs.png")}
    audits = [
        Audit(files.title(path), read_json(path), pictures.get(path.parent)) for path in files.named("audit.json")
    ]
    return arrange_audits(audits, num_pictures)


def arrange_audits(audits: Sequence[Audit], num_pictures: int) -> dict[str, Any]:
    """Arrange audits, of a study or a single one, for the template `audit.html.j2`; see `audit_section`."""
    pooled: dict[tuple[str, str, str], list[Result]] = {}
    parts: dict[tuple[str, str, str], set[str | None]] = {}
    evidence = {}
    for audit in audits:
        content = audit.content
        for name, result in content["classes"].items():
            key = (content["cohort"], name, content["method"])
            pooled.setdefault(key, []).append(result)
            parts.setdefault(key, set()).add(content.get("held_out_part"))
            title = audit.title + (f", {name}" if len(content["classes"]) > 1 else "")
            evidence[title] = {"verdict": result["verdict"], "sentences": result["evidence"]}
    declared = {audit.content["method"]: audit.content.get("trained_on") for audit in audits}
    shown = sorted((audit for audit in audits if audit.picture is not None), key=lambda audit: -audit.num_copies)
    return {
        "has_membership": any(result.get("membership") for results in pooled.values() for result in results),
        "rows": [
            {
                **dict(zip(("cohort", "class", "method"), key, strict=True)),
                "declared": DECLARED_NAMES.get(str(declared[key[2]]), declared[key[2]]),
                **pool(results, parts[key] == {"test"}),
            }
            for key, results in sorted(pooled.items())
        ],
        "evidence": evidence,
        "pictures": [
            {"title": audit.title, "src": data_uri(audit.picture.read_bytes())}
            for audit in shown[:num_pictures]
            if audit.picture is not None
        ],
        "copy_ratio": _ratios_used(audits),
        "center": CENTER if any(_has_no_lesion(audit.content) for audit in audits) else LESION,
    }


def _has_no_lesion(content: Mapping[str, Any]) -> bool:
    return "folders" in content or content.get("center") == CENTER


def _ratios_used(audits: Sequence[Audit]) -> str | None:
    """Say below which ratios images counted as copies: the threshold, lowered where real images come nearer."""
    results = [result for audit in audits for result in audit.content["classes"].values()]
    used = sorted({f"{result['copies']['below']:.2g}" for result in results})
    return None if not used else used[0] if len(used) == 1 else f"{used[0]} to {used[-1]}"


def folder_sections(output_dir: str | Path) -> dict[str, Any]:
    """Arrange the audit of two folders for its own page.

    Args:
        output_dir: holds the `audit.json` that `scripts.memorization.folders.audit_folders` wrote.

    Returns:
        Items of `audit_page.html.j2`: `title`, `verdict`, `is_grave`, `sentences`, `folders`, `limits`, `value_range`,
        `max_shift` and `audit`.
    """
    folder = Path(output_dir)
    content = read_json(folder / "audit.json")
    (result,) = content["classes"].values()
    title = f"{content['method']} beside {content['cohort']}"
    audit = arrange_audits([Audit(title, content, folder / "suspicious_pairs.png")], 1)
    copied = ("folders", "limits", "value_range", "max_shift")
    return {
        "title": title,
        "verdict": result["verdict"],
        "is_grave": result["verdict"] != NO_SIGN,
        "sentences": result["evidence"],
        **{key: content[key] for key in copied},
        "audit": audit,
    }


def pool(results: Sequence[Result], same_held_out: bool = False) -> dict[str, Any]:
    """Put the audits of the folds of one cohort, class and method together.

    The gap is the mean over folds, with limits by `pool_gaps`. The verdict is the gravest; a fold that memorizes is not
    outvoted.

    Args:
        results: item of `classes` of each `audit.json`.
        same_held_out: whether all folds are compared with the same held-out images: they are then counted once.

    Returns:
        `synthetic`, `held_out` (mean, sd, n, max of max-Pearson), `gap` (mean, low, high), `share` of images nearest to
        training subjects (`value` and `chance`, means over folds), `copies`, `num_synthetic`,
        `membership`, the AUC by the generator's own loss (mean over folds, lowest and highest; None without weights),
        `auth_pct` and `held_out_auth_pct` (mean over folds), `c_t` (lowest and highest), `verdict`, `verdicts`, and
        `is_grave`: images that must not be used as they are.
    """
    pearson = [result["measures"]["pearson"] for result in results]
    judged = [result["measures"][JUDGED] for result in results]
    scores = _present(measure["c_t"] for measure in judged)
    shares = _present(_whole_share(result) for result in results)
    areas = [result["membership"]["auc"]["value"] for result in results if result.get("membership")]
    verdicts = Counter(result["verdict"] for result in results)
    return {
        "synthetic": _spread(measure["synthetic_to_training"] for measure in pearson),
        "held_out": _spread((measure["held_out_to_training"] for measure in pearson), same_held_out),
        "gap": pool_gaps(_present(measure["train_minus_held_out"] for measure in judged), same_held_out),
        "copies": sum(result["copies"]["number"] for result in results),
        "num_synthetic": sum(result["num_synthetic"] for result in results),
        "auth_pct": mean_of_known(measure["auth_pct"] for measure in judged),
        "held_out_auth_pct": mean_of_known(measure["held_out_auth_pct"] for measure in judged),
        "share": {key: float(np.mean([one[key] for one in shares])) for key in ("value", "chance")} if shares else None,
        "membership": {"mean": float(np.mean(areas)), "low": min(areas), "high": max(areas)} if areas else None,
        "c_t": (min(scores), max(scores)) if scores else None,
        "verdict": min(verdicts, key=VERDICTS.index),
        "is_grave": any(name in GRAVE for name in verdicts),
        "verdicts": {name: verdicts[name] for name in VERDICTS if name in verdicts},
    }


def _whole_share(result: Result) -> Mapping[str, float] | None:
    """Share of the whole images, the first of all parts."""
    shares: Mapping[str, Mapping[str, float]] = result["shares"]
    return next(iter(shares.values()), None)


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
