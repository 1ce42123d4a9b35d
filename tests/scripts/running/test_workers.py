"""The numbers of a study do not depend on how many workers there are."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from distributed import Client, LocalCluster

from scripts.running.configs import Invocation
from scripts.running.errors import root_cause
from scripts.running.stages import run_invocation
from scripts.running.study import Study
from scripts.running.workers import OneDevice, run_on_workers
from tests.helpers import TINY, config_files


def predict(folder, **overrides):
    """Run a study of two setups, which is enough for parallel stages that need each other."""
    overrides |= {"study_dir": str(folder), "setups": {"real": {}, "ddpm": {"method": "ddpm"}}, "explained_setups": []}
    run_invocation(Invocation((*config_files("study"), TINY), overrides))
    return (folder / "report" / "predictions.csv").read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Predictions of one process, which nothing stops."""
    return predict(tmp_path_factory.mktemp("one"), num_workers=1)


@pytest.mark.slow
def test_two_workers_and_one_process_predict_the_same_bytes(tmp_path, expected):
    assert predict(tmp_path, num_workers=2) == expected


ORDER: list[list[str]] = []


class Rehearsal(Study):
    """A study whose tasks only say that they were run."""

    def run_task(self, task):
        ORDER.append([planned.name for planned in task])


def test_a_stage_waits_for_the_task_of_a_fold_that_it_needs(tmp_path):
    study = Rehearsal(
        study_dir=str(tmp_path),
        cohorts={"a": {"config": "phantom"}},
        setups={"real": {}},
        methods={},
        classes=["LGG", "HGG"],
        num_folds=3,
        folds_together=2,
    )
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, memory_limit=0
    ) as cluster:
        run_on_workers(study, None, 1, cluster.scheduler_address)
    folds = [f"a/fold{fold}/classifier_real" for fold in range(3)]
    assert sorted(ORDER[3:5]) == [folds[:2], folds[2:]]
    assert ORDER[5:] == [["a/evaluation_real"], ["report"]]


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
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster,
        Client(cluster) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        killed = pool.submit(kill_a_worker_at, client, tmp_path / "site_a" / "fold1" / "classifier_real")
        found = predict(tmp_path, scheduler_address=cluster.scheduler_address, folds_together=2)
        assert killed.result() > 0
    assert found == expected


def test_workers_of_several_threads_are_refused(tmp_path):
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, memory_limit=0
        ) as cluster,
        pytest.raises(RuntimeError) as error,
    ):
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


@pytest.mark.slow
def test_the_error_of_a_stage_reaches_the_user(tmp_path):
    overrides = {"study_dir": str(tmp_path), "num_workers": 2, "phantom_matrix_size": [1, 2, 3]}
    with pytest.raises(RuntimeError) as error:
        run_invocation(Invocation((*config_files("study"), TINY), overrides))
    assert "matrix_size must be three sizes" in str(root_cause(error.value))
