from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from scripts.evaluation.answers import group_answers
from scripts.explanations.wrong_cases import OUTLINE, WrongCases, draw_outlined, mask_on_patch, wrong_answers
from scripts.patches.pictures import mosaic
from scripts.provenance.study_files import StudyFiles
from scripts.running.files import read_json, write_csv, write_json
from scripts.volumes.nifti import write_image
from scripts.volumes.reading import read_mask
from tests.helpers import list_header
from tests.predictions import prediction_row
from tests.tiny_subjects import AFFINE, MASK_CODES, make_images, make_mask, patch_of, reoriented, write_subject
from tests.volume_folders import write_pair

TUMOR = [1, 2, 4]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR"])
@pytest.mark.parametrize("size", [(16, 14), (16, 14, 9)], ids=["2d", "3d"])
def test_the_region_lies_on_the_cells_that_show_it(tmp_path, size, codes):
    images, mask = make_images(), make_mask()
    images["t1n"] = np.where(mask > 0, 30000, np.minimum(images["t1n"], 3000)).astype(np.int16)
    subject = write_subject(tmp_path / "S", images, mask)
    image = patch_of(subject, patch_size=list(size), spatial_dims=len(size))["image"]
    write_image(tmp_path / "patch.nii.gz", np.asarray(image), np.asarray(image.affine))
    turned, affine = reoriented(mask, AFFINE, codes)
    nibabel.save(nibabel.Nifti1Image(turned, affine), tmp_path / "turned.nii.gz")
    stored = nibabel.load(tmp_path / "patch.nii.gz").affine
    region = mask_on_patch(read_mask(tmp_path / "turned.nii.gz"), TUMOR, stored, size)
    assert 0 < region.sum() < region.size
    np.testing.assert_array_equal(region, np.asarray(image)[0] > 0.9)


def test_outside_of_the_mask_there_is_no_region(tmp_path):
    mask = read_mask(write_subject(tmp_path / "S", mask=np.ones((40, 33, 22), np.uint8))["mask"])
    affine = AFFINE.copy()
    affine[0, 3] -= 3
    region = mask_on_patch(mask, [1], affine, (6, 4))
    assert region[:3].sum() == 0
    assert region[3:].all()


def test_the_outline_is_drawn_on_every_modality_and_nothing_else_is_colored():
    image = np.random.default_rng(0).uniform(-1, 1, (4, 8, 6)).astype(np.float32)
    mask = np.zeros((8, 6), bool)
    mask[2:6, 1:4] = True
    plain, drawn = draw_outlined(image, None), draw_outlined(image, mask)
    colored = (drawn == OUTLINE).all(axis=2)
    assert (drawn == plain).all(axis=2)[~colored].all()
    grey = [np.repeat(mosaic(channel[None], 160)[..., None], 3, axis=2) for channel in image]
    width = grey[0].shape[1]
    for index, channel in enumerate(grey):
        start = index * (width + 3)
        np.testing.assert_array_equal(plain[:, start : start + width], channel)
        own = colored[:, start : start + width]
        inside = mosaic(np.where(mask, 1.0, -1.0)[None], 160) > 0
        assert own.any()
        assert not own[~inside].any()
        assert own.sum() < inside.sum()


