"""The patches stage."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged, SqueezeDimd

import scripts.patches.stage
from scripts.provenance.image_form import image_facts
from scripts.running.errors import root_cause
from scripts.running.files import read_json, sha256_file, write_json
from scripts.running.stages import AlreadyFinished
from tests.helpers import run_stage
from tests.tiny_subjects import AFFINE, MASK_CODES, MODALITIES, make_images, make_mask, write_subject

NAMES = ["S1", "S2", "S3"]
TINY = {"patch_size": [16, 14], "min_et_ml": 0.05}


def make_cohort(folder: Path, **changes) -> Path:
    subjects = []
    for index, name in enumerate(NAMES):
        written = write_subject(folder / name, make_images(index), make_mask(), grade=["LGG", "HGG", None][index])
        del written["mask_codes"]
        relative = {key: os.path.relpath(path, folder) for key, path in written["images"].items()}
        subjects.append({**written, "images": relative, "mask": os.path.relpath(written["mask"], folder)})
    cohort = {"name": "tiny", "simulated": True, "modalities": MODALITIES, "mask_codes": MASK_CODES}
    write_json(folder / "cohort.json", {**cohort, "subjects": subjects, "left_out": [], **changes})
    return folder / "cohort.json"


def run(cohort: Path, output: Path, **overrides):
    try:
        run_stage("patches", cohort_path=str(cohort), output_dir=str(output), **{**TINY, **overrides})
    except RuntimeError as error:
        raise root_cause(error) from error
    return read_json(output / "patches.json")


def edit_subjects(cohort: Path, edit) -> None:
    content = read_json(cohort)
    edit(content["subjects"])
    write_json(cohort, content)


@pytest.fixture
def cohort(tmp_path):
    return make_cohort(tmp_path / "cohort")


def test_the_list_says_what_was_chosen_for_every_subject(cohort, tmp_path):
    patches = run(cohort, tmp_path / "out")
    assert patches["name"] == "tiny"
    assert patches["simulated"] is True
    assert patches["modality"] == {"0": "t1n", "1": "t1c", "2": "t2w", "3": "t2f"}
    assert patches["labels"] == {"0": "LGG", "1": "HGG"}
    assert (patches["spatial_dims"], patches["patch_size"], patches["spacing_mm"]) == (2, [16, 14], 1.0)
    facts = image_facts(patches, "patches.json")
    assert (facts["intensity_mode"], facts["intensity_percentiles"]) == ("percentile", [0.5, 99.5])
    assert facts["zscore_limit"] is None
    rows = patches["training"]
    assert [row["subject_id"] for row in rows] == NAMES
    assert [row["label"] for row in rows] == [0, 1, None]
    assert {row["region"] for row in rows} == {"enhancing"}
    for row in rows:
        assert row["image_sha256"] == sha256_file(tmp_path / "out" / row["image"])


def test_stock_monai_reads_a_patch_as_channels_first(cohort, tmp_path):
    patches = run(cohort, tmp_path / "out")
    load = Compose([LoadImaged("image", ensure_channel_first=True), SqueezeDimd("image", dim=-1)])
    row = patches["training"][0]
    image = load({"image": str(tmp_path / "out" / row["image"])})["image"]
    stored = nib.load(tmp_path / "out" / row["image"])
    assert stored.shape == (16, 14, 1, 4)
    assert image.shape == (4, 16, 14)
    np.testing.assert_array_equal(np.asarray(image), np.moveaxis(stored.get_fdata()[:, :, 0], -1, 0))


def test_a_patch_lies_over_the_original_within_half_a_voxel(cohort, tmp_path):
    row = run(cohort, tmp_path / "out")["training"][0]
    stored = nib.load(tmp_path / "out" / row["image"])
    to_original = np.linalg.inv(AFFINE) @ stored.affine
    np.testing.assert_allclose(to_original @ [8, 7, 0, 1], [*row["center_voxel"], 1], atol=0.5)
    np.testing.assert_allclose(np.diag(to_original), 1, atol=1e-6)


def test_cubes_are_written_with_three_dimensions(cohort, tmp_path):
    row = run(cohort, tmp_path / "out", spatial_dims=3, patch_size=[9, 8, 7])["training"][0]
    assert nib.load(tmp_path / "out" / row["image"]).shape == (9, 8, 7, 4)


def test_every_slice_gives_a_file_of_its_own(cohort, tmp_path):
    rows = run(cohort, tmp_path / "out", slice="all", min_tumor_voxels=60)["training"]
    assert len(rows) > len(NAMES)
    assert len({row["image"] for row in rows}) == len(rows)
    assert all((tmp_path / "out" / row["image"]).is_file() for row in rows)


def test_z_scores_and_patches_of_many_spacings_are_told_as_such(cohort, tmp_path):
    patches = run(cohort, tmp_path / "out", intensity_mode="zscore", zscore_limit=3.0, crop="lesion_box")
    facts = image_facts(patches, "patches.json")
    assert [facts[key] for key in ("spacing_mm", "intensity_percentiles", "zscore_limit")] == [None, None, 3.0]
    assert facts["intensity_mode"] == "zscore"


def test_threads_and_repetition_change_no_byte(cohort, tmp_path):
    one = run(cohort, tmp_path / "one")
    two = run(cohort, tmp_path / "two", patches_num_workers=2)
    assert one == two


def test_a_stopped_run_goes_on_with_the_subjects_that_are_missing(cohort, tmp_path, monkeypatch):
    extracted = []
    original = scripts.patches.stage._Extraction.make

    def stop_at_the_third(self, subject):
        extracted.append(subject["subject_id"])
        if extracted == NAMES:
            raise KeyboardInterrupt
        return original(self, subject)

    monkeypatch.setattr(scripts.patches.stage._Extraction, "make", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(cohort, tmp_path / "out")
    assert not (tmp_path / "out" / "patches.json").exists()
    resumed = run(cohort, tmp_path / "out")
    assert extracted == [*NAMES, "S3"]
    monkeypatch.undo()
    assert resumed == run(cohort, tmp_path / "again")
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_changed_file_is_extracted_again_when_a_run_goes_on(cohort, tmp_path):
    mask = cohort.parent / "S3" / "seg.nii.gz"
    whole = mask.read_bytes()
    mask.write_bytes(whole[:100])
    with pytest.raises(ValueError, match="1 of 3 subjects gave no patch"):
        run(cohort, tmp_path / "out")
    mask.write_bytes(whole)
    write_subject(cohort.parent / "S1", make_images(9), make_mask())
    assert run(cohort, tmp_path / "out") == run(cohort, tmp_path / "fresh")


def test_a_finished_stage_is_not_run_again(cohort, tmp_path):
    run(cohort, tmp_path / "out")
    with pytest.raises(AlreadyFinished):
        run(cohort, tmp_path / "out")


def test_all_unusable_files_are_told_at_once_and_the_rest_is_kept(cohort, tmp_path):
    for name, file in (("S1", "t1c"), ("S3", "t2f")):
        path = cohort.parent / name / f"{file}.nii.gz"
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"(?s)2 of 3 subjects.*S1: .*t1c\.nii\.gz must.*S3: .*t2f\.nii\.gz must"):
        run(cohort, tmp_path / "out")
    assert not (tmp_path / "out" / "patches.json").exists()
    assert (tmp_path / "out" / "S2.nii.gz").is_file()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda subjects: subjects[0]["images"].pop("t2w"), "S1: no t2w among"),
        (lambda subjects: subjects[1].update(mask=None), "S2: no mask; segment it first"),
        (lambda subjects: subjects[1].update(grade="IV"), "S2: grade 'IV' is none of the classes"),
        (lambda subjects: subjects.append(subjects[0]), "S1: listed twice"),
        (lambda subjects: subjects[2].update(mask="S3/gone.nii.gz"), r"S3: .*gone\.nii\.gz does not exist"),
        (lambda subjects: subjects[2].update(subject_id="../S3"), "subject_id must be a name usable as a file name"),
        (lambda subjects: subjects.clear(), "must list subjects that patches can be made of, got none"),
    ],
)
def test_a_subject_that_cannot_work_is_refused_before_any_work(cohort, tmp_path, edit, message):
    edit_subjects(cohort, edit)
    with pytest.raises(ValueError, match=message):
        run(cohort, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_a_cohort_without_codes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="S1: no mask_codes; declare them"):
        run(make_cohort(tmp_path / "cohort", mask_codes=None), tmp_path / "out")


def test_a_click_takes_the_place_of_a_mask(cohort, tmp_path):
    edit_subjects(cohort, lambda subjects: [subject.update(mask=None, center=[20, 16, 11]) for subject in subjects])
    rows = run(cohort, tmp_path / "out")["training"]
    assert {row["region"] for row in rows} == {"click"}
    assert {tuple(row["center_voxel"]) for row in rows} == {(20, 16, 11)}


def test_a_full_disk_ends_the_run_and_leaves_no_half_file(cohort, tmp_path, monkeypatch):
    def full(path, content):
        Path.write_text(path, "half")
        raise OSError(28, "no space left to write on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left to write"):
        run(cohort, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.nii.gz"))


REAL = os.environ.get("BRATS_REAL_DATA_DIR")
STYLES = {
    "BraTS-GLI": (dict(zip(MODALITIES, ("-t1n", "-t1c", "-t2w", "-t2f"), strict=True)), {**MASK_CODES, "enhancing": 3}),
    "TCGA": (dict(zip(MODALITIES, ("_t1", "_t1ce", "_t2", "_flair"), strict=True)), MASK_CODES),
}


@pytest.mark.skipif(not REAL, reason="BRATS_REAL_DATA_DIR does not name the folder of the real cases")
@pytest.mark.parametrize(("style", "regions"), [("BraTS-GLI", ["enhancing"] * 2), ("TCGA", ["core", "enhancing"])])
def test_real_cases_give_patches_and_fall_back_where_nothing_enhances(tmp_path, style, regions):
    suffixes, codes = STYLES[style]
    subjects = []
    for folder in sorted(Path(REAL).glob(f"{style}*")):
        images = {key: str(next(folder.glob(f"*{end}.nii.gz"))) for key, end in suffixes.items()}
        mask = str(next(folder.glob("*seg.nii.gz")))
        subjects.append({"subject_id": folder.name, "site": None, "grade": None, "images": images, "mask": mask})
    write_json(tmp_path / "cohort.json", {"name": style, "simulated": False, "mask_codes": codes, "subjects": subjects})
    run_stage("patches", cohort_path=str(tmp_path / "cohort.json"), output_dir=str(tmp_path / "out"))
    rows = json.loads((tmp_path / "out" / "patches.json").read_text())["training"]
    assert [row["region"] for row in rows] == regions
    assert [bool(row["region_reason"]) for row in rows] == [region == "core" for region in regions]
    for row in rows:
        image = nib.load(tmp_path / "out" / row["image"])
        original = nib.load(next(s for s in subjects if s["subject_id"] == row["subject_id"])["images"]["t1c"])
        assert image.shape == (96, 96, 1, 4)
        center = np.linalg.inv(original.affine) @ image.affine @ [48, 48, 0, 1]
        np.testing.assert_allclose(center[:3], row["center_voxel"], atol=0.5)
