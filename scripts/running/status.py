"""Which stages of a study are finished, which would run and why, and about how long that takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.running.configs import Invocation, parser_of, reachable
from scripts.running.errors import some_names
from scripts.running.files import RECORD
from scripts.running.progress import Durations, format_seconds
from scripts.running.stages import Comparison, Stage, invoked


@dataclass(frozen=True)
class PlannedInvocation:
    """A stage of a plan as it would be run.

    Args:
        name: of the stage.
        kind: its config, such as "train_classifier".
        invocation: its files and overrides, `output_dir` among them.
        needs: names of the stages whose outputs it reads.
    """

    name: str
    kind: str
    invocation: Invocation
    needs: Sequence[str] = ()


@dataclass(frozen=True)
class StageStatus:
    """How one stage stands.

    Args:
        planned: the stage.
        comparison: of what its folder holds with what is asked for.
        waits_for: the first of the stages it needs that is not finished; None if all are.
        is_kept: whether a run of other code is kept, as asked for.
    """

    planned: PlannedInvocation
    comparison: Comparison
    waits_for: str | None = None
    is_kept: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether its outputs are there and would be taken as they are, if those it needs stay the same."""
        return self.comparison.is_finished or (self.is_kept and self.comparison.record["finished"])

    @property
    def why(self) -> str:
        """Why it runs or might run, in words."""
        if not self.is_finished:
            return "; ".join(self.comparison.reasons()) or "not finished"
        if self.waits_for is not None:
            return f"if {self.waits_for} comes out otherwise"
        return f"kept, {', '.join(self.comparison.reasons())}" if self.is_kept else ""

    @property
    def verdict(self) -> str:
        """Return "finished", "run", or "perhaps" where it depends on what a stage before it will write."""
        return "run" if not self.is_finished else "finished" if self.waits_for is None else "perhaps"


