"""The report's methods, from the records of the stages: settings side by side, versions, and where the time went."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.provenance.study_files import StageRecord, StudyFiles
from scripts.report.words import SETUP_NAMES, name_method, name_setup
from scripts.running.progress import format_seconds
from scripts.running.setups import setup_of

FIRST = ("mi_weight", "denoise_weight")  # settings that lead: the study is about the regularizer
NAMES = ("setup", "method", "generator_class", "fold")  # keys that name a stage and change nothing else
ENTRY_POINTS = ("imports", "initialize", "run", "finalize")
MISSING = "–"
# Setting and the value of it under which others decide nothing.
IDLE = {
    ("cut", "whole"): ("region_chain", "min_et_ml", "slice", "min_tumor_voxels", "box_margin", "mask_codes"),
    ("intensity_mode", "fixed"): ("intensity_percentiles", "zscore_limit"),
    ("max_brain_ml", None): ("max_brain_ml", "min_background"),
    ("patch_spacing_mm", None): (
        "patch_spacing_mm",
        "bias_correction",
        "bias_shrink_factor",
        "registration",
        "registration_reference",
    ),
}


@dataclass(frozen=True)
class KindSettings:
    """Settings of the stages of one kind.

    Args:
        variants: names of the variants; the others are compared with the first.
        differences: setting -> its value in each variant, in words; `MISSING` where a variant does not read it.
        common: setting -> value in words, of what somebody sets and is the same in all variants.
    """

    variants: Sequence[str]
    differences: Mapping[str, Sequence[str]]
    common: Mapping[str, str]

    def value(self, name: str) -> str:
        """Return the value of a setting in words, where variants differ each of them; empty for an unknown setting."""
        values = [self.common[name]] if name in self.common else self.differences.get(name, [])
        return " or ".join(dict.fromkeys(value for value in values if value != MISSING))


def methods_section(files: StudyFiles) -> dict[str, Any]:
    """Collect settings, versions, seeds and thread counts from the records of the stages.

    Returns:
        `versions`: package -> its versions over all stages; `settings`: what `settings_by_kind` returns; `seeds`
        of cohorts (`cohort_seeds`) and of all other stages,
        `num_threads`, `num_stages`, `kept_old_code`, the stages that were kept although their code had changed, and
        `classifiers`, the names of those with each of which every setup was trained; none of a study with one.
    """
    records = list(files.records.values())
    identities = [record.content["identity"] for record in records]
    return {
        "versions": package_versions([record.content["versions"] for record in records]),
        "seeds": sorted({record.content["identity"]["seed"] for record in records if record.kind != "cohort"}),
        "cohort_seeds": sorted({record.content["identity"]["seed"] for record in records if record.kind == "cohort"}),
        "num_threads": sorted({i["num_threads"] for i in identities if i["num_threads"] is not None}),
        "settings": settings_by_kind(records),
        "num_stages": len(records),
        "classifiers": sorted({record.place["classifier"] for record in records if "classifier" in record.place}),
        "kept_old_code": [record.name for record in records if record.content.get("kept_old_code")],
    }


def package_versions(recorded: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Collect the versions of each package over some stages, in the order in which they come first.

    >>> package_versions([{"torch": "2.9.0"}, {"torch": "2.13.0"}, {"torch": "2.9.0"}])
    {'torch': ['2.9.0', '2.13.0']}
    """
    names = dict.fromkeys(name for versions in recorded for name in versions)
    return {name: list(dict.fromkeys(v[name] for v in recorded if name in v)) for name in names}


def settings_by_kind(records: Sequence[StageRecord]) -> dict[str, KindSettings]:
    """Compare the settings of the stages of each kind.

    Args:
        records: of all stages of a study.

    Returns:
        Kind -> its settings, in the order of the records. Stages that differ in nothing but cohort, fold, class and
        name are one variant. Settings are those that a stage has read, not what a recipe holds besides.
    """
    kinds: dict[str, list[StageRecord]] = {}
    for record in records:
        kinds.setdefault(record.kind, []).append(record)
    return {kind: compare_settings(members) for kind, members in kinds.items()}


