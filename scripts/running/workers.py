"""The stages of a study on several worker processes, through dask.distributed."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import dask
import torch
from distributed import Client, Future, LocalCluster, Worker, WorkerPlugin, as_completed

from scripts.running.configs import Invocation
from scripts.running.progress import progress
from scripts.running.stages import invoked

if TYPE_CHECKING:
    from scripts.running.study import PlannedStage, Study


class OneDevice(WorkerPlugin):
    """Give each worker process of this machine one of its GPUs, in turn; without GPUs it does nothing."""

    name = "one_device"

    def setup(self, worker: Worker) -> None:
        """Hide the other GPUs before the first stage looks for one."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
        if devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[int(worker.name) % len(devices)]


def run_on_workers(
    study: Study, invocation: Invocation | None, num_workers: int, scheduler_address: str | None = None
) -> None:
    """Run the tasks of a study on worker processes, each as soon as those it needs are done.

    A task is a stage, or classifiers that train together (`Study.tasks`). One task at a time in a worker: threads would
    share torch's random state. What a stage computes depends on its config, `num_threads` among it, and not on how many
    workers there are. A stage whose worker dies is run again by another one, and goes on from its last checkpoint.

    Args:
        study: what to run.
        invocation: files and overrides of the study, which the workers cannot see on their command lines.
        num_workers: processes on this machine, >= 1; they share its GPUs, so that there is one each if there are as
            many.
        scheduler_address: of a running dask scheduler, such as "tcp://host:8786", whose workers of one thread each see
            the same files; None starts processes here.

    Raises:
        ValueError: if a worker of the scheduler runs more than one stage at a time.
        Exception: the error of the first stage that failed; the stages that do not need it may have run.
    """
    tasks = study.tasks()
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with ExitStack() as stack:
        # Daemonic processes cannot start the workers of a data loader.
        stack.enter_context(dask.config.set({"distributed.worker.daemon": False}))
        client = stack.enter_context(Client(scheduler_address or stack.enter_context(_local_cluster(num_workers))))
        if scheduler_address is None:
            client.register_plugin(OneDevice())
        _refuse_threads(client)
        futures: list[Future] = []
        future_of_stage: dict[str, Future] = {}
        for priority, task in enumerate(tasks):
            needed = dict.fromkeys(name for planned in task for name in planned.needs)
            future = client.submit(
                run_task,
                study,
                task,
                invocation,
                [future_of_stage[name] for name in needed],
                key=str((study.study_dir / task[0].name).resolve()),  # one scheduler may serve several studies
                priority=-priority,
                pure=False,
            )
            futures.append(future)
            future_of_stage.update({planned.name: future for planned in task})
        for future in progress(as_completed(futures), total=len(futures), description="study"):
            future.result()


def run_task(study: Study, task: Sequence[PlannedStage], invocation: Invocation | None, needed: list[None]) -> None:
    """Run one task in a worker; `needed` holds the results of the tasks before it and is not read."""
    if invocation is None:
        return study.run_task(task)
    with invoked(invocation):
        return study.run_task(task)


def _refuse_threads(client: Client) -> None:
    workers = client.scheduler_info(n_workers=-1)["workers"]
    found = {address: worker["nthreads"] for address, worker in workers.items() if worker["nthreads"] != 1}
    if found:
        address, threads = next(iter(found.items()))
        raise ValueError(
            f"scheduler_address must have workers of one thread, got {threads} threads at {address}: stages would share"
            " torch's random state; start them with `dask worker --nthreads 1 --nworkers N`"
        )


def _local_cluster(num_workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=num_workers,
        threads_per_worker=1,
        memory_limit=0,
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
        env={"TQDM_DISABLE": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    )
