"""The stages of a study on several worker processes, through dask.distributed."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from multiprocessing import forkserver
from typing import Any, NamedTuple, Protocol, TypeVar

import dask
import torch
from distributed import Client, Future, LocalCluster, Worker, WorkerPlugin, wait
from distributed import TimeoutError as NoneFinishedError
from distributed.utils import get_mp_context

from scripts.running.folders import waiting_for_locks

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0  # between two looks at the workers
PATIENCE_SECONDS = 60.0  # without a worker until the study is given up; one that is restarted needs about ten
# On Linux workers are forked from a process that imported these once, and that runs no stage and touches no device;
# elsewhere a fork is not safe, or there is none, and each worker imports them for itself.
START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
PRELOADED = [
    "distributed",
    "monai.bundle",
    "captum.attr",
    "monai.networks.nets",
    "skimage.segmentation",
    "sklearn.metrics",
    "torchmetrics",
    "torch._dynamo",  # which optimizers import
    "scripts.running.study",
]
ENVIRONMENT = {"TQDM_DISABLE": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # of workers; read when tqdm and torch are imported


class NeedsStages(Protocol):
    """What is run: it has a name, and knows the names of those before it."""

    @property
    def name(self) -> str:
        """Name of the stage."""

    @property
    def needs(self) -> Sequence[str]:
        """Names of the stages whose outputs it reads."""


Planned = TypeVar("Planned", bound=NeedsStages)


class Moment(NamedTuple):
    """What has changed since the moment before.

    Args:
        finished: numbers of the tasks that are finished since.
        at_work: numbers of those that were sent to workers, one to each.
    """

    finished: list[int]
    at_work: list[int]


class OneDevice(WorkerPlugin):
    """Give each worker process of this machine one of its GPUs, in turn; without GPUs it does nothing."""

    name = "one_device"

    def setup(self, worker: Worker) -> None:
        """Hide the other GPUs before the first stage looks for one."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
        if devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[int(worker.name) % len(devices)]


