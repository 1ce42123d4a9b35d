"""The numbers of a study do not depend on how many workers there are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from distributed import Client, LocalCluster

from scripts.running import workers
from scripts.running.configs import Invocation
from scripts.running.errors import root_cause
from scripts.running.plan import Plan, group_folds
from scripts.running.stages import run_invocation
from scripts.running.workers import OneDevice, WorkerWatch, run_on_workers
from tests.helpers import ROOT, TINY, config_files


def predict(folder, **overrides):
    """Run a study of a cohort and two setups, which is enough for parallel stages that need each other."""
    overrides |= {"study_dir": str(folder), "setups": {"real": {}, "ddpm": {"method": "ddpm"}}, "explained_setups": []}
    overrides |= {"cohorts": {"site_a": {"config": "phantom", "phantom_site": "A"}}, "controls": []}
    overrides |= {"generator_condition": "label", "generator_max_epochs": 2}
    run_invocation(Invocation((*config_files("study"), TINY), overrides))
    return (folder / "report" / "predictions.csv").read_bytes()


@pytest.fixture(scope="module", autouse=True)
def quick_yaml():
    """Give the process that workers are forked from the reader of YAML of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "PRELOADED", ["tests.conftest", *workers.PRELOADED])
        yield


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Predictions of one process, which nothing stops."""
    return predict(tmp_path_factory.mktemp("one"), num_workers=1)


@pytest.mark.slow
def test_two_workers_and_one_process_predict_the_same_bytes(tmp_path, expected):
    assert predict(tmp_path, num_workers=2) == expected


ORDER: list[list[str]] = []


def rehearse(task):
    """Only say what would be run."""
    ORDER.append([planned.name for planned in task])


def local_cluster(num_workers, threads=1):
    """Workers that are threads of this process, which start at once."""
    options = {"threads_per_worker": threads, "processes": False, "memory_limit": 0}
    return LocalCluster(n_workers=num_workers, dashboard_address=None, **options)


def test_a_stage_waits_for_the_task_of_a_fold_that_it_needs(tmp_path):
    plan = Plan(str(tmp_path), {"a": {"config": "phantom"}}, {"real": {}}, {}, ["LGG", "HGG"], num_folds=3)
    tasks = group_folds(plan.stages(), 2)
    ORDER.clear()
    with local_cluster(2) as cluster:
        moments = list(run_on_workers(tasks, rehearse, 1, cluster.scheduler_address))
    folds = [f"a/fold{fold}/classifier_real" for fold in range(3)]
    assert sorted(ORDER[3:5]) == [folds[:2], folds[2:]]
    assert ORDER[5:] == [["a/evaluation_real"], ["report"]]
    assert sorted(number for moment in moments for number in moment.finished) == list(range(len(tasks)))


LAST_IS_DONE = threading.Event()


def work_of_different_length(task):
    """All but one task take no time; that one ends when the last of the others is done."""
    if task[0].name == "long":
        assert LAST_IS_DONE.wait(20), "tasks wait for a busy worker while another is idle"
    elif task[0].name == "short9":
        LAST_IS_DONE.set()


def test_no_task_waits_for_a_busy_worker_while_another_is_idle():
    names = ["data", "long", *(f"short{number}" for number in range(10))]
    tasks = [[SimpleNamespace(name=name, needs=() if name == "data" else ("data",))] for name in names]
    finished = []
    with local_cluster(2) as cluster:
        for moment in run_on_workers(tasks, work_of_different_length, 1, cluster.scheduler_address):
            assert all(len(worker.processing) <= 1 for worker in cluster.scheduler.workers.values())
            finished += moment.finished
    assert sorted(finished) == list(range(len(tasks)))


class Scheduler:
    """Stands for dask's client: it knows which workers are there."""

    def __init__(self, *names):
        self.names = names

    def scheduler_info(self, n_workers):
        return {"workers": {f"tcp://{name}": {"name": name} for name in self.names}}


