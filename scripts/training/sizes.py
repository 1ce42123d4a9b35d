"""Networks that are built and run for the sizes of their tensors alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

RANDOM = {nn.init.kaiming_uniform_, nn.init.kaiming_normal_, Tensor.uniform_, Tensor.normal_}


@contextlib.contextmanager
def sizes_only() -> Iterator[None]:
    """Let tensors have sizes and no values inside the block: nothing is allocated or computed.

    It is the meta device of PyTorch without what that works out operation by operation in Python: random weights, and
    batch normalization, which take three quarters of the time of a ResNet-152.
    """
    with torch.device("meta"), _WithoutValues():
        yield


class _WithoutValues(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in RANDOM:
            return args[0] if args else kwargs["tensor"]
        if func is F.batch_norm:
            return _normalized(*args, **kwargs)
        return func(*args, **kwargs)


def _normalized(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, training: bool = False, **others: Any
) -> Tensor:
    channels = input.shape[1]
    if running_mean is not None and len(running_mean) != channels:
        raise RuntimeError(f"running_mean should contain {channels} elements not {len(running_mean)}")
    if training and input.numel() == channels:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    return torch.empty_like(input)
