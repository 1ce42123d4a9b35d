"""The classifier as an exported ONNX file, used in place of the network where it is surely of the same weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from monai.utils import optional_import
from torch import Tensor, nn

from scripts.provenance.record import record_path
from scripts.running.files import read_json

logger = logging.getLogger(__name__)

FILE_NAME = "model.onnx"
HASH_KEY = "weights_sha256"  # in the metadata of the ONNX file: the state dict that it was exported from


class OnnxClassifier(nn.Module):
    """A classifier computed by ONNX Runtime on the CPU.

    Args:
        session: `onnxruntime.InferenceSession` with one input and probabilities as output.
    """

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session = session
        self.input_name = session.get_inputs()[0].name

    def forward(self, image: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            image: shape (B, C, *spatial), [-1, 1], background -1.

        Returns:
            Log of the probabilities, shape (B, K): logits, as `FoldEnsemble` gives them.
        """
        plain = image.as_subclass(Tensor).detach().cpu().float().contiguous().numpy()
        (probabilities,) = self.session.run(None, {self.input_name: plain})
        return torch.from_numpy(probabilities).log().to(image.device)


def prefer_onnx(network: nn.Module, weights_path: str, device: torch.device | str = "cpu") -> nn.Module:
    """Take the ONNX file beside the weights where that is faster and surely the same.

    Args:
        network: classifier with the weights loaded by `scripts.inference.weights.load_classifier`, which compares
            them with their record.
        weights_path: what it was loaded from, with that record, `provenance.json`, beside it.
        device: where the network is.

    Returns:
        `OnnxClassifier`, if the device is a CPU, ONNX Runtime is installed and `model.onnx` beside the weights records
        their hash; else `network`.
    """
    path = Path(weights_path).parent / FILE_NAME
    if torch.device(device).type != "cpu" or not path.is_file():
        return network
    session = open_session(path)
    if session is None:
        return network
    if recorded_hash(session) != read_json(record_path(weights_path))["weights_sha256"]:
        logger.warning("%s is not used: it was not exported from %s as it is now", path, weights_path)
        return network
    logger.info("%s answers in place of %s", path, weights_path)
    return OnnxClassifier(session)


def open_session(path: str | Path) -> Any | None:
    """Open an ONNX file with as many threads as torch has; None, with a line in the log, where that cannot be."""
    runtime, installed = optional_import("onnxruntime")
    if not installed:
        logger.info("%s is not used: onnxruntime is not installed", path)
        return None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Threads that spin take the cores of other programs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - a file that cannot be read changes nothing, whatever is wrong with it
        logger.warning("%s is not used: %s", path, error)
        return None


def recorded_hash(session: Any) -> str | None:
    """Return the hash of the state dict that a session's file was exported from; None if it records none."""
    return session.get_modelmeta().custom_metadata_map.get(HASH_KEY)
