"""The study: the graph of stages for two or more cohorts, run in order, each stage once."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from scripts.evaluation.ensembles import check_ensemble
from scripts.running.configs import Invocation
from scripts.running.errors import some_names
from scripts.running.folders import read_record
from scripts.running.overrides import Source, check_overrides, is_part, known_keys, load_file
from scripts.running.process import consoles_silenced, logged_to
from scripts.running.progress import StudyProgress
from scripts.running.stages import AlreadyFinished, current_invocation, invoked, run_invocation
from scripts.running.status import PlannedInvocation, StudyStatus, compare
from scripts.running.turns import run_in_turns
from scripts.running.workers import run_on_workers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedStage:
    """A stage of the graph.

    Args:
        name: its folder below the study's, such as "site_a/fold0/classifier_real".
        config: config file without folder and ending.
        overlays: config files that make this variant, likewise.
        overrides: ids and values, as on the command line.
        needs: names of the stages whose outputs it reads.
    """

    name: str
    config: str
    overlays: tuple[str, ...]
    overrides: Mapping[str, Any]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setup:
    """How the classifiers of a setup train.

    Args:
        method: of the generators whose synthetic images are added; None adds none.
        ratio: synthetic images of each class, relative to its real ones; None is the study's `synthetic_ratio`.
        train_on_real: False trains on synthetic images alone.
        labels: of the synthetic images, "own" or "shuffled".
        overlays: config files laid over `train_classifier`, without folder `configs` and ending.
    """

    method: str | None = None
    ratio: float | None = None
    train_on_real: bool | None = None
    labels: str | None = None
    overlays: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any] | None) -> Setup:
        """Read the setup of a config; an empty one, or null, trains on real images as `train_classifier` says.

        Raises:
            ValueError: naming a key that is none of a setup.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(settings or {}, Mapping):
            raise ValueError(f"setups.{name} must be a mapping such as {{method: ddpm}}, got {settings!r}")
        unknown = [key for key in settings or {} if key not in known]
        if unknown:
            raise ValueError(f"setups.{name} must have keys of {', '.join(known)}, got {', '.join(map(str, unknown))}")
        values = dict(settings or {})
        return cls(**{**values, "overlays": tuple(values.get("overlays", ()))})

    def overrides(self) -> dict[str, Any]:
        """Return the overrides of `train_classifier`; what the setup leaves open is not among them."""
        values = {
            "synthetic_ratio": self.ratio,
            "train_on_real": self.train_on_real,
            "synthetic_labels": self.labels,
        }
        return {"synthetic_method": self.method, **{key: value for key, value in values.items() if value is not None}}


