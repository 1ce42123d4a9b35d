"""Simulated patients: reproducible, resumable, shaped as BraTS, and neither trivial nor hopeless to classify."""

from __future__ import annotations

import copy
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.phantom.grid import grid
from scripts.phantom.patients import default_settings, make_cohort, make_subject, subject_grade
from scripts.phantom.relaxation_times import relaxation_at
from scripts.phantom.scanner import with_inversion_time
from scripts.phantom.signal_equations import inversion_recovery
from scripts.running.files import read_json
from tests.helpers import run_stage

SMALL = (40, 48, 30)  # unequal sides, so that a swapped axis fails
MODALITIES = ["t1n", "t1c", "t2w", "t2f"]


def test_subject_is_the_same_however_many_are_made(tmp_path):
    make_cohort(tmp_path / "three", "A", 3, SMALL, seed=5)
    make_cohort(tmp_path / "two", "A", 2, SMALL, seed=5)
    for modality in (*MODALITIES, "seg"):
        name = f"SIM-A-0001/SIM-A-0001-{modality}.nii.gz"
        assert (tmp_path / "three" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_subjects_seeds_and_sites_differ():
    images = [make_subject(*who, SMALL).images["t1c"] for who in (("A", 0, 0), ("A", 0, 1), ("A", 1, 0), ("B", 0, 0))]
    for k in range(1, 4):
        assert (images[0] != images[k]).mean() > 0.05


@pytest.mark.parametrize(("site", "ti_ms"), [("A", 2660), ("B", 2029)])
def test_flair_of_every_site_nulls_csf(site, ti_ms):
    protocol = default_settings()["sites"][site]
    typical, _ = relaxation_at(protocol["field_strength_tesla"])
    parameters = with_inversion_time(protocol["sequences"]["t2f"], typical)
    del parameters["sequence"]
    assert parameters["ti_ms"] == pytest.approx(ti_ms, abs=0.5)
    assert inversion_recovery(*typical["csf"], **parameters) == pytest.approx(0, abs=1e-9)
    assert inversion_recovery(*typical["wm"], **parameters) > 0.05


def test_an_inversion_time_for_no_tissue_is_refused():
    with pytest.raises(ValueError, match="nulls must be one of wm, gm, .* got 'bone'"):
        with_inversion_time({"tr_ms": 9000, "nulls": "bone"}, relaxation_at(3.0)[0])


def test_files_are_brats_like(tmp_path):
    cohort_path = make_cohort(tmp_path, "B", 2, SMALL, seed=0)
    cohort = read_json(cohort_path)
    assert cohort["simulated"] is True
    assert cohort["layout"] == "phantom"
    assert cohort["modalities"] == MODALITIES
    assert cohort["mask_codes"] == {"necrotic": 1, "edema": 2, "enhancing": 3}
    for subject in cohort["subjects"]:
        images = [nib.load(cohort_path.parent / subject["images"][name]) for name in MODALITIES]
        mask = nib.load(cohort_path.parent / subject["mask"])
        affine = np.diag([-6.0, -5.0, 155 / 30, 1.0])
        for image in (*images, mask):
            assert image.shape == SMALL
            assert image.get_data_dtype() == np.int16
            assert np.allclose(image.affine[:, :3], affine[:, :3])
        arrays = [np.asarray(image.dataobj) for image in images]
        assert all(((array > 0) == (arrays[0] > 0)).all() for array in arrays)
        assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1, 2, 3}
        assert subject["mask_source"] == "simulated"


def test_corner_is_background_and_lesion_lies_in_the_brain():
    subject = make_subject("A", 0, 0, SMALL)
    for image in subject.images.values():
        assert image[0, 0, 0] == 0
        assert (image[subject.mask > 0] > 0).all()
        assert 0.08 < (image > 0).mean() < 0.4


@pytest.mark.parametrize("index", [0, 1])
def test_other_matrix_sizes_show_the_same_patient(index):
    coarse, fine = make_subject("A", 3, index, (60, 60, 40)), make_subject("A", 3, index, (120, 120, 80))
    volumes = [(s.mask > 0).sum() * np.abs(np.linalg.det(s.affine)) for s in (coarse, fine)]
    centers = [nib.affines.apply_affine(s.affine, np.argwhere(s.mask > 0).mean(axis=0)) for s in (coarse, fine)]
    assert coarse.grade == fine.grade
    assert volumes[0] == pytest.approx(volumes[1], rel=0.01)
    assert np.allclose(centers[0], centers[1], atol=1.0)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.4, 1.0])
def test_class_balance_holds_for_any_number_of_subjects(fraction):
    grades = [subject_grade(index, fraction, ["LGG", "HGG"]) for index in range(100)]
    for count in range(1, 101):
        assert abs(grades[:count].count("LGG") - fraction * count) <= 0.5 + 1e-9


def test_about_a_third_of_lgg_and_no_hgg_has_no_enhancing_voxel():
    masks = {g: [make_subject("A", 0, k, (40, 40, 26), f).mask for k in range(80)] for g, f in (("LGG", 1), ("HGG", 0))}
    without = {grade: np.mean([not (mask == 3).any() for mask in found]) for grade, found in masks.items()}
    assert 0.18 <= without["LGG"] <= 0.45
    assert without["HGG"] == 0


def test_hgg_has_necrosis_inside_enhancement():
    inside = [_mean_depth_order(make_subject("A", 0, k, (60, 60, 40), 0.0).mask) for k in range(12)]
    assert np.mean(inside) > 0.7


