"""State dicts: written with equal bytes, read without unpickling, compared with those of a network by name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.running.files import PathLike, atomic_path

logger = logging.getLogger(__name__)

WEIGHT_TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
COUNTER_TYPES = (torch.int64, torch.int32, torch.bool)  # steps counted, indices, settings


def save_tensors(path: PathLike, content: Any) -> None:
    """Write what `torch.save` takes, whole or not at all; equal tensors give equal bytes in every run."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        # Given a path, torch would store its name in the file: here one that holds the number of the process.
        torch.save(content, stream)


def load_state(
    path: PathLike, way_out: str = "save network.state_dict() alone", wrapped_as: str | None = None
) -> dict[str, Tensor]:
    """Read a bare state dict, on the CPU.

    Args:
        path: file that `torch.save` wrote; nothing in it is unpickled but tensors.
        way_out: what the user can do, for the messages.
        wrapped_as: key below which the state dict may lie, as in `{"model": state dict}`.

    Returns:
        Name -> tensor. Weights of half or double precision are returned as float32, with a warning in the log.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, holds anything else than tensors, weights that are not finite, or
            weights that are no floating-point numbers, as quantized ones are.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; {way_out}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{file} must be a file of tensors that torch.save wrote, got {_first_words(error)}; {way_out}"
        ) from error
    if isinstance(content, Mapping) and wrapped_as in content:
        content = content[wrapped_as]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        items = list(content)[:3] if isinstance(content, (Mapping, list, tuple)) else []
        contents = f" of {', '.join(str(item) for item in items)}" if items else ""
        raise ValueError(
            f"{file} must be a bare state dict, name -> tensor, got a {type(content).__name__}{contents}; {way_out}"
        )
    _refuse_unfit_numbers(file, content, way_out)
    return _as_float32(file, content)


def state_faults(expected: Mapping[str, Any], loaded: Mapping[str, Any]) -> list[str]:
    """Name what keeps a state dict from fitting a network, the most telling first; nothing if it fits.

    Args:
        expected: of the network.
        loaded: to be loaded.
    """
    shared = [name for name in expected if name in loaded]
    misshaped = [
        f"{name} has shape {shape_of(loaded[name])} instead of {shape_of(expected[name])}"
        for name in shared
        if shape_of(expected[name]) != shape_of(loaded[name])
    ]
    other_kind = [
        f"{name} is {loaded[name].dtype} instead of {expected[name].dtype}".replace("torch.", "")
        for name in shared
        if isinstance(loaded[name], Tensor) and loaded[name].is_floating_point() != expected[name].is_floating_point()
    ]
    missing = [f"{name} {shape_of(expected[name])} is missing" for name in expected if name not in loaded]
    unexpected = [f"{name} {shape_of(loaded[name])} is unexpected" for name in loaded if name not in expected]
    return misshaped + other_kind + missing[:2] + unexpected + missing[2:]


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Return the shape of a tensor; None of anything else that a state dict holds."""
    return tuple(value.shape) if isinstance(value, Tensor) else None


def refuse_other_state(expected: Mapping[str, Any], loaded: Mapping[str, Any], demand: str, way_out: str) -> None:
    """Stop where a state dict does not fit a network, before any weight is loaded.

    Args:
        expected: state dict of the network.
        loaded: state dict to be loaded.
        demand: what the weights must be, such as "model.pt must hold weights of the configured generator".
        way_out: what the user can do.

    Raises:
        ValueError: naming the first differences, or a prefix before every name.
    """
    refuse_prefix(expected, loaded, demand)
    faults = state_faults(expected, loaded)
    if faults:
        raise ValueError(f"{demand}, got {describe_faults(faults)}; {way_out}")


def describe_faults(faults: Sequence[str]) -> str:
    """Count what `state_faults` found and quote the first three."""
    return f"{len(faults)} difference{'s' * (len(faults) > 1)}: {'; '.join(faults[:3])}"


def refuse_prefix(expected: Mapping[str, Any], loaded: Mapping[str, Any], demand: str) -> None:
    """Stop where all names begin with a word that those of the network lack; the arguments of `refuse_other_state`.

    `torch.nn.DataParallel` puts "module." before every name, `torch.compile` "_orig_mod.".

    Raises:
        ValueError: naming the prefix and how to take it off.
    """
    heads = {name.split(".")[0] + "." for name in loaded}
    prefix = heads.pop() if len(heads) == 1 else ""
    bare = {name.removeprefix(prefix) for name in loaded}
    if prefix and bare & {*expected} and not any(name.startswith(prefix) for name in expected):
        raise ValueError(
            f"{demand}, got names that all begin with {prefix!r}, as torch.nn.DataParallel and other wrappers write"
            f" them; save {{name.removeprefix({prefix!r}): value for name, value in state.items()}}"
        )


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Tell whether every number of tensors is finite.

    A sum takes a tenth of the time of a look at every number, and is not finite if one of them is not; each number is
    looked at only where a sum is too large.

    >>> all_finite([torch.tensor([1.0, 2.0])]), all_finite([torch.tensor([float("inf"), -float("inf")])])
    (True, False)
    """
    values = [value.detach() for value in tensors]
    if not values or torch.stack([value.sum().float() for value in values]).isfinite().all():
        return True
    return bool(torch.stack([value.isfinite().all() for value in values]).all())


def _refuse_unfit_numbers(file: Path, content: Mapping[str, Tensor], way_out: str) -> None:
    for name, value in content.items():
        if value.dtype not in (*WEIGHT_TYPES, *COUNTER_TYPES):
            kind = str(value.dtype).removeprefix("torch.")
            raise ValueError(f"{file} must hold floating-point weights, got {kind} in {name}; {way_out}")
        if value.dtype in WEIGHT_TYPES and not all_finite([value]):
            raise ValueError(
                f"{file} must hold finite weights, got NaN or infinity in {name};"
                " its training has diverged: train again at a lower learning rate"
            )


def _as_float32(file: Path, content: Mapping[str, Tensor]) -> dict[str, Tensor]:
    others = sorted({str(value.dtype).removeprefix("torch.") for value in content.values() if _is_other_float(value)})
    if others:
        logger.warning("%s holds weights of %s; they are read as float32", file, " and ".join(others))
    return {name: value.float() if _is_other_float(value) else value for name, value in content.items()}


def _is_other_float(value: Tensor) -> bool:
    return value.is_floating_point() and value.dtype != torch.float32


def _first_words(error: Exception) -> str:
    # torch advises to unpickle what it refuses; what it refused stands further down.
    refused = re.search(r"WeightsUnpickler error: *([^\n]+)", str(error))
    lines = [refused[1] if refused else line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}{f': {lines[0]}' if lines else ''}"
