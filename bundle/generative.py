"""Checkpoints of `monai-generative`, the archived package whose diffusion networks moved into MONAI 1.4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.networks.nets import DiffusionModelUNet
from torch import Tensor

from scripts.provenance.state_dicts import describe_faults, refuse_prefix

# monai-generative built this layer and never called it: its weights mean nothing.
UNUSED = (".proj_attn.weight", ".proj_attn.bias")
# Name in MONAI -> name in monai-generative.
RENAMED = (
    (".attn.to_", ".to_"),
    (".attn.out_proj.", ".proj_attn."),
    (".out_proj.", ".to_out.0."),
    ("postconv", "conv"),
)


def network_arguments(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of `DiffusionModelUNet` that a checkpoint of monai-generative needs besides its sizes.

    Args:
        state_dict: of `generative.networks.nets.DiffusionModelUNet`.

    Returns:
        `include_fc=False, use_combined_linear=False` where it has self-attention without conditioning; with MONAI's
        defaults such a network would get a layer more, with random weights.
    """
    has_plain_attention = any(name.endswith(UNUSED) for name in state_dict)
    return {"include_fc": False, "use_combined_linear": False} if has_plain_attention else {}


def convert_state_dict(state_dict: Mapping[str, Tensor], network: DiffusionModelUNet) -> dict[str, Tensor]:
    """Rename the weights of a monai-generative diffusion network to those of MONAI's.

    `DiffusionModelUNet.load_old_state_dict` empties what it is given and leaves weights random that it does not find;
    here every weight of the network is found, and every weight of the checkpoint used, or it is an error.

    Args:
        state_dict: of `generative.networks.nets.DiffusionModelUNet`; is not changed.
        network: MONAI network of the same sizes, made with `network_arguments(state_dict)`.

    Returns:
        State dict for `network.load_state_dict`; the tensors are shared, not copied.

    Raises:
        ValueError: naming the first weights that have no counterpart or another shape, and the way out.
    """
    expected = network.state_dict()
    refuse_prefix(expected, state_dict, "state_dict must fit the network")
    sources = {name: _old_name(name, state_dict) for name in expected}
    unused = [name for name in state_dict if name not in sources.values() and not name.endswith(UNUSED)]
    faults = [f"{name} is missing" for name, old in sources.items() if old is None]
    faults += [f"{name} is unexpected" for name in unused]
    faults += [
        f"{name} has shape {tuple(state_dict[old].shape)} instead of {tuple(expected[name].shape)}"
        for name, old in sources.items()
        if old is not None and state_dict[old].shape != expected[name].shape
    ]
    # Without the layer that was never called, or its weights would be called now.
    faults += [f"{name} was never used" for name, old in sources.items() if old is not None and old.endswith(UNUSED)]
    if faults:
        arguments = ", ".join(f"{key}={value}" for key, value in network_arguments(state_dict).items())
        raise ValueError(
            f"state_dict must fit the network, got {describe_faults(faults)}; make the network"
            f" with the sizes of the checkpoint{' and ' + arguments if arguments else ''}"
        )
    return {name: state_dict[old] for name, old in sources.items() if old is not None}


def _old_name(name: str, state_dict: Mapping[str, Tensor]) -> str | None:
    candidates = [name, *(name.replace(new, old) for new, old in RENAMED if new in name)]
    return next((candidate for candidate in candidates if candidate in state_dict), None)