def test_all_workers_gone_for_good_end_the_study_in_words(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    scheduler = Scheduler(0, 1)
    watch = WorkerWatch(scheduler, num_workers=2, patience=60)
    scheduler.names = ()
    for now[0] in (1.0, 30.0):
        watch.look()
    scheduler.names = (0, 1)  # both were replaced in time
    watch.look()
    scheduler.names = ()
    now[0] = 89.0
    watch.look()
    now[0] = 91.0
    with pytest.raises(RuntimeError, match="got none of 2 for 60 s.*the same command continues, with a smaller"):
        watch.look()


def test_a_worker_that_is_not_replaced_is_named_once(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    watch = WorkerWatch(Scheduler(0, 2), num_workers=3, patience=60)
    for now[0] in (59.0, 61.0, 63.0):
        watch.look()
    assert [record.message.split(" died")[0] for record in caplog.records] == ["worker 1 of 3"]
    assert "the study goes on with 2" in caplog.text


def test_a_cluster_that_has_no_worker_yet_is_waited_for(monkeypatch, caplog):
    """A batch system may give the first one after hours."""
    now = [0.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    watch = WorkerWatch(Scheduler(), num_workers=0, patience=60)
    for now[0] in (61.0, 3600.0):
        watch.look()
    assert caplog.text.count("no worker of scheduler_address is there; waiting until one joins") == 1


def test_a_study_without_workers_ends(monkeypatch):
    """As after the deaths of all of them while they start, for which dask waits for ever."""
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(workers, "_local_cluster", lambda num_workers: local_cluster(0))
    tasks = [[SimpleNamespace(name="a", needs=())]]
    with pytest.raises(RuntimeError, match="got none of 2"):
        list(run_on_workers(tasks, rehearse, 2, patience=0.2))


def test_a_second_study_warns_of_no_port():
    with local_cluster(1), warnings.catch_warnings():
        warnings.simplefilter("error")
        with workers._local_cluster(0):
            pass


INTERRUPTED = """
import signal
import time
from types import SimpleNamespace
from scripts.running.workers import run_on_workers

def work(task):
    time.sleep(0.2)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts tests in the background has it ignored
    tasks = [[SimpleNamespace(name=str(number), needs=())] for number in range(500)]
    try:
        for moment in run_on_workers(tasks, work, 2):
            if moment.at_work:
                print("at work", flush=True)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
"""


@pytest.mark.slow
def test_an_interrupt_from_the_terminal_ends_without_tracebacks_of_workers(tmp_path):
    (tmp_path / "study.py").write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, str(tmp_path / "study.py")], env=environment, **options) as run:
        assert run.stdout.readline() == "at work\n"
        os.killpg(run.pid, signal.SIGINT)
        _, errors = run.communicate(timeout=180)
    assert (run.returncode, errors) == (130, "")


def kill_a_worker_at(client, stage):
    """Send SIGKILL to a worker that is at work once a stage has begun; return its process."""
    deadline = time.monotonic() + 120
    while not stage.is_dir() and time.monotonic() < deadline:
        time.sleep(0.05)
    busy = [address for address, tasks in client.processing().items() if tasks]
    (process,) = client.run(os.getpid, workers=busy[:1]).values()
    os.kill(process, signal.SIGKILL)
    return process


@pytest.mark.slow
def test_a_study_whose_worker_dies_over_folds_that_train_together_ends_as_if_it_had_lived(tmp_path, expected):
    with (
        workers._local_cluster(2) as cluster,
        Client(cluster) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        parents = set(client.run(os.getppid).values())
        assert len(parents) == 1, "each worker imports everything anew"
        assert parents != {os.getpid()}
        killed = pool.submit(kill_a_worker_at, client, tmp_path / "site_a" / "fold1" / "classifier_real")
        found = predict(tmp_path, scheduler_address=cluster.scheduler_address, folds_together=2)
        assert killed.result() > 0
    assert found == expected


def test_workers_of_several_threads_are_refused(tmp_path):
    with local_cluster(1, threads=2) as cluster, pytest.raises(RuntimeError) as error:
        predict(tmp_path, scheduler_address=cluster.scheduler_address)
    assert "must have workers of one thread, got 2 threads" in str(root_cause(error.value))


@pytest.mark.parametrize(("visible", "expected"), [("3,5", ["3", "5", "3"]), (None, ["0", "1", "0"])])
def test_workers_share_the_devices_in_turn(monkeypatch, visible, expected):
    found = []
    for name in ("0", "1", "2"):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        OneDevice().setup(SimpleNamespace(name=name))
        found.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert found == expected


def test_without_devices_nothing_is_hidden(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    OneDevice().setup(SimpleNamespace(name="0"))
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")
def test_a_forked_worker_reaches_its_device():
    with workers._local_cluster(1) as cluster, Client(cluster) as client:
        assert client.submit(torch.ones, 2, device="cuda").result().cpu().tolist() == [1, 1]


@pytest.mark.slow
def test_the_error_of_a_stage_reaches_the_user(tmp_path):
    with workers._local_cluster(1) as cluster, pytest.raises(RuntimeError) as error:
        predict(tmp_path, scheduler_address=cluster.scheduler_address, phantom_num_subjects=3)
    assert "must have subjects of class LGG in each part" in str(root_cause(error.value))
