"""The study: its plan checked before any work, then run, each stage once."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.running.configs import Invocation, parser_of, reachable, references
from scripts.running.errors import root_cause, some_names
from scripts.running.folders import read_record
from scripts.running.overrides import Source, check_overrides, is_part, known_keys, load_file
from scripts.running.plan import IMPORT, Plan, PlannedStage, group_folds
from scripts.running.process import consoles_silenced, logged_to, require_num_threads
from scripts.running.progress import StudyProgress
from scripts.running.stages import AlreadyFinished, current_invocation, invoked, run_invocation
from scripts.running.status import PlannedInvocation, StudyStatus, compare
from scripts.running.turns import run_in_turns
from scripts.running.workers import run_on_workers

logger = logging.getLogger(__name__)

# Keys of `common` that generate must share with the training of its generator.
NETWORK_KEY = re.compile(r"(generator_\w+|noise_scheduler|num_train_timesteps)\b")


@dataclass
class Study:
    """Run all stages of a plan; a finished stage with the same key is passed over.

    Args:
        plan: what is done.
        config_dir: folder of the config files.
        num_workers: worker processes; 1 runs one stage after the other in this one. The numbers do not depend on it.
        scheduler_address: of a running dask scheduler whose workers do the work instead; see
            `scripts.running.workers.run_on_workers`.
        folds_together: classifiers of one cohort and setup that a worker trains in turns, a step each. The numbers do
            not depend on it.
        overwrite: make stages of other settings or code in the folder anew, with all that depends on them, instead of
            refusing the folder.
        keep_old_code: keep finished stages that differ in their code only, and write that down.
        dry_run: only list the stages: which are finished, which would run, why, and about how long.
    """

    plan: Plan
    config_dir: str = "configs"
    num_workers: int = 1
    scheduler_address: str | None = None
    folds_together: int = 1
    overwrite: bool = False
    keep_old_code: bool = False
    dry_run: bool = False

    @property
    def study_dir(self) -> Path:
        """Folder of all outputs."""
        return Path(self.plan.study_dir)

    def begin(self) -> None:
        """Check the settings of the study and of every stage before any work.

        Raises:
            ValueError: if the plan does not fit together (`Plan.check`), an overlay of a method sets what only the
                whole study can, `dataset_dir` is given to what does not read it, a key or value is none that a stage
                takes (`check_overrides`), a stage of some kind refuses its settings, or the folder holds stages of
                other settings or code and neither `overwrite` nor `keep_old_code` says what to do.
        """
        for name, number in (("num_workers", self.num_workers), ("folds_together", self.folds_together)):
            if number < 1:
                raise ValueError(f"{name} must be >= 1, got {number!r}")
        invocation = current_invocation()
        if invocation is not None:
            check_overrides(invocation, known_keys(Path(self.config_dir)))
        self.plan.check(Path(self.config_dir))
        self._check_methods()
        if invocation is not None:
            self._check_overrides(invocation)
        self._check_stages()
        if self.dry_run:
            return
        status = self.status()
        if not self.overwrite:
            status.refuse_lost_work()
        logger.info(status.describe(self.num_workers))

    def status(self) -> StudyStatus:
        """Look which stages are finished, and why the others are not."""
        planned = [
            PlannedInvocation(stage.name, stage.config, self.invocation_of(stage), stage.needs)
            for stage in self.plan.stages()
        ]
        ignore_device = self.scheduler_address is not None
        return StudyStatus.of(self.study_dir, planned, self.keep_old_code, ignore_device)

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
        return group_folds(self.plan.stages(), self.folds_together)

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
        files = tuple(str(Path(self.config_dir) / f"{name}.yaml") for name in names)
        known = _merged(files)
        general = {key: value for key, value in own.overrides.items() if is_part(known, key)}
        for key in ("overwrite", "dataset_dir"):  # the study's own
            general.pop(key, None)
        overrides = {**self._network_settings(planned, recipes), **general, **planned.overrides}
        # What is overwritten was consented to in `begin`, or is only out of date.
        return Invocation((*files, *recipes), overrides, may_overwrite=True)

    def _network_settings(self, planned: PlannedStage, recipes: Sequence[str]) -> dict[str, Any]:
        """Return what the overlays of a generator's training say of its network, where no recipe says otherwise."""
        common = load_file(str(Path(self.config_dir) / "common.yaml"))
        overlays = [load_file(str(Path(self.config_dir) / f"{name}.yaml")) for name in planned.network_overlays]
        by_recipe = {key for path in recipes for key in load_file(path)}
        return {
            key: value
            for overlay in overlays
            for key, value in overlay.items()
            if NETWORK_KEY.match(key) and is_part(common, key) and re.split("#|::", key)[0] not in by_recipe
        }

    def _check_methods(self) -> None:
        """Refuse in the overlays of a method what would not reach the stages that draw with its generator."""
        common = load_file(str(Path(self.config_dir) / "common.yaml"))
        for method, overlays in self.plan.methods.items():
            for overlay in overlays:
                keys = load_file(str(Path(self.config_dir) / f"{overlay}.yaml"))
                whole = [key for key in keys if re.match(r"generator_condition|generator_space|autoencoder_", key)]
                if whole:
                    raise ValueError(
                        f"{overlay}.yaml of methods.{method} must not set {whole[0]}, which says what generators the"
                        " whole study trains; set it in a recipe or on the command line"
                    )
                merged = [key for key in keys if key.startswith("+") and NETWORK_KEY.match(key[1:])]
                merged = [key for key in merged if is_part(common, key[1:])]
                if merged:
                    raise ValueError(
                        f"{overlay}.yaml of methods.{method} must set what its generator is drawn with in full, got"
                        f" {some_names(merged)}; write the parts one by one, such as generator_def#num_res_blocks: 1"
                    )

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
        layers = [*map(load_file, self._recipes(own)), own.overrides]
        if any("dataset_dir" in layer for layer in layers) and "dataset_dir" not in references(layers):
            raise ValueError(
                "dataset_dir must be left out of a study, whose cohorts name their folders themselves; give --cohorts"
                " \"{'NAME': {'config': 'cohort', 'source_path': 'DATA'}}\""
            )
        for name, cohort in self.plan.cohorts.items():
            files = self.invocation_of(self.plan.source_of(name)).config_files
            overrides = {key: value for key, value in cohort.items() if key != "config"}
            check_overrides(Invocation(files, overrides), source=Source(f"cohorts.{name}"))
        for name, settings in self.plan.imported.items():
            files = (str(Path(self.config_dir) / "common.yaml"), str(Path(self.config_dir) / f"{IMPORT}.yaml"))
            check_overrides(Invocation(files, dict(settings)), source=Source(f"imported.{name}"))
        self._check_classifiers(own)
        invocations = [self.invocation_of(planned) for planned in self.plan.kinds()]
        for invocation in invocations:
            check_overrides(invocation)
        for key, value in own.overrides.items():
            if "#" in key and not any(key in invocation.overrides for invocation in invocations):
                top = re.split("#|::", key)[0]
                within = [invocation for invocation in invocations if top in invocation.files_merged().get()]
                check_overrides(Invocation(within[0].config_files if within else own.config_files, {key: value}))

    def _check_classifiers(self, own: Invocation) -> None:
        files = tuple(str(Path(self.config_dir) / f"{name}.yaml") for name in ("common", "train_classifier"))
        for name, settings in self.plan.classifiers.items():
            check_overrides(Invocation(files, settings), source=Source(f"classifiers.{name}"))
        both = {key for settings in self.plan.classifiers.values() for key in settings if key in own.overrides}
        if both:
            raise ValueError(
                f"classifiers must not set what the command line sets for all of them, got {some_names(both)} in both;"
                " leave it out there"
            )

    def _check_stages(self) -> None:
        """Make the `checks` of the stages, which need no file, as the stages themselves do when they begin.

        And `study_checks`, of files that no stage makes and that a stage would read hours later.
        """
        for planned in self.plan.variants():
            merged = self.invocation_of(planned).merged()
            kinds = ("checks", "study_checks")
            settings = parser_of(reachable(merged, ("imports", "num_threads", *kinds)))
            require_num_threads(settings.get_parsed_content("num_threads"))
            for kind in (kind for kind in kinds if kind in settings.get()):
                try:
                    settings.get_parsed_content(kind)
                except RuntimeError as error:
                    raise root_cause(error) from error

    def _recipes(self, invocation: Invocation) -> list[str]:
        own = [Path(self.config_dir, f"{name}.yaml").resolve() for name in ("common", "study")]
        return [path for path in invocation.config_files if Path(path).resolve() not in own]


def run_task_of(study: Study, invocation: Invocation | None, task: Sequence[PlannedStage]) -> None:
    """Run one task of a study in a worker, which cannot see the command line that `invocation` is made of."""
    with contextlib.nullcontext() if invocation is None else invoked(invocation):
        study.run_task(task)


def _is_finished(invocation: Invocation) -> bool:
    return compare(invocation).is_finished


@functools.lru_cache
def _merged(files: tuple[str, ...]) -> Mapping[str, Any]:
    merged: Mapping[str, Any] = Invocation(files).files_merged().get()
    return merged
