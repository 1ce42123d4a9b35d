"""What a training needs of memory: blocks computed twice instead of kept, and the peak, told before it begins."""

from __future__ import annotations

import math
import os
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

# Bytes of a trained weight: itself, its gradient, the two averages of AdamW and the average that is kept, all float32.
BYTES_PER_WEIGHT = 4 * 5
FREE_SHARE = 0.9  # of the memory that a training may fill: kernels and the allocator need some


def checkpoint_blocks(blocks: Iterable[nn.Module]) -> None:
    """Let blocks keep their inputs alone in training, and compute what is inside again for the gradient.

    Memory for a fifth to a third of the time. Weights, their names and what comes out are the same.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", section 3, by `torch.utils.checkpoint`.

    Args:
        blocks: parts of a network, called one after the other.
    """
    for block in blocks:
        block.forward = types.MethodType(_computed_twice, block)  # type: ignore[method-assign]


def _computed_twice(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    forward: Callable[..., Any] = partial(type(self).forward, self)
    if not (self.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training holds at its peak, as far as tensors go.

    Args:
        weights: weights with their gradients, the optimizer's averages and the average of the weights.
        activations: what the backward pass of one batch needs of the forward pass.
    """

    weights: int
    activations: int

    @property
    def peak(self) -> int:
        """All of it."""
        return self.weights + self.activations


def training_memory(
    network: nn.Module,
    blocks: Sequence[nn.Module],
    shape: Sequence[int],
    checkpointing: bool,
    bf16: bool,
    with_timesteps: bool = True,
) -> TrainingMemory:
    """Work out the memory of a training from the sizes of its tensors, without computing any.

    The forward pass is run on the meta device, and what autograd keeps is added up, each tensor once. With
    checkpointing, that is what lies outside the blocks, the inputs of all blocks, and the inside of the largest, which
    is computed again while all others wait.

    Args:
        network: on the meta device.
        blocks: those that `checkpoint_blocks` would treat, of this network, untreated.
        shape: (B, C, *spatial) of a batch of one process.
        checkpointing: whether they are treated.
        bf16: whether activations are bfloat16; autograd keeps them in half of the bytes then, and normalizations, which
            stay float32, in more: the half is an estimate.
        with_timesteps: whether it is called with images and timesteps, or with images alone.
    """
    kept = _KeptTensors(blocks)
    with kept, torch.enable_grad(), _FusedAttention():
        network.train()
        timesteps = [torch.zeros(shape[0], dtype=torch.long, device="meta")] if with_timesteps else []
        network(torch.zeros(*shape, device="meta"), *timesteps)
    inside = [kept.bytes_of(index) for index in range(len(blocks))]
    outside = kept.bytes_of(None)
    activations = outside + (kept.inputs + max(inside, default=0) if checkpointing else sum(inside))
    weights = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return TrainingMemory(BYTES_PER_WEIGHT * weights, activations // 2 if bf16 else activations)


class _FusedAttention(TorchFunctionMode):
    """Lets fused attention keep queries, keys, values and answers, as on a GPU, and no matrix, as the meta device."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key, value = [*args, *(kwargs[name] for name in ("query", "key", "value") if name in kwargs)][:3]
            return query * key * value
        return func(*args, **kwargs)


class _KeptTensors:
    """Adds up what autograd keeps, by the block that runs."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        self.blocks = blocks
        self.inputs = 0
        self._running: int | None = None
        self._kept: dict[int | None, dict[int, Tensor]] = {}

    def bytes_of(self, block: int | None) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._kept.get(block, {}).values())

    def __enter__(self) -> None:
        self._handles = []
        for index, block in enumerate(self.blocks):
            self._handles.append(block.register_forward_pre_hook(partial(self._begin, index), with_kwargs=True))
            self._handles.append(block.register_forward_hook(self._end))
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)
        self._hooks.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)
        for handle in self._handles:
            handle.remove()

    def _begin(self, index: int, block: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self._running = index
        hidden = kwargs.get("hidden_states")
        residuals = kwargs.get("res_hidden_states_list") or []
        for tensor in (*args, *([] if hidden is None else [hidden]), *residuals):
            self.inputs += tensor.numel() * tensor.element_size() if isinstance(tensor, Tensor) else 0

    def _end(self, *_: Any) -> None:
        self._running = None

    def _keep(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            # A view keeps the storage that another one keeps, too.
            base = tensor if tensor._base is None else tensor._base
            if not isinstance(base, nn.Parameter):
                self._kept.setdefault(self._running, {})[id(base)] = base
        return tensor


def available_memory(device: torch.device | str) -> int | None:
    """Return the bytes that a training may fill: of the GPU, or of what this process may take of the machine's memory.

    That is the least of the memory that there is and of the limits of the control groups of the process, by which
    containers and SLURM hold it. None where the system tells neither.
    """
    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(device).total_memory * FREE_SHARE)
    limits = [*_physical_memory(), *control_group_limits()]
    return int(min(limits) * FREE_SHARE) if limits else None


def _physical_memory() -> Iterator[int]:
    # Windows has no sysconf, and a system may not know these two names.
    with suppress(AttributeError, ValueError, OSError):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def control_group_limits(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """List the limits of memory, in bytes, of the control groups that this process is in, of Linux alone.

    Source: the kernel's documentation, "Control Group v2" (memory.max) and "Memory Resource Controller" of version 1
    (memory.limit_in_bytes). A limit of a group is one of all groups below it.

    Args:
        membership: file with the groups of the process, a line for each hierarchy: number, controllers, path.
        root: where the hierarchies are mounted.
    """
    lines = membership.read_text().splitlines() if membership.is_file() else []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "memory" not in controllers.split(","):
            continue
        mounted, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        own = PurePosixPath(path.lstrip("/"))
        for group in (own, *own.parents):
            with suppress(OSError, ValueError):  # a container may not see its groups; "max" is no limit
                yield int((mounted / group / name).read_text())


def refuse_too_large(
    memory_of: Callable[[Sequence[int], int], TrainingMemory],
    sides: Sequence[int],
    batch_size: int,
    divisor: int,
    available: int,
    keys: str,
    num_bytes_of_images: int = 0,
) -> TrainingMemory:
    """Refuse a training that does not fit into memory, and name sizes that would.

    Args:
        memory_of: memory of a training with sides and a batch size.
        sides: cells of each axis of what the network sees.
        batch_size: images of a process and step.
        divisor: by which sides must be divisible.
        available: bytes.
        keys: what else helps, for the message.
        num_bytes_of_images: of all images, which lie beside the training.

    Returns:
        The memory, where it fits.

    Raises:
        ValueError: with both numbers, and the largest batch and sides that fit.
    """
    memory = memory_of(sides, batch_size)
    left = available - num_bytes_of_images
    if memory.peak <= left:
        return memory
    ways = [keys]
    fitting_batch = _largest(range(1, batch_size), lambda batch: memory_of(sides, batch).peak <= left)
    if fitting_batch:
        ways.insert(0, f"batches of {fitting_batch}")
    else:
        smaller = list(_smaller(sides, divisor))
        cells = math.prod(sides)
        fitting = next(
            (
                size
                for size in smaller
                if memory_of(size, batch_size).peak + num_bytes_of_images * math.prod(size) // cells <= available
            ),
            None,
        )
        if fitting:
            ways.insert(0, f"patches of {list(fitting)}")
    raise ValueError(
        f"a training must fit into {_gib(available)} of memory, got about"
        f" {_gib(memory.peak + num_bytes_of_images)} for batches of {batch_size} at {list(sides)}"
        f" ({_gib(memory.activations)} of activations, {_gib(num_bytes_of_images)} of images); what would fit:"
        f" {', or '.join(ways)}"
    )


def _largest(numbers: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """Find the largest of rising numbers that fits, where each below one that fits does, too."""
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(numbers[middle]) else (low, middle)
    return numbers[low - 1] if low else None


def _smaller(sides: Sequence[int], divisor: int) -> Iterator[tuple[int, ...]]:
    """Shrink all sides together, by steps of the divisor of the longest."""
    longest = max(sides)
    for side in range(longest - divisor, divisor - 1, -divisor):
        yield tuple(max(divisor, math.floor(size * side / longest / divisor) * divisor) for size in sides)


def _gib(number: int) -> str:
    return f"{number / 2**30:.1f} GiB"
