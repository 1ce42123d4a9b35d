"""A network on its device, in the memory layout that is fast there."""

from __future__ import annotations

import torch
from torch import nn


def place_network(network_def: nn.Module, device: torch.device | str, channels_last: bool = False) -> nn.Module:
    """Move a network to the device, with channels last in memory if asked (it pays for sampling on a GPU)."""
    if not channels_last:
        return network_def.to(device)
    convolutions = [module for module in network_def.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d))]
    is_volume = any(isinstance(module, nn.Conv3d) for module in convolutions)
    return network_def.to(device, memory_format=torch.channels_last_3d if is_volume else torch.channels_last)
