"""The segment stage: a mask for every subject of a cohort that has none, and a cohort that names them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from scripts.patches.network_grid import NetworkGrid
from scripts.patches.segmentation_bundle import SegmentationBundle
from scripts.patches.stage import locate_subjects
from scripts.patches.subject_records import SubjectRecords, missing_modalities, require_usable
from scripts.patches.subject_volumes import read_modalities
from scripts.running.files import sha256_file, write_json
from scripts.running.progress import progress
from scripts.splits.lists import read_list
from scripts.volumes.brain_images import USUAL_LIMITS, BrainLimits, require_brain_images, strip_skull
from scripts.volumes.mask_marks import model_mark
from scripts.volumes.mri_preprocessing import describe_brain_extraction, find_brain
from scripts.volumes.nifti import write_nifti
from scripts.volumes.reading import read_volume
from scripts.volumes.volume import Volume, require_one_geometry

NOTICE = "Masks with mask_source model are the output of a network: nobody has looked at them."


def write_masks(
    cohort_path: str,
    output_dir: str,
    segmenter: SegmentationBundle,
    spacing_mm: float | None = 1.0,
    brain_limits: BrainLimits = USUAL_LIMITS,
    skull_strip: bool = False,
) -> Path:
    """Write a mask for each subject without one, and `cohort.json` with `mask_source: model` for these.

    Subjects with a `brain_mask` get skull-stripped images too, whether they have a mask or not, and with `skull_strip`
    all do; others keep their files where they are. Subjects that are finished already are kept.

    Args:
        cohort_path: `cohort.json` of the stage before.
        output_dir: folder of the masks.
        segmenter: the bundle that segments.
        spacing_mm: voxel size that its network learned from, mm; None leaves the patient's.
        brain_limits: what counts as skull-stripped.
        skull_strip: find the brain by HD-BET (extra `skull-strip`) where a subject has no `brain_mask`.

    Returns:
        Path of the new `cohort.json`.

    Raises:
        ValueError: before any work, if a subject lacks a modality that the network sees; at the end, if subjects could
            not be segmented: all of them, with file and reason. What was finished is kept.
    """
    cohort = read_list(cohort_path, "cohort")
    source, folder = Path(cohort_path).parent, Path(output_dir)
    located = locate_subjects(cohort, source)
    must = f"{cohort_path} must give {', '.join(segmenter.modalities)} of each subject without a mask"
    require_usable(located, lambda subject: _problems(subject, segmenter.modalities), must)
    segment = _Segmentation(folder, segmenter, spacing_mm, brain_limits, skull_strip)
    entries: list[dict[str, Any]] = []
    failures: list[str] = []
    walk = zip(cohort["subjects"], located, strict=True)
    for entry, subject in progress(walk, len(located), f"masks of {cohort['name']}"):
        changes = segment(subject) if segment.is_needed(subject) else {}
        if isinstance(changes, str):
            failures.append(changes)
        else:
            entries.append(_merged(_moved(entry, source, folder), changes))
    if failures:
        raise ValueError(f"{len(failures)} of {len(located)} subjects could not be prepared:\n" + "\n".join(failures))
    facts = _facts(cohort, segmenter, num_masks=sum(not subject.get("mask") for subject in located))
    if skull_strip:
        facts["skull_strip"] = describe_brain_extraction(segmenter.device)
    write_json(folder / "cohort.json", {**cohort, **facts, "subjects": entries})
    return folder / "cohort.json"


class _Segmentation(SubjectRecords[dict[str, Any]]):
    """Entries of `cohort.json` that change for a subject."""

    def __init__(
        self,
        folder: Path,
        segmenter: SegmentationBundle,
        spacing_mm: float | None,
        brain_limits: BrainLimits,
        skull_strip: bool,
    ) -> None:
        super().__init__(folder)
        self.segmenter = segmenter
        self.spacing_mm = spacing_mm
        self.brain_limits = brain_limits
        self.skull_strip = skull_strip

    def is_needed(self, subject: Mapping[str, Any]) -> bool:
        """Tell whether a subject lacks a mask, or its skull is to be stripped."""
        return self.skull_strip or not subject.get("mask") or bool(subject.get("brain_mask"))

    def make(self, subject: Mapping[str, Any]) -> dict[str, Any]:
        """Strip the skull and segment, as far as the subject needs it, and write the files."""
        volumes = read_modalities(subject)
        require_one_geometry(volumes)
        changes: dict[str, Any] = {"sha256": {}}
        brain = self._brain(subject, volumes)
        if brain is not None:
            volumes = strip_skull(volumes, brain)
            changes["images"] = {kind: self._write(subject, kind, volume, changes) for kind, volume in volumes.items()}
        if not subject.get("mask"):
            seen = {modality: volumes[modality] for modality in self.segmenter.modalities}
            require_brain_images(seen, self.brain_limits)
            changes["mask"] = self._write(subject, "mask", self._segment(seen), changes)
            changes |= {"mask_source": "model", "mask_codes": dict(self.segmenter.mask_codes)}
        if self.skull_strip and not subject.get("brain_mask"):
            changes["brain_source"] = "model"
        return changes

    def outputs(self, changes: dict[str, Any]) -> Iterable[tuple[str, str]]:
        """List the stripped images and the mask."""
        paths = {**changes.get("images", {}), **({"mask": changes["mask"]} if "mask" in changes else {})}
        return [(path, changes["sha256"][kind]) for kind, path in paths.items()]

    def _brain(self, subject: Mapping[str, Any], volumes: Mapping[str, Volume]) -> Volume | None:
        """The subject's own brain mask, or that of HD-BET; None where the images are stripped."""
        if subject.get("brain_mask"):
            return read_volume(subject["brain_mask"], subject.get("orientation"))
        if not self.skull_strip:
            return None
        head = volumes.get(self.segmenter.modalities[0], next(iter(volumes.values())))
        return find_brain(head, self.segmenter.device)

    def _segment(self, seen: Mapping[str, Volume]) -> Volume:
        """The mask in the voxels of the first modality's file."""
        reference = next(iter(seen.values()))
        grid = NetworkGrid(reference, self.spacing_mm)
        with tempfile.TemporaryDirectory(prefix="segment-") as scratch:
            paths = [Path(scratch, f"{modality}.nii") for modality in seen]
            for path, volume in zip(paths, seen.values(), strict=True):
                nib.save(grid.image_of(volume), path)
            codes = grid.to_reference(self.segmenter([str(path) for path in paths]))
        if not codes.any():
            raise ValueError(
                "the segmentation must find a tumor, got an empty mask; look at the images, give a mask, or leave the"
                " subject out when the cohort is scanned (leave_out)"
            )
        return Volume("mask", codes, reference.affine)

    def _write(self, subject: Mapping[str, Any], kind: str, volume: Volume, changes: dict[str, Any]) -> str:
        """Write one volume, note its hash, and return its path from the folder of the stage."""
        name = f"{subject['subject_id']}/{subject['subject_id']}-{'seg' if kind == 'mask' else kind}.nii.gz"
        described = model_mark(self.segmenter.facts["bundle"]) if kind == "mask" else b"skull-stripped"
        _write_volume(self.folder / name, volume, described)
        changes["sha256"][kind] = sha256_file(self.folder / name)
        return name