def compare_settings(records: Sequence[StageRecord]) -> KindSettings:
    """Compare the settings of stages of one kind, at every depth of their configs; arguments as `settings_by_kind`."""
    variants: dict[str, list[StageRecord]] = {}
    settings: list[dict[str, Any]] = []
    for record in sorted(records, key=_rank):
        idle = idle_settings(record.settings)
        leaves = {name: value for name, value in _leaves(record.settings) if name not in (*NAMES, *idle)}
        key = json.dumps(leaves, sort_keys=True)
        if key not in variants:
            settings.append(leaves)
        variants.setdefault(key, []).append(record)
    names = dict.fromkeys(name for leaves in settings for name in leaves)
    rows = {name: [_value(leaves, name) for leaves in settings] for name in _leading(names)}
    differing = {name: values for name, values in rows.items() if any(value != values[0] for value in values)}
    return KindSettings(
        _name_variants(list(variants.values())),
        {
            name: [MISSING if value is ... else describe(value) for value in values]
            for name, values in differing.items()
            if not all(value is ... or _is_reference(value) for value in values)
        },
        {
            name: describe(values[0])
            for name, values in rows.items()
            if name not in differing and _is_plain(name, values[0])
        },
    )


def idle_settings(settings: Mapping[str, Any]) -> list[str]:
    """Name the settings of a stage that decide nothing under others: how a lesion is cut, where images are whole.

    >>> idle_settings({"intensity_mode": "fixed", "intensity_percentiles": [0.5, 99.5]})
    ['intensity_percentiles', 'zscore_limit']
    """
    return [name for (key, value), names in IDLE.items() if settings.get(key, ...) == value for name in names]


def describe(value: Any) -> str:
    """Write a setting as its config does; of a component the name of its class.

    >>> describe([0.5, None]), describe({"_target_": "torch.nn.SmoothL1Loss"}), describe(True)
    ('0.5, null', 'SmoothL1Loss', 'true')
    """
    if isinstance(value, Mapping):
        items = ", ".join(f"{key} {describe(item)}" for key, item in value.items())
        return _class_name(value["_target_"]) if "_target_" in value else items or "none"
    if isinstance(value, list):
        return ", ".join(map(describe, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def timeline_section(files: StudyFiles) -> dict[str, Any]:
    """Add up the seconds that the stages recorded, by kind of stage, in the order in which kinds come first.

    Returns:
        `rows`: `kind`, `stages`, `total` and `longest` as words, `share` of all seconds in [0, 1]; `total` as words.
        A stage that was interrupted recorded its last run only, one that trained in turns the time of all beside it.
    """
    seconds: dict[str, list[float]] = {}
    for record in files.records.values():
        if record.content.get("finished") and "seconds" in record.content:
            seconds.setdefault(record.kind, []).append(float(record.content["seconds"]))
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


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the ids of everything in a config that is no mapping, such as "train#loss_function#mi_weight"."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}#")
        else:
            yield f"{prefix}{key}", _class_name(value) if key == "_target_" else value


def _value(leaves: Mapping[str, Any], name: str) -> Any:
    """Return the value of an id, also where its parent is a reference to another item; `...` for none."""
    parent, _, last = name.rpartition("#")
    if name not in leaves and _is_reference(leaves.get(parent)):
        return leaves.get(f"{leaves[parent][1:]}#{last}", ...)
    return leaves.get(name, ...)


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("@", "%"))


def _is_plain(name: str, value: Any) -> bool:
    """Tell whether somebody sets it: numbers, words and short lists at the top level, no expressions."""
    if "#" in name or name in ENTRY_POINTS:
        return False
    if isinstance(value, list):
        return len(value) <= 8 and not any(isinstance(item, (list, Mapping)) for item in value)
    return not (isinstance(value, str) and value.startswith(("$", "@", "%")))


def _leading(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def _class_name(target: str) -> str:
    return str(target).rsplit(".", 1)[-1]


def _name_variants(variants: Sequence[Sequence[StageRecord]]) -> list[str]:
    """Name each variant by the names that only its stages have, else by its first stage."""
    called = [[dict.fromkeys(words) for words in zip(*map(_called, records), strict=True)] for records in variants]
    telling = [
        words
        for words in zip(*called, strict=True)
        if "" not in set().union(*words) and sum(map(len, words)) == len(set().union(*words))
    ]
    names = [", ".join(" and ".join(words[index]) for words in telling) for index in range(len(variants))]
    return [name or records[0].name for name, records in zip(names, variants, strict=True)]


def _rank(record: StageRecord) -> int:
    """Place of a stage's setup or method among the known ones, plain ones first."""
    names = list(SETUP_NAMES)
    own = setup_of(record.place.get("setup") or record.place.get("method") or "")
    return names.index(own) if own in names else len(names)


def _called(record: StageRecord) -> tuple[str, ...]:
    place = record.place
    return (
        place.get("cohort", ""),
        name_setup(place["setup"]) if "setup" in place else "",
        name_method(place["method"]) if "method" in place else "",
        place.get("class_name", ""),
        f"fold {place['fold']}" if "fold" in place else "",
    )
