"""The most confidently wrong answers of a study, drawn with the outline of the tumor mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from scipy.ndimage import binary_erosion

from scripts.evaluation.answers import ROLES, Answers, group_answers, merge_predictions
from scripts.evaluation.primary import PrimaryEndPoint
from scripts.patches.pictures import draw_image, in_colors, mosaic
from scripts.patches.stage import locate_subjects
from scripts.patches.tensors import load_images
from scripts.provenance.image_form import names_by_number
from scripts.provenance.study_files import StudyFiles
from scripts.running.files import why_no_file
from scripts.running.setups import setup_of
from scripts.splits.lists import image_path
from scripts.volumes.reading import read_mask
from scripts.volumes.regions import region_codes
from scripts.volumes.volume import Volume

OUTLINE = (255, 193, 7)  # amber, which no grey of an image is
WIDTH = 160  # pixels of a modality, at least
GAP = 3  # white pixels between two of them


class WrongAnswer(NamedTuple):
    """A patient whom a setup answers wrongly.

    Args:
        row: of `predictions.csv`, of the scan that is shown.
        label: true class.
        answer: class that was answered.
        probability: of that class; of several scans the mean.
    """

    row: Mapping[str, str]
    label: str
    answer: str
    probability: float

    @property
    def scan(self) -> tuple[str, str]:
        """Cohort and name of the scan."""
        return self.row["cohort"], self.row["subject_id"]


@dataclass(frozen=True)
class WrongCases:
    """The most confidently wrong patients of the setup that a study is about.

    Args:
        files: what the stages left.
        num_cases: patients shown at most, divided among the tests, but one of each test.
        reference: setup that is shown where no primary end point was declared, with the first classifier by name.
        primary_endpoint: fields of `scripts.evaluation.primary.PrimaryEndPoint`; its setup is shown, on its test.

    Raises:
        ValueError: if `num_cases` is not positive.
    """

    files: StudyFiles
    num_cases: int = 8
    reference: str = "real"
    primary_endpoint: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.num_cases < 1:
            raise ValueError(f"report_num_wrong_cases must be at least 1, got {self.num_cases!r}")

    @cached_property
    def tests(self) -> list[tuple[Answers, list[WrongAnswer]]]:
        """Answers of the setup in each test that is shown, and the wrong ones among them, the surest first."""
        predictions = self.files.named("predictions.csv")
        groups = self._of_interest(group_answers(merge_predictions(predictions))) if predictions else []
        role = min((answers.role for answers in groups), key=ROLES.index, default=None)
        return [(answers, wrong_answers(answers)) for answers in groups if answers.role == role]

    def inputs(self) -> list[str]:
        """List the masks that are read, for the record of the stage; it lists predictions and patches besides."""
        cases = [case for _, wrong in self.tests for case in wrong[: self.num_of_each]]
        masks = [self._subjects.get(case.scan, {}).get("mask") for case in cases]
        return sorted({mask for mask in masks if mask and not why_no_file(mask)})

    def describe(self) -> list[dict[str, Any]]:
        """Draw the cases.

        Returns:
            Of each test `direction`, `setup`, `role`, `cohort`, `n`, `num_wrong` and `cases`: `subject_id`, `site`,
            `label`, `answer`, `probability`, `volume_ml` (None where it is not known), `picture` ((height, width, 3)
            uint8; None where the study has no patch) and `no_outline`, why there is no outline, empty where there is.
        """
        return [
            {
                **{name: getattr(answers, name) for name in ("direction", "setup", "role", "cohort", "n")},
                "num_wrong": len(wrong),
                "cases": [self._describe_case(case) for case in wrong[: self.num_of_each]],
            }
            for answers, wrong in self.tests
        ]

    @property
    def num_of_each(self) -> int:
        """Patients shown of each test."""
        return max(1, self.num_cases // max(1, len(self.tests)))

    def _of_interest(self, groups: Sequence[Answers]) -> list[Answers]:
        primary = PrimaryEndPoint.of(self.primary_endpoint)
        if primary is None:
            # Of several classifiers the first by name, as answers are ordered.
            shown = next((answers.setup for answers in groups if setup_of(answers.setup) == self.reference), None)
            return [answers for answers in groups if answers.setup == shown]
        names = self.files.cohort_names
        pair = tuple(names.get(name, name) for name in (primary.trained_on, primary.tested_on))
        own = [answers for answers in groups if answers.setup == primary.setup]
        return [answers for answers in own if (answers.direction, answers.cohort) == pair]

    def _describe_case(self, case: WrongAnswer) -> dict[str, Any]:
        picture, no_outline = self._draw(case)
        return {
            "subject_id": case.row["subject_id"],
            "site": case.row["site"],
            "label": case.label,
            "answer": case.answer,
            "probability": case.probability,
            "volume_ml": float(case.row["lesion_volume_ml"]) if case.row["lesion_volume_ml"] else None,
            "picture": picture,
            "no_outline": no_outline,
        }

    def _draw(self, case: WrongAnswer) -> tuple[np.ndarray | None, str]:
        if case.scan not in self._patches:
            return None, "the study has no patch of this patient"
        path, modalities, spatial_dims = self._patches[case.scan]
        image = load_images([{"image": path}], len(modalities), spatial_dims)[0].numpy()
        if in_colors(modalities):
            return draw_image(image, modalities, WIDTH), "pictures in colors are shown as they are"
        subject = self._subjects.get(case.scan, {})
        mask_path = subject.get("mask")
        if not mask_path or not subject.get("mask_codes"):
            return draw_outlined(image, None), "the cohort has no mask of this patient"
        if why := why_no_file(mask_path):
            return draw_outlined(image, None), f"the mask {Path(mask_path).name} {why}"
        codes = region_codes(subject["mask_codes"], "whole")
        mask = read_mask(mask_path, subject.get("orientation"))
        region = mask_on_patch(mask, codes, nibabel.Nifti1Image.from_filename(path).affine, image.shape[1:])
        return draw_outlined(image, region), "" if region.any() else "the mask holds no tumor here"

    @cached_property
    def _patches(self) -> dict[tuple[str, str], tuple[str, list[str], int]]:
        """Map cohort and name of a scan to its patch, of several slices the middle one, its channels and axes."""
        rows: dict[tuple[str, str], list[tuple[str, list[str], int]]] = {}
        for list_path, content in self.files.lists("patches"):
            form = names_by_number(content["modality"]), int(content["spatial_dims"])
            for row in content["training"]:
                rows.setdefault((content["name"], row["subject_id"]), []).append((image_path(list_path, row), *form))
        return {scan: paths[len(paths) // 2] for scan, paths in rows.items()}

    @cached_property
    def _subjects(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Map cohort and name of a scan to its row in the last `cohort.json`, which has the masks of a model, too."""
        return {
            (content["name"], subject["subject_id"]): subject
            for path, content in self.files.lists("cohort")
            for subject in locate_subjects(content, path.absolute().parent)
        }