class DeafToInterrupts(WorkerPlugin):
    """Leave Ctrl-C, which a terminal sends to every process, to the one that started the workers and ends them."""

    name = "deaf_to_interrupts"

    def setup(self, worker: Worker) -> None:
        """Ignore the signal in this process, which would print its tracebacks over the last line of the study."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class WorkerWatch:
    """Notice that workers are gone for good, for which dask silently waits forever.

    A worker that dies while it is being started is not replaced by dask.

    Args:
        client: of the workers.
        num_workers: how many this machine started; of a scheduler elsewhere 0, as a batch system may add some after
            hours.
        patience: seconds without them until something is said.
    """

    def __init__(self, client: Client, num_workers: int, patience: float = PATIENCE_SECONDS) -> None:
        self.client = client
        self.num_workers = num_workers
        self.patience = patience
        self._complete = time.monotonic()
        self._told: set[str] = set()

    def look(self) -> int:
        """Count the workers.

        Returns:
            How many are there.

        Raises:
            RuntimeError: if all workers of this machine have been gone for `patience` seconds.
        """
        names = {str(worker["name"]) for worker in self.client.scheduler_info(n_workers=-1)["workers"].values()}
        missing = {str(number) for number in range(self.num_workers)} - names
        if names and not missing:
            self._complete, self._told = time.monotonic(), set()
        elif time.monotonic() - self._complete >= self.patience:
            self._tell(names, missing)
        return len(names)

    def _tell(self, names: set[str], missing: set[str]) -> None:
        if not self.num_workers:
            self._once("no worker of scheduler_address is there; waiting until one joins")
        elif not names:
            raise RuntimeError(
                f"num_workers must be workers that stay alive, got none of {self.num_workers} for {self.patience:.0f}"
                " s: each died while it started, of too little memory perhaps; the same command continues, with a"
                " smaller --num_workers if memory was short"
            )
        else:
            self._once(
                f"worker {', '.join(sorted(missing))} of {self.num_workers} died while it started and is not replaced;"
                f" the study goes on with {len(names)}"
            )

    def _once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.warning("%s", message)


def run_on_workers(
    tasks: Sequence[Sequence[Planned]],
    run_task: Callable[[Sequence[Planned]], Any],
    num_workers: int,
    scheduler_address: str | None = None,
    prefix: str = "",
    patience: float = PATIENCE_SECONDS,
) -> Generator[Moment, None, None]:
    """Run tasks on worker processes, each as soon as those it needs are done.

    A task is a stage, or classifiers that train together. One task at a time in a worker: threads would share torch's
    random state. What a stage computes depends on its config, `num_threads` among it, and not on how many workers there
    are. A task whose worker dies is run again by another one, and goes on from its last checkpoint.

    Args:
        tasks: stages that one worker runs at a time, after those they need.
        run_task: does the work of one; workers get a copy of it.
        num_workers: processes on this machine, >= 1; they share its GPUs, so that there is one each if there are as
            many.
        scheduler_address: of a running dask scheduler, such as "tcp://host:8786", whose workers of one thread each see
            the same files; None starts processes here.
        prefix: of the names that the scheduler knows the tasks by; one scheduler may serve several studies.
        patience: seconds without workers until something is said.

    Yields:
        Now and then, what has changed.

    Raises:
        ValueError: if a worker of the scheduler runs more than one stage at a time.
        RuntimeError: if all workers are gone for good.
        Exception: the error of the first task that failed; the tasks that do not need it may have run.
    """
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with ExitStack() as stack:
        client = stack.enter_context(Client(scheduler_address or stack.enter_context(_local_cluster(num_workers))))
        if scheduler_address is None:
            client.register_plugin(OneDevice())
            client.register_plugin(DeafToInterrupts())
        _refuse_threads(client)

        def submit(number: int) -> Future:
            key = f"{prefix}{tasks[number][0].name}"
            return client.submit(_run_in_worker, run_task, tasks[number], key=key, priority=-number, pure=False)

        watch = WorkerWatch(client, num_workers if scheduler_address is None else 0, patience)
        try:
            yield from _moments(tasks, submit, watch)
        except (KeyboardInterrupt, GeneratorExit):
            # What dask says of the tasks that are lost with it is known already.
            logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)
            raise


def _moments(
    tasks: Sequence[Sequence[Planned]], submit: Callable[[int], Future], watch: WorkerWatch
) -> Iterator[Moment]:
    """Send a task when a worker is free for it, the earliest in the plan that has all it needs.

    A graph given to dask as a whole has a task wait for the worker that holds what it needs, although another is idle:
    dask guesses how long a task takes from tasks before it, and stages take from a tenth of a second to hours.
    """
    waiting, done_stages = list(range(len(tasks))), set[str]()
    at_work: dict[Future, int] = {}
    finished: list[int] = []
    while waiting or at_work:
        num_free = max(1, watch.look()) - len(at_work)
        for number in _ready(tasks, waiting, done_stages)[: max(0, num_free)]:
            waiting.remove(number)
            at_work[submit(number)] = number
        assert at_work, "a task needs a stage that no task before it makes"
        yield Moment(finished, sorted(at_work.values()))
        try:
            done = wait(list(at_work), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
        except NoneFinishedError:
            done = set()
        # In the order of the plan: of several errors the first is told.
        finished = sorted(at_work.pop(future) for future in _without_error(sorted(done, key=at_work.__getitem__)))
        done_stages.update(planned.name for number in finished for planned in tasks[number])
    yield Moment(finished, [])


def _ready(tasks: Sequence[Sequence[Planned]], waiting: Sequence[int], done_stages: AbstractSet[str]) -> list[int]:
    """Numbers of the waiting tasks that have all they need, in the order of the plan."""
    return [
        number for number in waiting if all(name in done_stages for planned in tasks[number] for name in planned.needs)
    ]


def _without_error(futures: Iterable[Future]) -> Iterator[Future]:
    for future in futures:
        future.result()
        yield future


def _run_in_worker(run_task: Callable[[Sequence[Planned]], Any], task: Sequence[Planned]) -> None:
    with waiting_for_locks():
        run_task(task)


def _refuse_threads(client: Client) -> None:
    workers = client.scheduler_info(n_workers=-1)["workers"]
    threads = {address: worker["nthreads"] for address, worker in workers.items() if worker["nthreads"] != 1}
    if threads:
        address, number = next(iter(threads.items()))
        raise ValueError(
            f"scheduler_address must have workers of one thread, got {number} threads at {address}: stages would share"
            " torch's random state; start them with `dask worker --nthreads 1 --nworkers N`"
        )


@contextmanager
def _local_cluster(num_workers: int) -> Iterator[LocalCluster]:
    # Daemonic processes cannot start the workers of a data loader.
    settings = {"distributed.worker.daemon": False, "distributed.worker.multiprocessing-method": START_METHOD}
    with dask.config.set(settings):
        if START_METHOD == "forkserver":
            _start_fork_server()
        with LocalCluster(
            n_workers=num_workers,
            threads_per_worker=1,
            memory_limit=0,
            # No page in a browser; without a port of its own the scheduler would take 8787 and warn where that is in
            # use.
            dashboard_address=":0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
            env=ENVIRONMENT,
        ) as cluster:
            yield cluster


def _start_fork_server() -> None:
    """Start the process that workers are forked from, in their environment, unless there is one."""
    get_mp_context().set_forkserver_preload(PRELOADED)  # dask sets modules of its own the first time that it is asked
    # What dask gives to a worker before it starts, one thread for BLAS above all, is read by what is imported here.
    of_dask = {name: str(value) for name, value in dask.config.get("distributed.nanny.pre-spawn-environ", {}).items()}
    environment = {**of_dask, **ENVIRONMENT}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
