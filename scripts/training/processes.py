"""One training in several processes, one per GPU, as `torchrun` starts them: each takes its part of every batch.

All processes draw what is random of the whole batch (noise, timesteps, dropped labels, augmentation) from the same
random numbers and take their own rows, and the mean of their gradients is that of the batch. So the weights are those
of one process, but for rounding; dropout inside a network is drawn otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from monai.engines import PrepareBatch
from monai.handlers import MLFlowHandler, TensorBoardHandler
from torch import Tensor

from scripts.running.process import flush_subnormals
from scripts.running.progress import TrainingProgress
from scripts.running.stages import AlreadyFinished, Stage

OF_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
GOES_ON, IS_FINISHED, FAILED = range(3)
LONGEST_WAIT = timedelta(days=2)  # for process 0, which may make the data of the training before


def mean_over_processes(values: Mapping[str, float]) -> dict[str, float]:
    """Return the mean of each number over the processes, which have the same names in the same order."""
    if not dist.is_initialized():
        return dict(values)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    totals = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(totals)
    return dict(zip(values, (totals / dist.get_world_size()).tolist(), strict=True))


def is_main_process() -> bool:
    """Say whether this process is the one that writes; alone it is."""
    return not dist.is_initialized() or dist.get_rank() == 0


def by_main_process(work: Callable[[], object]) -> None:
    """Let process 0 do something, while the others wait for it; alone, do it.

    Args:
        work: what to do.

    Raises:
        AlreadyFinished: in every process, if `work` raises it.
        RuntimeError: in the others, if `work` fails, which process 0 raises as it is.
    """
    if not dist.is_initialized():
        work()
        return
    # A group of its own, on the CPU: those that train together keep the short timeout, by which a lost one is noticed.
    waiting = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
    outcome: int = GOES_ON
    error: BaseException | None = None
    if dist.get_rank() == 0:
        try:
            work()
        except AlreadyFinished as finished:
            outcome, error = IS_FINISHED, finished
        except Exception as refusal:
            outcome, error = FAILED, refusal
    told = torch.tensor(outcome)
    dist.broadcast(told, 0, group=waiting)
    if error is not None:
        raise error
    if int(told) == IS_FINISHED:
        raise SystemExit(0)
    if int(told) == FAILED:
        raise RuntimeError("process 0 has stopped; its message says why")


@dataclass(frozen=True)
class Processes:
    """The processes of a training.

    Args:
        rank: number of this one, from 0.
        count: how many there are.
        device: of this one.
    """

    rank: int
    count: int
    device: torch.device

    def begin(self, stage: Stage) -> None:
        """Let process 0 begin a stage, whose folder it locks, and the others wait and seed themselves alike.

        Raises:
            AlreadyFinished: in every process, if there is nothing left to do.
            RuntimeError: in the others, if process 0 refuses.
        """
        by_main_process(stage.begin)
        if self.rank > 0:
            flush_subnormals()
            stage.set_threads_and_seeds()

    def in_main(self, work: Callable[..., object], *arguments: Any) -> None:
        """Let process 0 alone do something at the end of a training."""
        if self.rank == 0:
            work(*arguments)

    def end(self, stage: Stage) -> None:
        """Let process 0 mark the stage as finished, and take leave of the others."""
        self.in_main(stage.end)
        dist.destroy_process_group()


def start_processes() -> Processes:
    """Meet the other processes of `torchrun`: by NCCL on GPUs, one each, by Gloo without any.

    Raises:
        ValueError: if torchrun has not started this process, or there are fewer GPUs than processes on this machine.
    """
    missing = [name for name in OF_TORCHRUN if name not in os.environ]
    if missing:
        raise ValueError(
            f"options/multi_gpu must be started by torchrun, got no {', '.join(missing)} in the environment; run"
            " torchrun --nproc_per_node GPUS -m monai.bundle run ..., or leave that overlay out"
        )
    place, device = int(os.environ["LOCAL_RANK"]), torch.device("cpu")
    if torch.cuda.is_available():
        if place >= torch.cuda.device_count():
            raise ValueError(
                f"nproc_per_node must be at most the {torch.cuda.device_count()} GPUs of this machine, got a process"
                f" {place + 1}"
            )
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size(), device)


class PartOfBatch(PrepareBatch):
    """Prepare a whole batch, and hand on the rows of this process.

    Args:
        prepare_batch: of the training in one process; it draws what is random of the whole batch.
        processes: of which this is one.
        batch_size_key: of the config, for the error's message.
    """

    def __init__(
        self, prepare_batch: PrepareBatch, processes: Processes, batch_size_key: str = "generator_batch_size"
    ) -> None:
        self.prepare_batch = prepare_batch
        self.processes = processes
        self.batch_size_key = batch_size_key

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what `prepare_batch` returns, each tensor cut along its first dimension.

        Raises:
            ValueError: if a batch cannot be shared out equally.
        """
        return self._part(self.prepare_batch(*args, **kwargs))

    def _part(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            rows, rest = divmod(len(value), self.processes.count)
            if rest:
                raise ValueError(
                    f"{self.batch_size_key} must be divisible by the {self.processes.count} processes of torchrun (and"
                    f" by the parts of a batch, where it has some), got {len(value)} images at once"
                )
            return value[self.processes.rank * rows : (self.processes.rank + 1) * rows]
        if isinstance(value, dict):
            return {key: self._part(item) for key, item in value.items()}
        return tuple(self._part(item) for item in value) if isinstance(value, tuple) else value


def handlers_here(handlers: Sequence[Any]) -> list[Any]:
    """Leave out, of all processes but one, what only shows the training to people."""
    shows = (TensorBoardHandler, MLFlowHandler, TrainingProgress)
    return [handler for handler in handlers if is_main_process() or not isinstance(handler, shows)]
