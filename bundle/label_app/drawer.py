"""Draws synthetic images with the generators of a bundle."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from bundle.request_errors import RequestError
from scripts.inference.weights import NOTICE, RESEARCH
from scripts.running.errors import root_cause
from scripts.running.files import sha256_file

CONFIG = "generate.json"
MOST_IMAGES = 64
EXPECTED = (ValueError, TypeError, FileNotFoundError)
# Name in a request -> key of the config; those that the config does not have are refused.
SETTINGS = {
    "class": "generator_class",
    "seed": "seed",
    "number": "num_images",
    "sampler": "sampler",
    "num_inference_steps": "num_inference_steps",
    "guidance": "guidance_scale",
}
LARGEST = 2**31 - 1
NUMBERS = ("seed", "number", "num_inference_steps")
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest there is: a date of today would make other bytes tomorrow


class Drawer:
    """The generators of a bundle, loaded for each request and not kept.

    Args:
        bundle_dir: root of the bundle, with `configs/generate.json`.
    """

    def __init__(self, bundle_dir: Path) -> None:
        self.path = bundle_dir / "configs" / CONFIG
        self.bundle_dir = bundle_dir
        self._computing = threading.Lock()

    @property
    def is_there(self) -> bool:
        """Whether the bundle has generators."""
        return self.path.is_file()

    def options(self) -> dict[str, Any]:
        """Return what can be asked for, with the values that are taken where nothing is."""
        config = ConfigParser.load_config_file(str(self.path))
        parser = ConfigParser(dict(config))
        # Values, not the expressions of the config: a viewer sends back what it was told.
        defaults = {name: parser.get_parsed_content(key) for name, key in SETTINGS.items() if key in config}
        return {**defaults, "class": list(config["classes"]), "number": 1}

    def draw(self, request: Mapping[str, Any], folder: Path) -> tuple[Path, dict[str, Any]]:
        """Draw images; equal requests give equal bytes, and image k of a seed is the same whatever the number.

        Args:
            request: keys of `SETTINGS`, each with the default of the config; `number` with 1.
            folder: empty folder to write to.

        Returns:
            (the image, `.nii.gz`; or of several a `.zip`, and what to say about them).

        Raises:
            RequestError: if a value is out of range, or of a kind that the bundle's generators do not have.
        """
        settings = {name: request[name] for name in SETTINGS if request.get(name) is not None}
        config = self._config({"number": 1, **settings}, folder)
        try:
            with self._computing:
                generation = ConfigParser(config).get_parsed_content("generation")
                generation.run()
        except Exception as error:
            cause = root_cause(error)
            if isinstance(cause, EXPECTED):
                raise RequestError(str(cause)) from error
            raise
        images = [generation.path_of(k) for k in range(generation.num_images)]
        file = images[0] if len(images) == 1 else _zip(folder, [*images, folder / "synthetic.json"])
        record = generation.description()["provenance"]
        drawn_by = {key: record[key] for key in ("method", "seed", "scheduler", "num_inference_steps", "simulated")}
        notice = NOTICE if record["simulated"] else RESEARCH
        hashes = {path.name: sha256_file(path) for path in images}
        return file, {**drawn_by, "class": generation.class_name, "images": hashes, "synthetic": True, "notice": notice}

    def _config(self, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        config = ConfigParser.load_config_file(str(self.path))
        for name, value in settings.items():
            _check(name, value, config)
            config[SETTINGS[name]] = value
        # One at a time: the last bits of an image depend on how many are drawn with it.
        return {**config, "bundle_root": str(self.bundle_dir), "output_dir": str(folder), "generate_batch_size": 1}


def _check(name: str, value: Any, config: Mapping[str, Any]) -> None:
    if SETTINGS[name] not in config:
        raise RequestError(f"{name} must be left out, got {value!r}: the generators of this bundle have no {name}")
    if name in NUMBERS and (type(value) is not int or not 0 <= value <= LARGEST):
        raise RequestError(f"{name} must be a whole number from 0 to {LARGEST}, got {value!r}")
    if name == "number" and not 1 <= value <= MOST_IMAGES:
        raise RequestError(f"number must be from 1 to {MOST_IMAGES} images, got {value!r}")
    if name == "class" and value not in list(config["classes"]):
        raise RequestError(f"class must be one of {', '.join(config['classes'])}, got {value!r}")
    if name == "guidance" and (type(value) not in (int, float) or not -LARGEST <= value <= LARGEST):
        raise RequestError(f"guidance must be a number, got {value!r}")
    if name == "sampler" and not (isinstance(value, str) and value.isidentifier()):
        # A text that begins with "$" would be evaluated.
        raise RequestError(f"sampler must be a name, such as ddim, got {value!r}")


def _zip(folder: Path, paths: list[Path]) -> Path:
    file = folder / "images.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for path in paths:
            archive.writestr(zipfile.ZipInfo(path.name, ZIP_DATE), path.read_bytes())
    return file
