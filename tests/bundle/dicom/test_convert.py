"""DICOM studies written as NIfTI: voxels, places, records, and what is refused before anything is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dcm2niix
import nibabel as nib
import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.uid import HTJ2KLossless, JPEGLSLossless, RLELossless
from scipy.ndimage import map_coordinates

from bundle import __main__ as command
from bundle.dicom.convert import convert, plan
from scripts.running.files import read_json
from scripts.volumes.reading import read_volume
from tests import stub_hd_bet
from tests.dicom_studies import SEQUENCES, SMALL, images_of, uid_of, write_series, write_study
from tests.tiny_subjects import AFFINE, write_volume

MODALITIES = ["t1n", "t1c", "t2w", "t2f"]


def same_head(volume, voxels, affine=AFFINE):
    """Whether a volume has these voxels at these places, whatever the order of its axes."""
    expected = nib.as_closest_canonical(nib.Nifti1Image(voxels, affine))
    return np.array_equal(volume.ras, expected.get_fdata()) and np.allclose(volume.ras_affine, expected.affine)


def test_each_modality_is_written_with_its_voxels_at_their_places(scanned, tmp_path, capsys):
    assert command.main(["dicom", str(scanned), "--out", str(tmp_path / "P1")]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in table[1:5]] == ["t2f", "t1n", "t2w", "t1c"]
    for modality, voxels in images_of().items():
        volume = read_volume(tmp_path / "P1" / f"{modality}.nii.gz")
        assert same_head(volume, voxels)
        assert volume.data.dtype == np.int16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["P1"]


def test_the_record_tells_the_image_of_each_slice_and_nobody_s_name(scanned, tmp_path):
    record = convert(plan(str(scanned)), tmp_path / "out")
    assert read_json(tmp_path / "out" / "study.json") == record
    assert record["study_instance_uid"] == uid_of("study")
    assert {name: item["series_number"] for name, item in record["series"].items()} == {
        "t1n": 4,
        "t1c": 7,
        "t2w": 5,
        "t2f": 3,
    }
    volume = read_volume(tmp_path / "out" / "t1c.nii.gz")
    by_uid = {dcmread(path).SOPInstanceUID: dcmread(path).pixel_array for path in (scanned / "S7").iterdir()}
    uids = record["series"]["t1c"]["sop_instance_uids"]
    assert all(np.array_equal(volume.data[:, :, k].T, by_uid[uid]) for k, uid in enumerate(uids))
    assert not {"Doe", "P1"} & set((tmp_path / "out" / "study.json").read_text().replace("^", '"').split('"'))


@pytest.mark.parametrize("codes", ["LPS", "PIR"])
def test_dcm2niix_reads_the_same_volume(codes, tmp_path):
    write_series(tmp_path / "in", images_of()["t1c"], codes=codes, **SEQUENCES["t1c"])
    words = [dcm2niix.bin, "-z", "n", "-f", "t1c", "-o", str(tmp_path), str(tmp_path / "in")]
    subprocess.run(words, check=True, capture_output=True)
    theirs = nib.as_closest_canonical(nib.load(tmp_path / "t1c.nii"))
    write_study(tmp_path / "study", {"t1c": {"codes": codes}})
    convert(plan(str(tmp_path / "study")), tmp_path / "out")
    ours = read_volume(tmp_path / "out" / "t1c.nii.gz")
    assert np.array_equal(ours.ras, theirs.get_fdata())
    np.testing.assert_allclose(ours.ras_affine, theirs.affine, atol=1e-5)


def test_all_files_have_the_axes_of_t1c(tmp_path):
    write_study(tmp_path / "in", {"t1c": {"codes": "PIR"}, "t2w": {"codes": "LIP"}})
    record = convert(plan(str(tmp_path / "in")), tmp_path / "out")
    for modality, voxels in images_of().items():
        volume = read_volume(tmp_path / "out" / f"{modality}.nii.gz")
        assert nib.aff2axcodes(volume.affine) == ("P", "I", "R")
        assert same_head(volume, voxels)
        assert not record["series"][modality]["registered"]


def test_a_slope_of_each_image_is_applied(tmp_path):
    paths = write_study(tmp_path / "in")["t2w"]
    for index, path in enumerate(paths):
        image = dcmread(path)
        image.RescaleSlope, image.RescaleIntercept = 1 + index / 4, -3
        image.save_as(path)
    convert(plan(str(tmp_path / "in")), tmp_path / "out")
    expected = images_of()["t2w"] * (1 + np.arange(22) / 4) - 3
    assert same_head(read_volume(tmp_path / "out" / "t2w.nii.gz"), expected.astype(np.float32))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_images_compressed_without_loss_are_read(syntax, tmp_path):
    for path in write_study(tmp_path / "in")["t1n"]:
        image = dcmread(path)
        image.compress(syntax, generate_instance_uid=False)
        image.save_as(path)
    convert(plan(str(tmp_path / "in")), tmp_path / "out")
    assert same_head(read_volume(tmp_path / "out" / "t1n.nii.gz"), images_of()["t1n"])


def test_a_series_on_another_grid_is_registered_to_t1c(tmp_path):
    t1c = images_of()["t1c"]
    t2w = np.where(t1c > 0, 4000 - t1c, 0)  # the same tissue, otherwise bright
    write_study(tmp_path / "in", {"t2w": None})
    write_series(tmp_path / "in" / "t2", t2w[:, :, ::2], AFFINE @ np.diag([1, 1, 2, 1]), **SEQUENCES["t2w"])
    record = convert(plan(str(tmp_path / "in")), tmp_path / "out")
    assert [name for name, item in record["series"].items() if item["registered"]] == ["t2w"]
    volume = read_volume(tmp_path / "out" / "t2w.nii.gz")
    assert volume.ras.shape == t2w.shape
    between = map_coordinates(t2w[:, :, ::2], np.mgrid[:40, :33, :22] / np.reshape([1, 1, 2], (3, 1, 1, 1)), order=1)
    assert np.corrcoef(volume.ras[t2w > 0], between[t2w > 0])[0, 1] > 0.95


def test_a_series_in_another_frame_is_registered_though_its_grid_is_the_same(tmp_path):
    t1c = images_of()["t1c"]
    t2w = np.where(t1c > 0, 4000 - t1c, 0)
    write_study(tmp_path / "in", {"t2w": None, "t1n": {"FrameOfReferenceUID": None}})
    elsewhere = {**SEQUENCES["t2w"], "FrameOfReferenceUID": uid_of("another frame")}
    write_series(tmp_path / "in" / "t2", np.roll(t2w, 2, axis=0), **elsewhere)
    record = convert(plan(str(tmp_path / "in")), tmp_path / "out")
    assert [name for name, item in record["series"].items() if item["registered"]] == ["t2w"]
    volume = read_volume(tmp_path / "out" / "t2w.nii.gz")
    assert np.corrcoef(volume.ras[t2w > 0], t2w[t2w > 0])[0, 1] > 0.9  # 0.08 where it was measured


def test_outside_a_brain_mask_all_is_zero(scanned, tmp_path):
    brain = np.zeros((40, 33, 22), np.uint8)
    brain[10:30, 8:25, 5:18] = 1
    mask = write_volume(tmp_path / "brain.nii.gz", brain)
    record = convert(plan(str(scanned), brain_mask=mask), tmp_path / "out")
    assert record["brain_mask"] == "file"
    assert same_head(read_volume(tmp_path / "out" / "t1c.nii.gz"), images_of()["t1c"] * brain)


def test_what_is_there_is_not_made_again_and_another_study_is_kept(scanned, tmp_path, monkeypatch):
    record = convert(plan(str(scanned)), tmp_path / "out")
    with monkeypatch.context() as context:
        context.setattr("bundle.dicom.convert._volumes", lambda _: pytest.fail("read again"))
        assert convert(plan(str(scanned)), tmp_path / "out") == record
    write_study(tmp_path / "other", shape=SMALL)
    another = plan(str(tmp_path / "other"), {"t2w": 3, "t2f": 5})
    with pytest.raises(ValueError, match="holds another study, or other series of it; replace it with --overwrite"):
        convert(another, tmp_path / "out")
    assert convert(another, tmp_path / "out", overwrite=True)["series"]["t2w"]["chosen_by"] == "user"
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="got notes.txt; move that elsewhere .*, or choose another --out"):
        convert(plan(str(scanned)), tmp_path / "out", overwrite=True)


def test_files_that_are_not_those_of_the_record_are_refused_and_made_again(tmp_path):
    write_study(tmp_path / "in", shape=SMALL)
    study, out = plan(str(tmp_path / "in")), tmp_path / "out"
    record = convert(study, out)
    (out / "t2w.nii.gz").unlink()
    (out / "t1n.nii.gz").write_bytes((out / "t1c.nii.gz").read_bytes())
    with pytest.raises(ValueError, match=r"got none or others for t1n.nii.gz, t2w.nii.gz; convert again with --over"):
        convert(study, out)
    assert convert(study, out, overwrite=True)["series"] == record["series"]
    assert (out / "t1n.nii.gz").read_bytes() != (out / "t1c.nii.gz").read_bytes()
    assert convert(study, out) == read_json(out / "study.json")


def test_only_what_is_needed_is_written_with_t1c(tmp_path):
    write_study(tmp_path / "in", {"t1n": None, "t2w": None}, shape=SMALL)
    with pytest.raises(ValueError, match="one series for each of t1c, t2w, got: none for t2w"):
        plan(str(tmp_path / "in"), modalities=["t2w"])
    convert(plan(str(tmp_path / "in"), modalities=["t2f"]), tmp_path / "out")
    names = ["study.json", "t1c.nii.gz", "t2f.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_the_working_folder_is_not_replaced(tmp_path, monkeypatch):
    write_study(tmp_path / "in", shape=SMALL)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(ValueError, match="work must not be the folder that you work in, which is replaced; choose a f"):
        convert(plan(str(tmp_path / "in")), ".")
    convert(plan(str(tmp_path / "in")), f"../{Path.cwd().name}/P1/.")
    assert sorted(path.name for path in tmp_path.rglob("*.json")) == ["study.json"]


def edit(path, **elements):
    image = dcmread(path)
    for keyword, value in elements.items():
        setattr(image, keyword, value)
    image.save_as(path)


def drop_one(paths):
    paths[8].unlink()


def turn_half(paths):
    for path in paths[6:]:
        edit(path, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])


def lean(paths):
    for index, path in enumerate(paths):
        x, y, z = dcmread(path).ImagePositionPatient
        edit(path, ImagePositionPatient=[x, y + index / 4, z])


def repeat(paths):
    for path in paths[6:]:
        edit(path, ImagePositionPatient=dcmread(paths[int(path.stem) - 6]).ImagePositionPatient)


def mark(**elements):
    return lambda paths: edit(paths[3], **elements)


def claim_htj2k(paths):
    image = dcmread(paths[0])
    image.compress(RLELossless, generate_instance_uid=False)
    image.file_meta.TransferSyntaxUID = HTJ2KLossless
    image.save_as(paths[0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_one, r"must have no gap, got 2 mm between .*007.dcm and .*009.dcm, and 1 mm between others"),
        (turn_half, r"must have one orientation, got 1\\0\\0\\0\\1\\0 in .*000.dcm and 0\\1\\0\\0\\0\\-1 in .*006"),
        (lean, "must be a stack whose images lie straight above each other"),
        (repeat, "must have one image at each place"),
        (mark(Rows=30), r"must have one size, got 3\\4 in .*000.dcm and 30\\4 in .*003.dcm"),
        (mark(PixelSpacing=[1, 1.2]), "must have one pixel spacing"),
        (mark(BurnedInAnnotation="YES"), "must hold no burned-in annotations, got some in .*003.dcm"),
        (mark(ImagePositionPatient=None), "must have ImagePositionPatient of 3 numbers, got None in .*003.dcm"),
        (claim_htj2k, "got High-Throughput JPEG 2000 .* in .*000.dcm; decompress it"),
    ],
)
def test_images_that_are_no_volume_are_refused_before_any_is_read(spoil, message, tmp_path):
    spoil(write_study(tmp_path / "in", shape=SMALL)["t1c"])
    with pytest.raises(ValueError, match=message) as error:
        plan(str(tmp_path / "in"))
    assert str(error.value).startswith("series 7 (t1_mprage_tra_iso_km)")


def test_an_image_cut_short_is_named_and_nothing_is_written(tmp_path):
    path = write_study(tmp_path / "in")["t2w"][4]
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(ValueError, match=r"series 5 \(t2_tse_tra\) must be readable"):
        convert(plan(str(tmp_path / "in")), tmp_path / "out")
    assert [item.name for item in tmp_path.iterdir()] == ["in"]


def test_a_disk_that_is_full_leaves_what_was_there(scanned, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    write_study(tmp_path / "in", shape=SMALL)
    record = convert(plan(str(tmp_path / "in")), tmp_path / "out")
    monkeypatch.setattr("bundle.dicom.convert.write_json", fail)
    for name in ("out", "new"):
        with pytest.raises(OSError, match="no space left"):
            convert(plan(str(scanned)), tmp_path / name, overwrite=True)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in", "out"]
    assert read_json(tmp_path / "out" / "study.json") == record


def test_images_are_ordered_by_place_not_by_name_or_number(tmp_path):
    paths = write_study(tmp_path / "in", shape=SMALL)["t1c"]
    for index, path in enumerate(paths):
        edit(path, InstanceNumber=100 - index)
        path.rename(path.with_name(f"{(7 * index) % 12:02d}"))
    grid = plan(str(tmp_path / "in")).grids["t1c"]
    assert [uid_of(uid_of(7, "t1_mprage_tra_iso_km"), index) for index in range(12)] == list(grid.image_uids)


@pytest.mark.parametrize("name", ["pydicom", "highdicom", "SimpleITK"])
def test_a_package_that_is_not_there_is_named_with_its_extra(name, scanned, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    assert command.main(["dicom", str(scanned), "--out", str(tmp_path / "out")]) == 2
    assert f"{name} must be installed for DICOM; pip install '.[dicom]'" in capsys.readouterr().err


def test_hd_bet_gets_the_head_of_t1c_upright_and_its_mask_strips_all(tmp_path, monkeypatch, capsys):
    def right_half(head):
        brain = np.zeros(head.shape, bool)
        brain[:, :, head.shape[2] // 2 :] = True
        return brain

    seen = stub_hd_bet.install(monkeypatch, right_half)
    write_study(tmp_path / "in", {"t1c": {"codes": "PIR"}})
    record = convert(plan(str(tmp_path / "in"), skull_strip=True), tmp_path / "out")
    assert record["brain_mask"] == "HD-BET"
    assert record["brain_extraction"]["networks"] == (5 if torch.cuda.is_available() else 1)
    assert np.array_equal(seen["head"].T, images_of()["t1c"])
    assert seen["spacing"] == [1, 1, 1]
    assert capsys.readouterr().out == ""
    right = np.arange(40)[:, None, None] >= 20
    for modality, voxels in images_of().items():
        assert same_head(read_volume(tmp_path / "out" / f"{modality}.nii.gz"), voxels * right)


def test_skull_stripping_without_hd_bet_names_its_extra(scanned, tmp_path, monkeypatch, capsys):
    stub_hd_bet.uninstall(monkeypatch)
    words = ["dicom", str(scanned), "--out", str(tmp_path / "out"), "--skull_strip"]
    assert command.main(words) == 2
    assert "pip install '.[skull-strip]', or give a brain_mask" in capsys.readouterr().err
    assert command.main([*words, "--brain_mask", "brain.nii.gz"]) == 2
    assert "brain_mask and skull_strip must not both be given" in capsys.readouterr().err
