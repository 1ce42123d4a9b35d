"""The mark in the header of a mask that a model made; it stays with the file, wherever it is copied to."""

from __future__ import annotations

import os

from scripts.volumes.headers import read_header

MODEL_OUTPUT = "model output"
DESCRIP_BYTES = 79  # of the field of a NIfTI-1 header, with a zero at its end


def model_mark(model: str) -> bytes:
    """Return the `descrip` of a mask that a model made, at most 79 bytes.

    >>> model_mark("brats_mri_segmentation")
    b'model output, brats_mri_segmentation'
    """
    return f"{MODEL_OUTPUT}, {model}".encode()[:DESCRIP_BYTES]


def read_mask_source(path: str | os.PathLike[str]) -> str | None:
    """Tell from its header who made a mask: "model", or None where nothing is said.

    Args:
        path: NIfTI file that can be read.
    """
    return "model" if read_header(path).description.startswith(MODEL_OUTPUT.encode()) else None