@dataclass(frozen=True)
class StudyStatus:
    """How the stages of a study stand, in the order of the plan.

    Args:
        study_dir: folder of the study.
        stages: one item per stage.
        durations: of the finished ones.
    """

    study_dir: Path
    stages: Sequence[StageStatus]
    durations: Durations

    @classmethod
    def of(
        cls,
        study_dir: Path,
        plan: Sequence[PlannedInvocation],
        keep_old_code: bool = False,
        ignore_device: bool = False,
    ) -> StudyStatus:
        """Look at every stage of a plan; nothing is changed.

        Args:
            study_dir: folder of the study.
            plan: in an order in which every stage comes after those it needs.
            keep_old_code: stages that differ in their code only are kept.
            ignore_device: the devices of workers elsewhere decide, not those here.
        """
        durations, stages = Durations(), []
        unfinished: set[str] = set()
        for planned in plan:
            comparison = compare(planned.invocation)
            if ignore_device:
                settings = [name for name in comparison.settings if name != "device"]
                comparison = replace(comparison, settings=settings)
            waits_for = next((name for name in planned.needs if name in unfinished), None)
            is_kept = keep_old_code and comparison.is_old_code and not comparison.outputs
            status = StageStatus(planned, comparison, waits_for, is_kept)
            stages.append(status)
            if status.verdict != "finished":
                unfinished.add(planned.name)
            if comparison.record.get("finished") and "seconds" in comparison.record:
                durations.add(planned.kind, float(comparison.record["seconds"]))
        return cls(study_dir, stages, durations)

    @property
    def unfinished(self) -> list[StageStatus]:
        """Stages that run whatever comes out of those before them."""
        return [status for status in self.stages if not status.is_finished]

    def seconds_left(self, num_workers: int = 1) -> float | None:
        """Estimate how long the unfinished stages take; None before the first stage was measured."""
        if not self.durations.is_measured:
            return None
        return sum(self.durations.expected(status.planned.kind) for status in self.unfinished) / num_workers

    def refuse_lost_work(self) -> None:
        """Refuse to delete what took time before somebody said so.

        Raises:
            ValueError: if stages that hold work are of other settings or of other code, or their outputs were changed.
        """
        # The report is made of what the folder holds, and may be made anew at any time.
        stages = [status for status in self.unfinished if status.planned.kind != "report" and not status.is_kept]
        with_work = [status for status in stages if status.comparison.holds_work]
        if other := [status for status in with_work if status.comparison.settings]:
            keys = {key for status in other for key in status.comparison.settings}
            raise ValueError(
                f"{self.study_dir} must be new or hold a study of these settings, got one that differs in"
                f" {some_names(keys)}, in {_names(other)}; choose another study_dir, or pass --overwrite True to make"
                " these stages, and what depends on them, anew"
            )
        if changed := [status for status in with_work if status.comparison.changed_outputs]:
            files = [
                f"{status.planned.name}/{name}" for status in changed for name in status.comparison.changed_outputs
            ]
            raise ValueError(
                f"{self.study_dir} must hold outputs as they were written, got {some_names(files, limit=5)}, which"
                " changed since; put the files back, or pass --overwrite True to make these stages, and what depends on"
                " them, anew"
            )
        if old := [status for status in with_work if status.comparison.is_old_code]:
            raise ValueError(
                f"{self.study_dir} must hold a study of this code, got {len(old)} stages that other code made:\n"
                f"{_by_code(old)}\npass --overwrite True to make them, and what depends on them, anew, or"
                " --keep_old_code True to keep them, which is written down; --dry_run True lists all stages"
            )

    def describe(self, num_workers: int = 1) -> str:
        """Say in a few lines how many stages are finished, and what work is made anew and why."""
        left, finished = self.seconds_left(num_workers), len(self.stages) - len(self.unfinished)
        time = "" if not self.unfinished else f", about {format_seconds(left)}" if left is not None else ""
        first = f"{finished} of {len(self.stages)} stages are finished, {len(self.unfinished)} to run{time}"
        anew = [status for status in self.unfinished if status.comparison.holds_work and not status.comparison.is_same]
        return "\n".join([first, *(f"  anew: {status.planned.name} ({status.why})" for status in anew)])

    def table(self, num_workers: int = 1) -> str:
        """List every stage: what would be done with it, about how long it takes, and why."""
        rows = [(status.verdict, self._time(status), status.planned.name, status.why) for status in self.stages]
        width = max(len(name) for _, _, name, _ in rows)
        lines = [f"{verdict:8}  {time:>13}  {name:{width}}  {why}".rstrip() for verdict, time, name, why in rows]
        return "\n".join([self.describe(num_workers).splitlines()[0], *lines])

    def _time(self, status: StageStatus) -> str:
        if status.is_finished:
            return format_seconds(float(status.comparison.record.get("seconds", 0)))
        seconds = self.durations.expected(status.planned.kind)
        return f"~ {format_seconds(seconds)}" if self.durations.is_measured else "?"


def compare(invocation: Invocation) -> Comparison:
    """Compare the run that a stage's folder holds with the one that an invocation asks for.

    A folder without a record needs no look at the stage's inputs, which may take long or not be there yet.
    """
    folder = Path(str(invocation.overrides["output_dir"]))
    if not (folder / RECORD).is_file():
        return Comparison(folder)
    with invoked(invocation):
        # A parser goes through all that it is given, of which the stage needs a tenth.
        config = reachable(invocation.merged(), ("imports", "stage"))
        stage: Stage = parser_of(config).get_parsed_content("stage")
        return stage.compare()


def _names(stages: Iterable[StageStatus]) -> str:
    return some_names((status.planned.name for status in stages), limit=3)


def _by_code(stages: Sequence[StageStatus]) -> str:
    """List stages by the modules that changed since."""
    groups: Mapping[tuple[str, ...], list[StageStatus]] = defaultdict(list)
    for status in stages:
        groups[tuple(status.comparison.code)].append(status)
    return "\n".join(
        f"  {len(group)} by other code of {some_names((name.removeprefix('scripts.') for name in modules), limit=8)}:"
        f" {_names(group)}"
        for modules, group in groups.items()
    )