class Study:
    """Plan and run all stages of a study; a finished stage with the same key is passed over.

    Args:
        study_dir: folder of all outputs.
        cohorts: cohort name -> {"config": "phantom" or "cohort", and overrides of that config}.
        setups: setup name -> fields of `Setup`.
        methods: method name -> list of overlays of `train_generator` ([] for plain DDPM).
        classes: names of the classes; a synthetic set is made for each.
        num_folds: folds of every cohort.
        condition: "label" trains one generator for all classes, told which to draw; None one for each class.
        config_dir: folder of the config files.
        num_workers: worker processes; 1 runs one stage after the other in this one. The numbers do not depend on it.
        scheduler_address: of a running dask scheduler whose workers do the work instead; see
            `scripts.running.workers.run_on_workers`.
        explained_setups: setups of whose evaluations some cases are explained.
        overwrite: make stages of other settings or code in the folder anew, with all that depends on them, instead of
            refusing the folder.
        keep_old_code: keep finished stages that differ in their code only, and write that down.
        dry_run: only list the stages: which are finished, which would run, why, and about how long.
        folds_together: classifiers of one cohort and setup that a worker trains in turns, a step each. The numbers do
            not depend on it.
    """

    def __init__(
        self,
        study_dir: str,
        cohorts: Mapping[str, Mapping[str, Any]],
        setups: Mapping[str, Mapping[str, Any] | None],
        methods: Mapping[str, Sequence[str]],
        classes: Sequence[str],
        num_folds: int,
        condition: str | None = None,
        config_dir: str = "configs",
        num_workers: int = 1,
        scheduler_address: str | None = None,
        explained_setups: Sequence[str] = (),
        overwrite: bool = False,
        folds_together: int = 1,
        keep_old_code: bool = False,
        dry_run: bool = False,
    ) -> None:
        self.study_dir = Path(study_dir)
        self.cohorts = {name: dict(cohort) for name, cohort in cohorts.items()}
        self.setups = {name: Setup.of(name, setup) for name, setup in setups.items()}
        self.methods = {name: tuple(overlays) for name, overlays in methods.items()}
        self.classes = list(classes)
        self.condition = condition
        self.num_folds = num_folds
        self.config_dir = Path(config_dir)
        self.num_workers = num_workers
        self.scheduler_address = scheduler_address
        self.explained_setups = list(explained_setups)
        self.overwrite = overwrite
        self.folds_together = folds_together
        self.keep_old_code = keep_old_code
        self.dry_run = dry_run

    def begin(self) -> None:
        """Check the settings of the study and of every stage before any work.

        Raises:
            ValueError: if a setup needs a method that is not defined, a key of the command line is unknown, the
                ensemble is refused by `check_ensemble`, answers are to be explained that `model.pt` does not give, the
                classifiers cannot be captured as CUDA graphs, or the folder holds stages of other settings and
                `overwrite` is false.
        """
        for name, number in (("num_workers", self.num_workers), ("folds_together", self.folds_together)):
            if number < 1:
                raise ValueError(f"{name} must be >= 1, got {number!r}")
        for name, setup in self.setups.items():
            if setup.method is not None and setup.method not in self.methods:
                raise ValueError(
                    f"setups.{name} must have a method of methods {sorted(self.methods)}, got {setup.method!r}"
                )
        unknown = [name for name in self.explained_setups if name not in self.setups]
        if unknown:
            raise ValueError(f"explained_setups must be of setups {list(self.setups)}, got {', '.join(unknown)}")
        same = [name for name, cohort in self.cohorts.items() if list(self.cohorts.values()).count(cohort) > 1]
        if same:
            raise ValueError(f"cohorts must differ, got the same patients as {' and '.join(same)}")
        invocation = current_invocation()
        if invocation is not None:
            self._check_overrides(invocation)
        self._refuse_impossible_ensembles()
        self._refuse_unexplainable()
        self._refuse_impossible_graphs()
        if self.dry_run:
            return
        status = self.status()
        if not self.overwrite:
            status.refuse_lost_work()
        logger.info(status.describe(self.num_workers))

    def status(self) -> StudyStatus:
        """Look which stages are finished, and why the others are not."""
        planned = [
            PlannedInvocation(stage.name, stage.config, self.invocation_of(stage), stage.needs) for stage in self.plan()
        ]
        ignore_device = self.scheduler_address is not None
        return StudyStatus.of(self.study_dir, planned, self.keep_old_code, ignore_device)

    def plan(self) -> list[PlannedStage]:
        """List the stages in an order in which every stage comes after those it needs.

        The data of all cohorts come first, so that a fault in the last cohort is found before hours of training.
        """
        data = [stage for cohort in self.cohorts for stage in self._data_stages(cohort)]
        methods = list(dict.fromkeys(setup.method for setup in self.setups.values() if setup.method is not None))
        synthesis = [
            stage
            for cohort in self.cohorts
            for fold in range(self.num_folds)
            for method in methods
            for stage in self._synthesis_stages(cohort, fold, method)
        ]
        classifiers = [
            self._classifier_stage(cohort, fold, setup)
            for cohort in self.cohorts
            for setup in self.setups
            for fold in range(self.num_folds)
        ]
        evaluations = [self._evaluation_stage(cohort, setup) for cohort in self.cohorts for setup in self.setups]
        judgments = [
            stage
            for cohort in self.cohorts
            for fold in range(self.num_folds)
            for method in methods
            for name in self.classes
            for stage in self._judging_stages(cohort, fold, method, name)
        ]
        explanations = [
            self._explanation_stage(cohort, setup) for cohort in self.cohorts for setup in self.explained_setups
        ]
        before = [*data, *synthesis, *classifiers, *judgments, *evaluations, *explanations]
        return [*before, self._report_stage(before)]

    def run(self) -> None:
        """Run what is not finished, then print where the report is; of a dry run, print the list of stages alone."""
        if self.dry_run:
            print(self.status().table(self.num_workers))
            return
        try:
            with self._progress() as bar:
                if self.num_workers > 1 or self.scheduler_address is not None:
                    self._run_on_workers(bar)
                else:
                    self._run_here(bar)
        except KeyboardInterrupt:
            logger.warning("stopped; the same command continues")
            raise SystemExit(130) from None
        print((self.study_dir / "report" / "summary.txt").read_text(encoding="utf-8"))

    def _progress(self) -> StudyProgress:
        status = self.status()
        kinds = {stage.planned.name: stage.planned.kind for stage in status.stages}
        finished = [stage.planned.name for stage in status.stages if stage.is_finished]
        return StudyProgress(kinds, finished, status.durations, self.num_workers)

    def _run_here(self, bar: StudyProgress) -> None:
        for task in self.tasks():
            bar.begin([planned.name for planned in task])
            self.run_task(task)
            self._finish(bar, task)

    def _run_on_workers(self, bar: StudyProgress) -> None:
        tasks, prefix = self.tasks(), f"{self.study_dir.resolve()}/"
        work = functools.partial(run_task_of, self, current_invocation())
        with contextlib.closing(
            run_on_workers(tasks, work, self.num_workers, self.scheduler_address, prefix)
        ) as moments:
            for moment in moments:
                for number in moment.finished:
                    self._finish(bar, tasks[number])
                bar.begin([planned.name for number in moment.at_work for planned in tasks[number]])

    def _finish(self, bar: StudyProgress, task: Sequence[PlannedStage]) -> None:
        for planned in task:
            bar.finish(planned.name, read_record(self.study_dir / planned.name).get("seconds"))

    def tasks(self) -> list[tuple[PlannedStage, ...]]:
        """List what one worker runs at a time: a stage, or classifiers that train together."""
        return group_folds(self.plan(), self.folds_together)

    def run_task(self, task: Sequence[PlannedStage]) -> None:
        """Run the stages of a task that are not finished with these settings; several trainings take turns."""
        if len(task) == 1:
            self.run_stage(task[0])
            return
        planned_invocations = [(planned.name, self.invocation_of(planned)) for planned in task]
        waiting = [(name, invocation) for name, invocation in planned_invocations if not _is_finished(invocation)]
        with consoles_silenced():
            run_in_turns(waiting, self._logged)

    def run_stage(self, planned: PlannedStage) -> bool:
        """Run one stage if it is not finished with these settings.

        Returns:
            Whether it was run.
        """
        invocation = self.invocation_of(planned)
        if _is_finished(invocation):
            return False
        # Another process may have finished it meanwhile.
        with consoles_silenced(), self._logged(planned.name, invocation), contextlib.suppress(AlreadyFinished):
            run_invocation(invocation)
        return True

    @contextlib.contextmanager
    def _logged(self, name: str, invocation: Invocation) -> Iterator[None]:
        """Send the log of a stage to its folder; if it fails, say which one and where to look."""
        log_path = self.study_dir / name / "log.txt"
        try:
            with logged_to(log_path, invocation.command()):
                yield
        except Exception:
            logger.error("stage %s failed; its log and the command that runs it alone are in %s", name, log_path)
            raise

    def invocation_of(self, planned: PlannedStage) -> Invocation:
        """Return the config files and overrides of a stage, with the study's own recipes and overrides added.

        A recipe is a config file of the study's command line beside `common` and `study`; an override of that command
        line goes to every stage that knows its key.
        """
        own = current_invocation() or Invocation(())
        recipes = self._recipes(own)
        names = ("common", planned.config, *planned.overlays)
        files = tuple(str(self.config_dir / f"{name}.yaml") for name in names)
        known = _merged(files)
        general = {key: value for key, value in own.overrides.items() if is_part(known, key)}
        general.pop("overwrite", None)
        # What is overwritten was consented to in `begin`, or is only out of date.
        return Invocation((*files, *recipes), {**general, **planned.overrides}, may_overwrite=True)

    def _check_overrides(self, own: Invocation) -> None:
        """Check the command line and its recipes against the study and a stage of each kind.

        A recipe may set keys of stages that this study has not, generators for one.
        """
        for path in self._recipes(own):
            parts = [key for key in load_file(path) if "#" in key or key.startswith("+")]
            if parts:
                raise ValueError(
                    f"{path} must set whole keys in a study, got {some_names(parts)}; list it as overlay of a method or"
                    " of a setup, whose stages have that part"
                )
        check_overrides(own, known_keys(self.config_dir))
        for name, cohort in self.cohorts.items():
            files = self.invocation_of(self._data_stages(name)[0]).config_files
            overrides = {key: value for key, value in cohort.items() if key != "config"}
            check_overrides(Invocation(files, overrides), source=Source(f"cohorts.{name}"))
        kinds = {(planned.config, planned.overlays): planned for planned in self.plan()}
        invocations = [self.invocation_of(planned) for planned in kinds.values()]
        for invocation in invocations:
            check_overrides(invocation)
        for key, value in own.overrides.items():
            if "#" in key and not any(key in invocation.overrides for invocation in invocations):
                top = re.split("#|::", key)[0]
                within = [invocation for invocation in invocations if top in invocation.files_merged().get()]
                check_overrides(Invocation(within[0].config_files if within else own.config_files, {key: value}))

    def _refuse_impossible_ensembles(self) -> None:
        """Refuse an ensemble that would stop every evaluation after hours of training."""
        for cohort in list(self.cohorts)[:1] if self.setups else []:
            evaluation = self._evaluation_stage(cohort, next(iter(self.setups)))
            settings = ConfigParser(self.invocation_of(evaluation).merged())
            splits = ConfigParser(self.invocation_of(self._data_stages(cohort)[-1]).merged())
            check_ensemble(
                settings.get_parsed_content("ensemble"),
                settings.get_parsed_content("temperature_scaling"),
                splits.get_parsed_content("selection"),
            )

    def _refuse_unexplainable(self) -> None:
        """Refuse explanations that would stop the study after hours of training."""
        # One cohort is enough: all have the same settings.
        for cohort, setup in itertools.product(list(self.cohorts)[:1], self.explained_setups):
            evaluation = ConfigParser(self.invocation_of(self._evaluation_stage(cohort, setup)).merged())
            ensemble, scaled = (evaluation.get_parsed_content(key) for key in ("ensemble", "temperature_scaling"))
            if ensemble != "mean_probability" or scaled:
                raise ValueError(
                    f"explained_setups must be [] with ensemble {ensemble} and temperature_scaling {scaled}, got"
                    f" {self.explained_setups}: the explained model.pt answers with the mean probability, unscaled; set"
                    " explained_setups to [], or keep ensemble mean_probability and temperature_scaling false"
                )
            explanation = ConfigParser(self.invocation_of(self._explanation_stage(cohort, setup)).merged())
            keys = ("classifier_backbone", "explain_methods", "explanation_layer")
            backbone, methods, layer = (explanation.get_parsed_content(key) for key in keys)
            if str(backbone).startswith("vit_") and "gradcam" in methods and layer is None:
                raise ValueError(
                    f"explain_methods must be without gradcam for classifier_backbone {backbone}, which has no maps,"
                    f" got {list(methods)}; set explain_methods to [lime, occlusion], or explained_setups to []"
                )

    def _refuse_impossible_graphs(self) -> None:
        """Refuse options of the classifiers' speed that would stop the study after hours of other work."""
        # One is enough: all have the same settings.
        for cohort, setup in itertools.product(list(self.cohorts)[:1], list(self.setups)[:1]):
            settings = ConfigParser(self.invocation_of(self._classifier_stage(cohort, 0, setup)).merged())
            if settings.get_parsed_content("classifier_compile") and self.folds_together > 1:
                raise ValueError(
                    f"folds_together must be 1 with classifier_compile, got {self.folds_together}: compiled networks"
                    " share CUDA graphs, which are made for one stream; lay options/cuda_graph over the setups instead"
                )

    def _recipes(self, invocation: Invocation) -> list[str]:
        return [path for path in invocation.config_files if Path(path).stem not in ("common", "study")]

    def _data_stages(self, cohort: str) -> list[PlannedStage]:
        overrides = dict(self.cohorts[cohort])
        config = overrides.pop("config")
        if config == "cohort":
            # Two tables may both be called patients.csv.
            overrides.setdefault("cohort_name", cohort)
        source = PlannedStage(f"{cohort}/cohort", config, (), self._to(f"{cohort}/cohort", overrides))
        patches = {"cohort_path": self._path(source.name, "cohort.json")}
        splits = {"cohort_path": patches["cohort_path"]}
        return [
            source,
            PlannedStage(f"{cohort}/patches", "patches", (), self._to(f"{cohort}/patches", patches), (source.name,)),
            PlannedStage(f"{cohort}/splits", "splits", (), self._to(f"{cohort}/splits", splits), (source.name,)),
        ]

    def _fold_inputs(self, cohort: str, fold: int) -> dict[str, Any]:
        return {
            "patches_path": self._path(f"{cohort}/patches", "patches.json"),
            "splits_path": self._path(f"{cohort}/splits", "splits.json"),
            "fold": fold,
        }

    def _synthesis_stages(self, cohort: str, fold: int, method: str) -> list[PlannedStage]:
        trained: list[str | None] = [None] if self.condition else [*self.classes]
        generators = {name: self._generator_stage(cohort, fold, method, name) for name in trained}
        sets = [
            self._set_stage(cohort, fold, method, name, generators[None if self.condition else name])
            for name in self.classes
        ]
        return [*generators.values(), *sets]

    def _generator_stage(self, cohort: str, fold: int, method: str, class_name: str | None) -> PlannedStage:
        name = f"{cohort}/fold{fold}/generator_{class_name or 'all'}_{method}"
        inputs = {**self._fold_inputs(cohort, fold), "generator_class": class_name}
        needs = (f"{cohort}/patches", f"{cohort}/splits")
        return PlannedStage(name, "train_generator", self.methods[method], self._to(name, inputs), needs)

    def _set_stage(self, cohort: str, fold: int, method: str, class_name: str, generator: PlannedStage) -> PlannedStage:
        inputs = {**self._fold_inputs(cohort, fold), "generator_class": class_name}
        inputs["generator_path"] = self._path(generator.name, "model.pt")
        name = f"{cohort}/fold{fold}/synthetic_{class_name}_{method}"
        needs = (generator.name, f"{cohort}/patches", f"{cohort}/splits")
        return PlannedStage(name, "generate", (), self._to(name, inputs), needs)

    def _judging_stages(self, cohort: str, fold: int, method: str, class_name: str) -> list[PlannedStage]:
        """Audit a synthetic set, and measure it, also in the features of the fold's classifier if there is one."""
        folder, paths = f"{cohort}/fold{fold}", self._fold_inputs(cohort, fold)
        synthetic, classifier = f"{folder}/synthetic_{class_name}_{method}", f"{folder}/classifier_real"
        needs = (synthetic, f"{cohort}/patches", f"{cohort}/splits")
        common = {"synthetic_path": self._path(synthetic, "synthetic.json"), "splits_path": paths["splits_path"]}
        audited = {**common, "patches_path": paths["patches_path"]}
        measured = {**common, "real_path": paths["patches_path"], "fold": fold}
        audit, measures = (f"{folder}/{kind}_{class_name}_{method}" for kind in ("audit", "measures"))
        after_classifier = (classifier,) if "real" in self.setups else ()
        measured["classifier_path"] = self._path(classifier, "model.pt") if after_classifier else None
        return [
            PlannedStage(audit, "audit", (), self._to(audit, audited), needs),
            PlannedStage(measures, "measure_images", (), self._to(measures, measured), (*needs, *after_classifier)),
        ]

    def _classifier_stage(self, cohort: str, fold: int, setup: str) -> PlannedStage:
        training = self.setups[setup]
        synthetic = self._synthetic_names(cohort, fold, training.method) if training.method else []
        inputs = {**self._fold_inputs(cohort, fold), "setup": setup, **training.overrides()}
        inputs["synthetic_paths"] = [self._path(name, "synthetic.json") for name in synthetic]
        name = f"{cohort}/fold{fold}/classifier_{setup}"
        needs = (f"{cohort}/patches", f"{cohort}/splits", *synthetic)
        return PlannedStage(name, "train_classifier", training.overlays, self._to(name, inputs), needs)

    def _synthetic_names(self, cohort: str, fold: int, method: str) -> list[str]:
        return [f"{cohort}/fold{fold}/synthetic_{name}_{method}" for name in self.classes]

    def _evaluation_stage(self, cohort: str, setup: str) -> PlannedStage:
        members = [f"{cohort}/fold{fold}/classifier_{setup}" for fold in range(self.num_folds)]
        others = [name for name in self.cohorts if name != cohort]
        inputs = self._fold_inputs(cohort, 0)
        del inputs["fold"]
        inputs["member_paths"] = [self._path(name, "model.pt") for name in members]
        inputs["external_patches_paths"] = [self._path(f"{other}/patches", "patches.json") for other in others]
        inputs["setup"] = setup
        needs = (*members, *(f"{name}/patches" for name in self.cohorts), f"{cohort}/splits")
        name = f"{cohort}/evaluation_{setup}"
        return PlannedStage(name, "evaluate", (), self._to(name, inputs), needs)

    def _explanation_stage(self, cohort: str, setup: str) -> PlannedStage:
        evaluation = f"{cohort}/evaluation_{setup}"
        patches = [f"{name}/patches" for name in (cohort, *(other for other in self.cohorts if other != cohort))]
        inputs = {
            "weights_path": self._path(evaluation, "model.pt"),
            "predictions_path": self._path(evaluation, "predictions.csv"),
            "explain_patches_paths": [self._path(name, "patches.json") for name in patches],
        }
        name = f"{cohort}/explain_{setup}"
        return PlannedStage(name, "explain", (), self._to(name, inputs), (evaluation, *patches))

    def _report_stage(self, before: Sequence[PlannedStage]) -> PlannedStage:
        return PlannedStage(
            "report",
            "report",
            (),
            self._to("report", {"study_dir": str(self.study_dir), "stage_names": [stage.name for stage in before]}),
            tuple(stage.name for stage in before),
        )

    def _to(self, name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
        return {**overrides, "output_dir": str(self.study_dir / name)}

    def _path(self, name: str, file: str) -> str:
        return str(self.study_dir / name / file)


def run_task_of(study: Study, invocation: Invocation | None, task: Sequence[PlannedStage]) -> None:
    """Run one task of a study in a worker, which cannot see the command line that `invocation` is made of."""
    with contextlib.nullcontext() if invocation is None else invoked(invocation):
        study.run_task(task)


def group_folds(plan: Sequence[PlannedStage], size: int) -> list[tuple[PlannedStage, ...]]:
    """Cut a plan into tasks: up to `size` classifiers of one cohort and setup each, and every other stage alone.

    The order stays that of the plan, in which the folds of a setup follow one another and none needs another.
    """

    def kind(planned: PlannedStage) -> str:
        if planned.config != "train_classifier":
            return planned.name
        cohort, _, stage = planned.name.rsplit("/", 2)
        return f"{cohort}/{stage}"

    runs = [list(run) for _, run in itertools.groupby(plan, kind)]
    return [tuple(run[start : start + size]) for run in runs for start in range(0, len(run), size)]


def _is_finished(invocation: Invocation) -> bool:
    return compare(invocation).is_finished


@functools.lru_cache
def _merged(files: tuple[str, ...]) -> Mapping[str, Any]:
    merged: Mapping[str, Any] = Invocation(files).files_merged().get()
    return merged
