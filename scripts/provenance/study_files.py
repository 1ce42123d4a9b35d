"""Which files the stages of a study left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from scripts.provenance.declared import is_declared, unknown_methods
from scripts.provenance.leakage import seen_subjects
from scripts.running.errors import some_names
from scripts.running.files import RECORD, read_json
from scripts.splits.lists import read_list

RESULT_FILES = (
    "cohort.json",
    "patches.json",
    "splits.json",
    "synthetic.json",
    "audit.json",
    "suspicious_pairs.png",
    "measures.json",
    "metrics.json",
    "provenance.json",
    "predictions.csv",
    "inner_predictions.csv",
    "explanations.json",
    "reader_results.json",
)
# Where a stage that was run alone belongs, as far as its settings say it: name of the place -> setting.
SETTINGS_OF_PLACE = {"fold": "fold", "setup": "setup", "method": "method", "class_name": "generator_class"}


@dataclass(frozen=True)
class StageRecord:
    """What a stage recorded of its run.

    Args:
        name: its folder below the study's, such as "site_a/fold0/generator_LGG_ddpm".
        content: of its `stage.json`.
    """

    name: str
    content: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What the stage makes, such as "generator".

        Raises:
            ValueError: if the record does not say it.
        """
        kind = self.content.get("kind")
        if not kind:
            raise ValueError(
                f"kind must be what the stage makes, got {kind!r} in {self.name}/{RECORD}; an earlier version made"
                " it: run its study again with --keep_old_code True, or with --overwrite True"
            )
        return str(kind)

    @property
    def place(self) -> dict[str, Any]:
        """Cohort, fold, setup, classifier, method and class_name, as the study names them, of those the stage has."""
        settings = {name: self.settings.get(key) for name, key in SETTINGS_OF_PLACE.items()}
        place = {**settings, **self.content.get("belongs_to", {})}
        return {name: value for name, value in place.items() if value is not None}

    @property
    def cohort(self) -> str | None:
        """Cohort of the study that the stage is about; None of a stage that stands alone."""
        return self.place.get("cohort")

    @property
    def fold(self) -> int | None:
        """Number of the fold; None of a stage that is of no fold."""
        return self.place.get("fold")

    @property
    def settings(self) -> dict[str, Any]:
        """What the config said, as far as the stage read it."""
        return dict(self.content["identity"]["settings"])

    @property
    def title(self) -> str:
        """Name of the stage for a reader: "site_a, fold 0, generator LGG ddpm_mi"."""
        place = self.place
        fold = [f"fold {place['fold']}"] if "fold" in place else []
        names = [place[name] for name in ("class_name", "method", "setup") if name in place]
        cohort = [place["cohort"]] if "cohort" in place else []
        return ", ".join([*cohort, *fold, " ".join([self.kind, *names])])

    def is_of(self, kind: str, **place: Any) -> bool:
        """Tell whether the stage is of this kind and place."""
        return self.kind == kind and all(self.place.get(name) == value for name, value in place.items())


