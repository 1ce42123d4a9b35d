"""The stages of a study on several worker processes, through dask.distributed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import dask
from distributed import Client, LocalCluster, as_completed

from scripts.configs import Invocation
from scripts.progress import progress
from scripts.stages import invoked

if TYPE_CHECKING:
    from scripts.study import PlannedStage, Study


def run_on_workers(study: Study, invocation: Invocation | None, num_workers: int) -> None:
    """Run the stages of a study on worker processes, each as soon as those it needs are done.

    One stage at a time in a worker: threads would share torch's random state. What a stage computes depends on its
    config, `num_threads` among it, and not on how many workers there are.

    Args:
        study: what to run.
        invocation: files and overrides of the study, which the workers cannot see on their command lines.
        num_workers: processes on this machine, >= 1.

    Raises:
        Exception: the error of the first stage that failed; the stages that do not need it may have run.
    """
    plan = study.plan()
    logging.getLogger("distributed").setLevel(logging.ERROR)
    # Daemonic processes cannot start the workers of a data loader.
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        LocalCluster(
            n_workers=num_workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
            env={"TQDM_DISABLE": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        ) as cluster,
        Client(cluster) as client,
    ):
        futures: dict[str, object] = {}
        for priority, planned in enumerate(plan):
            needed = [futures[name] for name in planned.needs]
            futures[planned.name] = client.submit(
                run_planned, study, planned, invocation, needed, key=planned.name, priority=-priority, pure=False
            )
        for future in progress(as_completed(futures.values()), total=len(plan), description="study"):
            future.result()


def run_planned(study: Study, planned: PlannedStage, invocation: Invocation | None, needed: list[bool]) -> bool:
    """Run one stage in a worker; `needed` holds the results of the stages before it and is not read."""
    if invocation is None:
        return study.run_stage(planned)
    with invoked(invocation):
        return study.run_stage(planned)
