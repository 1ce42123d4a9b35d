"""The images of another program as a synthetic set: brought to our form, and their provenance declared, as such."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from scripts.provenance.declared import check_declaration, declared_subjects, describe_declaration, list_path
from scripts.provenance.foreign_images import ForeignImages, check_reading, image_files, read_foreign
from scripts.provenance.image_form import IMAGE_FACTS, ImageForm, image_facts, require_same_images
from scripts.provenance.record import hash_subjects
from scripts.running.files import sha256_file, sha256_text, write_json
from scripts.splits.lists import read_list, with_digest
from scripts.volumes.nifti import write_image

BYTE = (0, 255)  # range of 8 bits


class ImportedSet:
    """Images of one class that another program made, written as a stage of ours writes those that it draws.

    Args:
        images_path: folder of the images, or one file of many; see `scripts.provenance.foreign_images.read_foreign`.
        patches_path: `patches.json` of the cohort that they are to be used with: they must have its form, and are
            declared to be made of such images.
        output_dir: folder for the images and `synthetic.json`.
        form: of the images.
        class_name: class that they show; None for images without a class.
        method: name of the generator, in records and reports.
        trained_on: what it was trained on; see `scripts.provenance.declared.RULE`.
        background: sets the background of images (B, C, *spatial) about [-1, 1] to exactly -1.
        splits_path: `splits.json`, where `trained_on` is a part of a fold.
        fold: number of the fold that the images are used in; None for none.
        value_range: the two intensities that become -1 and 1; None takes 0 to 255 of images of 8 bits.
        image_axes: as in `read_foreign`.
        channel_endings: likewise.
        needed: fewest images that there must be.
    """

    def __init__(
        self,
        images_path: str,
        patches_path: str,
        output_dir: str,
        form: ImageForm,
        class_name: str | None,
        method: str,
        trained_on: Any,
        background: Callable[[Tensor], Tensor],
        splits_path: str | None = None,
        fold: int | None = None,
        value_range: Sequence[float] | None = None,
        image_axes: str | None = None,
        channel_endings: Sequence[str] | None = None,
        needed: int = 1,
    ) -> None:
        self.images_path = images_path
        self.patches_path = patches_path
        self.splits_path = splits_path
        self.output_dir = Path(output_dir)
        self.form = form
        self.class_name = class_name
        self.method = method
        self.trained_on = trained_on
        self.background = background
        self.fold = fold
        self.value_range = value_range
        self.image_axes = image_axes
        self.channel_endings = channel_endings
        self.needed = needed

    def inputs(self) -> list[str | None]:
        """List every file that is read, for the record of the stage."""
        return [*image_files(self.images_path), list_path(self.trained_on), self.patches_path, self.splits_path]

    def run(self) -> Path:
        """Read, check and write the images, then `synthetic.json`.

        Returns:
            Path of `synthetic.json`.

        Raises:
            FileNotFoundError: if the images or a list are missing.
            ValueError: if the images are not of the form of the patches, fewer than needed, outside of or in one half
                of `value_range`, or `trained_on` names nobody of the cohort.
        """
        patches = read_list(self.patches_path, "patches")
        facts = image_facts(patches, self.patches_path)
        keys = [key for key in self.form.facts() if facts[key] is not None]
        require_same_images(facts, self.form.facts(), "the images to import", self.patches_path, keys)
        subjects = declared_subjects(self.trained_on, self.patches_path, self.splits_path, self.fold)
        images = self._read()
        self._write(images)
        path = self.output_dir / "synthetic.json"
        write_json(path, with_digest(self._description(patches, hash_subjects(subjects), images.names)))
        return path

    def _read(self) -> ForeignImages:
        images = read_foreign(self.images_path, self.image_axes, self.channel_endings)
        expected = (self.form.num_channels, *self.form.patch_size)
        if images.images.shape[1:] != expected:
            raise ValueError(
                f"{images.names[0]} of {self.images_path} must have {expected[0]} channels and the size"
                f" {expected[1:]}, as {self.patches_path}, got {tuple(images.images.shape[1:])}; set image_axes (or"
                " channel_endings) if its axes were taken for others, or resample and crop the images as"
                " configs/patches.yaml does"
            )
        if len(images) < self.needed:
            raise ValueError(
                f"{self.images_path} must hold at least {self.needed} images of {self.class_name}, got {len(images)};"
                " make more of them, or lower synthetic_ratio"
            )
        return images

    def _write(self, images: ForeignImages) -> None:
        scaled = self.background(images.scaled(self._range_of(images)))
        affine = np.diag([self.form.cell_mm] * 3 + [1.0])
        for index, image in enumerate(scaled):
            write_image(self._path_of(index), image.numpy(), affine)

    def _range_of(self, images: ForeignImages) -> Sequence[float]:
        if self.value_range is None and not images.is_8_bit:
            lowest, highest = images.extent
            raise ValueError(
                f"value_range must be the two intensities that mean -1 (background) and 1 in {self.images_path}, whose"
                f' images go from {lowest:g} to {highest:g}, got None; pass --value_range "[{lowest:g}, {highest:g}]"'
                " if that is it"
            )
        return BYTE if self.value_range is None else self.value_range

    def _path_of(self, index: int) -> Path:
        return self.output_dir / f"{self.class_name or 'synthetic'}_{index:04d}.nii.gz"

    def _description(
        self, patches: Mapping[str, Any], hashed_subjects: Sequence[str], names: Sequence[str]
    ) -> dict[str, Any]:
        label = None if self.class_name is None else self.form.classes[self.class_name]
        rows: list[dict[str, Any]] = [
            {
                "image": self._path_of(index).name,
                "label": label,
                "k": index,
                "source": name,
                "image_sha256": sha256_file(self._path_of(index)),
            }
            for index, name in enumerate(names)
        ]
        provenance = {
            "cohort": patches["name"],
            "method": self.method,
            "fold": self.fold,
            # In place of weights, which nobody has: the images themselves.
            "weights_sha256": sha256_text("\n".join(row["image_sha256"] for row in rows)),
            "subjects": list(hashed_subjects),
            "selection_subjects": [],
            "trained_on": describe_declaration(self.trained_on, len(hashed_subjects)),
            "simulated": patches["simulated"],
            "class_name": self.class_name,
        }
        return {
            "name": f"{patches['name']} {self.class_name or 'all'} {self.method}",
            "simulated": patches["simulated"],
            # Declared, too: that they are of images made as the patches are.
            **{key: patches[key] for key in IMAGE_FACTS},
            **self.form.facts(),
            **self.form.names(),
            "provenance": provenance,
            "training": rows,
        }


def check_import(
    trained_on: Any,
    splits_path: str | None,
    fold: int | None,
    value_range: Sequence[float] | None,
    image_axes: str | None,
    channel_endings: Sequence[str] | None,
    modalities: Sequence[str],
    ratio: float = 0.0,
) -> None:
    """Refuse settings by which nothing could be imported, before any work and without any file but the declared list.

    Args:
        trained_on: see `scripts.provenance.declared.check_declaration`.
        splits_path: likewise.
        fold: likewise.
        value_range: see `scripts.provenance.foreign_images.check_reading`.
        image_axes: likewise.
        channel_endings: likewise; as many as there are modalities.
        modalities: of the cohort.
        ratio: `import_ratio`, images needed for each real one, >= 0.

    Raises:
        ValueError: naming the config key.
    """
    check_reading(value_range, image_axes, channel_endings)
    check_declaration(trained_on, splits_path, fold)
    if channel_endings is not None and len(channel_endings) != len(modalities):
        raise ValueError(
            f"channel_endings must be one for each of modalities {list(modalities)}, in this order, got"
            f" {list(channel_endings)!r}"
        )
    if not (ratio >= 0 and math.isfinite(ratio)):
        raise ValueError(f"import_ratio must be a number >= 0, got {ratio!r}")