def _write_volume(path: Path, volume: Volume, description: bytes) -> None:
    # NIfTI readers differ in what they do with 64 bits.
    dtype = volume.data.dtype if volume.data.dtype.itemsize < 8 else np.dtype(np.float32)
    write_nifti(path, np.asarray(volume.data, dtype), volume.affine, description, level=1)


def _moved(entry: Mapping[str, Any], source: Path, folder: Path) -> dict[str, Any]:
    """The entry as the new `cohort.json` says it: relative paths start at its folder, absolute ones stay."""

    def move(path: str) -> str:
        return path if os.path.isabs(path) else os.path.relpath((source / path).resolve(), folder.resolve())

    moved = {**entry, **{key: move(entry[key]) for key in ("image", "mask", "brain_mask") if entry.get(key)}}
    if entry.get("images"):
        moved["images"] = {modality: move(path) for modality, path in entry["images"].items()}
    return moved


def _merged(entry: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with what was made. A brain mask that was applied changes its name: it must not be applied again."""
    if "images" in changes:
        entry = {key: value for key, value in entry.items() if key not in ("image", "channel_order", "brain_mask")}
        entry["skull_stripped"] = True
    hashes = {
        kind: digest for kind, digest in entry.get("sha256", {}).items() if "images" not in changes or kind == "mask"
    }
    return {**entry, **changes, **({"sha256": {**hashes, **changes["sha256"]}} if changes else {})}


def _facts(cohort: Mapping[str, Any], segmenter: SegmentationBundle, num_masks: int) -> dict[str, Any]:
    """What the masks are, for the cohort as a whole."""
    codes = cohort.get("mask_codes")
    reason = f"output of {segmenter.facts['bundle']} {segmenter.facts['version']}"
    return {
        "mask_codes": codes or dict(segmenter.mask_codes),
        "mask_codes_reason": cohort.get("mask_codes_reason") if codes else reason,
        "segmentation": {**segmenter.facts, "num_masks": num_masks, "notice": NOTICE},
    }


def _problems(subject: Mapping[str, Any], modalities: Sequence[str]) -> Iterator[str]:
    if not subject.get("mask"):
        yield from missing_modalities(subject, modalities)
