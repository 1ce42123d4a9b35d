"""What images are made of, as lists and weights say it, and the refusal of images that are made otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.provenance.record import record_path
from scripts.volumes.picture_files import RGB

# What images are made of, as patches.json and synthetic.json say it -> the config key that sets it.
IMAGE_FACTS = {
    "modality": "modalities",
    "labels": "classes",
    "patch_size": "patch_size",
    "spacing_mm": "patch_spacing_mm and crop",
    "intensity_mode": "intensity_mode",
    "intensity_percentiles": "intensity_percentiles",
    "zscore_limit": "zscore_limit",
    "preprocessing": "preprocessing (configs/patches.yaml)",
}
# A network that saw every slice saw the largest one, and the one through the centroid.
EVERY_SLICE = {"ChooseCenterd.slice": "all"}
SLICE_SETTINGS = {"ChooseCenterd.slice", "ChooseCenterd.min_tumor_voxels"}


@dataclass(frozen=True)
class ImageForm:
    """The form of the images of a run: their channels, classes and grid; set once, in configs/common.yaml.

    Args:
        modalities: modality of each channel, in order.
        classes: class name -> label, from 0.
        patch_size: cells of each axis.
        spacing_mm: length of a cell, mm; nominal where it differs between patches (`crop: lesion_box`); None for images
            without mm, such as pictures.
        spatial_dims: 2 or 3, the number of axes.

    Raises:
        ValueError: if a name occurs twice, labels do not count from 0, or the grid is none.
    """

    modalities: Sequence[str]
    classes: Mapping[str, int]
    patch_size: Sequence[int]
    spacing_mm: float | None = 1.0
    spatial_dims: int = 2

    def __post_init__(self) -> None:
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities must be different names, at least one, got {list(self.modalities)!r}")
        if sorted(self.classes.values()) != list(range(len(self.classes))):
            raise ValueError(
                f"classes must be numbered from 0, got {dict(self.classes)!r}; write them as {{LGG: 0, HGG: 1}}"
            )
        if self.spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {self.spatial_dims!r}")
        sizes = list(self.patch_size)
        if len(sizes) != self.spatial_dims or any(not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(
                f"patch_size must be {self.spatial_dims} whole numbers above 0, as many as spatial_dims, got {sizes!r}"
            )
        if self.spacing_mm is not None and not self.spacing_mm > 0:
            raise ValueError(f"patch_spacing_mm must be above 0, or null without mm, got {self.spacing_mm!r}")

    @property
    def num_channels(self) -> int:
        """Number of modalities."""
        return len(self.modalities)

    @property
    def is_rgb(self) -> bool:
        """Whether the channels are the colors of a picture, which belong together as modalities do not."""
        return tuple(self.modalities) == RGB

    @property
    def cell_mm(self) -> float:
        """Length of a cell as files must state one, mm; 1 for images without mm."""
        return 1.0 if self.spacing_mm is None else float(self.spacing_mm)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes in the order of their labels."""
        return names_by_label(self.classes)

    def facts(self) -> dict[str, Any]:
        """Return what it says of images, by keys of `IMAGE_FACTS`."""
        return {
            "modality": list(self.modalities),
            "labels": self.class_names,
            "patch_size": list(self.patch_size),
            "spacing_mm": None if self.spacing_mm is None else float(self.spacing_mm),
        }

    def names(self) -> dict[str, Any]:
        """Return channels and classes as a decathlon list names them, and the number of dimensions."""
        return {
            "modality": {str(index): name for index, name in enumerate(self.modalities)},
            "labels": {str(label): name for label, name in enumerate(self.class_names)},
            "spatial_dims": self.spatial_dims,
        }


def names_by_label(classes: Mapping[str, int]) -> list[str]:
    """Return the names of classes in the order of their labels.

    >>> names_by_label({"HGG": 1, "LGG": 0})
    ['LGG', 'HGG']
    """
    return sorted(classes, key=classes.__getitem__)


def names_by_number(names: Mapping[str, str]) -> list[str]:
    """Return the names of channels or classes in the order of their numbers, by which a decathlon list gives them.

    >>> names_by_number({"1": "t1c", "10": "t2f", "2": "t2w"})
    ['t1c', 't2w', 't2f']
    """
    return [names[number] for number in sorted(names, key=int)]


def describe_images(
    form: ImageForm,
    crop: str,
    intensity_mode: str,
    intensity_percentiles: Sequence[float],
    zscore_limit: float,
    preprocessing: Any,
) -> dict[str, Any]:
    """Describe the images that a config makes, as `image_facts` reads it from those that were made.

    Args:
        form: of the images.
        crop: "field_of_view" or "center", or another, whose patches have no common spacing: it is null then.
        intensity_mode: "percentile", "zscore" or "fixed".
        intensity_percentiles: percentiles that become -1 and 1; null in the description where the mode is another.
        zscore_limit: standard deviations that become -1 and 1; likewise.
        preprocessing: `Compose` of the transforms from the files of a subject to its patch.

    Returns:
        Values of the keys `IMAGE_FACTS`; `modality` and `labels` are lists of names, in order.
    """
    return {
        **form.facts(),
        **({} if crop in ("field_of_view", "center") else {"spacing_mm": None}),
        "intensity_mode": intensity_mode,
        "intensity_percentiles": list(intensity_percentiles) if intensity_mode == "percentile" else None,
        "zscore_limit": zscore_limit if intensity_mode == "zscore" else None,
        "preprocessing": describe_preprocessing(preprocessing.transforms),
    }


