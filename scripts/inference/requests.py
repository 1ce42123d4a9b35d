"""A request for one patient, from any program: files, channels, mask and click, by the names of this bundle."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.inference.patient_files import files_of, link_steps
from scripts.running.files import read_json
from scripts.volumes.file_names import is_nifti
from scripts.volumes.modality_names import channel_names, describe_aliases, parse_modality


def parse_request(data: Mapping[Hashable, Any], modalities: Sequence[str]) -> dict[Hashable, Any]:
    """Translate a request of any program to the keys of this bundle.

    MONAI Label gives one path as `image`, a mask as `label` (which is a segment's name in other requests), clicks as
    `foreground`, and options as text.

    Args:
        data: keys of `ReadPatientd`, or `image` (folder of four files, or one of four that lie together), `label`,
            `foreground` ([[i, j, k], ...], the last counts; an empty list says nothing) and `channel_order` (names
            with commas).
        modalities: the project's names.

    Returns:
        The keys of `ReadPatientd`, without those that say nothing; others stay as they are.

    Raises:
        ValueError: if clicks are no list of points, or the files are not those of one patient.
    """
    request = {key: value for key, value in data.items() if not (value is None or isinstance(value, str) and not value)}
    label = request.get("label")
    if "mask" not in request and isinstance(label, str) and is_nifti(label) and Path(label).is_file():
        request["mask"] = label
    if "click" not in request and request.get("foreground"):
        request["click"] = _last_point(request["foreground"])
    if isinstance(request.get("channel_order"), str):
        request["channel_order"] = [name for name in re.split(r"[,\s]+", request["channel_order"]) if name]
    if "images" not in request and isinstance(request.get("image"), str):
        images = files_of(request["image"], modalities)
        if images is not None:
            request = {**request, "images": images, "image": None}
    return request


def _last_point(foreground: Any) -> Any:
    if not isinstance(foreground, list) or not all(isinstance(point, list) for point in foreground):
        raise ValueError(f"foreground must be a list of points [[i, j, k], ...], got {foreground!r}")
    return foreground[-1]


def parse_images(images: Mapping[str, str], modalities: Sequence[str]) -> dict[str, str]:
    """Bring the names of a patient's files to those of the project.

    Args:
        images: modality, or an alias such as "flair" -> path.
        modalities: the project's names.

    Returns:
        Modality -> path, in the order of `modalities`.

    Raises:
        TypeError: if it is no mapping.
        ValueError: if a modality is missing, there twice, or not understood.
    """
    require_mapping(images)
    files: dict[str, str] = {}
    for name, path in images.items():
        modality = parse_modality(name, modalities)
        if modality is None or modality not in modalities:
            raise ValueError(f"images must be named as in {describe_aliases(modalities)}; got {name!r} ({path})")
        if modality in files:
            raise ValueError(
                f"images must hold one file for {modality}, got {files[modality]} and {path}; leave one out"
            )
        real = os.path.realpath(path)
        if twin := next((other for other, known in files.items() if os.path.realpath(known) == real), None):
            raise ValueError(
                f"images must hold a file of its own for each modality, got {path} for {twin} and {modality}; give"
                " each its own"
            )
        files[modality] = str(path)
    missing = [modality for modality in modalities if modality not in files]
    if missing:
        raise ValueError(
            f"images must hold a file for each of {', '.join(modalities)}, got none for {', '.join(missing)}"
        )
    return {modality: files[modality] for modality in modalities}


def require_mapping(images: object) -> None:
    """Refuse `images` that name no modalities.

    Raises:
        TypeError: if it is no mapping.
    """
    if not isinstance(images, Mapping):
        raise TypeError(
            f"images must be a mapping from modality to file, got {images!r}; write it as"
            " --images \"{'t1n': PATH, 't1c': PATH, ...}\", or give the folder of the files as --image"
        )


def parse_channels(channel_order: Sequence[str] | None, image: str, modalities: Sequence[str]) -> list[str]:
    """Bring the names of a 4D file's channels to those of the project.

    Args:
        channel_order: name or alias of each channel; None if unknown.
        image: path of the file, for messages.
        modalities: the project's names; each must be there once.

    Returns:
        Modality of each channel.

    Raises:
        ValueError: if the order is not given: never guessed, since exchanged channels give a plausible wrong answer.
    """
    if not channel_order:
        raise ValueError(
            f"channel_order must be declared for {image}, got none, and no dataset.json beside it stores one;"
            f' give --channel_order "{list(modalities)}" in the order of the file'
        )
    order = [parse_modality(name, modalities) or name for name in channel_order]
    if sorted(set(order) & set(modalities)) != sorted(modalities) or len(set(order)) != len(order):
        raise ValueError(
            f"channel_order must name each of {', '.join(modalities)} once, got {list(channel_order)!r} for {image};"
            f" understood are {describe_aliases(modalities)}"
        )
    return order


def stored_channel_order(image: str) -> list[str] | None:
    """Find the channel order of a 4D file in a `dataset.json` (Medical Decathlon) in its folder or the one above.

    Returns:
        Names of the channels; None if there is no such file, or it is another program's.
    """
    for folder in (parent for step in link_steps(Path(image)) for parent in step.parents[:2]):
        if (folder / "dataset.json").is_file():
            path = folder / "dataset.json"
            return channel_names(path, read_json(path)) or None
    return None
