"""Headers: read by content, and refused where they are damaged or contradict the file."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.volumes.checks import check_grid
from scripts.volumes.headers import VolumeError, read_header
from scripts.volumes.reading import read_volume
from scripts.volumes.volume import Volume
from tests.tiny_subjects import AFFINE, make_images, write_volume

IMAGE = make_images()["t1n"]
FIELDS = [name for name in nib.Nifti1Header.template_dtype.names if name != "magic"]


def changed(path: Path, changes: dict[str, object]) -> Path:
    """Write a NIfTI file with fields of its header set to anything."""
    raw = bytearray(nib.Nifti1Image(IMAGE, AFFINE).to_bytes())
    fields = np.ndarray((), nib.Nifti1Header.template_dtype, buffer=raw)
    for name, value in changes.items():
        fields[name] = value
    path.write_bytes(gzip.compress(bytes(raw), mtime=0))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datatype": 26996}, "must hold numbers of a type of NIfTI, got data code 26996; copy"),
        ({"datatype": 2}, r"must hold 8 bits per voxel \(bitpix\), as its datatype uint8 says, got 16"),
        ({"datatype": 2, "bitpix": 8}, r"must end behind 29392 bytes for shape \(40, 33, 22\) of uint8, got 58432"),
        ({"vox_offset": 0}, r"must have its voxels behind the header \(vox_offset of at least 352\), got 0"),
        ({"vox_offset": np.inf}, "must have its voxels behind the header .* got inf"),
        (
            {"dim": [3, -40, 33, 22, 1, 1, 1, 1]},
            r"must have three dimensions .* got shape \(-40, 33, 22\)",
        ),
        ({"dim": [2, 40, 33, 1, 1, 1, 1, 1]}, r"must have three dimensions .* got shape \(40, 33\)"),
        ({"dim": [5, 10, 33, 22, 2, 2, 1, 1]}, r"must have three dimensions .* got shape \(10, 33, 22, 2, 2\)"),
        ({"dim": [3, 41, 33, 22, 1, 1, 1, 1]}, r"must hold 59884 bytes for shape \(41, 33, 22\) of int16, got 58432"),
        ({"xyzt_units": 1}, r"must be measured in mm \(xyzt_units\), got meter"),
        ({"xyzt_units": 3}, "must be measured in mm .* got micron"),
        ({"sform_code": 0, "qform_code": 0}, "must say how it lies in the body, got neither qform nor sform"),
        ({"srow_x": 0, "srow_y": 0, "srow_z": 0}, "must have an invertible affine"),
        ({"srow_x": np.nan}, "must have an invertible affine"),
        ({"magic": b"ni1"}, "must hold header and image in one file, got a .hdr of a pair"),
    ],
    ids=str,
)
def test_a_damaged_header_is_refused_by_name_in_scan_and_reading(tmp_path, changes, message):
    path = changed(tmp_path / "a.nii.gz", changes)
    with pytest.raises(VolumeError, match=f"^{re.escape(str(path))} {message}"):
        read_volume(path)
    if "bytes for shape" not in message:  # the length is known once the voxels are read
        with pytest.raises(VolumeError, match=f"^{re.escape(str(path))} {message}"):
            check_grid({"t1n": path})


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("byte", [0, 1, 127, 128, 255])
def test_whatever_a_field_says_the_file_is_named_or_read_as_nibabel_does(tmp_path, name, byte):
    path = changed(tmp_path / "a.nii.gz", {})
    raw = bytearray(gzip.decompress(path.read_bytes()))
    dtype, offset = nib.Nifti1Header.template_dtype.fields[name][:2]
    raw[offset : offset + dtype.itemsize] = bytes([byte]) * dtype.itemsize
    path.write_bytes(gzip.compress(bytes(raw)))
    volume = volume_or_refusal(path)
    if isinstance(volume, str):
        assert str(path) in volume
    else:
        expected = nib.load(path)
        np.testing.assert_array_equal(volume.data, np.asarray(expected.dataobj).reshape(volume.data.shape))
        np.testing.assert_array_equal(volume.affine, expected.affine)


def volume_or_refusal(path: Path) -> Volume | str:
    try:
        return read_volume(path)
    except VolumeError as error:
        return str(error)


def test_a_flipped_byte_anywhere_in_a_packed_file_is_named(tmp_path):
    whole = changed(tmp_path / "a.nii.gz", {}).read_bytes()
    path = tmp_path / "b.nii.gz"
    for position in range(10, len(whole), len(whole) // 60):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        volume = volume_or_refusal(path)
        # One bit or another of a stream says nothing.
        assert str(path) in volume if isinstance(volume, str) else (volume.data == IMAGE).all()


@pytest.mark.parametrize(("name", "packed"), [("a.nii.gz", False), ("a.nii", True), ("a.img", True)])
def test_a_file_is_read_by_what_it_holds_and_not_by_its_name(tmp_path, name, packed):
    raw = nib.Nifti1Image(IMAGE, AFFINE).to_bytes()
    (tmp_path / name).write_bytes(gzip.compress(raw) if packed else raw)
    check_grid({"t1n": tmp_path / name})
    np.testing.assert_array_equal(read_volume(tmp_path / name).data, IMAGE)


@pytest.mark.parametrize("rest", [b"garbage\n", bytes(512)])
def test_bytes_behind_the_end_of_the_stream_change_nothing(tmp_path, rest):
    path = changed(tmp_path / "a.nii.gz", {})
    path.write_bytes(path.read_bytes() + rest)
    np.testing.assert_array_equal(read_volume(path).data, IMAGE)


def test_very_short_members_hold_a_header_too(tmp_path):
    raw = nib.Nifti1Image(IMAGE, AFFINE).to_bytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"".join(gzip.compress(raw[start : start + 100]) for start in range(0, len(raw), 100)))
    assert read_header(path).shape == IMAGE.shape
    np.testing.assert_array_equal(read_volume(path).data, IMAGE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (gzip.compress(b"", mtime=0), "got an empty file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
            "got a pointer of Git LFS.*git lfs pull",
        ),
        (b"<html><body>Please log in", "got text that begins with '<html><body>Please log in'"),
        (bytes(range(128, 256)) * 9, "got another kind of file"),
    ],
)
def test_what_a_file_is_that_is_no_nifti_is_said(tmp_path, content, message):
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(VolumeError, match=rf"a\.nii\.gz must be a NIfTI file .*{message}"):
        read_header(tmp_path / "a.nii.gz")


def test_a_folder_a_broken_link_and_a_loop_are_no_files(tmp_path):
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "broken.nii.gz").symlink_to("gone")
    (tmp_path / "loop.nii.gz").symlink_to("loop.nii.gz")
    for name, why in (
        ("folder", "is a folder"),
        ("broken", "is a link to gone"),
        ("loop", "is a link that leads to itself"),
    ):
        with pytest.raises(FileNotFoundError, match=rf"{name}\.nii\.gz {why}"):
            read_header(tmp_path / f"{name}.nii.gz")


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 1), (4, 5, 6, 1, 1), (4, 5, 6, 3), (4, 5, 6, 1, 3)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_dimensions_of_one_are_left_out(tmp_path, shape, kind):
    nib.save(kind(np.zeros(shape, np.int16), AFFINE), tmp_path / "a.nii.gz")
    header = read_header(tmp_path / "a.nii.gz")
    assert header.shape == (4, 5, 6, *[3] * (3 in shape))
    np.testing.assert_array_equal(header.affine, AFFINE)


def test_without_permission_the_reason_is_said(tmp_path, monkeypatch):
    path = Path(write_volume(tmp_path / "a.nii.gz", IMAGE))

    def denied(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(VolumeError, match=r"a\.nii\.gz must be .* got Permission denied"):
        read_header(path)