def _mean_depth_order(mask: np.ndarray) -> bool:
    center = np.argwhere(np.isin(mask, (1, 3))).mean(axis=0)
    distance = {code: np.linalg.norm(np.argwhere(mask == code) - center, axis=1).mean() for code in (1, 3)}
    return bool(distance[1] < distance[3])


@pytest.mark.parametrize("site", ["A", "B"])
def test_contrasts_are_those_of_the_sequences(site):
    subject = make_subject(site, 0, 1 if site == "A" else 2, (60, 60, 40))
    edema, brain = subject.mask == 2, (subject.images["t2f"] > 0) & (subject.mask == 0)
    # CSF is what is brightest on T2 outside the lesion; FLAIR suppresses it, and edema stays bright on both.
    csf = brain & (subject.images["t2w"] > np.percentile(subject.images["t2w"][brain], 97))
    for modality, csf_is_brighter in (("t2w", True), ("t2f", False), ("t1n", False)):
        median = np.median(subject.images[modality][brain])
        assert (np.median(subject.images[modality][csf]) > median) is np.bool_(csf_is_brighter)
    for modality in ("t2w", "t2f"):
        assert np.median(subject.images[modality][edema]) > np.median(subject.images[modality][brain])


def test_interrupted_cohort_is_continued_and_complete_subjects_are_not_touched(tmp_path):
    make_cohort(tmp_path, "A", 2, SMALL, seed=0)
    lost = tmp_path / "SIM-A-0001" / "SIM-A-0001-seg.nii.gz"
    content, kept = lost.read_bytes(), tmp_path / "SIM-A-0000" / "SIM-A-0000-t1n.nii.gz"
    lost.unlink()
    before = kept.stat().st_mtime_ns
    make_cohort(tmp_path, "A", 3, SMALL, seed=0)
    assert lost.read_bytes() == content
    assert kept.stat().st_mtime_ns == before
    assert len(read_json(tmp_path / "cohort.json")["subjects"]) == 3


def test_folder_of_other_settings_is_refused(tmp_path):
    make_cohort(tmp_path, "A", 1, SMALL, seed=0)
    with pytest.raises(ValueError, match="delete the folder or choose another"):
        make_cohort(tmp_path, "A", 1, SMALL, seed=1)


def test_number_of_sequences_and_grades_is_free():
    settings = copy.deepcopy(default_settings())
    settings["sites"]["C"] = settings["sites"]["A"] | {
        "sequences": {"t1": {**settings["sites"]["A"]["sequences"]["t1n"]}}
    }
    settings["grades"]["G4"] = settings["grades"]["HGG"]
    subjects = [make_subject("C", 0, index, (24, 24, 16), 0.3, settings) for index in range(6)]
    assert {subject.grade for subject in subjects} == {"LGG", "HGG", "G4"}
    assert list(subjects[0].images) == ["t1"]


@pytest.mark.parametrize("matrix_size", [(241, 240, 155), (80, 80), (8, 80, 52)])
def test_matrix_size_that_does_not_fit_is_refused(matrix_size):
    with pytest.raises(ValueError, match="phantom_matrix_size must be three sizes"):
        grid(matrix_size)


def test_unknown_site_is_refused():
    with pytest.raises(ValueError, match="site must be one of"):
        make_subject("Z", 0, 0, SMALL)


def test_config_is_the_place_where_the_numbers_are_written():
    assert set(default_settings()["sites"]) == {"A", "B"}
    assert "phantom_sites:" in (Path(__file__).parents[3] / "configs" / "phantom.yaml").read_text(encoding="utf-8")


def test_stage_writes_what_the_function_writes(tmp_path):
    size = [24, 28, 16]
    run_stage(
        "phantom",
        output_dir=str(tmp_path / "stage"),
        phantom_site="B",
        phantom_num_subjects=2,
        phantom_matrix_size=size,
    )
    make_cohort(tmp_path / "function", "B", 2, size, seed=0)
    for name in ("cohort.json", "SIM-B-0001/SIM-B-0001-t1c.nii.gz"):
        assert (tmp_path / "stage" / name).read_bytes() == (tmp_path / "function" / name).read_bytes()


def test_healthy_people_of_several_sites_have_the_anatomy_of_the_patients(tmp_path):
    path = make_cohort(tmp_path, ["A", "B"], 3, SMALL, seed=0, modalities=["t1n"], is_healthy=True)
    cohort = read_json(path)
    told = [(s["subject_id"], s["site"], s["grade"], s["mask"]) for s in cohort["subjects"]]
    assert told == [("SIM-A-0000", "A", None, None), ("SIM-B-0000", "B", None, None), ("SIM-A-0001", "A", None, None)]
    assert (cohort["name"], cohort["modalities"], cohort["mask_codes"]) == ("phantom_A_B", ["t1n"], None)
    assert sorted(file.name for file in tmp_path.rglob("*.nii.gz")) == [
        "SIM-A-0000-t1n.nii.gz",
        "SIM-A-0001-t1n.nii.gz",
        "SIM-B-0000-t1n.nii.gz",
    ]
    healthy, ill = (make_subject("A", 0, 0, SMALL, is_healthy=is_healthy) for is_healthy in (True, False))
    brain = [subject.images["t1n"] > 0 for subject in (healthy, ill)]
    np.testing.assert_array_equal(*brain)
    assert not healthy.mask.any()
    assert healthy.grade is None


def test_modalities_that_no_sequence_of_the_phantom_makes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="modalities must be sequences of the phantom, t1n, t1c, t2w, t2f, got grey"):
        make_cohort(tmp_path, "A", 1, SMALL, seed=0, modalities=["grey"])
    with pytest.raises(ValueError, match="phantom_site must be a site, or a list of at least one"):
        make_cohort(tmp_path, [], 1, SMALL, seed=0)
