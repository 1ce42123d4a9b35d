"""Rules about weights and networks, with the code of the package. Each yields one message per violation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ckpt_export, verify_net_in_out
from torch import Tensor, nn

from bundle.package import Package
from scripts.classifier.training_distance import FILE_NAME as DISTANCE
from scripts.classifier.training_distance import read_training_distance
from scripts.generator.gaussian_prior import with_fade
from scripts.inference.onnx_model import FILE_NAME, open_session, recorded_hash
from scripts.provenance.image_form import recorded_images, require_same_images
from scripts.provenance.record import read_provenance
from scripts.provenance.state_dicts import load_state, refuse_other_state
from scripts.running.errors import root_cause
from scripts.running.files import sha256_file

REPACK = "pack again with `python -m bundle pack`"


def weights(package: Package) -> Iterator[str]:
    """Weights are bare state dicts, readable with weights_only, that fit the networks of the configs."""
    for path in package.weights:
        name = path.relative_to(package.root).as_posix()
        config = "inference.json" if path == package.weights_path else "generate.json"
        fault = _first_fault(partial(load_network, package, config, path))
        if fault:
            yield f"{name} must be weights of network_def of configs/{config}, got: {fault}"


def strictness(package: Package) -> Iterator[str]:
    """A missing key raises, even where a loader passes strict=False and would go on with random weights."""
    network = package.parser("inference.json").get_parsed_content("network_def")
    state = dict(network.state_dict())
    state.pop(next(iter(state)))
    try:
        network.load_state_dict(state, strict=False)
    except (ValueError, RuntimeError):
        return
    yield (
        "network_def must refuse a state dict with a missing key, got a network that takes it with strict=False; let"
        " scripts.classifier.networks.FoldEnsemble.load_state_dict check the keys"
    )


def provenance(package: Package) -> Iterator[str]:
    """Beside every file of weights lies the record of what it was trained on, images as the configs make them."""
    images = package.parser("inference.json").get_parsed_content("image_facts")
    for path in package.weights:
        fault = _first_fault(partial(_check_record, path, images))
        if fault:
            yield f"{path.relative_to(package.root)} must have its provenance.json beside it, got: {fault}"


def net_in_out(package: Package) -> Iterator[str]:
    """The classifier takes and gives what the metadata describe, for one image."""
    arguments = {"meta_file": str(package.config_path("metadata.json")), "device": "cpu", "bundle_root": "."}
    for name in ("inference.json", "train.json"):
        check = {"config_file": str(package.config_path(name)), **arguments}
        fault = _first_fault(partial(verify_net_in_out, "network_def", **check))
        if fault:
            yield f"network_def of configs/{name} must be as network_data_format says, got: {fault}; {REPACK}"


def generator_in_out(package: Package) -> Iterator[str]:
    """The diffusion network takes and gives what the metadata describe, for one image."""
    described = package.metadata["generator_data_format"]
    inputs = {name: _fake(tensor) for name, tensor in described["inputs"].items()}
    pred = described["outputs"]["pred"]
    for name in ("generate.json", "train_generator.json"):
        fault = _first_fault(partial(_check_generator, package, name, inputs, pred))
        if fault:
            yield f"network_def of configs/{name} must be as generator_data_format says, got: {fault}; {REPACK}"


def torchscript(package: Package) -> Iterator[str]:
    """The classifier can be scripted with its weights, and an exported model.ts can be loaded."""
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder, "model.ts"))
        arguments = {
            "filepath": target,
            "ckpt_file": str(package.weights_path),
            "meta_file": str(package.config_path("metadata.json")),
            "config_file": str(package.config_path("inference.json")),
            "device": "cpu",
        }
        fault = _first_fault(lambda: ckpt_export("network_def", **arguments))
        fault = fault or _first_fault(lambda: torch.jit.load(target))
        if fault:
            yield f"network_def must be scriptable with its weights, got: {fault}; see what torch.jit understands"
    for path in sorted(package.root.glob("models/**/*.ts")):
        fault = _first_fault(partial(torch.jit.load, str(path), map_location="cpu"))
        if fault:
            yield f"{path.relative_to(package.root)} must be TorchScript, got: {fault}; export again"


def exports(package: Package) -> Iterator[str]:
    """An ONNX file beside the weights was exported from them as they are."""
    for path in sorted(package.root.glob(f"models/**/{FILE_NAME}")):
        name, state = path.relative_to(package.root), path.parent / "model.pt"
        session = open_session(path)
        if session is None:
            yield f"{name} must be readable by onnxruntime, got an error (see the log); export again or delete it"
        elif not state.is_file() or recorded_hash(session) != sha256_file(state):
            yield f"{name} must be exported from the model.pt beside it, got another; export again or delete it"


def training_distance(package: Package) -> Iterator[str]:
    """The file of distances from the training images, where there is one, can be read and is of the weights."""
    path = package.weights_path.with_name(DISTANCE)
    if path.is_file():
        fault = _first_fault(partial(_check_distance, path, package.weights_path))
        if fault:
            yield f"models/{DISTANCE} must be of the model.pt beside it, got: {fault}; pack again or delete it"


def load_network(package: Package, config: str, path: Path) -> nn.Module:
    """Build the network of a config with weights of the package, in evaluation mode on the CPU."""
    network = package.parser(config).get_parsed_content("network_def")
    state = with_fade(load_state(path))
    refuse_other_state(network.state_dict(), state, f"{path} must fit network_def of configs/{config}", REPACK)
    network.load_state_dict(state)
    return network.eval()


def _check_record(path: Path, images: Mapping[str, Any]) -> None:
    trained_on = recorded_images(read_provenance(path), path)
    require_same_images(trained_on, images, "the configs of the package", str(path))


def _check_distance(path: Path, weights_path: Path) -> None:
    known = read_training_distance(path).weights_sha256
    if known != sha256_file(weights_path):
        raise ValueError(f"weights_sha256 {known}")


def _check_generator(package: Package, name: str, inputs: Mapping[str, Tensor], pred: Mapping[str, Any]) -> None:
    network = package.parser(name).get_parsed_content("network_def").eval()
    with torch.no_grad():
        output = network(**inputs)
    expected = (1, pred["num_channels"], *pred["spatial_shape"])
    if tuple(output.shape) != expected or output.dtype != getattr(torch, pred["dtype"]):
        raise ValueError(f"pred of shape {tuple(output.shape)}, {output.dtype} instead of {expected}, {pred['dtype']}")


def _fake(tensor: Mapping[str, Any]) -> Tensor:
    if tensor["spatial_shape"]:
        return torch.rand(1, tensor["num_channels"], *tensor["spatial_shape"], dtype=getattr(torch, tensor["dtype"]))
    return torch.tensor([tensor["value_range"][-1]], dtype=getattr(torch, tensor["dtype"]))


def _first_fault(check: Callable[[], Any]) -> str:
    try:
        check()
    except Exception as error:  # noqa: BLE001 - the cause is what is told
        lines = str(root_cause(error)).strip().splitlines() or [type(error).__name__]
        return lines[0]
    return ""
