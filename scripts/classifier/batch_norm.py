"""BatchNorm of a training in several processes: the statistics are those of the whole batch, as in one process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def over_all_processes(network: nn.Module) -> nn.Module:
    """Let every BatchNorm of a network take its statistics over all processes; parameters stay the same objects.

    PyTorch's `SyncBatchNorm` does this on GPUs alone; this one works wherever the processes meet.

    Args:
        network: changed in place.

    Returns:
        The network.
    """
    if isinstance(network, _BatchNorm):
        return _converted(network)
    for name, child in network.named_children():
        setattr(network, name, over_all_processes(child))
    return network


class BatchNormOverProcesses(_BatchNorm):
    """BatchNorm whose mean and variance in training are of the images of all processes, as many in each.

    Source: Ioffe and Szegedy 2015, "Batch Normalization", algorithm 1, with the batch spread over the processes.
    Alone, and in evaluation mode, it is PyTorch's own.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (B, C, *spatial) over all but the channels; the result has the type of the input."""
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        values = input.float()
        axes = [axis for axis in range(values.ndim) if axis != 1]
        count = values.numel() // values.shape[1] * dist.get_world_size()
        mean = _SumOverProcesses.apply(values.sum(axes)) / count
        centered = values - self._of_channels(mean, values)
        variance = _SumOverProcesses.apply(centered.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / max(count - 1, 1))
        normalized = centered * self._of_channels((variance + self.eps).rsqrt(), values)
        if self.affine:
            normalized = normalized * self._of_channels(self.weight, values) + self._of_channels(self.bias, values)
        return normalized.to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)

    @staticmethod
    def _of_channels(value: Tensor, like: Tensor) -> Tensor:
        return value.reshape(1, -1, *[1] * (like.ndim - 2))

    def _check_input_dim(self, input: Tensor) -> None:
        """Take 2D and 3D images, which PyTorch has a class for each."""


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; each loss depends on the parts of all, so gradients are summed, too."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def _converted(norm: _BatchNorm) -> BatchNormOverProcesses:
    converted = BatchNormOverProcesses(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    for own, others in ((converted._parameters, norm._parameters), (converted._buffers, norm._buffers)):
        own.update(others)  # type: ignore[arg-type]
    return converted.train(norm.training)
