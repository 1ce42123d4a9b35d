"""A DICOM study to the files of a patient: NIfTI on the grid of t1c, and the record of where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from bundle.dicom.choice import Chosen, choose, describe, parse_series
from bundle.dicom.contents import MODALITIES, REFERENCE
from bundle.dicom.grid import Grid, grid_of
from bundle.dicom.headers import Study, describe_passed_over, read_study
from bundle.whole_folders import whole_folder
from scripts.running.errors import some_names
from scripts.running.files import read_json, sha256_file, sha256_text, write_json
from scripts.running.process import installed_versions
from scripts.volumes.brain_images import strip_skull
from scripts.volumes.mri_preprocessing import (
    describe_brain_extraction,
    find_brain,
    register_rigidly,
    require_hd_bet,
)
from scripts.volumes.nifti import write_nifti
from scripts.volumes.volume import Volume, geometry_difference

RECORD = "study.json"


@dataclass(frozen=True)
class Conversion:
    """What is to be converted: read from headers alone, and refused by them before any work.

    Args:
        study: headers of the examination.
        chosen: modality -> series.
        named: modalities whose series the user named.
        grids: modality -> grid of its series.
        brain_mask: file with the brain on the grid of t1c, 0 outside; None for images that are stripped.
        skull_strip: find the brain by HD-BET.
    """

    study: Study
    chosen: Chosen
    named: tuple[str, ...]
    grids: Mapping[str, Grid]
    brain_mask: str | None
    skull_strip: bool

    def describe(self) -> str:
        """Write the table of the series, what is taken for what, and what is passed over."""
        return describe(self.study, self.chosen) + describe_passed_over(self.study).replace("; ", "\n", 2)

    @cached_property
    def request_sha256(self) -> str:
        """Hash of what the files depend on: the images of the chosen series, and the mask."""
        files = [f"{modality} {sha256_file(path)}" for modality, grid in self.grids.items() for path in grid.paths]
        mask = sha256_file(self.brain_mask) if self.brain_mask else None
        return sha256_text("\n".join([*files, f"mask {mask}", f"skull_strip {self.skull_strip}"]))


def plan(
    study_dir: str,
    series: Sequence[str] | str | Mapping[str, Any] | None = None,
    brain_mask: str | None = None,
    skull_strip: bool = False,
    modalities: Sequence[str] = MODALITIES,
) -> Conversion:
    """Choose the series of a study and check that they are volumes.

    Args:
        study_dir: folder of one examination of one patient.
        series: series that the user names, see `bundle.dicom.choice.parse_series`.
        brain_mask: brain on the grid of the t1c that is written, 0 outside.
        skull_strip: find the brain by HD-BET (extra `skull-strip`).
        modalities: what the files are needed for; they must be among those that are told here. t1c is taken in any
            case.

    Raises:
        FileNotFoundError: if there is no such folder or mask.
        ImportError: if HD-BET is asked for and not installed.
        ValueError: if there is not exactly one series for a modality, or one is no volume that can be read.
    """
    if others := [modality for modality in modalities if modality not in MODALITIES]:
        raise ValueError(
            f"modalities of a DICOM study must be among {', '.join(MODALITIES)}, got {some_names(others)}; convert the"
            " study to NIfTI by another program"
        )
    named = parse_series(series)
    if brain_mask and skull_strip:
        raise ValueError("brain_mask and skull_strip must not both be given: the mask says where the brain is")
    if brain_mask and not Path(brain_mask).is_file():
        raise FileNotFoundError(f"brain_mask {brain_mask} does not exist; check the path")
    if skull_strip:
        require_hd_bet()
    study = read_study(study_dir)
    chosen = choose(study, named, modalities)
    grids = {modality: grid_of(item) for modality, item in chosen.items()}
    return Conversion(study, chosen, tuple(named), grids, brain_mask, skull_strip)


def convert(conversion: Conversion, output_dir: str | Path, overwrite: bool = False) -> dict[str, Any]:
    """Write the chosen modalities as NIfTI, with their axes as in the images of t1c.

    Args:
        conversion: from `plan`.
        output_dir: gets `t1c.nii.gz` and so on, and `study.json`, all or none. What is there already of the same
            images is not done again.
        overwrite: replace a study that is there.

    Returns:
        Content of `study.json`: UIDs of the examination, its series and images, what was done with each, and the hashes
        of the files.

    Raises:
        ValueError: if an image cannot be decoded, the mask does not fit, or the folder holds something else.
    """
    folder = Path(output_dir).resolve()  # "." has no name of its own
    if (folder / RECORD).is_file():
        record = read_json(folder / RECORD)
        if record.get("request_sha256") == conversion.request_sha256:
            changed = _changed_files(folder, conversion, record)
            if not changed:
                return record
            _refuse_changed(folder, changed, overwrite)
    _require_place(folder, overwrite)
    volumes, registered = _volumes(conversion)
    record = _record(conversion, registered)
    with whole_folder(folder) as temporary:
        temporary.mkdir()
        for modality, volume in volumes.items():
            write_nifti(temporary / _file_name(modality), _smallest(volume.data), volume.affine, level=1)
        record["sha256"] = {name: sha256_file(temporary / name) for name in map(_file_name, volumes)}
        write_json(temporary / RECORD, record)
    return record


def _file_name(modality: str) -> str:
    return f"{modality}.nii.gz"


def _changed_files(folder: Path, conversion: Conversion, record: Mapping[str, Any]) -> list[str]:
    """Names of files that are missing, or are no longer those of the record."""
    hashes = record.get("sha256", {})
    names = map(_file_name, conversion.chosen)
    return [name for name in names if not (folder / name).is_file() or sha256_file(folder / name) != hashes.get(name)]


def _refuse_changed(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    if not overwrite:
        raise ValueError(
            f"{folder} must hold the files of its {RECORD}, got none or others for {some_names(names)}; convert"
            " again with --overwrite, or keep files of your own in another folder"
        )


def _volumes(conversion: Conversion) -> tuple[dict[str, Volume], list[str]]:
    """Read the modalities; name those that lay on another grid or in another frame than the reference: registered."""
    reference = _read(conversion, REFERENCE)
    frame = conversion.chosen[REFERENCE].value("FrameOfReferenceUID")
    volumes, registered = {}, []
    for modality, series in conversion.chosen.items():
        volume = reference if modality == REFERENCE else _read(conversion, modality)
        own_frame = series.value("FrameOfReferenceUID")
        same_frame = frame is not None and own_frame == frame
        is_elsewhere = not same_frame and frame is not None and own_frame is not None  # whatever the positions say
        if is_elsewhere or geometry_difference(reference, volume):
            volume = register_rigidly(volume, reference, same_frame=same_frame)
            registered.append(modality)
        volumes[modality] = volume if volume is reference else _with_axes_of(reference, volume)
    if conversion.brain_mask:
        from scripts.volumes.reading import read_volume  # brings MONAI, which takes seconds

        volumes = strip_skull(volumes, read_volume(conversion.brain_mask))
    elif conversion.skull_strip:
        volumes = strip_skull(volumes, find_brain(reference))
    return volumes, registered


def _read(conversion: Conversion, modality: str) -> Volume:
    grid, series = conversion.grids[modality], conversion.chosen[modality]
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(grid.paths)
    reader.SetOutputPixelType(SimpleITK.sitkFloat32)  # slopes differ from image to image, and need fractions
    try:
        voxels = SimpleITK.GetArrayFromImage(reader.Execute()).T
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{series.name} must be readable, got {reason!r}; export it again") from error
    return Volume(series.name, voxels, grid.affine)


def _with_axes_of(reference: Volume, volume: Volume) -> Volume:
    """The same voxels in the order of the reference, so that a click in one file is a click in each."""
    data = np.empty(reference.data.shape, volume.data.dtype, order="F")
    ordered = Volume(volume.path, data, reference.affine)
    ordered.ras[...] = volume.ras
    return ordered


def _smallest(voxels: np.ndarray) -> np.ndarray:
    """Whole numbers as 16-bit integers, which half of the viewers and every compression like better."""
    whole = voxels.astype(np.int16) if voxels.min() >= -(2**15) and voxels.max() < 2**15 else None
    return voxels if whole is None or not np.array_equal(whole, voxels) else whole


def _record(conversion: Conversion, registered: Sequence[str]) -> dict[str, Any]:
    series = {
        modality: {
            "series_instance_uid": item.uid,
            "series_number": item.number,
            "frame_of_reference_uid": item.value("FrameOfReferenceUID"),
            "chosen_by": "user" if modality in conversion.named else "rule",
            "registered": modality in registered,
            # In the order of the third axis of the file, unless it was registered.
            "sop_instance_uids": list(conversion.grids[modality].image_uids),
        }
        for modality, item in conversion.chosen.items()
    }
    return {
        "study_instance_uid": conversion.chosen[REFERENCE].value("StudyInstanceUID"),
        "series": series,
        "brain_mask": "file" if conversion.brain_mask else "HD-BET" if conversion.skull_strip else None,
        **({"brain_extraction": describe_brain_extraction()} if conversion.skull_strip else {}),
        "request_sha256": conversion.request_sha256,
        "versions": installed_versions(("pydicom", "SimpleITK")),
    }


def _require_place(folder: Path, overwrite: bool) -> None:
    own = {RECORD, *map(_file_name, MODALITIES)}
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} must be a folder, got a file; choose another --out")
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if others := there - own:
        raise ValueError(
            f"{folder} must be new or hold a converted study, got {some_names(others)}; move that elsewhere (a tumor"
            " mask into the folder of the DICOM study), or choose another --out"
        )
    if there and not overwrite:
        raise ValueError(f"{folder} holds another study, or other series of it; replace it with --overwrite")
    if Path.cwd().is_relative_to(folder):
        raise ValueError(f"{folder} must not be the folder that you work in, which is replaced; choose a folder in it")