@dataclass(frozen=True)
class StudyFiles:
    """What the stages of a study left for the report.

    Args:
        study_dir: folder of the study.
        stage_names: folders below it, in the order in which they are reported; None takes every folder with a
            `stage.json` but reports, sorted.
    """

    study_dir: str
    stage_names: Sequence[str] | None = None

    @cached_property
    def folders(self) -> list[Path]:
        """Folders of the stages."""
        root = Path(self.study_dir)
        if self.stage_names is not None:
            return [root / name for name in self.stage_names]
        folders = sorted(path.parent for path in root.rglob(RECORD))
        return [folder for folder in folders if self._record(folder).kind != "report"]

    def named(self, name: str, kind: str | None = None) -> list[Path]:
        """List the files of this name, of the stages of a kind or of all, in the order of the stages."""
        folders = self.folders if kind is None else self.folders_of(kind)
        return [folder / name for folder in folders if (folder / name).is_file()]

    def lists(self, kind: str) -> list[tuple[Path, dict[str, Any]]]:
        """Read the lists of a kind, a key of `scripts.splits.lists.SCHEMAS`, each with its path.

        Raises:
            ValueError: naming file, key and value of what a list must not hold, or must.
            LeakageError: naming a synthetic set without provenance.
        """
        contents = [(path, read_list(path, kind)) for path in self.named(f"{kind}.json")]
        if kind == "synthetic":
            for path, content in contents:
                seen_subjects(content.get("provenance"), str(path))
        return contents

    def folders_of(self, kind: str, **place: Any) -> list[Path]:
        """List the folders of the stages of a kind and place, such as `fold=0`."""
        return [folder for folder, record in self.records.items() if record.is_of(kind, **place)]

    def configs(self, kind: str, **place: Any) -> list[dict[str, Any]]:
        """Read the merged configs that the stages of a kind and place were made by."""
        paths = [folder / "config.yaml" for folder in self.folders_of(kind, **place)]
        return [yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]

    @cached_property
    def cohort_names(self) -> dict[str, str]:
        """Map each cohort, as the study names it, to its name in lists and predictions."""
        names = {
            self.records[path.parent].cohort: content["name"]
            for path, content in self.lists("patches")
            if path.parent in self.records
        }
        return {cohort: name for cohort, name in names.items() if cohort is not None}

    def finished(self, kind: str, **place: Any) -> list[StageRecord]:
        """List the records of the finished stages of a kind and place."""
        records = [record for record in self.records.values() if record.is_of(kind, **place)]
        return [record for record in records if record.content.get("finished")]

    @cached_property
    def records(self) -> dict[Path, StageRecord]:
        """Map the folders of the stages to their records, where they have one."""
        return {folder: self._record(folder) for folder in self.folders if (folder / RECORD).is_file()}

    def identities(self, name: str = "") -> dict[str, dict[str, Any]]:
        """Map the stages, or those that left a file of this name, to the identity in their `stage.json`."""
        records = {record.name: record for folder, record in self.records.items() if (folder / name).exists()}
        return {name: record.content["identity"] for name, record in records.items()}

    @cached_property
    def control_methods(self) -> set[str]:
        """Methods of the sets that control generators drew."""
        return {provenance["method"] for provenance in self._provenances if provenance.get("control")}

    @cached_property
    def declared_methods(self) -> dict[str, str]:
        """Methods of imported sets -> what somebody declared that their generators were trained on."""
        declared = [provenance for provenance in self._provenances if is_declared(provenance)]
        return {provenance["method"]: provenance["trained_on"] for provenance in declared}

    @cached_property
    def setups_of_unknown(self) -> list[str]:
        """Setups that train on images of which nobody can tell what their generators saw: leakage is not excluded."""
        unknown = unknown_methods(self._provenances)
        trainings = [record.settings for record in self.records.values() if record.kind == "classifier"]
        return sorted({settings["setup"] for settings in trainings if settings.get("synthetic_method") in unknown})

    @cached_property
    def _provenances(self) -> list[dict[str, Any]]:
        return [content["provenance"] for _, content in self.lists("synthetic")]

    def inputs(self) -> list[str]:
        """List every file that the report reads, for the record of the stage."""
        return [str(path) for name in (*RESULT_FILES, "config.yaml") for path in self.named(name)]

    def title(self, path: Path) -> str:
        """Name a file's stage for a reader; without a record, by its folder."""
        record = self.records.get(path.parent)
        return record.title if record else path.parent.relative_to(self.study_dir).as_posix()

    def trainings(self, kind: str) -> list[Path]:
        """List the training curves of the stages of a kind, "generator" or "classifier"."""
        return self.named("metrics.json", kind)

    def _record(self, folder: Path) -> StageRecord:
        return StageRecord(folder.relative_to(self.study_dir).as_posix(), read_json(folder / RECORD))


@dataclass(frozen=True)
class SeedStudies:
    """Studies that differ from the reported one in their seed only.

    Args:
        study_dirs: their folders.
    """

    study_dirs: Sequence[str] = ()

    def predictions(self) -> dict[str, list[Path]]:
        """Map the folder of each study to its `predictions.csv` files.

        Raises:
            FileNotFoundError: if a folder holds none.
        """
        predictions = {str(folder): StudyFiles(str(folder)).named("predictions.csv") for folder in self.study_dirs}
        for folder, paths in predictions.items():
            if not paths:
                raise FileNotFoundError(
                    f"other_seed_dirs must hold studies with predictions.csv, got none in {folder}; run"
                    " configs/study.yaml with another seed and this study_dir"
                )
        return predictions

    def require_seeds_of(self, study: StudyFiles) -> None:
        """Refuse folders that do not hold the reported study with a seed of their own each.

        Args:
            study: the reported study.

        Raises:
            ValueError: if two folders are one, two evaluations have one seed, or stages of one name differ in another
                setting than `seed`.
        """
        studies = [study, *(StudyFiles(str(folder)) for folder in self.study_dirs)] if self.study_dirs else []
        places = [Path(one.study_dir).resolve() for one in studies]
        twice = [one.study_dir for one, place in zip(studies, places, strict=True) if places.count(place) > 1]
        if twice:
            raise ValueError(
                f"other_seed_dirs must be other folders than the study's and than each other, got {twice[-1]} twice;"
                " give each study once"
            )
        folders: dict[int, str] = {}
        for one in studies:
            for seed in {identity["seed"] for identity in one.identities("predictions.csv").values()}:
                if folders.setdefault(seed, one.study_dir) != one.study_dir:
                    raise ValueError(
                        f"other_seed_dirs must be of other seeds, got seed {seed} in {folders[seed]} and"
                        f" {one.study_dir}; run configs/study.yaml again with another --seed"
                    )
        for other in studies[1:]:
            _refuse_other_settings(study, other)

    def inputs(self) -> list[str]:
        """List every file that the report reads of them."""
        return [str(path) for paths in self.predictions().values() for path in paths]


def _refuse_other_settings(study: StudyFiles, other: StudyFiles) -> None:
    own, others = study.identities(), other.identities()
    for name in (name for name in own if name in others):
        before, after = own[name]["settings"], others[name]["settings"]
        keys = [key for key in sorted({*before, *after} - {"seed"}) if before.get(key) != after.get(key)]
        if keys:
            raise ValueError(
                f"other_seed_dirs must hold studies of the same settings, got other {some_names(keys)} in {name} of"
                f" {study.study_dir} and {other.study_dir}; give studies that differ in `seed` only"
            )
