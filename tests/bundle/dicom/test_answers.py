"""DICOM studies graded as the same NIfTI are, and answers as DICOM objects that say the same at the same place."""

from __future__ import annotations

from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.sr.codedict import codes

from bundle import __main__ as command
from bundle import grade
from bundle.dicom.report import RESEARCH
from bundle.grader import Grader
from scripts.running.files import atomic_path, read_csv, read_json
from tests import stub_hd_bet
from tests.dicom_studies import FLIP, SHAPE, SMALL, images_of, write_study
from tests.tiny_subjects import AFFINE, make_mask, reoriented, write_subject, write_volume

CLICK = [20, 15, 10]  # in the order of the NIfTI files; DICOM counts columns and rows from the other side
CLICK_IN_DICOM = [SHAPE[0] - 1 - CLICK[0], SHAPE[1] - 1 - CLICK[1], CLICK[2]]
CLICK_LPS = (FLIP @ AFFINE @ [*CLICK, 1])[:3]


@pytest.fixture(scope="module")
def answered(scanned, packed, tmp_path_factory):
    """The study, graded and reported by one command, and the folder of the answer."""
    folder = tmp_path_factory.mktemp("answers")
    words = ["grade", str(scanned), "--out", str(folder), "--click", "19,17,10", "--bundle", str(packed)]
    assert command.main([*words, "--dicom_report"]) == 0
    return folder / "P1"


@pytest.fixture(scope="module")
def report(answered):
    return highdicom.sr.srread(answered / "report_sr.dcm")


@pytest.fixture(scope="module")
def region(answered):
    return highdicom.seg.segread(answered / "region_seg.dcm")


def test_a_study_gets_the_grade_of_the_same_images_as_nifti(answered, packed, tmp_path):
    write_subject(tmp_path / "P1", images_of())
    (expected,) = grade(str(tmp_path / "P1"), str(tmp_path / "out"), str(packed), CLICK, explanation="none")
    answer = read_json(answered / "answer.json")
    assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
    assert answer["crop"]["center_voxel"] == CLICK_IN_DICOM
    assert answer["crop"]["center_mm"] == pytest.approx(expected["crop"]["center_mm"])
    patches = [nib.load(folder / "patch.nii.gz") for folder in (answered, tmp_path / "out" / "P1")]
    np.testing.assert_allclose(patches[0].affine, patches[1].affine)
    assert np.array_equal(patches[0].get_fdata(), patches[1].get_fdata())


