"""One patient read for the transforms of a patch, and the batch of such patients."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data.utils import list_data_collate

from scripts.inference.requests import (
    parse_channels,
    parse_images,
    parse_request,
    stored_channel_order,
)
from scripts.patches.crop import CROP_FACTS
from scripts.patches.subject_volumes import ReadVolumesd
from scripts.volumes.file_names import is_picture
from scripts.volumes.mask_codes import decide_mask_codes, source_of_masks
from scripts.volumes.mask_marks import read_mask_source
from scripts.volumes.reading import mask_codes_in

CLICKED_IN = "t1c"
CHOSEN = ("subject_id", *CROP_FACTS, "mask_codes_reason", "mask_source")


class ReadPatientd(ReadVolumesd):
    """Read one patient as a user gives it: four files or one 4D file, with a mask or a click; or a picture.

    Takes `images` (name of a modality, or an alias -> path) or `image` (a 4D file) with `channel_order`, and `mask`
    or `click` ([i, j, k], voxel indices of the file; of several files, that of t1c, else of the first modality). Where
    both are given the click decides and the mask measures.
    MONAI Label's names for these are understood too, see `parse_request`.
    Adds what `ReadVolumesd` adds, `center` for a click, `mask_codes`, `mask_codes_reason` and `mask_source` for a mask.

    Args:
        modalities: modalities to read, in the order of the patch's channels.
        needs_place: ask for a mask or a click, as a patch around a lesion needs one.
    """

    def __init__(self, modalities: Sequence[str], needs_place: bool = True) -> None:
        super().__init__(modalities)
        self.needs_place = needs_place

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read the patient's files.

        Raises:
            ValueError: if the request is incomplete or not understood, or a file cannot be used.
        """
        request = parse_request(data, self.modalities)
        if self.needs_place and not request.get("mask") and "click" not in request:
            raise ValueError(
                'mask or click must say where the tumor is, got neither; give --mask FILE or --click "[i,j,k]" (voxels)'
            )
        files = self._files(request)
        # Files of one patient may store their voxels in different orders: a click is one of t1c, in which it is seen.
        clicked_in = CLICKED_IN if files["images"] and CLICKED_IN in self.modalities else None
        subject: dict[Hashable, Any] = {**request, **files, "center": request.get("click"), "clicked_in": clicked_in}
        read = super().__call__(subject)
        return {**read, **self._codes(read)}

    def _files(self, request: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if bool(request.get("images")) == bool(request.get("image")):
            raise ValueError(
                f"images (one file for each of {', '.join(self.modalities)}) or image (one 4D file) must be given, got"
                f" {'both' if request.get('image') else 'neither'}"
            )
        if request.get("image"):
            stored = self.modalities if is_picture(request["image"]) else stored_channel_order(request["image"])
            order = request.get("channel_order") or stored
            return {"images": None, "channel_order": parse_channels(order, request["image"], self.modalities)}
        return {"image": None, "images": parse_images(request["images"], self.modalities)}

    @staticmethod
    def _codes(read: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        mask = read["mask_volume"]
        if mask is None:
            return {}
        source = source_of_masks("table", Path(mask.path).name)
        codes, reason = decide_mask_codes({mask.path: mask_codes_in(mask)}, source, read.get("mask_codes"))
        return {"mask_codes": codes, "mask_codes_reason": reason, "mask_source": read_mask_source(read["mask"])}


def collate_patients(items: Sequence[Mapping[Hashable, Any]]) -> dict[str, Any]:
    """Batch patches as MONAI does, with what was chosen for each as JSON text in `patient`.

    Lists of numbers would come out of MONAI's own collation as tensors, transposed. `overview` has the
    fields of `scripts.patches.crop.Overview` of slices of one size, where there are any.

    Raises:
        ValueError: if a patient has several patches: an answer is about one.
    """
    if any(isinstance(item, list) for item in items):
        raise ValueError(
            "slice must be largest or centroid for one patient, got all; weights that were trained on all slices answer"
            " for either"
        )
    places = [{key: item[key] for key in CHOSEN if key in item} for item in items]
    batch = list_data_collate([{"image": item["image"]} for item in items])
    collated = {"image": batch["image"], "patient": [json.dumps(row) for row in places]}
    if all(item.get("overview") for item in items):
        collated["overview"] = list_data_collate([vars(item["overview"]) for item in items])
    return collated
