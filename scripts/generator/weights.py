"""The weights of a generator, into its network."""

from __future__ import annotations

import torch
from torch import nn

from scripts.provenance.state_dicts import load_state, refuse_other_state


def load_generator(network: nn.Module, generator_path: str, compile_network: bool = False) -> nn.Module:
    """Load the weights of a trained generator into a network, all of them or none.

    Args:
        network: network of the same architecture.
        generator_path: bare state dict.
        compile_network: compile it with CUDA graphs, which takes about a minute and pays for long sampling on a GPU.

    Returns:
        The network, in eval mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the weights are of another architecture or not finite.
    """
    state = load_state(generator_path, "write it with configs/train_generator.yaml")
    refuse_other_state(
        network.state_dict(),
        state,
        f"{generator_path} must hold weights of the configured generator",
        "set generator_channels and the other generator_* keys, modalities and spatial_dims as in its training"
        " (config.yaml beside it)",
    )
    network.load_state_dict(state)
    network.eval()
    return torch.compile(network, mode="reduce-overhead") if compile_network else network