def test_a_mask_on_the_grid_of_t1c_says_where_and_a_sagittal_t1c_is_graded_alike(packed, tmp_path):
    write_study(tmp_path / "P1", {"t1c": {"codes": "PIR"}})
    mask = write_volume(tmp_path / "seg.nii.gz", *reoriented(make_mask(), AFFINE, "PIR"))
    write_subject(tmp_path / "P2", images_of())
    options = {"mask_codes": "brats_2017", "explanation": "none"}
    (row,) = grade(str(tmp_path / "P1"), str(tmp_path / "out"), str(packed), mask=mask, dicom_report=True, **options)
    (expected,) = grade(str(tmp_path / "P2"), str(tmp_path / "out"), str(packed), **options)
    assert row["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
    # The slice that was graded is axial, and none of the images is.
    segmentation = highdicom.seg.segread(tmp_path / "out" / "P1" / "region_seg.dcm")
    center = (FLIP @ [*row["crop"]["center_mm"], 1])[:3]
    assert is_in(segmentation, center)
    assert not is_in(segmentation, center + [0, 0, 2])
    assert not (tmp_path / "out" / "P1" / "explanation_sc.dcm").exists()


def is_in(segmentation, point_lps):
    """Whether the voxel at a point is in the segment; outside of what is stored it is not."""
    volume = segmentation.get_volume(combine_segments=True)
    voxel = np.rint(np.linalg.inv(volume.affine) @ [*point_lps, 1])[:3].astype(int)
    is_stored = (voxel >= 0).all() and (voxel < volume.spatial_shape).all()
    return bool(is_stored and volume.array[tuple(voxel)])


def test_the_region_lies_where_the_click_was(region, report, answered):
    (group,) = report.content.get_planar_roi_measurement_groups()
    assert group.roi.frame_of_reference_uid == region.FrameOfReferenceUID
    corners, crop = group.roi.value, read_json(answered / "answer.json")["crop"]
    assert np.array_equal(corners[0], corners[4])
    assert corners[:, 2] == pytest.approx(CLICK_LPS[2])
    low, high = corners.min(axis=0)[:2], corners.max(axis=0)[:2]
    assert high - low == pytest.approx(np.multiply(crop["size"], crop["spacing_mm"]))
    assert (low + high) / 2 == pytest.approx(CLICK_LPS[:2], abs=1)  # an even number of cells has no middle one
    # Of that rectangle the SEG has every voxel, and no other.
    axes = [np.arange(size) for size in SHAPE]
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points = (FLIP @ AFFINE @ np.insert(voxels, 3, 1, axis=1).T)[:3].T
    expected = ((points[:, :2] > low) & (points[:, :2] < high)).all(axis=1) & np.isclose(points[:, 2], CLICK_LPS[2])
    volume = region.get_volume(combine_segments=True)
    stored = (volume.affine @ np.insert(np.argwhere(volume.array), 3, 1, axis=1).T)[:3].T
    assert {tuple(np.round(point, 3)) for point in stored} == {tuple(np.round(point, 3)) for point in points[expected]}
    assert tuple(CLICK_LPS) in {tuple(np.round(point, 3)) for point in stored}


def test_the_report_says_class_probabilities_and_who_measured(report, answered):
    answer = read_json(answered / "answer.json")
    assert report.SOPClassUID.name == "Comprehensive 3D SR Storage"
    (group,) = report.content.get_planar_roi_measurement_groups()
    values = {item.name.meaning: item.value for item in group.get_measurements()}
    for name, value in answer["probabilities"].items():
        assert values[f"Probability of {name} by a research network"] == pytest.approx(value, abs=1e-9)
    assert [item.value.meaning for item in group.get_qualitative_evaluations()][0] == answer["class"]
    texts = [item.TextValue for item in every_item(report) if "TextValue" in item]
    sha256 = answer["weights"]["sha256"]
    assert texts.count(sha256) == 1
    assert f"weights sha256 {sha256}" in texts
    assert (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag) == (
        "PARTIAL",
        "PRELIMINARY",
        "UNVERIFIED",
    )


def every_item(item):
    yield item
    for child in item.get("ContentSequence", []):
        yield from every_item(child)


def test_every_object_is_of_the_patient_and_marked(answered, scanned, report, region):
    capture, place = (dcmread(answered / f"{name}_sc.dcm") for name in ("explanation", "place"))
    first = dcmread(next((scanned / "S7").iterdir()), stop_before_pixels=True)
    sha256 = read_json(answered / "answer.json")["weights"]["sha256"]
    for dataset in (report, region, capture, place):
        assert dataset.SeriesDescription.startswith("RESEARCH ONLY")
        assert dataset.DeviceSerialNumber == sha256
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"):
            assert dataset[keyword].value == first[keyword].value
    (comment,) = texts_named(report, codes.DCM.Comment)
    assert comment.startswith(RESEARCH)
    assert "Not for patients" in comment
    assert sorted({dataset.SeriesNumber for dataset in (report, region, capture)}) == [8, 9, 10]
    assert place.SeriesInstanceUID == capture.SeriesInstanceUID
    assert region["ContentCreatorName"].is_empty
    for dataset, name in ((capture, "explanation.png"), (place, "place.png")):
        assert dataset.BurnedInAnnotation == "YES"
        picture = np.asarray(Image.open(answered / name).convert("RGB"))
        assert np.array_equal(dataset.pixel_array[-picture.shape[0] :], picture)
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    series = {item.SeriesInstanceUID for item in evidence}
    assert {region.SeriesInstanceUID, capture.SeriesInstanceUID, first.SeriesInstanceUID} <= series


def texts_named(report, code):
    items = [item for item in every_item(report) if "TextValue" in item]
    return [item.TextValue for item in items if item.ConceptNameCodeSequence[0].CodeValue == code.value]


def test_what_is_there_is_kept_and_made_again_on_request(answered, scanned, packed, monkeypatch):
    options = {"bundle_dir": str(packed), "click": CLICK_IN_DICOM, "dicom_report": True}
    before = {name: (answered / name).read_bytes() for name in ("answer.json", "report_sr.dcm", "region_seg.dcm")}
    with monkeypatch.context() as context:
        context.setattr(Grader, "grade", lambda *_: pytest.fail("asked the network again"))
        grade(str(scanned), str(answered.parent), **options)
    assert before == {name: (answered / name).read_bytes() for name in before}
    (answered / "region_seg.dcm").unlink()
    grade(str(scanned), str(answered.parent), **options)
    assert (answered / "region_seg.dcm").is_file()


def test_objects_and_pictures_of_another_answer_do_not_stay(scanned, packed, tmp_path, monkeypatch):
    folder, options = tmp_path / "P1", {"bundle_dir": str(packed), "explanation": "none"}
    grade(str(scanned), str(tmp_path), str(packed), CLICK_IN_DICOM, dicom_report=True)
    old = {path.name: path.read_bytes() for path in folder.glob("*.dcm")}
    assert len(old) == 4
    other = {**options, "click": [CLICK_IN_DICOM[0] - 3, *CLICK_IN_DICOM[1:]]}
    (answer,) = grade(str(scanned), str(tmp_path), **other, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["answer.json", "nifti", "patch.nii.gz"]
    for name, content in old.items():  # as if they had stayed
        (folder / name).write_bytes(content)
    grade(str(scanned), str(tmp_path), **other, dicom_report=True)
    assert sorted(path.name for path in folder.glob("*.dcm")) == ["region_seg.dcm", "report_sr.dcm"]
    report = dcmread(folder / "report_sr.dcm")
    texts = [item.TextValue for item in every_item(report) if "TextValue" in item]
    assert f"request sha256 {answer['request_sha256']}" in texts
    # A report that tells of another region is made again, and where it cannot be written there is none.
    (folder / "region_seg.dcm").write_bytes(old["region_seg.dcm"])
    with monkeypatch.context() as context:
        context.setattr("bundle.dicom.report.atomic_path", only_before_the_report)
        (row,) = grade(str(scanned), str(tmp_path), **other, dicom_report=True)
    assert row["error"] == "no space left"
    assert [path.name for path in folder.glob("*.dcm")] == ["region_seg.dcm"]
    assert (folder / "region_seg.dcm").read_bytes() != old["region_seg.dcm"]


def test_a_report_about_the_same_images_of_another_name_does_not_stay(packed, tmp_path):
    options = {"bundle_dir": str(packed), "explanation": "none"}
    clicked = {**options, "click": CLICK_IN_DICOM, "dicom_report": True}
    study, out = str(tmp_path / "in" / "P1"), str(tmp_path / "out")
    write_study(tmp_path / "in" / "P1")
    grade(study, out, **clicked)
    write_study(tmp_path / "in" / "P1", PatientName="Roe^Jane")
    (row,) = grade(study, out, **options, overwrite=True)
    assert row["error"].startswith("mask or click must say")
    (row,) = grade(study, out, **clicked)  # the answer is that of the same voxels
    assert "error" not in row
    assert dcmread(tmp_path / "out" / "P1" / "report_sr.dcm").PatientName == "Roe^Jane"


def only_before_the_report(path):
    if path.name == "report_sr.dcm":
        raise OSError("no space left")
    return atomic_path(path)


def test_a_study_that_cannot_be_graded_does_not_stop_the_others(packed, tmp_path, capsys):
    write_study(tmp_path / "in" / "P1", {"t1c": None}, shape=SMALL)
    write_study(tmp_path / "in" / "P2")
    write_subject(tmp_path / "in" / "P3", images_of())
    words = ["grade", *map(str, sorted((tmp_path / "in").iterdir())), "--out", str(tmp_path / "out")]
    assert command.main([*words, "--bundle", str(packed), "--mask_codes", "brats_2017", "--explanation", "none"]) == 2
    output = capsys.readouterr().out
    assert "P1  not graded" in output
    assert "none for t1c (no T1 series" in output
    rows = read_csv(tmp_path / "out" / "answers.csv")
    assert [bool(row["class"]) for row in rows] == [False, False, True]
    assert rows[1]["error"].startswith("mask or click must say where the tumor is, got neither")
    assert rows[1]["error"].endswith(
        f"(the files that were read from DICOM lie in {tmp_path / 'out' / 'P2' / 'nifti'})"
    )
    assert not (tmp_path / "out" / "P1").exists()


def test_each_of_several_studies_has_its_mask_in_its_folder_or_beside_what_was_read(packed, tmp_path):
    studies = [str(tmp_path / "in" / name) for name in ("P1", "P2")]
    options = {"bundle_dir": str(packed), "mask_codes": "brats_2017", "explanation": "none"}
    for study in studies:
        write_study(Path(study))
    write_volume(tmp_path / "in" / "P1" / "P1_seg.nii.gz", make_mask())
    first, without = grade(studies, str(tmp_path / "out"), **options)
    assert first["crop"]["region"] == "enhancing"
    assert without["error"].startswith("mask or click must say where the tumor is, got neither")
    drawn = tmp_path / "out" / "P2" / "nifti" / "seg.nii.gz"
    write_volume(drawn, make_mask())
    answers = grade(studies, str(tmp_path / "out"), **options)
    assert [answer["probabilities"] for answer in answers] == [first["probabilities"]] * 2
    write_volume(tmp_path / "in" / "P2" / "seg.nii.gz", make_mask())
    assert "mask must be one file, got" in grade(studies, str(tmp_path / "out"), **options)[1]["error"]


@pytest.mark.parametrize("options", [{"series": {"t1c": 7}}, {"dicom_report": True}, {"skull_strip": True}])
def test_options_of_dicom_are_refused_for_other_files(options, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(Grader, "load", lambda *_: pytest.fail("loaded"))
    write_subject(tmp_path / "P3", images_of())
    with pytest.raises(ValueError, match="and dicom_report must be of DICOM studies, got P3; leave them out"):
        grade(str(tmp_path / "P3"), str(tmp_path / "out"), str(packed), CLICK, **options)


def test_skull_stripping_without_hd_bet_is_refused_before_any_work(packed, tmp_path, monkeypatch):
    stub_hd_bet.uninstall(monkeypatch)
    monkeypatch.setattr(Grader, "load", lambda *_: pytest.fail("loaded"))
    write_study(tmp_path / "P1")
    with pytest.raises(ImportError, match=r"pip install '\.\[skull-strip\]', or give a brain_mask"):
        grade(str(tmp_path / "P1"), str(tmp_path / "out"), str(packed), CLICK_IN_DICOM, skull_strip=True)


def test_a_study_without_names_is_reported_and_headers_that_cannot_be_are_told(packed, tmp_path, monkeypatch):
    removed = ("PatientName", "PatientBirthDate", "AccessionNumber", "StudyID", "StudyDate", "StudyTime")
    paths = write_study(tmp_path / "P1", PatientSex="X")["t1c"]
    for path in paths:
        image = dcmread(path)
        for keyword in (*removed, "ReferringPhysicianName", "PositionReferenceIndicator", "SliceThickness"):
            delattr(image, keyword)
        image.save_as(path)
    options = {"bundle_dir": str(packed), "click": CLICK_IN_DICOM, "dicom_report": True}
    (row,) = grade(str(tmp_path / "P1"), str(tmp_path / "out"), **options)
    assert "error" not in row
    for name in ("report_sr", "region_seg", "explanation_sc", "place_sc"):
        assert not dcmread(tmp_path / "out" / "P1" / f"{name}.dcm").PatientSex
    monkeypatch.setattr("bundle.dicom.report.MAY_BE_EMPTY", ())
    (row,) = grade(str(tmp_path / "P1"), str(tmp_path / "out"), **options, overwrite=True)
    assert "holds the answer, but its report could not be written for the headers of t1c" in row["error"]


def test_a_single_file_of_a_study_is_no_study(scanned, packed, tmp_path):
    with pytest.raises(ValueError, match=r"000.dcm is one file of a DICOM study; give the folder of the study"):
        grade(str(scanned / "S7" / "000.dcm"), str(tmp_path / "out"), str(packed), CLICK)


def test_a_study_without_a_frame_of_reference_is_graded_but_not_reported(packed, tmp_path):
    write_study(tmp_path / "P1", FrameOfReferenceUID=None)
    options = {"bundle_dir": str(packed), "click": CLICK_IN_DICOM, "explanation": "none"}
    (row,) = grade(str(tmp_path / "P1"), str(tmp_path / "out"), dicom_report=True, **options)
    assert "must have a FrameOfReferenceUID for a report, got none; leave --dicom_report out" in row["error"]
    assert not (tmp_path / "out" / "P1").exists()
    (row,) = grade(str(tmp_path / "P1"), str(tmp_path / "out"), **options)
    assert "error" not in row
