"""A network on its device, in the memory layout that is fast there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def computes_bf16(device: torch.device | str) -> bool:
    """Say whether a device has instructions for bf16: a GPU of Ampere or later, a CPU with avx512_bf16 or amx_bf16.

    A GPU that is not in this machine is taken for one that has them.
    """
    if "cuda" in str(device):
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases cannot say
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def has_wrong_bf16_gradient(device: torch.device | str, sides: Sequence[int]) -> bool:
    """Say whether a CPU computes a wrong gradient in bf16 for the weights of a convolution over images of a size.

    Over volumes of two voxels along the first axis, oneDNN (3.12 of torch 2.13, avx512_bf16) reads memory that nobody
    wrote: the gradients of 3 x 3 x 3 kernels differ from call to call and are now and then not finite. That is of the
    convolutions of a U-Net, whose kernels have a side of 3 or 1 and whose images are halved without remainder; no other
    size of these was seen to have it, in 2D or 3D (`tests/scripts/training/test_placing.py`). Kernels of 5 or 7, and
    strides of 2 over a side of 1, are wrong at more sizes.

    Args:
        device: where it trains.
        sides: pixels or voxels of each axis.
    """
    return "cuda" not in str(device) and len(sides) == 3 and sides[0] == 2


def place_network(network_def: nn.Module, device: torch.device | str, channels_last: bool = False) -> nn.Module:
    """Move a network to the device, with channels last in memory if asked (it pays for sampling on a GPU)."""
    if not channels_last:
        return network_def.to(device)
    convolutions = [module for module in network_def.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d))]
    is_volume = any(isinstance(module, nn.Conv3d) for module in convolutions)
    return network_def.to(device, memory_format=torch.channels_last_3d if is_volume else torch.channels_last)
