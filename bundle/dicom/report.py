"""An answer as DICOM objects of the study that it is about: a structured report, the region and the explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from highdicom import sr
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from bundle.dicom.contents import REFERENCE
from bundle.dicom.convert import Conversion
from bundle.dicom.files import PICTURES, REGION, REPORT, is_dicom, remove_objects
from bundle.dicom.grid import LPS_TO_RAS
from scripts.running.files import atomic_path
from scripts.volumes.headers import read_header

RESEARCH = "RESEARCH ONLY. Not a medical device, not for diagnosis."
SCHEME = "99BRATS"  # of codes that no standard has; private ones begin with 99
# Elements of patient and study that must be there, with a value or without (type 2).
MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
SEXES = ("M", "F", "O")  # DICOM PS3.3, C.7.1.1
LONGEST_TEXT = 64  # of a value of type LO
EDGE = 1e-6  # cells; a voxel on the border of the region is in it or not, whatever rounding says


@dataclass(frozen=True)
class Answer:
    """An answer about a study, and what its objects say of who gave it.

    Args:
        folder: holds `answer.json`, `patch.nii.gz` and its pictures.
        content: of `answer.json`.
        conversion: of the study that was graded.
    """

    folder: Path
    content: Mapping[str, Any]
    conversion: Conversion

    @property
    def names(self) -> list[str]:
        """Names of the files that are written, in this order: where the report lies, the others do."""
        return [REGION, *(PICTURES[key] for key in self.pictures), REPORT]

    @property
    def pictures(self) -> list[str]:
        """Keys of `files` in the answer, of the pictures that there are."""
        return [key for key in PICTURES if key in self.content["files"]]

    @cached_property
    def images(self) -> list[Dataset]:
        """Headers of the images of t1c, in the order of the third axis of its file."""
        grid = self.conversion.grids[REFERENCE]
        images: list[Dataset] = [dcmread(path, stop_before_pixels=True) for path in grid.paths]
        for image in images:
            for keyword in MAY_BE_EMPTY:  # which programs that remove names take out altogether
                if keyword not in image:
                    setattr(image, keyword, None)
            if image.PatientSex not in SEXES:
                image.PatientSex = None
            if not image.get("SliceThickness"):
                image.SliceThickness = round(float(np.linalg.norm(grid.affine[:3, 2])), 6)
        return images

    @property
    def device(self) -> dict[str, str]:
        """Who answers: the package, and by the hash of its weights which one."""
        bundle, weights = self.content["bundle"], self.content["weights"]
        return {
            "manufacturer": str(bundle["name"])[:LONGEST_TEXT],
            "model": f"{bundle['name']} (research)"[:LONGEST_TEXT],
            "version": str(bundle["version"])[:LONGEST_TEXT],
            "serial": weights["sha256"],
            "uid": f"2.25.{int(weights['sha256'][:32], 16)}",  # DICOM PS3.5, annex B.2
        }

    @property
    def origin(self) -> tuple[str, str]:
        """Words by which the report tells which answer it is about, and which images: two studies may look the same."""
        return f"request sha256 {self.content['request_sha256']}", f"study sha256 {self.conversion.request_sha256}"

    @property
    def notices(self) -> tuple[str, str]:
        """What every object says about its use."""
        return RESEARCH, self.content["weights"]["notice"]

    def series_number(self, index: int) -> int:
        """Number of a new series, behind those of the study."""
        return max(series.number or 0 for series in self.conversion.study.series) + 1 + index


def require_frame(conversion: Conversion) -> None:
    """Refuse a study in which no place can be told to other programs.

    Raises:
        ValueError: if t1c has no frame of reference.
    """
    series = conversion.chosen[REFERENCE]
    if series.value("FrameOfReferenceUID") is None:
        raise ValueError(
            f"{series.name} must have a FrameOfReferenceUID for a report, got none; leave --dicom_report out"
        )


def write_report(folder: str | Path, content: Mapping[str, Any], conversion: Conversion) -> list[Path]:
    """Write the objects of an answer beside it, in the place of any others.

    Args:
        folder: of the answer.
        content: of its `answer.json`.
        conversion: of the study that was graded.

    Returns:
        Paths of the Comprehensive 3D SR (TID 1500), the SEG of the graded region, and the Secondary Captures of the
        pictures that there are: explanation and place.
    """
    answer = Answer(Path(folder), content, conversion)
    region = make_region(answer)
    captures = make_captures(answer)
    objects = [region, *captures, make_report(answer, [region, *captures])]
    remove_objects(answer.folder)
    for name, dataset in zip(answer.names, objects, strict=True):
        with atomic_path(answer.folder / name) as temporary:
            dataset.save_as(temporary)
    return [answer.folder / name for name in answer.names]


def is_written(folder: str | Path, content: Mapping[str, Any], conversion: Conversion) -> bool:
    """Tell whether all objects of an answer are there, and are about this one."""
    answer = Answer(Path(folder), content, conversion)
    paths = [answer.folder / name for name in answer.names]
    if not all(map(is_dicom, paths)):
        return False
    *others, report = (dcmread(path, stop_before_pixels=True) for path in paths)
    told = {str(element.value) for element in report.iterall()}
    return {*answer.origin, *(str(other.SOPInstanceUID) for other in others)} <= told


def make_region(answer: Answer) -> Dataset:
    """Make the SEG of what the network saw: a rectangle of one slice, or a block."""
    label = f"Graded region (research): {_class(answer)}"[:LONGEST_TEXT]
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=answer.device["model"],
        family=codes.DCM.ArtificialIntelligence,
        version=answer.device["version"],
        parameters={"weights_sha256": answer.device["serial"]},
    )
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=label,
        segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
        segmented_property_type=codes.DCM.ImageRegion,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
    )
    region = highdicom.seg.Segmentation(
        source_images=answer.images,
        pixel_array=voxels_of_region(answer).T.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[segment],
        series_instance_uid=generate_uid(),
        series_number=answer.series_number(1),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=answer.device["manufacturer"],
        manufacturer_model_name=answer.device["model"],
        software_versions=answer.device["version"],
        device_serial_number=answer.device["serial"],
        content_label="RESEARCH_REGION",
        content_description=RESEARCH[:LONGEST_TEXT],
        series_description="RESEARCH ONLY: graded region",
    )
    region.ContentCreatorName = None  # of type 2: there, though nobody created it (DICOM PS3.3, table 10-12)
    return region


def make_captures(answer: Answer) -> list[Dataset]:
    """Make the Secondary Captures of the pictures, one series, each under a line that says what it is for."""
    first, series_uid = answer.images[0], generate_uid()
    captures: list[Dataset] = []
    for number, key in enumerate(answer.pictures, start=1):
        capture = highdicom.sc.SCImage(
            pixel_array=_marked(Image.open(answer.folder / answer.content["files"][key]), answer),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            study_instance_uid=first.StudyInstanceUID,
            series_instance_uid=series_uid,
            series_number=answer.series_number(2),
            sop_instance_uid=generate_uid(),
            instance_number=number,
            manufacturer=answer.device["manufacturer"],
            patient_id=first.get("PatientID"),
            patient_name=first.get("PatientName"),
            patient_birth_date=first.get("PatientBirthDate"),
            patient_sex=first.get("PatientSex"),
            accession_number=first.get("AccessionNumber"),
            study_id=first.get("StudyID"),
            study_date=first.get("StudyDate"),
            study_time=first.get("StudyTime"),
            referring_physician_name=first.get("ReferringPhysicianName"),
            patient_orientation=("L", "P"),
            series_description="RESEARCH ONLY: where the network looked",
            manufacturer_model_name=answer.device["model"],
            device_serial_number=answer.device["serial"],
            software_versions=answer.device["version"],
        )
        capture.PatientOrientation = []  # of several panels, each with its own letters
        capture.BodyPartExamined = "BRAIN"
        capture.BurnedInAnnotation = "YES"  # the name of the folder, which may be that of the patient
        captures.append(capture)
    return captures


def _marked(picture: Image.Image, answer: Answer) -> np.ndarray:
    """Pixels of a picture under the notice, (rows, columns, 3), uint8."""
    margin = picture.width // 50
    font = ImageFont.load_default(margin)
    widest = max(font.getlength(line) for line in answer.notices)
    font = ImageFont.load_default(margin * min(1.0, (picture.width - 2 * margin) / widest))
    height = 2 * margin * len(answer.notices)
    marked = Image.new("RGB", (picture.width, height + picture.height), "white")
    for index, line in enumerate(answer.notices):
        ImageDraw.Draw(marked).text((margin, (2 * index + 0.5) * margin), line, "black", font)
    marked.paste(picture.convert("RGB"), (0, height))
    return np.asarray(marked)


def make_report(answer: Answer, others: Sequence[Dataset]) -> Dataset:
    """Make the Comprehensive 3D SR: class, probabilities, region in patient coordinates, and who measured.

    Source: DICOM PS3.16, TID 1500 "Measurement Report" and TID 1410 "Planar ROI Measurements".
    """
    device = answer.device
    observer = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=device["uid"],
            name=device["model"],
            manufacturer_name=device["manufacturer"],
            model_name=device["model"],
            serial_number=device["serial"],
        ),
    )
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(), identifier="graded region (research)"),
        referenced_region=sr.ImageRegion3D(
            graphic_type="POLYGON",
            graphic_data=corners_of_region(answer),
            frame_of_reference_uid=answer.images[0].FrameOfReferenceUID,
        ),
        finding_type=codes.SCT.Neoplasm,
        finding_sites=[sr.FindingSite(anatomic_location=codes.SCT.Brain)],
        algorithm_id=sr.AlgorithmIdentification(
            name=device["model"],
            version=device["version"],
            parameters=[f"weights sha256 {device['serial']}", *answer.origin],
        ),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(Code("CLASS", SCHEME, "Class by a research network"), _code(_class(answer)))
        ],
        measurements=[
            sr.Measurement(
                name=_code(f"P_{name}", f"Probability of {name} by a research network"),
                value=value,
                unit=codes.UCUM.NoUnits,
            )
            for name, value in answer.content["probabilities"].items()
        ],
    )
    comment = sr.TextContentItem(
        name=codes.DCM.Comment, value=" ".join(answer.notices), relationship_type=sr.RelationshipTypeValues.CONTAINS
    )
    group[0].ContentSequence.append(comment)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.cid100.ImagingProcedure,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    return sr.Comprehensive3DSR(
        evidence=[*answer.images, *others],
        content=content[0],
        series_instance_uid=generate_uid(),
        series_number=answer.series_number(0),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=device["manufacturer"],
        is_complete=False,
        is_final=False,
        is_verified=False,
        series_description="RESEARCH ONLY: class and probabilities",
        manufacturer_model_name=device["model"],
        device_serial_number=device["serial"],
        software_versions=device["version"],
    )


def corners_of_region(answer: Answer) -> np.ndarray:
    """Corners of the graded rectangle, closed, mm in DICOM's axes (left, posterior, superior), (5, 3).

    Of a block it is the middle slice.
    """
    header = read_header(answer.folder / answer.content["files"]["patch"])
    rows, columns, slices = header.shape[:3]
    square = np.array([[0, 0], [rows, 0], [rows, columns], [0, columns], [0, 0]]) - 0.5
    cells = np.column_stack([square, np.full(5, (slices - 1) / 2), np.ones(5)])
    return (LPS_TO_RAS @ header.affine @ cells.T)[:3].T


def voxels_of_region(answer: Answer) -> np.ndarray:
    """Voxels of t1c whose centers lie in the graded region, (columns, rows, images), bool."""
    header = read_header(answer.folder / answer.content["files"]["patch"])
    grid, first = answer.conversion.grids[REFERENCE], answer.images[0]
    shape = (first.Columns, first.Rows, len(grid.paths))
    to_cells = np.linalg.inv(header.affine) @ grid.affine
    inside = np.ones(shape, bool)
    for axis, size in enumerate(header.shape[:3]):
        along = [to_cells[axis, index] * np.arange(length) for index, length in enumerate(shape)]
        cell = along[0][:, None, None] + along[1][:, None] + along[2] + to_cells[axis, 3]
        inside &= (cell >= -0.5 - EDGE) & (cell < size - 0.5 - EDGE)
    return inside


def _class(answer: Answer) -> str:
    return str(answer.content["class"])


def _code(value: str, meaning: str | None = None) -> Code:
    return Code(value, SCHEME, (meaning or value)[:LONGEST_TEXT])
