"""The networks of a package as TorchScript and ONNX files, compared with what they were made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.utils import optional_import
from torch import Tensor, nn

from bundle.large_files import FILE_NAME as LARGE_FILES
from bundle.large_files import url_base_of, write_large_files
from bundle.package import Package, packaged_scripts, random_weights_left_out
from bundle.rules_networks import load_network
from scripts.inference.onnx_model import HASH_KEY, open_session
from scripts.running.files import atomic_path, sha256_file

FORMATS = ("torchscript", "onnx")
MAX_DIFFERENCE = 1e-4  # of any output from the network's own


class Probabilities(nn.Module):
    """A classifier that gives probabilities, for programs that do nothing after the network.

    Args:
        network: gives logits (B, K).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities (B, K) of images (B, C, *spatial)."""
        return torch.softmax(self.network(image), dim=1)


def export(root: str | Path, file_format: str) -> dict[Path, float]:
    """Export every network of a package and list the files in its `large_files.yml`.

    The classifier becomes `models/model.onnx` or `models/exports/classifier.ts`, with probabilities as output; each
    generator `model.onnx` or `model.ts` beside its weights, traced, with the network's own output.

    Args:
        root: root of the package.
        file_format: one of `FORMATS`.

    Returns:
        Path of each file -> largest difference of its output from that of the network, on random images.

    Raises:
        ValueError: if the format is unknown or a file differs by more than `MAX_DIFFERENCE`, and then writes no file.
        ImportError: if a package that is needed for ONNX is not installed.
    """
    if file_format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {file_format!r}")
    if file_format == "onnx":
        _require_onnx()
    folder = Path(root).resolve()
    package = Package(folder)
    base = url_base_of(folder)
    with packaged_scripts(folder), random_weights_left_out(), torch.no_grad():
        written = dict(_export_one(package, path, file_format) for path in package.weights)
    if (folder / LARGE_FILES).is_file():
        write_large_files(folder, base)
    return written


def _export_one(package: Package, weights: Path, file_format: str) -> tuple[Path, float]:
    is_classifier = weights == package.weights_path
    inputs = _example(package, "network_data_format" if is_classifier else "generator_data_format")
    network = load_network(package, "inference.json" if is_classifier else "generate.json", weights)
    network = Probabilities(network).eval() if is_classifier else network
    if file_format == "onnx":
        return write_onnx(network, inputs, weights)
    target = weights.parent / ("exports/classifier.ts" if is_classifier else "model.ts")
    return _write_torchscript(network, inputs, target, script=is_classifier)


def _write_torchscript(
    network: nn.Module, inputs: Mapping[str, Tensor], target: Path, script: bool
) -> tuple[Path, float]:
    arguments = tuple(inputs.values())
    module = torch.jit.script(network) if script else torch.jit.trace(network, arguments, check_trace=False)
    with atomic_path(target) as temporary:
        with temporary.open("wb") as stream:
            # Given a path, torch would store the temporary name in the file.
            torch.jit.save(module, stream)
        loaded = torch.jit.load(str(temporary))
        difference = _check(network, lambda *values: loaded(*values), inputs, target)
    return target, difference


def write_onnx(network: nn.Module, inputs: Mapping[str, Tensor], weights: Path) -> tuple[Path, float]:
    """Write a network as one ONNX file beside its weights, with their hash in its metadata.

    Args:
        network: in evaluation mode, with those weights.
        inputs: name -> example, a batch of two.
        weights: state dict of the network.

    Returns:
        Path of the file and the largest difference of its output from the network's.

    Raises:
        ValueError: if the difference is above `MAX_DIFFERENCE`, and then no file is written.
    """
    target = weights.with_name("model.onnx")
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        network,
        tuple(inputs.values()),
        dynamo=True,
        input_names=list(inputs),
        output_names=["probabilities" if isinstance(network, Probabilities) else "pred"],
        dynamic_shapes=tuple({0: batch} for _ in inputs),
        verbose=False,
    )
    program.model.metadata_props[HASH_KEY] = sha256_file(weights)
    with atomic_path(target) as temporary:
        program.save(str(temporary), external_data=False)
        session = open_session(temporary)
        if session is None:
            raise ValueError(f"{target} must be readable by onnxruntime, got an error (see the log)")
        names = [item.name for item in session.get_inputs()]

        def run(*values: Tensor) -> Tensor:
            feed = {name: value.numpy() for name, value in zip(names, values, strict=True)}
            return torch.from_numpy(session.run(None, feed)[0])

        difference = _check(network, run, inputs, target)
    return target, difference


def _check(network: nn.Module, exported: Callable[..., Tensor], inputs: Mapping[str, Tensor], target: Path) -> float:
    # Another batch size than that of the example, so that a size frozen by tracing shows.
    others = [torch.cat([value, value.flip(0)])[:3] for value in inputs.values()]
    difference = float(np.abs(network(*others).numpy() - exported(*others).numpy()).max())
    if not difference <= MAX_DIFFERENCE:
        raise ValueError(
            f"{target} must equal its network within {MAX_DIFFERENCE:g}, got a difference of {difference:g}"
        )
    return difference


def _example(package: Package, field: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    described = package.metadata[field]["inputs"]
    return {name: _random(tensor, generator) for name, tensor in described.items()}


def _random(tensor: Mapping[str, Any], generator: torch.Generator) -> Tensor:
    shape: Sequence[int] = tensor["spatial_shape"]
    if shape:
        return torch.rand(2, tensor["num_channels"], *shape, generator=generator) * 2 - 1
    low, high = tensor["value_range"]
    return torch.randint(low, high + 1, (2,), generator=generator)


def _require_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not optional_import(name)[1]]
    if missing:
        raise ImportError(
            f"{', '.join(missing)} must be installed to export ONNX; pip install -c constraints.txt '.[export]'"
        )