def describe_preprocessing(transforms: Iterable[Any]) -> dict[str, Any]:
    """List what the transforms of patches are set to, as far as it decides what the network sees.

    Args:
        transforms: each tells its settings by `pixel_settings()`; of one that has no such method, such as MONAI's, all
            public attributes that JSON can hold are taken, so that nothing new is left out.

    Returns:
        "Class.setting" -> value; "Class" -> True for one without settings.
    """
    facts: dict[str, Any] = {}
    for transform in transforms:
        name = type(transform).__name__
        if hasattr(transform, "pixel_settings"):
            facts |= {f"{name}.{key}": value for key, value in transform.pixel_settings().items()}
        else:
            facts |= {name: True, **{f"{name}.{key}": value for key, value in _plain_attributes(transform).items()}}
    described: dict[str, Any] = json.loads(json.dumps(facts))
    return described


def _plain_attributes(transform: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(transform).items() if not key.startswith("_") and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def image_facts(header: Mapping[str, Any], where: str | Path) -> dict[str, Any]:
    """Read from `patches.json` or `synthetic.json` what its images are made of.

    Args:
        header: content of the file.
        where: path of the file, for messages.

    Returns:
        As `describe_images`.

    Raises:
        ValueError: if the file does not say all of it.
    """
    missing = [key for key in IMAGE_FACTS if key not in header]
    if missing:
        raise ValueError(
            f"{where} must say of what its images are made, got no {', '.join(missing)};"
            " make it again with configs/patches.yaml (or configs/generate.yaml, if it is synthetic)"
        )
    named = {key: names_by_number(header[key]) for key in ("modality", "labels")}
    return {key: named.get(key, header[key]) for key in IMAGE_FACTS}


def has_background(header: Mapping[str, Any]) -> bool:
    """Tell whether images have a background, of exactly -1; pictures that fill their frame have none.

    Args:
        header: content of `patches.json` or `synthetic.json`; one that does not say is of images with a background.
    """
    preprocessing: Mapping[str, Any] = header.get("preprocessing") or {}
    return bool(preprocessing.get("MeasureIntensitiesd.background", True))


def recorded_images(record: Mapping[str, Any], weights_path: str | Path) -> dict[str, Any]:
    """Return what the images behind weights were made of.

    Args:
        record: content of `provenance.json`.
        weights_path: the weights it lies beside, for messages.

    Raises:
        ValueError: if the record is from before this was written down.
    """
    images = record.get("images") or {}
    if missing := [key for key in IMAGE_FACTS if key not in images]:
        fault = f"no {', '.join(missing)}" if images else repr(record.get("images"))
        raise ValueError(
            f"{record_path(weights_path)} must say in `images` of what the images behind"
            f" {Path(weights_path).name} were made, got {fault}; train again"
        )
    return dict(images)


def require_like_real(
    real: Mapping[str, Any], synthetic: Mapping[str, Any], where: str | Path, origin: str | Path
) -> None:
    """Refuse synthetic images that are not made as the real ones that they are to be used with.

    Patches of `crop: lesion_box` have no common spacing; synthetic images are written with the nominal one.

    Args:
        real: from `image_facts`.
        synthetic: likewise.
        where: list of the synthetic images, for the message.
        origin: list of the real ones, for the message.

    Raises:
        ValueError: as `require_same_images`.
    """
    keys = [key for key in IMAGE_FACTS if key != "spacing_mm" or real[key] is not None]
    require_same_images(real, synthetic, where, origin, keys)


def require_same_images(
    expected: Mapping[str, Any],
    got: Mapping[str, Any],
    where: str | Path,
    origin: str | Path,
    keys: Iterable[str] = tuple(IMAGE_FACTS),
) -> None:
    """Refuse images that are not made as others are: a network would answer, and nobody would see that it is wrong.

    Args:
        expected: from `image_facts`, `recorded_images` or `describe_images`.
        got: likewise.
        where: file, or what else, the refused images belong to, for the message.
        origin: file that says what is expected, for the message.
        keys: what to compare, keys of `IMAGE_FACTS`.

    Raises:
        ValueError: naming the first difference, both values and the config key to set.
    """
    for key in keys:
        if difference := _difference(key, expected.get(key), got.get(key)):
            name, wanted, value = difference
            raise ValueError(
                f"{where} must have {name} {wanted!r}, as {origin} has, got {value!r};"
                f" make both with one {IMAGE_FACTS[key]}"
            )


def _difference(key: str, expected: Any, got: Any) -> tuple[str, Any, Any] | None:
    """The name of what differs in a fact, and both values; None where they agree."""
    if key != "preprocessing" or not isinstance(expected, Mapping) or not isinstance(got, Mapping):
        return (key, expected, got) if got != expected else None
    every_slice = EVERY_SLICE.items() <= expected.items()
    for name in dict.fromkeys((*expected, *got)):
        if got.get(name) != expected.get(name) and not (every_slice and name in SLICE_SETTINGS):
            return name, expected.get(name), got.get(name)
    return None
