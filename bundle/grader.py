"""Grades patients with the weights of a bundle, one request after another, as `monai.bundle run` grades one."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from bundle.request_errors import NotReadyError, RequestError
from scripts.explanations.maps import METHODS
from scripts.inference.answers import AnswerWriter
from scripts.inference.patient import CHOSEN
from scripts.inference.requests import parse_request
from scripts.inference.weights import describe_weights
from scripts.patches.crop import Overview
from scripts.running.errors import root_cause
from scripts.running.files import read_json

CONFIG = "inference.json"
KEYS = ("subject_id", "images", "image", "channel_order", "mask", "mask_codes", "click")
# The record and the weights are two files: whoever replaces both is between them for a moment.
RELOADS, WAIT_S = 10, 0.2
EXPECTED = (ValueError, TypeError, FileNotFoundError)


@dataclass(frozen=True)
class Loaded:
    """What a bundle's config makes of one file of weights; nothing in it changes from request to request."""

    stamp: tuple[int, int, int]
    network: torch.nn.Module
    preprocessing: Any
    postprocessing: Any
    inferer: Any
    writer: AnswerWriter
    weights: dict[str, Any]
    device: torch.device


@dataclass(frozen=True)
class Grade:
    """An answer, the patch that it is about, (C, *spatial) with its affine, and the slice that it was cut from."""

    answer: dict[str, Any]
    patch: Any
    loaded: Loaded
    overview: Overview | None = None


class Grader:
    """The network of a bundle, loaded once and again whenever its weights are replaced.

    Args:
        bundle_dir: root of the bundle, with `configs/inference.json` and `models/model.pt`.
        device: "cpu" or "cuda"; None takes CUDA where there is one.

    Raises:
        FileNotFoundError: if there is no such config.
    """

    def __init__(self, bundle_dir: Path, device: str | None = None) -> None:
        path = bundle_dir / "configs" / CONFIG
        self.metadata = read_json(bundle_dir / "configs" / "metadata.json")
        self.config = {**ConfigParser.load_config_file(str(path)), "bundle_root": str(bundle_dir)}
        if device is not None:
            self.config["device"] = f"$torch.device({device!r})"
        parser = ConfigParser(dict(self.config))
        self.modalities: list[str] = parser.get_parsed_content("modalities")
        self.classes: dict[str, int] = parser.get_parsed_content("classes")
        self.num_dims = int(parser.get_parsed_content("spatial_dims"))
        self.weights_path = Path(parser.get_parsed_content("weights_path"))
        self._loaded: Loaded | None = None
        self._loading = threading.Lock()
        self._computing = threading.Lock()

    def load(self) -> Loaded:
        """Return the network of the weights that lie there now.

        Raises:
            NotReadyError: if there are none, or their record is not about them.
        """
        with self._loading:
            for attempt in range(RELOADS):
                try:
                    stamp = _stamp(self.weights_path)
                    if self._loaded is None or self._loaded.stamp != stamp:
                        self._loaded = self._load(stamp)
                    return self._loaded
                except Exception as error:
                    cause = root_cause(error)
                    if not isinstance(cause, EXPECTED):
                        raise
                    if attempt == RELOADS - 1:
                        raise NotReadyError(str(cause)) from error
                    time.sleep(WAIT_S)
        raise AssertionError("unreachable")

    def grade(self, request: Mapping[str, Any]) -> Grade:
        """Grade one patient.

        Args:
            request: keys that `scripts.inference.requests.parse_request` understands.

        Raises:
            RequestError: if it is incomplete, not understood, or a file cannot be used.
        """
        loaded = self.load()
        try:
            item = loaded.preprocessing({key: request[key] for key in (*KEYS, "label", "foreground") if key in request})
        except Exception as error:
            cause = root_cause(error)
            if isinstance(cause, EXPECTED):
                raise RequestError(str(cause)) from error
            raise
        patch = item["image"].to(loaded.device)
        with self._computing, torch.no_grad():
            logits = loaded.inferer(patch[None], loaded.network)[0]
        probabilities = loaded.postprocessing({"image": patch, "pred": logits})["pred"]
        place = {key: item[key] for key in CHOSEN if key in item}
        try:
            with self._computing:  # it asks the network how far the patch is from the training images
                answer = loaded.writer.describe(patch, probabilities, place, loaded.weights)
        except ValueError as error:
            raise RequestError(str(error)) from error
        return Grade({**answer, "logits": [float(value) for value in logits]}, patch, loaded, item.get("overview"))

    def explain(self, grade: Grade, method: str, path: Path) -> None:
        """Draw where the network looked.

        Args:
            grade: what was answered.
            method: a key of `scripts.explanations.maps.METHODS`.
            path: PNG to write.

        Raises:
            RequestError: if there is no such method.
        """
        if method not in list(METHODS):
            raise RequestError(f"explanation must be one of none, {', '.join(METHODS)}, got {method!r}")
        with self._computing:
            grade.loaded.writer.draw(path, grade.patch, grade.answer, method)

    def reference_path(self, request: Mapping[str, Any], modality: str = "t1c") -> str:
        """Return the file whose voxel grid a mask for a viewer has: that modality's, or the 4D file."""
        fields: dict[Hashable, Any] = dict(request.items())
        parsed = parse_request(fields, self.modalities)
        images = parsed.get("images") or {}
        return str(images.get(modality) or next(iter(images.values()), parsed.get("image")))

    def _load(self, stamp: tuple[int, int, int]) -> Loaded:
        parser = ConfigParser(dict(self.config))
        answering = "answering_network" if "answering_network" in self.config else "network"
        handlers = parser.get_parsed_content("handlers")
        return Loaded(
            stamp=stamp,
            network=parser.get_parsed_content(answering),
            preprocessing=parser.get_parsed_content("preprocessing"),
            postprocessing=parser.get_parsed_content("postprocessing"),
            inferer=parser.get_parsed_content("inferer"),
            writer=next(handler for handler in handlers if isinstance(handler, AnswerWriter)),
            weights=describe_weights(str(self.weights_path)),
            device=torch.device(parser.get_parsed_content("device")),
        )


def _stamp(path: Path) -> tuple[int, int, int]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; put the weights of an evaluation there, with provenance.json")
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
