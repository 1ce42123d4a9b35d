"""What a study would do is known, and asked for, before it does it."""

from __future__ import annotations

import os

import pytest

from scripts.running import stages
from scripts.running.configs import Invocation
from scripts.running.files import read_json, write_json, write_text
from scripts.running.progress import USUAL_SECONDS
from scripts.running.stages import Stage, invoked
from scripts.running.status import PlannedInvocation, StudyStatus

CONFIG = """
rate: 0.1
input_path: null
output_dir: null
stage:
  _target_: scripts.running.stages.Stage
  output_dir: '@output_dir'
  inputs: ['@input_path']
run: ['@stage', '@rate']
"""


@pytest.fixture
def plan(tmp_path):
    """Three stages that read one another's result, and a report of all."""
    config = tmp_path / "stage.yaml"
    config.write_text(CONFIG)
    names = ["patches", "generator", "classifier", "report"]
    kinds = ["patches", "train_generator", "train_classifier", "report"]
    plan, before = [], None
    for name, kind in zip(names, kinds, strict=True):
        overrides = {"output_dir": str(tmp_path / name)}
        if before is not None:
            overrides["input_path"] = str(tmp_path / before / "result.txt")
        needs = () if before is None else (before,)
        plan.append(PlannedInvocation(name, kind, Invocation((str(config),), overrides), needs))
        before = name
    return plan


def run(planned, seconds=2.0):
    """Do the work of a stage, which takes no time, and note down that it took some."""
    folder, source = (planned.invocation.overrides.get(key) for key in ("output_dir", "input_path"))
    with invoked(planned.invocation):
        stage = Stage(folder, [source])
        stage.begin()
        write_text(f"{folder}/result.txt", f"result of {planned.name}")
        stage.end()
    write_json(f"{folder}/stage.json", {**read_json(f"{folder}/stage.json"), "seconds": seconds})


def look(tmp_path, plan, **options):
    return StudyStatus.of(tmp_path, plan, **options)


def verdicts(status):
    return {stage.planned.name: stage.verdict for stage in status.stages}


def other_code(monkeypatch, **changes):
    identity = stages.code_identity
    changed = {f"scripts.training.{name}": digest for name, digest in changes.items()}
    monkeypatch.setattr(stages, "code_identity", lambda modules: {**identity(modules), **changed})


def test_a_new_study_runs_everything_and_nothing_is_asked(tmp_path, plan):
    status = look(tmp_path, plan)
    status.refuse_lost_work()
    assert set(verdicts(status).values()) == {"run"}
    assert status.seconds_left() is None
    assert status.describe() == "0 of 4 stages are finished, 4 to run"
    assert "not begun" in status.table()
    assert list(tmp_path.iterdir()) == [tmp_path / "stage.yaml"], "looking changes nothing"


def test_what_follows_a_stage_that_runs_may_run_too(tmp_path, plan):
    for planned in plan:
        run(planned)
    assert set(verdicts(look(tmp_path, plan)).values()) == {"finished"}
    (tmp_path / "generator" / "result.txt").unlink()
    status = look(tmp_path, plan)
    assert verdicts(status) == {
        "patches": "finished",
        "generator": "run",
        "classifier": "run",  # its input is gone
        "report": "perhaps",
    }
    status.refuse_lost_work()
    assert "lost outputs result.txt" in status.table()
    assert "if classifier comes out otherwise" in status.table()


def test_stages_of_other_code_are_named_by_module_before_any_work(tmp_path, plan, monkeypatch):
    for planned in plan:
        run(planned)
    other_code(monkeypatch, resume="changed", curves="changed")
    with pytest.raises(ValueError, match="got 3 stages that other code made") as refused:
        look(tmp_path, plan).refuse_lost_work()
    message = str(refused.value)
    assert "3 by other code of training.curves, training.resume: classifier, generator, patches" in message
    assert "--overwrite True" in message
    assert "--keep_old_code True" in message
    kept = look(tmp_path, plan, keep_old_code=True)
    kept.refuse_lost_work()
    assert verdicts(kept)["generator"] == "finished"
    assert "kept, code of training.curves, training.resume" in kept.table()


def test_an_output_that_changed_is_named_before_any_work(tmp_path, plan):
    for planned in plan:
        run(planned)
    path = tmp_path / "generator" / "result.txt"
    path.write_text("Result of generator")
    os.utime(path, (1, 1))
    with pytest.raises(ValueError, match=r"got generator/result\.txt, which changed since; put the"):
        look(tmp_path, plan).refuse_lost_work()


def test_a_report_is_made_anew_without_being_asked_for(tmp_path, plan):
    for planned in plan:
        run(planned)
    path = tmp_path / "report" / "result.txt"
    path.write_text("edited report.....")
    os.utime(path, (1, 1))
    status = look(tmp_path, plan)
    status.refuse_lost_work()
    assert verdicts(status)["report"] == "run"


def test_a_stage_of_a_changed_input_is_named_when_it_is_made_anew(tmp_path, plan):
    for planned in plan[:2]:
        run(planned)
    write_text(tmp_path / "patches" / "result.txt", "other patches")
    status = look(tmp_path, plan)
    assert f"anew: generator (inputs {tmp_path / 'patches' / 'result.txt'})" in status.describe()


def test_the_device_here_does_not_count_where_workers_elsewhere_decide(tmp_path, plan):
    run(plan[0])
    record = tmp_path / "patches" / "stage.json"
    content = read_json(record)
    write_json(record, {**content, "identity": {**content["identity"], "device": "cuda"}})
    with pytest.raises(ValueError, match="differs in device, in patches"):
        look(tmp_path, plan).refuse_lost_work()
    assert verdicts(look(tmp_path, plan, ignore_device=True))["patches"] == "finished"


def test_the_time_left_weighs_kinds_and_is_shared_by_the_workers(tmp_path, plan):
    run(plan[0], seconds=1.0)
    status = look(tmp_path, plan)
    half = USUAL_SECONDS["patches"] * 2
    expected = sum(USUAL_SECONDS[kind] for kind in ("train_generator", "train_classifier", "report")) * 2 / half
    assert status.seconds_left() == pytest.approx(expected)
    assert status.seconds_left(2) == pytest.approx(expected / 2)
    assert "about 5 min 33 s" in status.describe()
