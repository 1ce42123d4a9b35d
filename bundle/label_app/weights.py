"""The way back: weights that a training replaced can be served again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.utils import processes, tasks

from bundle.request_errors import NotFoundError, RequestError
from scripts.inference.weights import describe_weights
from scripts.provenance.record import read_provenance
from scripts.provenance.served_weights import kept_weights, replace_weights, weights_id

_replacing = threading.Lock()


class TrainingError(RequestError):
    """A training is under way that will replace the weights itself."""

    status = 429


def list_weights() -> dict[str, Any]:
    """Say which weights are served, and which are kept, the last replaced first.

    Weights beside a record of others, as a stop between the two can leave them, are not served: None.
    """
    path = _served_path()
    try:
        served = _describe(weights_id(path), path)
    except (FileNotFoundError, ValueError):
        served = None
    kept = reversed(kept_weights(path).items())
    return {"served": served, "kept": [_describe(*item) for item in kept]}


def serve_weights(weights: str) -> dict[str, Any]:
    """Serve weights that are kept; those that were served are kept from then on.

    Args:
        weights: id, of `list_weights`.

    Raises:
        NotFoundError: if there are none of this id.
        TrainingError: while a training runs.
    """
    served = _served_path()
    with _replacing:
        kept = kept_weights(served)
        if weights not in kept:
            raise NotFoundError(f"weights must be one of {', '.join(kept) or 'none that are kept'}, got {weights!r}")
        if processes("train") or any(task["status"] in ("SUBMITTED", "RUNNING") for task in tasks("train")):
            raise TrainingError(
                "weights must not be changed while a training runs; wait for its end, or DELETE /train/"
            )
        replace_weights(served, kept[weights])
        return list_weights()


def _served_path() -> Path:
    path: Path = app_instance().grader.weights_path
    return path


def _describe(name: str, path: Path) -> dict[str, Any]:
    record, told = read_provenance(path), describe_weights(str(path))
    labeled = {key: record.get(key) for key in ("num_labeled_cases", "started_from")}
    return {"id": name, **told, **labeled, "size_mb": round(path.stat().st_size / 1e6, 1)}