def test_the_surest_wrong_patients_come_first_and_a_patient_counts_once():
    rows = [
        prediction_row("right", "HGG", 0.99),
        prediction_row("sure", "LGG", 0.9),
        prediction_row("unsure", "LGG", 0.55),
        prediction_row("scan1", "HGG", 0.4, patient_id="P"),
        prediction_row("scan2", "HGG", 0.1, patient_id="P"),
    ]
    (answers,) = group_answers(rows)
    cases = wrong_answers(answers)
    assert [case.row["subject_id"] for case in cases] == ["sure", "scan2", "unsure"]
    assert [case.probability for case in cases] == pytest.approx([0.9, 0.75, 0.55])
    assert [(case.label, case.answer) for case in cases] == [("LGG", "HGG"), ("HGG", "LGG"), ("LGG", "HGG")]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of one cohort with a patch and a mask of the first of four patients, all answered wrongly."""
    folder = tmp_path_factory.mktemp("study")
    subject = write_subject(folder / "cohort" / "S0")
    image = patch_of(subject)["image"]
    write_image(folder / "patches" / "S0.nii.gz", np.asarray(image), np.asarray(image.affine))
    write_image(folder / "patches" / "S1.nii.gz", np.asarray(image), np.asarray(image.affine))
    write_image(folder / "patches" / "S2.nii.gz", np.asarray(image), np.asarray(image.affine))
    subjects = [
        {"subject_id": "S0", "mask": "S0/seg.nii.gz"},
        {"subject_id": "S1", "mask": "S1/seg.nii.gz"},
        {"subject_id": "S2"},
    ]
    cohort = {"name": "B", "simulated": True, "mask_codes": MASK_CODES, "subjects": subjects}
    write_json(folder / "cohort" / "cohort.json", cohort)
    header = list_header(("t1n", "t1c", "t2w", "t2f"), {"LGG": 0, "HGG": 1}, (16, 14))
    entries = [{"image": f"S{k}.nii.gz", "label": 0, "subject_id": f"S{k}"} for k in range(3)]
    write_json(folder / "patches" / "patches.json", {"name": "B", **header, "training": entries})
    rows = [
        prediction_row(f"S{k}", "LGG", 0.9 - 0.1 * k, setup=setup, direction=direction)
        for setup in ("real", "ddpm")
        for direction in ("A", "C")
        for k in range(4)
    ]
    write_csv(folder / "evaluation" / "predictions.csv", rows, list(rows[0]))
    return StudyFiles(str(folder), ["cohort", "patches", "evaluation"]), subject


def test_a_case_is_shown_with_its_outline_or_the_reason_why_there_is_none(study):
    files, subject = study
    cases = WrongCases(files, num_cases=8)
    first, second = cases.describe()
    assert [(test["setup"], test["direction"], test["n"], test["num_wrong"]) for test in (first, second)] == [
        ("real", "A", 4, 4),
        ("real", "C", 4, 4),
    ]
    reasons = {case["subject_id"]: case["no_outline"] for case in first["cases"]}
    assert reasons == {
        "S0": "",
        "S1": "the mask seg.nii.gz does not exist",
        "S2": "the cohort has no mask of this patient",
        "S3": "the study has no patch of this patient",
    }
    pictures = {case["subject_id"]: case["picture"] for case in first["cases"]}
    assert pictures["S3"] is None
    assert (pictures["S0"] == OUTLINE).all(axis=2).any()
    assert not (pictures["S1"] == OUTLINE).all(axis=2).any()
    assert cases.inputs() == [subject["mask"]]


def test_the_outline_of_an_analyze_mask_is_drawn_as_it_is_said_to_lie(study):
    _, subject = study
    folder = Path(subject["mask"]).parents[1]
    masks = nibabel.load(subject["mask"])
    content = read_json(folder / "cohort.json")
    turned, _ = reoriented(np.asarray(masks.dataobj), masks.affine, "LPS")
    write_pair(folder / "S0" / "seg.img", turned, (1, 1, 1))
    told = {"subject_id": "S0", "mask": "S0/seg.img", "orientation": "LPS"}
    write_json(folder / "cohort.json", {**content, "subjects": [told]})
    files = StudyFiles(str(folder.parent), ["cohort", "patches", "evaluation"])
    case = WrongCases(files).describe()[0]["cases"][0]
    write_json(folder / "cohort.json", content)
    assert (case["subject_id"], case["no_outline"]) == ("S0", "")
    assert (case["picture"] == OUTLINE).all(axis=2).any()


def test_the_cases_are_divided_among_the_tests_and_those_of_the_end_point_are_taken(study):
    files, _ = study
    assert [len(test["cases"]) for test in WrongCases(files, num_cases=4).describe()] == [2, 2]
    end_point = {"setup": "ddpm", "reference": "real", "trained_on": "A", "tested_on": "B", "measure": "auc"}
    (test,) = WrongCases(files, num_cases=4, primary_endpoint=end_point).describe()
    assert (test["setup"], test["direction"], len(test["cases"])) == ("ddpm", "A", 4)


def test_a_study_without_answers_of_the_setup_has_no_cases(study):
    files, _ = study
    assert WrongCases(files, reference="other").describe() == []
    assert WrongCases(StudyFiles("nowhere", [])).inputs() == []
    with pytest.raises(ValueError, match="report_num_wrong_cases must be at least 1, got 0"):
        WrongCases(files, num_cases=0)