def wrong_answers(answers: Answers) -> list[WrongAnswer]:
    """List the patients who are answered wrongly, those with the most probable wrong answer first.

    Of several scans the one is shown whose own answer is the most wrong. Equal ones keep the order of the predictions.

    Args:
        answers: of one setup and test.
    """
    cases = []
    for index in np.flatnonzero(~answers.right):
        answer = answers.classes[answers.predictions[index]]
        row = max(answers.scans[index], key=lambda scan: float(scan[f"probability_{answer}"]))
        probability = float(answers.probabilities[index].max())
        cases.append(WrongAnswer(row, answers.classes[answers.labels[index]], answer, probability))
    return sorted(cases, key=lambda case: -case.probability)


def mask_on_patch(mask: Volume, codes: Sequence[int], affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Look up the region of a mask at the center of each cell of a patch.

    Args:
        mask: codes, on the grid of the images that the patch was cut from.
        codes: of the region.
        affine: cell indices of the patch -> mm, (4, 4), as its file has it.
        shape: cells of each axis, two or three.

    Returns:
        Booleans of that shape; outside of the mask there is no region.
    """
    cells = np.indices([*shape, 1, 1][:3]).reshape(3, -1)
    to_voxels = np.linalg.inv(mask.affine) @ affine
    voxels = np.rint(to_voxels[:3, :3] @ cells + to_voxels[:3, 3:]).astype(int)
    inside = ((voxels >= 0) & (voxels < np.array(mask.data.shape)[:, None])).all(axis=0)
    region = np.zeros(cells.shape[1], dtype=bool)
    region[inside] = np.isin(mask.data[tuple(voxels[:, inside])], codes)
    return region.reshape(shape)


def draw_outlined(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Draw the modalities of a patch in one row, with the outline of a region on each.

    Args:
        image: (C, *spatial), [-1, 1]; of a volume three planes through the middle are shown.
        mask: booleans, (*spatial); None draws no outline.

    Returns:
        (height, width, 3) uint8; the patient's left is on the left.
    """
    planes = [mosaic(channel[None], WIDTH) for channel in image]
    colors = [np.repeat(plane[..., None], 3, axis=2) for plane in planes]
    if mask is not None:
        shown = mosaic(np.where(mask, 1.0, -1.0)[None], WIDTH) > 0
        # Inside the region, so that a region up to the border of the patch is closed.
        edge = shown & ~binary_erosion(shown, iterations=max(1, WIDTH // 100))
        for plane in colors:
            plane[edge] = OUTLINE
    parted = [np.pad(plane, ((0, 0), (0, GAP), (0, 0)), constant_values=255) for plane in colors]
    return np.concatenate(parted, axis=1)[:, :-GAP]
